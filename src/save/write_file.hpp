// write_file(): how every writer begins and ends. Creates the file under a temporary name, lets the
// writer fill it, and commits it.
#pragma once

#include <filesystem>
#include <functional>

#include "flatbed/result.hpp"
#include "flatbed/save.hpp"
#include "io/atomic_file.hpp"

namespace flatbed {

// A file of report.nbytes at `path`; sets the report's durability. A dry run only finds out whether
// such a file could be created. Where `write` or anything else
// fails, the target is as it was. Errors: those of AtomicFile and of `write`.
[[nodiscard]] Result<void> write_file(const std::filesystem::path& path, const SaveOptions& options,
                                      SaveReport& report,
                                      const std::function<Result<void>(AtomicFile&)>& write);

}  // namespace flatbed
