// OutputLock: keeps other workers from writing an output that this one is about to write, so that
// no conversion is done twice. What is correct does not depend on it: outputs appear complete or
// not at all, and are compared before they are written.
//
// It is a flock() on a file beside the output, .<name>.<hash of the name>.flatbed.tmp, which the
// destructor removes. After a kill the kernel frees the lock, and whoever writes next in the folder
// takes the file for the leftover that it is. Owns the lock; move-only.
#pragma once

#include <cstdint>
#include <filesystem>

namespace flatbed::tool {

class OutputLock {
 public:
  enum class State : std::uint8_t {
    taken,
    busy,         // another worker has it
    unavailable,  // the folder cannot have one: it is missing, read-only, or has no locks
  };

  // Does not wait.
  [[nodiscard]] static OutputLock take(const std::filesystem::path& output);

  OutputLock(OutputLock&& other) noexcept;
  OutputLock& operator=(OutputLock&&) = delete;
  ~OutputLock();

  [[nodiscard]] State state() const noexcept { return state_; }

 private:
  explicit OutputLock(State state) : state_(state) {}

  State state_;
  int descriptor_ = -1;
  std::filesystem::path path_;  // of the file with the lock
};

}  // namespace flatbed::tool
