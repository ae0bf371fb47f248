#include "remote/test_server.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>

namespace flatbed::test {

namespace {

std::string lower(std::string_view text) {
  std::string out(text);
  std::ranges::transform(out, out.begin(),
                         [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return out;
}

std::optional<ServerRequest> parse_request(std::string_view head) {
  ServerRequest request;
  const std::size_t first = head.find(' ');
  const std::size_t second = head.find(' ', first + 1);
  if (first == head.npos || second == head.npos) return std::nullopt;
  request.method = head.substr(0, first);
  request.path = head.substr(first + 1, second - first - 1);
  for (std::size_t at = head.find("\r\n"); at != head.npos;) {
    const std::size_t end = head.find("\r\n", at + 2);
    const std::string_view line = head.substr(at + 2, std::min(end, head.size()) - at - 2);
    const std::size_t colon = line.find(':');
    if (colon != line.npos) {
      std::string_view value = line.substr(colon + 1);
      while (value.starts_with(' ')) value.remove_prefix(1);
      request.headers[lower(line.substr(0, colon))] = value;
    }
    at = end;
  }
  return request;
}

std::string head_of(const ServerAnswer& answer) {
  std::string head = "HTTP/1.1 " + std::to_string(answer.status) + " Status\r\n";
  for (const auto& [name, value] : answer.headers) head += name + ": " + value + "\r\n";
  if (answer.chunked) return head + "Transfer-Encoding: chunked\r\n\r\n";
  return head +
         "Content-Length: " + answer.content_length.value_or(std::to_string(answer.body.size())) +
         "\r\n\r\n";
}

}  // namespace

void ServerAnswer::set(std::string_view name, std::string value) {
  remove(name);
  headers.emplace_back(name, std::move(value));
}

void ServerAnswer::remove(std::string_view name) {
  std::erase_if(headers, [&](const auto& header) { return lower(header.first) == lower(name); });
}

std::string ServerAnswer::header(std::string_view name) const {
  for (const auto& [key, value] : headers) {
    if (lower(key) == lower(name)) return value;
  }
  return {};
}

TestServer::TestServer() {
  listener_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof address;
  auto* const generic = reinterpret_cast<sockaddr*>(&address);
  if (::bind(listener_, generic, length) != 0 || ::listen(listener_, 128) != 0 ||
      ::getsockname(listener_, generic, &length) != 0) {
    std::abort();
  }
  port_ = ntohs(address.sin_port);
  accepting_ = std::thread([this] { accept_all(); });
}

TestServer::~TestServer() { stop(); }

void TestServer::stop() {
  const std::lock_guard stopping(stopping_);
  if (!accepting_.joinable()) return;
  {
    const std::lock_guard lock(mutex_);
    closing_ = true;
    for (const int socket : sockets_) ::shutdown(socket, SHUT_RDWR);
  }
  closing_changed_.notify_all();
  ::shutdown(listener_, SHUT_RDWR);
  accepting_.join();
  for (std::thread& connection : connections_) connection.join();
  ::close(listener_);
}

void TestServer::serve(const std::string& path, std::string bytes, std::string etag) {
  ServedFile file;
  file.nbytes = bytes.size();
  file.etag = std::move(etag);
  file.read = [bytes = std::move(bytes)](std::uint64_t offset, std::size_t nbytes) {
    return bytes.substr(static_cast<std::size_t>(offset), nbytes);
  };
  serve(path, std::move(file));
}

void TestServer::serve(const std::string& path, ServedFile file) {
  const std::lock_guard lock(mutex_);
  files_[path] = std::move(file);
}

void TestServer::remove(const std::string& path) {
  const std::lock_guard lock(mutex_);
  files_.erase(path);
}

std::string TestServer::url(std::string_view path) const {
  return "http://127.0.0.1:" + std::to_string(port_) + std::string(path);
}

std::vector<ServerRequest> TestServer::log() const {
  const std::lock_guard lock(mutex_);
  return log_;
}

void TestServer::accept_all() {
  for (;;) {
    const int socket = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
    if (socket < 0) return;
    const int on = 1;
    ::setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    const std::lock_guard lock(mutex_);
    if (closing_) {
      ::close(socket);
      return;
    }
    sockets_.push_back(socket);
    connections_.emplace_back([this, socket] { serve_connection(socket); });
  }
}

void TestServer::serve_connection(int socket) {
  std::string input;
  while (answer_one(socket, input)) {
  }
  const std::lock_guard lock(mutex_);
  std::erase(sockets_, socket);
  ::close(socket);
}

bool TestServer::answer_one(int socket, std::string& input) {
  const auto receive = [&] {
    char buffer[65536];
    const ssize_t got = ::recv(socket, buffer, sizeof buffer, 0);
    if (got > 0) input.append(buffer, static_cast<std::size_t>(got));
    return got > 0;
  };
  std::size_t end = input.find("\r\n\r\n");
  for (; end == input.npos; end = input.find("\r\n\r\n")) {
    if (!receive() || input.front() == '\x16') return false;  // the beginning of TLS
  }
  std::optional<ServerRequest> request = parse_request(std::string_view(input).substr(0, end));
  if (!request) return false;
  input.erase(0, end + 4);
  std::size_t length = 0;
  if (const auto found = request->headers.find("content-length"); found != request->headers.end())
    length = std::strtoull(found->second.c_str(), nullptr, 10);
  while (input.size() < length) {
    if (!receive()) return false;
  }
  request->body = input.substr(0, length);
  input.erase(0, length);
  request->number = requests_++;
  {
    const std::lock_guard lock(mutex_);
    log_.push_back(*request);
  }
  ServerAnswer answer = usual_answer(*request);
  answer.delay = delay;
  change(*request, answer);
  pause(answer.delay);
  return send_answer(socket, *request, answer);
}

ServerAnswer TestServer::usual_answer(const ServerRequest& request) const {
  ServerAnswer answer;
  const std::lock_guard lock(mutex_);
  const auto found = files_.find(request.path.substr(0, request.path.find('?')));
  if (found == files_.end()) {
    answer.status = 404;
    return answer;
  }
  const ServedFile& file = found->second;
  if (!file.etag.empty()) answer.set("ETag", file.etag);
  if (!file.last_modified.empty()) answer.set("Last-Modified", file.last_modified);
  const auto header = [&](const char* name) {
    const auto at = request.headers.find(name);
    return at == request.headers.end() ? std::string() : at->second;
  };
  if (const std::string match = header("if-match"); !match.empty() && match != file.etag) {
    answer.status = 412;
    return answer;
  }
  const std::string range = header("range");
  if (!ranges || range.empty()) {
    answer.body = file.read(0, static_cast<std::size_t>(file.nbytes));
    return answer;
  }
  char* rest = nullptr;
  const std::uint64_t first = std::strtoull(range.c_str() + 6, &rest, 10);
  const std::uint64_t asked = std::strtoull(rest + 1, nullptr, 10);
  if (first >= file.nbytes) {
    answer.status = 416;
    answer.set("Content-Range", "bytes */" + std::to_string(file.nbytes));
    return answer;
  }
  const std::uint64_t last = std::min(asked, file.nbytes - 1);
  answer.status = 206;
  answer.set("Content-Range", "bytes " + std::to_string(first) + "-" + std::to_string(last) + "/" +
                                  std::to_string(file.nbytes));
  answer.body = file.read(first, static_cast<std::size_t>(last - first + 1));
  return answer;
}

bool TestServer::send_answer(int socket, const ServerRequest& request, const ServerAnswer& answer) {
  if (answer.raw) {
    static_cast<void>(send_all(socket, *answer.raw));
    return false;
  }
  if (!send_all(socket, head_of(answer))) return false;
  if (request.method == "HEAD" || answer.status == 304) return true;
  const std::string_view body = answer.body;
  if (answer.chunked) {
    char size[32];
    std::snprintf(size, sizeof size, "%zx\r\n", body.size());
    return (body.empty() ||
            (send_all(socket, size) && send_all(socket, body) && send_all(socket, "\r\n"))) &&
           send_all(socket, "0\r\n\r\n");
  }
  if (answer.drip.count() != 0) return send_dripping(socket, body, answer.drip);
  const std::size_t stop = std::min({answer.cut_after, answer.stall_after, body.size()});
  if (!send_all(socket, body.substr(0, stop))) return false;
  if (answer.stall_after == stop && stop < body.size()) {
    pause(answer.stall);
    return send_all(socket, body.substr(stop));
  }
  return answer.cut_after > stop || answer.cut_after == std::string::npos;
}

bool TestServer::send_all(int socket, std::string_view bytes) const {
  while (!bytes.empty()) {
    const ssize_t sent = ::send(socket, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent <= 0) return false;
    bytes.remove_prefix(static_cast<std::size_t>(sent));
  }
  return true;
}

bool TestServer::pause(std::chrono::milliseconds time) {
  if (time.count() == 0) return true;
  std::unique_lock lock(mutex_);
  return !closing_changed_.wait_for(lock, time, [this] { return closing_; });
}

bool TestServer::send_dripping(int socket, std::string_view body, std::chrono::milliseconds time) {
  auto before = std::chrono::steady_clock::now();
  for (const char& byte : body) {
    if (!send_all(socket, {&byte, 1}) || !pause(time)) return false;
    const auto now = std::chrono::steady_clock::now();
    count_gap(now - std::exchange(before, now));
  }
  return true;
}

void TestServer::count_gap(std::chrono::steady_clock::duration gap) noexcept {
  const auto found = std::chrono::ceil<std::chrono::milliseconds>(gap);
  std::chrono::milliseconds longest = longest_gap_;
  while (found > longest && !longest_gap_.compare_exchange_weak(longest, found)) {
  }
}

}  // namespace flatbed::test
