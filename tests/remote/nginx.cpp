#include "remote/nginx.hpp"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <thread>

namespace flatbed::test {

namespace {

std::string find_program(const std::string& name) {
  for (const std::string folder :
       {"/usr/sbin/", "/usr/bin/", "/usr/local/sbin/", "/usr/local/bin/"}) {
    std::error_code ignored;
    if (std::filesystem::exists(folder + name, ignored)) return folder + name;
  }
  return {};
}

sockaddr_in loopback(std::uint16_t port) {
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

// A port that nobody has now.
std::uint16_t free_port() {
  const int socket = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address = loopback(0);
  socklen_t length = sizeof address;
  auto* const generic = reinterpret_cast<sockaddr*>(&address);
  const bool bound =
      ::bind(socket, generic, length) == 0 && ::getsockname(socket, generic, &length) == 0;
  ::close(socket);
  return bound ? ntohs(address.sin_port) : 0;
}

bool accepts(std::uint16_t port) {
  const int socket = ::socket(AF_INET, SOCK_STREAM, 0);
  const sockaddr_in address = loopback(port);
  const bool connected =
      ::connect(socket, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
  ::close(socket);
  return connected;
}

// Starts a program whose output goes nowhere. -1: it could not be.
pid_t spawn(const std::vector<std::string>& words) {
  std::vector<char*> argv;
  for (const std::string& word : words) argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
  posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0);
  pid_t process = -1;
  char* environment[] = {nullptr};
  if (::posix_spawn(&process, argv[0], &actions, nullptr, argv.data(), environment) != 0)
    process = -1;
  posix_spawn_file_actions_destroy(&actions);
  return process;
}

bool run(const std::vector<std::string>& words) {
  const pid_t process = spawn(words);
  int status = 0;
  return process > 0 && ::waitpid(process, &status, 0) == process && status == 0;
}

}  // namespace

Nginx::Nginx() : program_(find_program("nginx")) {
  if (program_.empty()) {
    missing_ = "nginx is not installed";
  } else if (!make_certificates()) {
    missing_ = "openssl 3 is not installed";
  } else {
    write_config();
    start();
  }
}

Nginx::~Nginx() {
  if (process_ <= 0) return;
  ::kill(process_, SIGTERM);
  int status = 0;
  ::waitpid(process_, &status, 0);
}

void Nginx::serve(std::string_view name, std::string_view bytes) const {
  write_file(dir_ / ("files/" + std::string(name)), bytes);
}

std::string Nginx::url(std::string_view server, std::string_view path) const {
  const bool tls = server == "tls" || server == "to_plain";
  return (tls ? "https://127.0.0.1:" : "http://127.0.0.1:") +
         std::to_string(ports_.find(server)->second) + std::string(path);
}

bool Nginx::make_certificates() const {
  const std::string openssl = find_program("openssl");
  if (openssl.empty()) return false;
  const std::vector<std::string> key{"-newkey", "ec",    "-pkeyopt", "ec_paramgen_curve:prime256v1",
                                     "-nodes",  "-days", "2"};
  const auto with_key = [&](std::vector<std::string> words) {
    words.insert(words.begin() + 3, key.begin(), key.end());
    return words;
  };
  const std::string ca = dir_ / "ca.pem";
  const std::string ca_key = dir_ / "ca.key";
  return run(with_key({openssl, "req", "-x509", "-subj", "/CN=ca of a test", "-keyout", ca_key,
                       "-out", ca})) &&
         run(with_key({openssl, "req", "-x509", "-subj", "/CN=other ca of a test", "-keyout",
                       dir_ / "other_ca.key", "-out", other_ca_file()})) &&
         run(with_key({openssl, "req", "-x509", "-subj", "/CN=server of a test", "-CA", ca,
                       "-CAkey", ca_key, "-addext", "subjectAltName=IP:127.0.0.1", "-addext",
                       "basicConstraints=critical,CA:FALSE", "-keyout", dir_ / "server.key", "-out",
                       dir_ / "server.pem"}));
}

void Nginx::write_config() {
  const std::string dir = dir_.path();
  std::filesystem::create_directory(dir_ / "files");
  std::filesystem::create_directory(empty_folder());
  const std::string tls =
      " ssl; ssl_certificate " + dir + "/server.pem; ssl_certificate_key " + dir + "/server.key;";
  std::string servers;
  const auto add = [&](const std::string& name, const std::string& after_port,
                       const std::string& rules) {
    const std::uint16_t port = free_port();
    ports_[name] = port;
    servers +=
        "server { listen 127.0.0.1:" + std::to_string(port) + after_port + " " + rules + " }\n";
  };
  add("plain", ";", "");
  const std::string plain = url("plain", "$request_uri");
  add("tls", " http2" + tls, "");
  add("no_ranges", ";", "max_ranges 0;");
  add("slow", ";", "limit_rate 400k;");
  add("redirect", ";", "return 302 " + plain + ";");
  add("to_plain", tls, "return 302 " + plain + ";");
  add("gzip", ";", "gzip on; gzip_types *; gzip_min_length 1;");
  add("forced_gzip", ";", "add_header Content-Encoding gzip;");
  std::string temporary;
  for (const std::string kind : {"client_body", "proxy", "fastcgi", "uwsgi", "scgi"})
    temporary += kind + "_temp_path " + dir + "/" + kind + ";\n";
  write_file(dir_ / "nginx.conf",
             std::string(::geteuid() == 0 ? "user root;\n" : "") +
                 "daemon off;\nworker_processes 1;\npid " + dir + "/pid;\nerror_log " + dir +
                 "/error.log;\nevents { worker_connections 256; }\nhttp {\naccess_log off;\nroot " +
                 dir + "/files;\ndefault_type application/octet-stream;\n" + temporary + servers +
                 "}\n");
}

void Nginx::start() {
  const std::string error_log = dir_ / "error.log";
  process_ = spawn({program_, "-p", dir_.path(), "-e", error_log, "-c", dir_ / "nginx.conf"});
  for (int i = 0; i < 500 && process_ > 0; ++i) {
    if (accepts(ports_.find("plain")->second)) return;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  missing_ = "nginx does not start here: " + read_file(error_log);
}

}  // namespace flatbed::test
