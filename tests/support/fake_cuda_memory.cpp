// The fake's memory: device memory that the host cannot touch, pinned and registered host memory,
// and which of it is whose.
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "support/fake_cuda_state.hpp"

namespace flatbed::fake_cuda {
namespace {

constexpr std::size_t kPage = 4096;

std::size_t whole_pages(std::size_t nbytes) { return (nbytes + kPage - 1) / kPage * kPage; }

std::byte* map(std::size_t nbytes, int access, int fd) {
  const int flags = fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE : MAP_SHARED;
  void* const data = mmap(nullptr, nbytes, access, flags, fd, 0);
  return data == MAP_FAILED ? nullptr : static_cast<std::byte*>(data);
}

// The one that holds `data`, among blocks that do not overlap.
Allocation* find_in(std::map<const std::byte*, Allocation>& blocks, const std::byte* data) {
  auto after = blocks.upper_bound(data);
  if (after == blocks.begin()) return nullptr;
  Allocation& block = std::prev(after)->second;
  return data < block.data + std::max<std::size_t>(block.nbytes, 1) ? &block : nullptr;
}

bool is_host(const Allocation& allocation) {
  return allocation.kind == MemoryKind::pinned || allocation.kind == MemoryKind::registered;
}

bool fits(std::uint64_t nbytes, std::uint64_t used, std::uint64_t limit) {
  return used <= limit && nbytes <= limit - used;
}

}  // namespace

cudaError_t State::allocate_device(void** out, std::size_t nbytes, int device, MemoryKind kind) {
  std::uint64_t& used = device_nbytes[static_cast<std::size_t>(device)];
  if (!fits(nbytes, used, options.device_limit_nbytes)) return cudaErrorMemoryAllocation;
  *out = nullptr;
  if (nbytes == 0) return cudaSuccess;
  Allocation block{.number = ++last_allocation,
                   .kind = kind,
                   .device = device,
                   .nbytes = nbytes,
                   .mapped_nbytes = whole_pages(nbytes)};
  const int fd = memfd_create("fake_cuda", MFD_CLOEXEC);
  if (fd < 0) return cudaErrorMemoryAllocation;
  if (ftruncate(fd, static_cast<off_t>(block.mapped_nbytes)) == 0) {
    const int access = kind == MemoryKind::managed ? PROT_READ | PROT_WRITE : PROT_NONE;
    block.data = map(block.mapped_nbytes, access, fd);
    block.view = map(block.mapped_nbytes, PROT_READ | PROT_WRITE, fd);
  }
  close(fd);
  if (block.data == nullptr || block.view == nullptr) return cudaErrorMemoryAllocation;
  mappings.emplace_back(block.data, block.mapped_nbytes);
  if (options.move_bytes) {
    std::memset(block.view, static_cast<int>(FakeCuda::kCanary), block.mapped_nbytes);
    if (options.track_writes) {
      std::byte* const counts = map(block.mapped_nbytes, PROT_READ | PROT_WRITE, -1);
      block.write_counts = reinterpret_cast<std::uint8_t*>(counts);
    }
  }
  *out = block.data;
  used += nbytes;
  allocations.emplace(block.data, block);
  return cudaSuccess;
}

cudaError_t State::allocate_pinned(void** out, std::size_t nbytes) {
  *out = nullptr;
  if (!fits(nbytes, pinned_nbytes, options.pinned_limit_nbytes)) return cudaErrorMemoryAllocation;
  if (nbytes == 0) return cudaSuccess;
  Allocation block{.number = ++last_allocation,
                   .kind = MemoryKind::pinned,
                   .device = thread_state(*this).device,
                   .nbytes = nbytes,
                   .mapped_nbytes = whole_pages(nbytes)};
  block.data = map(block.mapped_nbytes, PROT_READ | PROT_WRITE, -1);
  if (block.data == nullptr) return cudaErrorMemoryAllocation;
  block.view = block.data;
  mappings.emplace_back(block.data, block.mapped_nbytes);
  *out = block.data;
  pinned_nbytes += nbytes;
  allocations.emplace(block.data, block);
  return cudaSuccess;
}

cudaError_t State::register_host(void* data, std::size_t nbytes) {
  if (!options.host_register_supported) return cudaErrorNotSupported;
  auto* const begin = static_cast<std::byte*>(data);
  if (begin == nullptr || nbytes == 0) {
    add(Entry::misuse, "cudaHostRegister of no memory");
    return cudaErrorInvalidValue;
  }
  for (const auto* memory : {&allocations, &registrations}) {
    for (const auto& [at, block] : *memory) {
      if (!block.live || at >= begin + nbytes || begin >= at + block.nbytes) continue;
      add(Entry::misuse,
          text("cudaHostRegister of ", nbytes, " bytes that overlap ", describe(block)));
      return is_host(block) ? cudaErrorHostMemoryAlreadyRegistered : cudaErrorInvalidValue;
    }
  }
  if (!fits(nbytes, pinned_nbytes, options.pinned_limit_nbytes)) return cudaErrorMemoryAllocation;
  pinned_nbytes += nbytes;
  registrations[begin] = {.number = ++last_allocation,
                          .kind = MemoryKind::registered,
                          .device = thread_state(*this).device,
                          .data = begin,
                          .view = begin,
                          .nbytes = nbytes};
  return cudaSuccess;
}

std::string State::describe(const Allocation& allocation) const {
  constexpr std::array<std::string_view, 4> kNames{"device memory", "managed memory",
                                                   "pinned memory", "registered memory"};
  const std::string_view name = kNames[static_cast<std::size_t>(allocation.kind)];
  std::string out = text(name, " ", allocation.number, " (", allocation.nbytes, " bytes");
  if (!is_host(allocation)) out += text(" of device ", allocation.device);
  return out + ")";
}

Allocation* State::find(const void* data) {
  const auto* const at = static_cast<const std::byte*>(data);
  if (Allocation* const block = find_in(allocations, at)) return block;
  return find_in(registrations, at);
}

std::string State::check_range(const void* data, std::size_t nbytes, Allocation** out) {
  *out = find(data);
  if (*out == nullptr) return "is memory that CUDA does not know";
  const Allocation& block = **out;
  if (!block.live) return text("is in ", describe(block), ", which was given back");
  const auto offset = static_cast<std::size_t>(static_cast<const std::byte*>(data) - block.data);
  if (nbytes > block.nbytes - offset) {
    return text("is [", offset, ", ", offset + nbytes, ") of ", describe(block));
  }
  return "";
}

std::vector<std::shared_ptr<Op>> State::users_of(const Allocation& block) const {
  std::vector<std::shared_ptr<Op>> out;
  const auto add_if_user = [&](const std::shared_ptr<Op>& op) {
    const std::byte* const end = block.data + block.nbytes;
    const Rows& rows = op->rows;
    if ((rows.from >= block.data && rows.from < end) || (rows.to >= block.data && rows.to < end)) {
      out.push_back(op);
    }
  };
  for (const Stream* const stream : streams_by_number) {
    for (const auto& op : stream->unseen) add_if_user(op);
  }
  for (const auto& op : kernels) add_if_user(op);
  return out;
}

cudaError_t State::release(const void* data, std::string_view call, const Verdict& verdict) {
  const bool registered = call == "HostUnregister";
  if (data == nullptr && !registered) return verdict.fails_now() ? verdict.code : cudaSuccess;
  auto& blocks = registered ? registrations : allocations;
  const auto found = blocks.find(static_cast<const std::byte*>(data));
  const bool kind_fits =
      found != blocks.end() &&
      (registered || (call == "FreeHost") == (found->second.kind == MemoryKind::pinned));
  if (!kind_fits) {
    add(Entry::misuse, text("cuda", call, " of memory that it did not give"));
    if (verdict.fails_now()) return verdict.code;
    return registered ? cudaErrorHostMemoryNotRegistered : cudaErrorInvalidValue;
  }
  Allocation& block = found->second;
  if (!block.live) {
    add(Entry::misuse, text("cuda", call, " a second time of ", describe(block)));
    if (verdict.fails_now()) return verdict.code;
    return registered ? cudaErrorHostMemoryNotRegistered : cudaErrorInvalidValue;
  }
  for (const auto& op : users_of(block)) {
    const std::string_view what = op->kind == Op::Kind::read    ? "the engine's read "
                                  : op->kind == Op::Kind::write ? "the engine's write "
                                                                : "copy ";
    add(Entry::misuse, text("cuda", call, " of ", describe(block), " while ", what, op->number,
                            " in stream ", op->stream->number, " is under way"));
    if (verdict.fails_now()) continue;
    run_to(*op->stream, op->number);
    forget_memory(*op);
  }
  if (verdict.fails_now()) {
    block.release_failed = true;
    return verdict.code;
  }
  (is_host(block) ? pinned_nbytes : device_nbytes[static_cast<std::size_t>(block.device)]) -=
      block.nbytes;
  if (registered) {
    registrations.erase(found);  // the memory is the caller's, and may be registered otherwise
    return cudaSuccess;
  }
  block.live = false;
  // The address stays taken, so that late uses of it fault or are recognised.
  if (block.view != block.data) munmap(block.view, block.mapped_nbytes);
  if (block.write_counts != nullptr) munmap(block.write_counts, block.mapped_nbytes);
  block.write_counts = nullptr;
  block.view = nullptr;
  mmap(block.data, block.mapped_nbytes, PROT_NONE,
       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
  return cudaSuccess;
}

void State::count_writes(const std::byte* to, std::size_t nbytes) {
  Allocation* const block = find(to);
  if (block == nullptr || block->write_counts == nullptr) return;
  std::uint8_t* const counts = block->write_counts + (to - block->data);
  for (std::size_t i = 0; i < nbytes; ++i) {
    counts[i] = static_cast<std::uint8_t>(counts[i] < 2 ? counts[i] + 1 : 2);
  }
}

// Whole pages within each row, so that neighbours of the source stay writable.
void State::protect(const Op& op, bool on) {
  if (!options.protect_sources || !op.from_host) return;
  for (std::size_t row = 0; row < op.rows.height; ++row) {
    const auto begin = reinterpret_cast<std::uintptr_t>(op.rows.from) + row * op.rows.from_pitch;
    const std::uintptr_t end = (begin + op.rows.width) / kPage * kPage;
    for (std::uintptr_t page = (begin + kPage - 1) / kPage * kPage; page < end; page += kPage) {
      int& users = protected_pages[page];
      users += on ? 1 : -1;
      if (users == (on ? 1 : 0)) {
        mprotect(reinterpret_cast<void*>(page), kPage, on ? PROT_READ : PROT_READ | PROT_WRITE);
      }
      if (users == 0) protected_pages.erase(page);
    }
  }
}

void State::forget_memory(Op& op) {
  protect(op, false);
  op.from_host = false;
  op.failed = true;  // operations that have not run by now cannot run
}

void State::unmap_all() {
  for (const auto& [page, users] : protected_pages) {
    mprotect(reinterpret_cast<void*>(page), kPage, PROT_READ | PROT_WRITE);
  }
  for (const auto& [data, block] : allocations) {
    if (block.view != nullptr && block.view != block.data) munmap(block.view, block.mapped_nbytes);
    if (block.write_counts != nullptr) munmap(block.write_counts, block.mapped_nbytes);
  }
  for (const auto& [data, nbytes] : mappings) munmap(data, nbytes);
}

}  // namespace flatbed::fake_cuda
