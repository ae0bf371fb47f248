// LoadLayout: which tensor, or part of it, goes to which place of which device. Each device has one
// allocation, so that 100,000 tensors are not 100,000 calls of a driver.
//
//   device:  | tensor | gap | tensor | gap | tensor ...      places are those of MemoryLayout
//
// It is what load_all() does for one checkpoint and one device.
//
// Borrows the sources and the devices, which must outlive it; owns the memory. For one thread.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "commands.hpp"
#include "flatbed/device.hpp"
#include "flatbed/load.hpp"
#include "flatbed/load_all.hpp"
#include "flatbed/result.hpp"
#include "load_devices.hpp"
#include "load_sources.hpp"

namespace flatbed::tool {

struct Placement {
  std::size_t source = 0;  // of sources
  std::size_t tensor = 0;  // of its checkpoint's tensors
  std::size_t share = 0;   // of LoadLayout::shares
  std::uint64_t offset = 0;
  std::uint64_t nbytes = 0;
  Slice slice;
};

// What goes to one device.
struct DeviceShare {
  DeviceName name;
  Device* device = nullptr;
  MemoryLayout places;
  std::optional<DeviceBuffer> memory;
  std::uint64_t tensors = 0;
  std::uint64_t nbytes = 0;  // of the tensors, without the gaps between them
};

struct LoadLayout {
  std::vector<Placement> placements;  // in the order of sources and tensors
  std::vector<DeviceShare> shares;
  std::uint64_t sliced = 0;  // tensors of which a part is loaded; the others are loaded whole
  std::uint64_t mapped = 0;  // tensors that LoadCommandOptions::map sends somewhere

  [[nodiscard]] std::byte* data(const Placement& place) const {
    return shares[place.share].memory->data() + place.offset;
  }
  [[nodiscard]] std::uint64_t nbytes() const;
};

// Allocates nothing. Errors: slice_invalid, size_overflow.
[[nodiscard]] Result<LoadLayout> lay_out(std::span<const LoadSource> sources,
                                         const LoadCommandOptions& options);

// Makes the devices and their memory. That of the host is touched, so that a load does not measure
// how fast the system hands out pages. Errors: those of the devices; resource_exhausted, also
// before anything is allocated; cancelled.
[[nodiscard]] Result<void> allocate(LoadLayout& layout, LoadDevices& devices);

// The plan that fills the layout.
[[nodiscard]] Result<LoadPlan> make_load_plan(std::span<const LoadSource> sources,
                                              const LoadLayout& layout);

}  // namespace flatbed::tool
