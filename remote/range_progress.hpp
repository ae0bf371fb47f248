// RangeProgress: adds up what has arrived of ranges that follow each other, and reports how far all
// bytes from the front on are there. Borrows the callback. Used by the engine's thread while the
// calls run, and otherwise by the thread that runs them.
//
//   range 0                 range 1                 range 2
//   |=======================|=========..............|====...................|
//   |---------- reported -------------|
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "flatbed/byte_source.hpp"
#include "transport.hpp"

namespace flatbed::remote {

class RangeProgress {
 public:
  RangeProgress(std::span<const Call> calls, const ReadProgress& progress);

  // `nbytes`, from its front on, are there of the range of this number, and stay as they are.
  // Errors: that of the callback, which is not called again afterwards.
  [[nodiscard]] Result<void> take(std::size_t number, std::uint64_t nbytes);

  // What the callback returned last.
  [[nodiscard]] const Result<void>& result() const noexcept { return result_; }

 private:
  struct Range {
    std::uint64_t nbytes = 0;
    std::uint64_t arrived = 0;
  };

  const ReadProgress& progress_;
  std::vector<Range> ranges_;
  std::size_t complete_ = 0;           // number of ranges from the first on that are there
  std::uint64_t complete_nbytes_ = 0;  // of these
  std::uint64_t reported_ = 0;
  Result<void> result_;
};

}  // namespace flatbed::remote
