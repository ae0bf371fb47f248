// Models for tests of loading: files of tensors with contents that are known, and what a slice of
// them is, worked out element by element.
#pragma once

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/bytes.hpp"
#include "flatbed/load.hpp"
#include "flatbed/save.hpp"
#include "support/expect_error.hpp"

namespace flatbed::test {

inline constexpr std::size_t kChunk = 262'144;

struct ModelTensor {
  std::string name;
  Dtype dtype = Dtype::u8;
  std::vector<std::uint64_t> shape;
  std::string bytes = {};  // filled by fill()
};

// Gives each tensor bytes that differ from place to place and from tensor to tensor.
inline void fill(std::vector<ModelTensor>& tensors, std::uint32_t seed = 1) {
  std::mt19937 random(seed);
  for (ModelTensor& tensor : tensors) {
    std::uint64_t nbits = bits(tensor.dtype);
    for (const std::uint64_t size : tensor.shape) nbits *= size;
    tensor.bytes.resize(nbits / 8);
    std::size_t at = 0;
    for (; at + 4 <= tensor.bytes.size(); at += 4) {
      const auto word = static_cast<std::uint32_t>(random());
      tensor.bytes.replace(at, 4, reinterpret_cast<const char*>(&word), 4);
    }
    for (; at < tensor.bytes.size(); ++at) tensor.bytes[at] = static_cast<char>(random());
  }
}

inline Checkpoint write_model(const std::filesystem::path& path,
                              const std::vector<ModelTensor>& tensors, bool seal = true) {
  SavePlan plan;
  for (const ModelTensor& tensor : tensors)
    plan.items.push_back({tensor.name, tensor.dtype, tensor.shape, as_bytes(tensor.bytes)});
  EXPECT_OK(save(path, plan, {.seal = seal, .sync = false}));
  return Checkpoint::open(path).value();
}

// The bytes of elements [begin, end) of dimension `dim`. Elements of less than a byte can only be
// cut between bytes: the row of each index must be a whole number of them.
inline std::string slice_of(const ModelTensor& tensor, std::size_t dim, std::uint64_t begin,
                            std::uint64_t end) {
  std::uint64_t row_nbits = bits(tensor.dtype);
  for (std::size_t i = dim + 1; i < tensor.shape.size(); ++i) row_nbits *= tensor.shape[i];
  EXPECT_EQ(row_nbits % 8, 0u) << tensor.name;
  const std::uint64_t row = row_nbits / 8;
  std::string out;
  for (std::uint64_t i = 0; row != 0 && i * row < tensor.bytes.size(); ++i) {
    const std::uint64_t index = i % tensor.shape[dim];
    if (index >= begin && index < end) out += tensor.bytes.substr(i * row, row);
  }
  return out;
}

// Memory for one destination, aligned to 4096, with a border that must not be written.
class Target {
 public:
  static constexpr std::size_t kBorder = 4096;

  explicit Target(std::size_t nbytes, std::size_t shift = 0)
      : memory_(nbytes + shift + 3 * kBorder, '\x5c'), nbytes_(nbytes), shift_(shift) {}

  [[nodiscard]] std::byte* data() { return reinterpret_cast<std::byte*>(begin()); }
  [[nodiscard]] std::string_view bytes() { return {begin(), nbytes_}; }
  [[nodiscard]] std::span<std::byte> span() { return {data(), nbytes_}; }
  [[nodiscard]] bool border_is_whole() {
    const std::string_view all(memory_);
    const auto before = static_cast<std::size_t>(begin() - memory_.data());
    return all.substr(0, before).find_first_not_of('\x5c') == all.npos &&
           all.substr(before + nbytes_).find_first_not_of('\x5c') == all.npos;
  }
  [[nodiscard]] Destination destination(Device* device = nullptr) {
    return {device, data(), nbytes_, 0};
  }

 private:
  char* begin() {
    const auto address = reinterpret_cast<std::uintptr_t>(memory_.data());
    return memory_.data() + (kBorder - address % kBorder) % kBorder + kBorder + shift_;
  }

  std::string memory_;
  std::size_t nbytes_;
  std::size_t shift_;
};

}  // namespace flatbed::test
