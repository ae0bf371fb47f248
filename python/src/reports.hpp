// Reports of the library as the dataclasses of flatbed/reports.py. The GIL must be held.
#pragma once

#include <nanobind/nanobind.h>

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "flatbed/checkpoint.hpp"
#include "flatbed/crc.hpp"
#include "flatbed/diff.hpp"
#include "flatbed/match.hpp"
#include "flatbed/save_set.hpp"
#include "flatbed/scan.hpp"
#include "flatbed/verify.hpp"

namespace flatbed::python {

namespace nb = nanobind;

nb::object to_python(const FileInfo& file);
nb::object to_python(const VerifyReport& report, const Checkpoint& checkpoint);
nb::object to_python(const ScanReport& report);
nb::object to_python(const DiffReport& report);
nb::object to_python(const MatchReport& report);
// A file, or the files of a set, that were written.
nb::object to_python(const SaveReport& report, const std::vector<std::string>& files,
                     const std::vector<std::string>& notes);

}  // namespace flatbed::python
