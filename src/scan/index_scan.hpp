// The files that an index names, for scans, regardless of how the index or the files are named.
// Opening a set has rules for both.
#pragma once

#include <optional>
#include <set>
#include <string>

#include "flatbed/byte_source.hpp"
#include "flatbed/result.hpp"
#include "scan/scan_log.hpp"

namespace flatbed::pth {

// The values of weight_map, each once; nullopt where the JSON text has none, which makes it no
// index. Errors: index_malformed (not JSON), limit_exceeded, and those of File::read_at.
[[nodiscard]] Result<std::optional<std::set<std::string>>> read_index_names(const ByteSource& file);

// Whether a name of an index leads to a file in the index's folder or in a folder below it.
[[nodiscard]] bool stays_inside(const std::string& name);

// Logs a JSON text: nothing, unless it is an index, whose files are not at hand. Returns what it
// is.
std::string scan_json(const ByteSource& file, ScanLog& log);

}  // namespace flatbed::pth
