// What flatbed.open() takes: a path, bytes in memory, a descriptor or a file, or a list of shards.
#pragma once

#include <nanobind/nanobind.h>

#include <filesystem>
#include <string>

#include "flatbed/checkpoint.hpp"

namespace flatbed::python {

namespace nb = nanobind;

struct SourceOptions {
  OpenOptions open;
  std::string label;                        // of what has no path; "": a usual one
  nb::object storage_options = nb::none();  // a Mapping for a URL, or None
};

// Opens `source`. Needs the GIL, and gives it up while it reads. Throws TypeError for what is no
// source, ValueError for a closed file, and the library's errors.
Checkpoint open_source(const nb::handle& source, const SourceOptions& options);

// The path in a str or an os.PathLike. Throws TypeError, beginning with `what`, for anything else.
std::filesystem::path path_argument(const nb::handle& path, const char* what);

}  // namespace flatbed::python
