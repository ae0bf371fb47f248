// PinnedMemory: page-locked host memory for CUDA, on 2 MiB pages if available. Owns memory from
// stage() until unstage(). Memory that is still staged at the end is leaked, and so is memory that
// CUDA does not release, because a copy may still read it. A child of fork() does not have memory
// that is staged. Calls CUDA on the calling thread, whose
// current device must be set. Thread-safe.
#pragma once

#include <cstddef>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "cuda_api.hpp"
#include "flatbed/device.hpp"
#include "flatbed/result.hpp"

namespace flatbed::cuda {

// Memory is page-locked in segments, because some drivers refuse large pieces, and a copy must not
// cross from one segment into the next. Segments end at addresses that are multiples of the segment
// size, so that any device that copies can find the ends. Returns the bytes from `at` to the next
// end:
[[nodiscard]] std::size_t left_of_segment(const void* at, std::size_t segment_nbytes) noexcept;

class PinnedMemory {
 public:
  // `place` begins each error message.
  PinnedMemory(const CudaApi& api, std::string place, std::size_t segment_nbytes);

  // Returns touched memory, aligned to at least 4096 bytes. Errors: resource_exhausted,
  // device_error, device_unavailable, invalid_argument (no bytes).
  [[nodiscard]] Result<std::byte*> stage(std::size_t nbytes);
  void unstage(const std::byte* memory) noexcept;

 private:
  struct Block {
    std::span<std::byte> memory;
    void* allocated;  // from cudaHostAlloc(); null if the host's memory was registered
  };

  [[nodiscard]] cudaError_t register_segments(std::span<std::byte> memory,
                                              std::size_t& locked) noexcept;
  [[nodiscard]] bool unregister_segments(std::span<std::byte> memory) noexcept;
  void give_back(std::span<std::byte> memory) noexcept;  // to the host
  [[nodiscard]] Result<Block> allocate(std::size_t nbytes);
  [[nodiscard]] Result<Block> stage_block(std::size_t nbytes);

  const CudaApi& api_;
  const std::string place_;
  const std::size_t segment_nbytes_;
  const std::unique_ptr<Device> host_;
  std::mutex mutex_;
  std::vector<Block> blocks_;
};

}  // namespace flatbed::cuda
