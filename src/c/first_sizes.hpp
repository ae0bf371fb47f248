// The size that each struct of flatbed.h had in the first release that had it. These numbers never
// change: a caller with this size is one that was compiled then. When a struct grows, a program of
// the first size still works, because its missing members read as zero, which is their default.
#pragma once

#include <cstdint>

#include "flatbed/flatbed.h"

namespace flatbed::c {

template <typename Struct>
constexpr std::uint64_t kFirstSize = 0;

#define FLATBED_FIRST_SIZE(type, nbytes)                    \
  template <>                                               \
  inline constexpr std::uint64_t kFirstSize<type> = nbytes; \
  static_assert(sizeof(type) >= (nbytes) && sizeof(type) % 8 == 0)

FLATBED_FIRST_SIZE(flatbed_open_options, 16);
FLATBED_FIRST_SIZE(flatbed_reader, 72);
FLATBED_FIRST_SIZE(flatbed_tensor, 104);
FLATBED_FIRST_SIZE(flatbed_file, 80);
FLATBED_FIRST_SIZE(flatbed_selection, 64);
FLATBED_FIRST_SIZE(flatbed_cast_rules, 48);
FLATBED_FIRST_SIZE(flatbed_tensor_attributes, 120);
FLATBED_FIRST_SIZE(flatbed_device_ops, 136);
FLATBED_FIRST_SIZE(flatbed_transfer, 120);
FLATBED_FIRST_SIZE(flatbed_load_options, 88);
FLATBED_FIRST_SIZE(flatbed_load_all_options, 40);
FLATBED_FIRST_SIZE(flatbed_loaded_tensor, 72);
FLATBED_FIRST_SIZE(flatbed_plan_report, 48);
FLATBED_FIRST_SIZE(flatbed_load_report, 160);
FLATBED_FIRST_SIZE(flatbed_match_options, 80);
FLATBED_FIRST_SIZE(flatbed_match_report, 56);
FLATBED_FIRST_SIZE(flatbed_verify_options, 48);
FLATBED_FIRST_SIZE(flatbed_verify_report, 72);
FLATBED_FIRST_SIZE(flatbed_save_plan_options, 16);
FLATBED_FIRST_SIZE(flatbed_save_options, 96);
FLATBED_FIRST_SIZE(flatbed_save_report, 120);
FLATBED_FIRST_SIZE(flatbed_convert_options, 72);
FLATBED_FIRST_SIZE(flatbed_compare_options, 24);
FLATBED_FIRST_SIZE(flatbed_output_state, 1048);
FLATBED_FIRST_SIZE(flatbed_series_options, 72);
FLATBED_FIRST_SIZE(flatbed_series_entry, 120);
FLATBED_FIRST_SIZE(flatbed_series_stamp, 32);
FLATBED_FIRST_SIZE(flatbed_scan_options, 48);
FLATBED_FIRST_SIZE(flatbed_scan_report, 32);
FLATBED_FIRST_SIZE(flatbed_diff_options, 56);
FLATBED_FIRST_SIZE(flatbed_diff_report, 56);
FLATBED_FIRST_SIZE(flatbed_placed_tensor, 48);
// Those of flatbed_cuda.h are in cuda/cuda_c.cpp, and those of flatbed_remote.h in
// remote/remote_c.cpp.

}  // namespace flatbed::c
