#include "load_layout.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <future>
#include <thread>

#include "flatbed/available_memory.hpp"
#include "format_text.hpp"
#include "interrupt.hpp"

namespace flatbed::tool {
namespace {

constexpr std::uint64_t kPageNbytes = 4096;

// Where tensor `index` of a source goes.
DeviceName choose_device(const LoadSource& source, std::size_t index,
                         const LoadCommandOptions& options, LoadLayout& layout) {
  if (source.homes.empty()) return options.device;
  for (const DeviceMapping& mapping : options.map) {
    if (mapping.from != source.homes[index]) continue;
    ++layout.mapped;
    return mapping.to;
  }
  return options.device;
}

std::size_t find_share(DeviceName name, std::vector<DeviceShare>& shares) {
  const auto found = std::find_if(shares.begin(), shares.end(),
                                  [&](const DeviceShare& share) { return share.name == name; });
  if (found != shares.end()) return static_cast<std::size_t>(found - shares.begin());
  shares.emplace_back().name = name;
  return shares.size() - 1;
}

// Cuts tensors that have the dimension and at least as many rows as there are parts. The others,
// norms for example, are what tensor parallelism has on every device.
Result<void> cut(const TensorInfo& tensor, const SliceChoice& choice, Placement& place,
                 LoadLayout& layout) {
  if (choice.dim >= tensor.shape.size() || tensor.shape[choice.dim] < choice.count) return {};
  FLATBED_ASSIGN(place.slice, shard_slice(tensor, choice.dim, choice.rank, choice.count));
  FLATBED_ASSIGN(place.nbytes, slice_nbytes(tensor, place.slice));
  ++layout.sliced;
  return {};
}

Result<void> check_available(const LoadLayout& layout) {
  std::uint64_t wanted = 0;
  for (const DeviceShare& share : layout.shares) {
    if (share.name.is_host()) wanted += share.places.nbytes();
  }
  const std::optional<std::uint64_t> available = available_memory();
  if (!available || wanted <= *available) return {};
  return Error{ErrorCode::resource_exhausted,
               fmt::format("host: the tensors need {}, and {} of memory are available",
                           size_text(wanted), size_text(*available))};
}

// Writes a byte to each page, a block at a time, until `cancel` is set.
void touch(std::span<std::byte> memory, const std::atomic<bool>& cancel) {
  constexpr std::size_t kBlock = std::size_t{64} << 20;
  for (std::size_t block = 0; block < memory.size() && !cancel.load(); block += kBlock) {
    const std::size_t end = std::min(memory.size(), block + kBlock);
    for (std::size_t at = block; at < end; at += kPageNbytes) {
      static_cast<volatile std::byte*>(memory.data())[at] = std::byte{0};
    }
  }
}

void touch_in_parallel(std::span<std::byte> memory) {
  constexpr std::size_t kLeastPart = std::size_t{64} << 20;
  const std::size_t threads = std::clamp<std::size_t>(
      memory.size() / kLeastPart, 1, std::clamp(std::thread::hardware_concurrency(), 1U, 8U));
  const std::size_t part = (memory.size() / threads / kPageNbytes + 1) * kPageNbytes;
  std::vector<std::future<void>> running;
  for (std::size_t begin = part; begin < memory.size(); begin += part) {
    const std::span<std::byte> piece = memory.subspan(begin, std::min(part, memory.size() - begin));
    running.push_back(std::async(std::launch::async, [piece] { touch(piece, interrupted()); }));
  }
  touch(memory.first(std::min(part, memory.size())), interrupted());
  for (std::future<void>& worker : running) worker.get();
}

// A dimension that no tensor has is a mistake: the load would do what it does without --slice.
Result<void> check_slice(std::span<const LoadSource> sources, const SliceChoice& slice) {
  std::size_t rank = 0;
  for (const LoadSource& source : sources) {
    for (const TensorInfo& tensor : source.checkpoint.tensors())
      rank = std::max(rank, tensor.shape.size());
  }
  if (slice.dim < rank) return {};
  return Error{
      ErrorCode::invalid_argument,
      fmt::format("--slice {}:{}/{}: no tensor has dimension {}: found at most {}", slice.dim,
                  slice.rank, slice.count, slice.dim, count_text(rank, "dimension"))};
}

}  // namespace

std::uint64_t LoadLayout::nbytes() const {
  std::uint64_t sum = 0;
  for (const DeviceShare& share : shares) sum += share.nbytes;
  return sum;
}

Result<LoadLayout> lay_out(std::span<const LoadSource> sources, const LoadCommandOptions& options) {
  LoadLayout layout;
  if (options.slice) FLATBED_TRY(check_slice(sources, *options.slice));
  for (std::size_t s = 0; s < sources.size(); ++s) {
    const std::span<const TensorInfo> tensors = sources[s].checkpoint.tensors();
    for (std::size_t t = 0; t < tensors.size(); ++t) {
      Placement place{s, t, 0, 0, tensors[t].nbytes, {}};
      if (options.slice) {
        Result<void> done = cut(tensors[t], *options.slice, place, layout);
        if (!done) return about(sources[s].path, done.error());
      }
      place.share = find_share(choose_device(sources[s], t, options, layout), layout.shares);
      DeviceShare& share = layout.shares[place.share];
      FLATBED_ASSIGN(place.offset, share.places.place(place.nbytes));
      ++share.tensors;
      share.nbytes += place.nbytes;
      layout.placements.push_back(place);
    }
  }
  return layout;
}

Result<void> allocate(LoadLayout& layout, LoadDevices& devices) {
  for (DeviceShare& share : layout.shares) {
    FLATBED_ASSIGN(share.device, devices.get(share.name));
  }
  FLATBED_TRY(check_available(layout));
  for (DeviceShare& share : layout.shares) {
    // A device that gets only empty tensors has an address for them too.
    const std::uint64_t nbytes = std::max(share.places.nbytes(), MemoryLayout::kUsualAlignment);
    FLATBED_ASSIGN(share.memory, DeviceBuffer::allocate(*share.device, nbytes));
    if (share.device->is_host()) touch_in_parallel({share.memory->data(), nbytes});
    if (interrupted()) return Error{ErrorCode::cancelled, "interrupted before anything was read"};
  }
  return {};
}

Result<LoadPlan> make_load_plan(std::span<const LoadSource> sources, const LoadLayout& layout) {
  LoadPlan plan;
  for (const Placement& place : layout.placements) {
    const LoadSource& source = sources[place.source];
    const TensorInfo& tensor = source.checkpoint.tensors()[place.tensor];
    const Destination to{.device = layout.shares[place.share].device,
                         .data = layout.data(place),
                         .capacity = place.nbytes,
                         .row_pitch = 0};
    LoadItem item;
    item.slice = place.slice;
    Result<void> added = plan.add(source.checkpoint, tensor.name, to, item);
    if (!added) return about(source.path, added.error());
  }
  return plan;
}

}  // namespace flatbed::tool
