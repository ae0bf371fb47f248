// sort_names(): sorts many names by their bytes. Names of tensors begin alike, so that comparing
// whole names reads the same bytes again and again. Here a range is sorted by the eight bytes in
// which its names first differ, and then every run of names that have these bytes in common. Names
// that are a few ascending runs are merged.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

namespace flatbed {

struct NumberedName {
  std::string_view name;
  std::uint32_t number = 0;
  std::uint64_t key = 0;  // the sort's own
};

// Equal names keep no order.
void sort_names(std::vector<NumberedName>& names);

}  // namespace flatbed
