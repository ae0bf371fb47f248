// open_input(): how every command opens a checkpoint that the command line names, a path or a URL.
// Functions are thread-safe.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string_view>

#include "flatbed/checkpoint.hpp"
#include "flatbed/result.hpp"
#include "flatbed/scan.hpp"

namespace flatbed::tool {

class RemoteSession;  // remote_session.hpp

// What the command line says about remote files, the same for every command that takes URLs.
struct RemoteChoice {
  std::filesystem::path cache;  // a folder for blocks that were fetched; empty: nothing is kept
  std::uint64_t cache_nbytes = std::uint64_t{20} << 30;  // the bound of `cache`
  std::filesystem::path ca_file;                // certificates to trust besides those of the system
  std::shared_ptr<RemoteSession> session = {};  // of the command; null: each use has its own
};

// Gives the choice a session. Called once, after the command line was parsed.
void begin_session(RemoteChoice& remote);

// The session of the choice, or a new one.
[[nodiscard]] std::shared_ptr<RemoteSession> session_of(const RemoteChoice& remote);

// Opens a file, a set or a folder. Errors: those of Checkpoint::open(); of a URL those of
// Remote::open(), and unsupported_format where the tool was built without flatbed::remote.
[[nodiscard]] Result<Checkpoint> open_input(const std::filesystem::path& input,
                                            const OpenOptions& options, const RemoteChoice& remote);

// The same for `flatbed scan`: of a folder at a URL every file, if the server lists it. Errors:
// those of scan(), and of a URL as above.
[[nodiscard]] Result<ScanReport> scan_input(const std::filesystem::path& input,
                                            const ScanOptions& options, const RemoteChoice& remote);

// An error for a command, or a place in a command line, that takes only local files.
[[nodiscard]] Result<void> check_is_local(const std::filesystem::path& path, std::string_view use);

}  // namespace flatbed::tool
