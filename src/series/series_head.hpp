// read_series_head(): what the first bytes of a file say about its place in a series. Pure,
// thread-safe.
//
//   offset 8   {"__metadata__":{"flatbed":"<header>/1/<content>","flatbed.series":"1/...",
//
// Writers put the key there (spec L2), so that a folder is listed with one read per file.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace flatbed {

inline constexpr std::size_t kSeriesHeadNbytes = 4096;  // the key ends within these

struct SeriesHead {
  std::string seal;       // value of `flatbed`
  std::string content;    // the content digest in it
  std::string statement;  // value of flatbed.series
};

// nullopt: something else stands there. Then only the whole header tells.
[[nodiscard]] std::optional<SeriesHead> read_series_head(std::string_view first_bytes);

}  // namespace flatbed
