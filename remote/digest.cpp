#include "digest.hpp"

#include <openssl/evp.h>

#include "text.hpp"

namespace flatbed::remote {

namespace {

std::string hex_digits(std::span<const std::byte> bytes) {
  constexpr std::string_view kHex = "0123456789abcdef";
  std::string out;
  for (const std::byte byte : bytes) {
    out += kHex[std::to_integer<std::size_t>(byte >> 4)];
    out += kHex[std::to_integer<std::size_t>(byte & std::byte{15})];
  }
  return out;
}

}  // namespace

Result<Md5> md5_of(std::span<const std::byte> bytes) {
  Md5 md5{};
  unsigned nbytes = 0;
  const int done = EVP_Digest(bytes.data(), bytes.size(), reinterpret_cast<unsigned char*>(&md5),
                              &nbytes, EVP_md5(), nullptr);
  if (done == 1 && nbytes == md5.size()) return md5;
  return error_of(ErrorCode::resource_exhausted, "OpenSSL computes no MD5, which S3 needs");
}

Result<std::string> sha256_hex_of(std::span<const std::byte> bytes) {
  std::array<std::byte, 32> sum{};
  unsigned nbytes = 0;
  const int done = EVP_Digest(bytes.data(), bytes.size(), reinterpret_cast<unsigned char*>(&sum),
                              &nbytes, EVP_sha256(), nullptr);
  if (done == 1 && nbytes == sum.size()) return hex_digits(sum);
  return error_of(ErrorCode::resource_exhausted, "OpenSSL computes no SHA-256");
}

std::string hex_of(const Md5& md5) { return hex_digits(md5); }

std::string base64_of(const Md5& md5) {
  std::array<unsigned char, 25> out{};  // 24 characters and a zero
  const int nbytes = EVP_EncodeBlock(out.data(), reinterpret_cast<const unsigned char*>(md5.data()),
                                     static_cast<int>(md5.size()));
  return std::string(reinterpret_cast<const char*>(out.data()), static_cast<std::size_t>(nbytes));
}

}  // namespace flatbed::remote
