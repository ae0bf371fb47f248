// What the targets share: a property that must hold, a file in memory that is written anew for
// every input, and reading a checkpoint through.
#pragma once

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.hpp"
#include "flatbed/checkpoint.hpp"
#include "io/file.hpp"

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

// A regular file in memory, shared by all inputs of a target.
class FuzzFile {
 public:
  FuzzFile() : descriptor_(::memfd_create("flatbed-fuzz", MFD_CLOEXEC)) {
    require(descriptor_ >= 0, "memfd_create works");
  }
  FuzzFile(const FuzzFile&) = delete;
  FuzzFile& operator=(const FuzzFile&) = delete;
  ~FuzzFile() { ::close(descriptor_); }

  void set(std::string_view bytes) const {
    require(::ftruncate(descriptor_, 0) == 0, "the file can be emptied");
    const ssize_t written = ::pwrite(descriptor_, bytes.data(), bytes.size(), 0);
    require(written == static_cast<ssize_t>(bytes.size()), "the file can be written");
  }

  [[nodiscard]] std::filesystem::path path() const {
    return "/proc/self/fd/" + std::to_string(descriptor_);
  }

  [[nodiscard]] File open() const {
    Result<File> opened = File::open(path());
    require(opened.has_value(), "the file opens");
    return *std::move(opened);
  }

 private:
  int descriptor_;
};

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
