#include "pinned_memory.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <utility>

#include "cuda_error.hpp"

namespace flatbed::cuda {
namespace {

constexpr std::size_t kAlignment = 4096;  // required by O_DIRECT

std::size_t whole_pages(std::size_t nbytes) {
  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  const std::size_t missing = (page - nbytes % page) % page;
  return nbytes <= SIZE_MAX - missing ? nbytes + missing : nbytes;
}

// After fork() parent and child share pages until one of them writes, which then goes on with a
// copy: older kernels give it to the parent too, and the GPU would read the page as it was. What is
// no child's stays the parent's. Both are hints.
void hide_from_children(std::span<std::byte> memory) noexcept {
  static_cast<void>(::madvise(memory.data(), memory.size(), MADV_DONTFORK));
}
void show_to_children(std::span<std::byte> memory) noexcept {
  static_cast<void>(::madvise(memory.data(), memory.size(), MADV_DOFORK));
}

}  // namespace

std::size_t left_of_segment(const void* at, std::size_t segment_nbytes) noexcept {
  return segment_nbytes - reinterpret_cast<std::uintptr_t>(at) % segment_nbytes;
}

PinnedMemory::PinnedMemory(const CudaApi& api, std::string place, std::size_t segment_nbytes)
    : api_(api), place_(std::move(place)), segment_nbytes_(segment_nbytes), host_(host_device()) {}

Result<std::byte*> PinnedMemory::stage(std::size_t nbytes) {
  if (nbytes == 0)
    return Error{ErrorCode::invalid_argument, place_ + ": the size of staging memory is 0"};
  FLATBED_ASSIGN(const Block block, stage_block(nbytes));
  const std::lock_guard lock(mutex_);
  blocks_.push_back(block);
  return block.memory.data();
}

// Registering our own memory is better than cudaHostAlloc(): it gives huge pages, which are locked
// at once, and the alignment that O_DIRECT requires. If registration is unsupported, or refused for
// a reason other than memory, cudaHostAlloc() is the fallback. Whole pages, because nothing else
// may be on those that children do not see.
Result<PinnedMemory::Block> PinnedMemory::stage_block(std::size_t nbytes) {
  const std::size_t room = whole_pages(nbytes);
  FLATBED_ASSIGN(std::byte* const memory, host_->stage(room));
  hide_from_children({memory, room});
  std::size_t locked = 0;
  const cudaError_t status = register_segments({memory, room}, locked);
  if (status == cudaSuccess) return Block{{memory, room}, nullptr};
  if (unregister_segments({memory, locked})) give_back({memory, room});
  if (status == cudaErrorMemoryAllocation) {
    return cuda_error(api_, status, place_,
                      "cudaHostRegister of " + std::to_string(nbytes) + " bytes");
  }
  return allocate(nbytes);
}

Result<PinnedMemory::Block> PinnedMemory::allocate(std::size_t nbytes) {
  void* allocated = nullptr;
  const std::size_t room = nbytes + kAlignment;  // the host had room for it before
  if (const cudaError_t status = api_.HostAlloc(&allocated, room, cudaHostAllocPortable);
      status != cudaSuccess) {
    return cuda_error(api_, status, place_, "cudaHostAlloc of " + std::to_string(room) + " bytes");
  }
  const std::size_t over = reinterpret_cast<std::uintptr_t>(allocated) % kAlignment;
  std::byte* const memory =
      static_cast<std::byte*>(allocated) + (over == 0 ? 0 : kAlignment - over);
  return Block{{memory, nbytes}, allocated};
}

// Portable: page-locked for every device, so that one pool can serve several. If a call fails,
// `locked` is the number of bytes already registered.
cudaError_t PinnedMemory::register_segments(std::span<std::byte> memory,
                                            std::size_t& locked) noexcept {
  while (locked < memory.size()) {
    const std::size_t nbytes =
        std::min(left_of_segment(memory.data() + locked, segment_nbytes_), memory.size() - locked);
    const cudaError_t status =
        api_.HostRegister(memory.data() + locked, nbytes, cudaHostRegisterPortable);
    consume(api_, status);
    if (status != cudaSuccess) return status;
    locked += nbytes;
  }
  return cudaSuccess;
}

// Returns true if nothing is registered any more.
bool PinnedMemory::unregister_segments(std::span<std::byte> memory) noexcept {
  bool all = true;
  for (std::size_t at = 0; at < memory.size();) {
    const cudaError_t status = api_.HostUnregister(memory.data() + at);
    consume(api_, status);
    all = all && status == cudaSuccess;
    at += left_of_segment(memory.data() + at, segment_nbytes_);
  }
  return all;
}

void PinnedMemory::give_back(std::span<std::byte> memory) noexcept {
  show_to_children(memory);
  host_->unstage(memory.data(), memory.size());
}

void PinnedMemory::unstage(const std::byte* memory) noexcept {
  Block block;
  {
    const std::lock_guard lock(mutex_);
    const auto found = std::find_if(blocks_.begin(), blocks_.end(), [&](const Block& each) {
      return each.memory.data() == memory;
    });
    if (found == blocks_.end()) return;
    block = std::exchange(*found, blocks_.back());
    blocks_.pop_back();
  }
  if (block.allocated != nullptr) {
    consume(api_, api_.FreeHost(block.allocated));
  } else if (unregister_segments(block.memory)) {
    give_back(block.memory);
  }
}

}  // namespace flatbed::cuda
