// What the targets share: a property that must hold, the input as a file, and reading a checkpoint
// through.
#pragma once

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.hpp"
#include "flatbed/checkpoint.hpp"
#include "io/memory_source.hpp"

namespace flatbed::fuzz {

// Ends the process if `holds` is false, so that libFuzzer keeps the input.
inline void require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "violated: %s\n", what);
  std::abort();
}

// Every error has a code and a message.
inline void check_error(const Error& error) {
  require(error.code != ErrorCode::internal_error, "no input is our own mistake");
  require(!error.message.empty(), "an error says what is wrong");
  require(error.message.size() <= 8192, "a message has an end");
}

// The input as a file that lies in memory, which it borrows.
inline MemorySource source_of(std::string_view bytes) { return {as_bytes(bytes), "input"}; }
inline Result<Checkpoint> open(std::string_view bytes, const OpenOptions& options = {}) {
  return Checkpoint::open_memory(as_bytes(bytes), "input", options);
}

// Reads the first and the last bytes of each tensor, some of all: sizes that a file only claims,
// by strides of 0, may be immense.
inline void read_tensors(const Checkpoint& checkpoint) {
  constexpr std::uint64_t kPart = 4096;
  constexpr std::size_t kMostTensors = 64;
  std::vector<std::byte> part(kPart);
  std::size_t count = 0;
  for (const TensorInfo& tensor : checkpoint.tensors()) {
    if (++count > kMostTensors) return;
    const TensorInfo* found = checkpoint.find(tensor.name);
    require(found != nullptr && found->index == tensor.index, "a tensor is found by its name");
    const std::uint64_t size = std::min(kPart, tensor.nbytes);
    const auto out = std::span(part).first(static_cast<std::size_t>(size));
    for (const std::uint64_t offset : {std::uint64_t{0}, tensor.nbytes - size}) {
      const Result<void> read = checkpoint.read(tensor, offset, out);
      if (!read) check_error(read.error());
    }
    if (tensor.stored == Stored::plain || tensor.stored == Stored::held) {
      const Result<TensorView> view = checkpoint.view(tensor);
      if (view) require(view->bytes.size() == tensor.nbytes, "a view has all bytes");
    }
  }
}

}  // namespace flatbed::fuzz
