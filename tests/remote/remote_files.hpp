// What the tests of flatbed::remote read, and how. Pure functions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>

#include "flatbed/byte_source.hpp"
#include "flatbed/checkpoint.hpp"
#include "flatbed/remote.hpp"
#include "flatbed/save_torch.hpp"
#include "remote/test_server.hpp"
#include "support/temp_dir.hpp"

namespace flatbed::test {

// Bytes that tell where in the file they are.
inline std::string pattern(std::size_t nbytes, std::uint64_t seed = 1) {
  std::string out(nbytes, '\0');
  for (std::size_t i = 0; i < nbytes; ++i) {
    const std::uint64_t word = (i / 8 + seed) * 0x9E3779B97F4A7C15;
    out[i] = static_cast<char>(word >> (i % 8 * 8));
  }
  return out;
}

// A safetensors file with one tensor of bytes.
inline std::string one_tensor(const std::string& name, const std::string& data) {
  const std::string size = std::to_string(data.size());
  std::string header = "{\"" + name + "\":{\"dtype\":\"U8\",\"shape\":[" + size +
                       "],\"data_offsets\":[0," + size + "]}}";
  while (header.size() % 8 != 0) header += ' ';
  std::string out(8, '\0');
  const std::uint64_t length = header.size();
  std::memcpy(out.data(), &length, 8);
  return out + header + data;
}

// A zip as torch.save lays it out, with records far apart.
inline std::string many_records(std::size_t tensors, std::size_t nbytes) {
  const TempDir dir;
  const std::string data = pattern(nbytes);
  SavePlan plan;
  for (std::size_t i = 0; i < tensors; ++i)
    plan.items.push_back(
        {"w" + std::to_string(i), Dtype::u8, {nbytes}, std::as_bytes(std::span(data))});
  static_cast<void>(save_torch(dir / "a.pth", plan, {.file = {.sync = false}}).value());
  return read_file(dir / "a.pth");
}

// Options of a test: nothing takes long.
inline RemoteOptions patient() {
  RemoteOptions options;
  options.backoff = std::chrono::milliseconds(5);
  options.retries = 4;
  options.range_nbytes = 512 << 10;
  return options;
}

inline Result<std::string> read_range(const ByteSource& source, std::uint64_t offset,
                                      std::size_t nbytes) {
  std::string out(nbytes, '\0');
  FLATBED_TRY(source.read_at(offset, std::as_writable_bytes(std::span(out))));
  return out;
}

inline Result<std::string> read_tensor(const Checkpoint& checkpoint, const std::string& name) {
  FLATBED_ASSIGN(const TensorInfo tensor, checkpoint.tensor(name));
  std::string out(static_cast<std::size_t>(tensor.nbytes), '\0');
  FLATBED_TRY(checkpoint.read(tensor, 0, std::as_writable_bytes(std::span(out))));
  return out;
}

// The request that a source begins with.
inline bool is_first(const ServerRequest& request) {
  const auto range = request.headers.find("range");
  return range != request.headers.end() && range->second.starts_with("bytes=0-");
}

}  // namespace flatbed::test

// A failed result with this code.
#define EXPECT_CODE(result, expected)                                 \
  do {                                                                \
    const auto& flatbed_found = (result);                             \
    ASSERT_FALSE(flatbed_found);                                      \
    EXPECT_EQ(::flatbed::name(flatbed_found.error().code), #expected) \
        << flatbed_found.error().message;                             \
  } while (false)
