// What `flatbed series` prints about checkpoints for people.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "flatbed/series.hpp"
#include "output.hpp"

namespace flatbed::tool {

// A checkpoint of a listing.
struct SeriesRow {
  SeriesEntry entry;
  std::optional<Error> error;  // why it is not whole
  bool latest = false;
  bool best = false;
};

struct SeriesTable {
  SeriesListing listing;  // its entries are in the rows
  std::vector<SeriesRow> rows;
};

// On a terminal of `width` columns names are cut so that a row fits; 0 cuts nothing.
void write_table(const SeriesTable& table, std::size_t width, Output& output);

// "'run/step-000000003000.safetensors', step 3,000, 1.1 GiB"
[[nodiscard]] std::string entry_text(const SeriesEntry& entry);

// "2026-11-29 04:42:03", UTC; "-" if the year does not have four digits.
[[nodiscard]] std::string saved_at_text(std::int64_t milliseconds);

// "0.25", "nan"; "-" if there is none.
[[nodiscard]] std::string score_text(const std::optional<double>& score);

}  // namespace flatbed::tool
