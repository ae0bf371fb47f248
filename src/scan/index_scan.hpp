// JSON texts, and the files that an index names, for scans, regardless of how the index or the
// files are named. Opening a set has rules for both.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "flatbed/byte_source.hpp"
#include "scan/scan_log.hpp"

namespace flatbed::pth {

// Whether a name of an index leads to a file in the index's folder or in a folder below it.
[[nodiscard]] bool stays_inside(const std::string& name);

// A JSON text is parsed only if it may be an index, or YAML with tags of Python. Parsing takes 16
// times its size in memory.
inline constexpr std::uint64_t kMaxJson = 250'000'000;   // as for opening a set
inline constexpr std::uint64_t kMaxInnerJson = 8 << 20;  // inside another file
inline constexpr std::size_t kMaxIndexNames = 10'000;

// Scans a file that begins like a JSON text, and returns what it is. The names of an index go to
// the log's index_names(); they are a finding if it has none or `depth` is not 0. `depth` as in
// scan_content().
std::string scan_json(const ByteSource& file, ScanLog& log, unsigned depth);

}  // namespace flatbed::pth
