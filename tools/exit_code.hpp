// ExitCode: the exit codes of the tool and their meanings. `flatbed --help` prints this table.
#pragma once

#include <array>
#include <string_view>

namespace flatbed::tool {

enum class ExitCode : int {
  ok = 0,
  failure = 1,
  usage = 2,
  annotated = 3,
  unsealed = 4,
  some_failed = 5,
  scan_unknown = 6,
  scan_dangerous = 7,
  crc_matches = 8,
  interrupted = 130,
};

struct ExitRow {
  ExitCode code;
  std::string_view meaning;
};

inline constexpr std::array kExitCodes{
    ExitRow{
        ExitCode::ok,
        "done; verify: sealed, and every byte matches; load: no digest differs; scan: all plain"},
    ExitRow{ExitCode::failure,
            "failed; verify, load: damaged, broken, or cannot be opened; match, diff: they differ"},
    ExitRow{ExitCode::usage,
            "the command line is wrong; convert: the only output exists and differs; diff: failed"},
    ExitRow{ExitCode::annotated,
            "verify: every byte matches, but the header changed after sealing"},
    ExitRow{ExitCode::unsealed,
            "verify: some bytes have neither a seal that this version can check nor a CRC"},
    ExitRow{ExitCode::some_failed, "convert: one or more of several inputs failed"},
    ExitRow{ExitCode::scan_unknown, "scan: something that cannot be judged, nothing dangerous"},
    ExitRow{ExitCode::scan_dangerous, "scan: something dangerous"},
    ExitRow{ExitCode::crc_matches,
            "verify: no seal, but every record matches the CRC that its zip states"},
    ExitRow{ExitCode::interrupted,
            "interrupted; nothing partial is left; the process is terminated by the signal"},
};

}  // namespace flatbed::tool
