// What the functions over series give: entries as a handle, and the report of a save.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "c/handles.hpp"
#include "flatbed/result.hpp"

namespace flatbed::c {

using Entries = std::unique_ptr<flatbed_series_entries>;

// One checkpoint with its own notes.
[[nodiscard]] Entries entries_of(SeriesEntry entry);

inline void add_entries(std::vector<SeriesEntry> from, std::uint32_t state,
                        flatbed_series_entries& to) {
  for (SeriesEntry& entry : from) to.entries.push_back({std::move(entry), state});
}

// verify.cpp
[[nodiscard]] flatbed_verify_report report_to_c(const VerifyReport& found);

}  // namespace flatbed::c
