#include "io/read_queue.hpp"

#ifdef FLATBED_URING
#include <liburing.h>
#include <time.h>

#include <array>
#include <deque>
#endif

#include <cerrno>

#include "io/system_error.hpp"

namespace flatbed {

ReadQueue::~ReadQueue() = default;

#ifdef FLATBED_URING

namespace {

class UringQueue final : public ReadQueue {
 public:
  UringQueue() = default;
  ~UringQueue() override {
    if (open_) io_uring_queue_exit(&ring_);
  }

  // 0, or an errno below 0.
  int open(unsigned reads) {
    const int failed = io_uring_queue_init(reads, &ring_, 0);
    open_ = failed == 0;
    return failed;
  }
  // Some systems make rings and forbid their use: reads nothing, and returns what became of it.
  std::int64_t try_out() {
    io_uring_sqe* const entry = io_uring_get_sqe(&ring_);
    if (entry == nullptr) return -EAGAIN;
    io_uring_prep_nop(entry);
    io_uring_sqe_set_data64(entry, 0);
    unsubmitted_.push_back(0);
    return wait().result;
  }

  // Linux 5.1 to 5.5 has rings that do not know such reads, nor the question what they know. 0, or
  // an errno below 0.
  int look_for_reads() {
    constexpr unsigned kMost = 256;  // operations that there can be
    alignas(io_uring_probe)
        std::array<std::byte, sizeof(io_uring_probe) + kMost * sizeof(io_uring_probe_op)>
            memory{};
    auto* const probe = reinterpret_cast<io_uring_probe*>(memory.data());
    const int failed = io_uring_register_probe(&ring_, probe, kMost);
    if (failed == -EINVAL) return -ENOSYS;
    // Where asking is forbidden, the first read will tell.
    return failed < 0 || io_uring_opcode_supported(probe, IORING_OP_READ) != 0 ? 0 : -ENOSYS;
  }

  bool begin(const Read& read) override;
  Ended wait() override;

 private:
  void submit(unsigned wait_for);

  io_uring ring_ = {};
  bool open_ = false;
  std::deque<std::uint64_t> unsubmitted_;  // the tags of what the kernel has not seen yet
  int broken_ = 0;                         // the errno of a failure that will not pass
};

bool UringQueue::begin(const Read& read) {
  io_uring_sqe* const entry = broken_ == 0 ? io_uring_get_sqe(&ring_) : nullptr;
  if (entry == nullptr) return false;
  io_uring_prep_read(entry, read.descriptor, read.out.data(),
                     static_cast<unsigned>(read.out.size()), read.offset);
  io_uring_sqe_set_data64(entry, read.tag);
  unsubmitted_.push_back(read.tag);
  submit(0);
  return true;
}

// What cannot be submitted now is tried again by wait(). A broken queue submits nothing more: what
// the kernel has not seen is given up by wait(), and its memory may be gone.
void UringQueue::submit(unsigned wait_for) {
  const int got = broken_ == 0 ? io_uring_submit_and_wait(&ring_, wait_for) : -broken_;
  for (int i = 0; i < got && !unsubmitted_.empty(); ++i) unsubmitted_.pop_front();
  if (got >= 0 || got == -EINTR) return;
  if (got != -EAGAIN && got != -EBUSY) broken_ = -got;
  const timespec moment{0, 100'000};
  if (wait_for != 0) ::nanosleep(&moment, nullptr);  // until the system has room again
}

// Memory that the kernel may write is never given up: a queue that is broken still waits for what
// was submitted, which ends without another call.
ReadQueue::Ended UringQueue::wait() {
  for (;;) {
    io_uring_cqe* entry = nullptr;
    if (io_uring_peek_cqe(&ring_, &entry) == 0 && entry != nullptr) {
      const Ended ended{io_uring_cqe_get_data64(entry), entry->res};
      io_uring_cqe_seen(&ring_, entry);
      return ended;
    }
    if (broken_ != 0 && !unsubmitted_.empty()) {
      const Ended ended{unsubmitted_.front(), -broken_};
      unsubmitted_.pop_front();
      return ended;
    }
    submit(1);
  }
}

}  // namespace

bool built_with_read_queue() noexcept { return true; }

Result<std::unique_ptr<ReadQueue>> open_read_queue(unsigned reads) {
  auto queue = std::make_unique<UringQueue>();
  if (const int failed = queue->open(reads); failed < 0) return system_error(-failed, "io_uring");
  if (const int failed = queue->look_for_reads(); failed < 0)
    return system_error(-failed, "io_uring");
  if (const std::int64_t failed = queue->try_out(); failed < 0)
    return system_error(static_cast<int>(-failed), "io_uring");
  return std::unique_ptr<ReadQueue>(std::move(queue));
}

#else

bool built_with_read_queue() noexcept { return false; }

Result<std::unique_ptr<ReadQueue>> open_read_queue(unsigned /*reads*/) {
  return system_error(ENOSYS, "flatbed is built without io_uring");
}

#endif

}  // namespace flatbed
