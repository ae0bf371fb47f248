// WriteWindow: keeps the threads that write one file close together. A thread that is far ahead of
// the first unwritten byte waits until others have caught up. Thread-safe.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <map>
#include <mutex>

namespace flatbed {

class WriteWindow {
 public:
  // The file is written from `begin` on.
  WriteWindow(std::uint64_t begin, std::uint64_t nbytes) : unwritten_(begin), nbytes_(nbytes) {}

  // Returns when at most `nbytes` lie between the first unwritten byte and `offset`. False: fail()
  // was called, and nothing more is to be written.
  [[nodiscard]] bool wait_for(std::uint64_t offset);

  // [offset, offset + nbytes) was written.
  void advance(std::uint64_t offset, std::uint64_t nbytes);

  // A thread failed, and will not write what it has taken.
  void fail();

 private:
  std::mutex mutex_;
  std::condition_variable moved_;
  std::uint64_t unwritten_;                        // the first byte
  std::map<std::uint64_t, std::uint64_t> beyond_;  // written ranges after it: begin, end
  std::uint64_t nbytes_;
  bool failed_ = false;
};

}  // namespace flatbed
