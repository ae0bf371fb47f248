// Counts what the process has allocated by operator new and the library's large blocks: live bytes
// and their peak. Nothing under a sanitizer. Any thread.
#pragma once

#include <cstdint>

namespace flatbed::corpus {

[[nodiscard]] std::uint64_t live_bytes() noexcept;
[[nodiscard]] std::uint64_t peak_bytes() noexcept;  // since reset_peak()
void reset_peak() noexcept;

}  // namespace flatbed::corpus
