// What the tool adds to errors of a seal: the way out, and the likelier cause. Pure functions.
#pragma once

#include "flatbed/checkpoint.hpp"
#include "flatbed/verify.hpp"

namespace flatbed::tool {

// How to open a file whose seal may not count.
[[nodiscard]] OpenOptions open_options(bool ignore_seal);

// Names --ignore-seal in the message, if the error is one that the option avoids.
[[nodiscard]] Error with_way_out(Error error);

// Whether a program that keeps metadata it does not understand explains the error better than
// damage does.
[[nodiscard]] bool looks_rewritten(ErrorCode error) noexcept;
// The same for bytes that do not match.
[[nodiscard]] bool looks_rewritten(const Checkpoint& checkpoint, const VerifyReport& report);

inline constexpr std::string_view kRewrittenHint = "changed by another program after sealing?";

}  // namespace flatbed::tool
