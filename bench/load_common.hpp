// Shared by the programs that measure load(): owned and touched memory, plans that fill it,
// evicting a file from the page cache, and processor time.
#pragma once

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "flatbed/flatbed.hpp"

namespace bench {

constexpr std::uint64_t kPage = 4096;
constexpr std::uint64_t kHugePage = 2 << 20;

[[noreturn]] inline void fail(const std::string& message) {
  std::fprintf(stderr, "bench: %s\n", message.c_str());
  std::exit(1);
}

// The value, or the end of the program with the error's message.
template <typename T>
T take(flatbed::Result<T> result) {
  if (!result) fail(result.error().message);
  return *std::move(result);
}

// Memory in pages of 2 MiB where the kernel has them, every page touched.
class OwnedMemory {
 public:
  explicit OwnedMemory(std::uint64_t nbytes)
      : mapped_nbytes_(nbytes + 2 * kHugePage),
        mapped_(mmap(nullptr, mapped_nbytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                     -1, 0)) {
    if (mapped_ == MAP_FAILED) fail("out of memory for the destinations");
    const auto address = reinterpret_cast<std::uintptr_t>(mapped_);
    data_ = static_cast<std::byte*>(mapped_) + (kHugePage - address % kHugePage) % kHugePage;
    nbytes_ = nbytes;
    madvise(data_, nbytes + kHugePage, MADV_HUGEPAGE);
    std::memset(data_, 0, nbytes);
  }
  OwnedMemory(const OwnedMemory&) = delete;
  OwnedMemory& operator=(const OwnedMemory&) = delete;
  ~OwnedMemory() { munmap(mapped_, mapped_nbytes_); }

  [[nodiscard]] std::byte* data() const { return data_; }
  [[nodiscard]] std::uint64_t nbytes() const { return nbytes_; }

  // Sums all bytes as 64-bit numbers, which tells whether two contenders loaded the same.
  [[nodiscard]] std::uint64_t sum() const {
    std::uint64_t sum = 0;
    for (std::uint64_t i = 0; i + 8 <= nbytes_; i += 8) {
      std::uint64_t word = 0;
      std::memcpy(&word, data_ + i, 8);
      sum += word;
    }
    return sum;
  }

 private:
  std::uint64_t mapped_nbytes_;
  void* mapped_;
  std::byte* data_ = nullptr;
  std::uint64_t nbytes_ = 0;
};

// The bytes of a file that hold tensors: from the page of the first to the end of the last.
struct DataRange {
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
  [[nodiscard]] std::uint64_t nbytes() const { return end - begin; }
};

inline DataRange find_data(const flatbed::Checkpoint& model) {
  DataRange data{.begin = ~std::uint64_t{0}};
  for (const flatbed::TensorInfo& tensor : model.tensors()) {
    data.begin = std::min(data.begin, tensor.where.offset / kPage * kPage);
    data.end = std::max(data.end, tensor.where.offset + tensor.where.nbytes);
  }
  if (data.begin >= data.end) fail("the file has no tensor data");
  return data;
}

// Whole tensors. `as_in_file`: in one block laid out like the file. `apart`: each 64 bytes after a
// multiple of 128, as an engine's allocator might place it, so that file blocks do not line up.
enum class Placement { as_in_file, apart };
constexpr std::uint64_t kApart = 64;
constexpr std::uint64_t kApartAlignment = 128;

// The memory that a plan made with `placement` fills.
inline std::uint64_t count_memory(const flatbed::Checkpoint& model, Placement placement) {
  if (placement == Placement::as_in_file) return find_data(model).nbytes() + kHugePage;
  flatbed::MemoryLayout apart(kApartAlignment);
  for (const flatbed::TensorInfo& tensor : model.tensors()) take(apart.place(tensor.nbytes));
  return apart.nbytes() + kApart;
}

inline flatbed::LoadPlan make_plan(const flatbed::Checkpoint& model, const OwnedMemory& memory,
                                   Placement placement) {
  flatbed::LoadPlan plan;
  const DataRange data = find_data(model);
  flatbed::MemoryLayout apart(kApartAlignment);
  for (const flatbed::TensorInfo& tensor : model.tensors()) {
    const std::uint64_t at = placement == Placement::apart
                                 ? take(apart.place(tensor.nbytes)) + kApart
                                 : tensor.where.offset - data.begin;
    const flatbed::Result<void> added =
        plan.add(model, tensor.name, {.data = memory.data() + at, .capacity = tensor.nbytes});
    if (!added) fail(added.error().message);
  }
  return plan;
}

// The processor time of all threads of this process, including ended ones, in seconds.
inline double processor_seconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + 1e-6 * static_cast<double>(time.tv_usec);
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

// A file that is written back and can be evicted from the page cache.
class ColdFile {
 public:
  explicit ColdFile(const char* path) : descriptor_(open(path, O_RDONLY | O_CLOEXEC)) {
    struct stat status {};
    if (descriptor_ < 0 || fstat(descriptor_, &status) != 0) {
      fail(std::string(path) + ": cannot open");
    }
    nbytes_ = static_cast<std::size_t>(status.st_size);
    fsync(descriptor_);
  }
  ColdFile(const ColdFile&) = delete;
  ColdFile& operator=(const ColdFile&) = delete;
  ~ColdFile() { close(descriptor_); }

  // Ends the program if more than a thousandth of the file stays, because that would not be cold.
  void evict() const {
    for (int i = 0; i < 5; ++i) {
      posix_fadvise(descriptor_, 0, 0, POSIX_FADV_DONTNEED);
      if (count_resident() * 1000 <= nbytes_ / kPage + 1000) return;
    }
    fail("the file stays in the page cache (is it mapped or being written?)");
  }

  [[nodiscard]] std::size_t count_resident() const {
    void* mapped = mmap(nullptr, nbytes_, PROT_READ, MAP_SHARED, descriptor_, 0);
    if (mapped == MAP_FAILED) fail("cannot map the file");
    std::vector<unsigned char> pages((nbytes_ + kPage - 1) / kPage);
    mincore(mapped, nbytes_, pages.data());
    munmap(mapped, nbytes_);
    return static_cast<std::size_t>(
        std::ranges::count_if(pages, [](unsigned char page) { return (page & 1) != 0; }));
  }

 private:
  int descriptor_;
  std::size_t nbytes_ = 0;
};

}  // namespace bench
