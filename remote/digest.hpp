// MD5, which S3 compares with what it received: it protects from damage on the way, not from
// attackers. SHA-256, for names that nobody can make another file have. The only unit that includes
// OpenSSL. Pure functions.
#pragma once

#include <array>
#include <cstddef>
#include <span>
#include <string>

#include "flatbed/result.hpp"

namespace flatbed::remote {

using Md5 = std::array<std::byte, 16>;

// Errors: resource_exhausted: OpenSSL has no memory, or is in a mode without MD5.
[[nodiscard]] Result<Md5> md5_of(std::span<const std::byte> bytes);

// 64 digits. Errors: resource_exhausted.
[[nodiscard]] Result<std::string> sha256_hex_of(std::span<const std::byte> bytes);

[[nodiscard]] std::string hex_of(const Md5& md5);
[[nodiscard]] std::string base64_of(const Md5& md5);

}  // namespace flatbed::remote
