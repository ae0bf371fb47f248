// How many threads read and hash for a load, and near which memory. Stateless, thread-safe.
#pragma once

#include <cstdint>

#include "load/load_plan.hpp"

namespace flatbed {

struct ReaderConditions {
  unsigned cores = 1;  // that the threads may run on
  // That copies to all devices of the load reach at most; 0: unknown, or there is none.
  std::uint64_t link_bytes_per_second = 0;
  bool direct = false;  // a file is read with O_DIRECT
};

// One for each core, as far as they have work: as many as the devices' links need, at least 8 and
// at most 32. At least 2, because one reads while another hashes; and at least 8 where they wait
// for a disk, which needs that many requests at once and few cores.
[[nodiscard]] unsigned usual_readers(const ReaderConditions& conditions) noexcept;

// The sum of the links of all devices; 0 if one of them is unknown.
[[nodiscard]] std::uint64_t link_bytes_per_second(const LoadPlanState& plan) noexcept;

// The NUMA node of all devices; -1 if they differ, it is unknown or there are none.
[[nodiscard]] int numa_node(const LoadPlanState& plan) noexcept;

}  // namespace flatbed
