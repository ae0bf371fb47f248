// Nginx: a real server for one test, on loopback ports of its own, over a folder of its own. Owns
// the process and the folder. Where nginx or openssl is not installed, missing() says so.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "support/temp_dir.hpp"

namespace flatbed::test {

class Nginx {
 public:
  // Starts it, with a server for each name: plain, tls, no_ranges, slow, redirect, gzip,
  // forced_gzip, to_plain (TLS that redirects to plain).
  Nginx();
  Nginx(const Nginx&) = delete;
  Nginx& operator=(const Nginx&) = delete;
  ~Nginx();

  // Empty: it runs. Otherwise the reason for skipping the test.
  [[nodiscard]] const std::string& missing() const noexcept { return missing_; }

  void serve(std::string_view name, std::string_view bytes) const;
  [[nodiscard]] std::string url(std::string_view server, std::string_view path) const;
  [[nodiscard]] std::filesystem::path folder() const { return dir_ / "files"; }
  [[nodiscard]] std::string ca_file() const { return dir_ / "ca.pem"; }
  // Of a CA that nobody has a certificate of.
  [[nodiscard]] std::string other_ca_file() const { return dir_ / "other_ca.pem"; }
  [[nodiscard]] std::string empty_folder() const { return dir_ / "empty"; }

 private:
  [[nodiscard]] bool make_certificates() const;
  void write_config();
  void start();

  TempDir dir_;
  std::map<std::string, std::uint16_t, std::less<>> ports_;
  std::string program_;
  std::string missing_;
  pid_t process_ = -1;
};

}  // namespace flatbed::test
