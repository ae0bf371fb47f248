// Loads past the page cache with a queue of reads: whatever becomes of each read, the load delivers
// what the file holds or fails, and nothing is under way afterwards. The queue here is a fake that
// reads when it is waited for; the last tests have the system's.
#include "load/load_ahead.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <iterator>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "base/str_cat.hpp"
#include "io/file.hpp"
#include "io/system_error.hpp"
#include "load/load_hooks.hpp"
#include "load/staging_pool.hpp"
#include "support/expect_error.hpp"
#include "support/fake_device.hpp"
#include "support/fault_io.hpp"
#include "support/load_model.hpp"
#include "support/temp_dir.hpp"

namespace flatbed {
namespace {

using test::FakeDevice;
using test::FaultIo;
using test::fill;
using test::IoCall;
using test::ModelTensor;
using test::Target;
using test::TempDir;
using test::write_model;

// What the fake does, and what it saw.
struct Disk {
  unsigned capacity = 64;
  bool moody = false;  // takes only one read of five
  // Of the nth read that ends, from 1: bytes at most, or an errno below 0.
  std::function<std::optional<std::int64_t>(std::uint64_t)> fault = {};
  std::function<void(std::uint64_t)> before = {};
  bool changes = false;      // one bit in the middle of each read
  std::uint64_t nbytes = 0;  // asked for
  std::atomic<std::uint64_t> ended = 0;
  std::atomic<std::uint64_t> most_under_way = 0;
  std::atomic<std::uint64_t> left = 0;  // under way when a queue ended
};

class FakeQueue final : public ReadQueue {
 public:
  explicit FakeQueue(Disk& disk) : disk_(disk) {}
  ~FakeQueue() override { disk_.left += reads_.size(); }

  bool begin(const Read& read) override {
    if (reads_.size() >= disk_.capacity || (disk_.moody && ++asked_ % 5 != 0)) return false;
    // Until it has ended, the memory holds anything.
    std::memset(read.out.data(), 0xa5, read.out.size());
    reads_.push_back(read);
    disk_.nbytes += read.out.size();
    disk_.most_under_way = std::max<std::uint64_t>(disk_.most_under_way, reads_.size());
    return true;
  }

  // The last ends first, and the first last: nothing ends in order.
  Ended wait() override {
    const std::uint64_t number = ++disk_.ended;
    if (disk_.before) disk_.before(number);
    const auto at = number % 2 == 0 ? reads_.begin() : reads_.end() - 1;
    const Read read = *at;
    reads_.erase(at);
    const std::optional<std::int64_t> fault = disk_.fault ? disk_.fault(number) : std::nullopt;
    if (fault && *fault < 0) return {read.tag, *fault};
    const std::size_t most =
        fault ? std::min(read.out.size(), static_cast<std::size_t>(*fault)) : read.out.size();
    const ssize_t got =
        ::pread(read.descriptor, read.out.data(), most, static_cast<off_t>(read.offset));
    if (disk_.changes) read.out[read.out.size() / 2] ^= std::byte{1};
    return {read.tag, got < 0 ? -errno : got};
  }

 private:
  Disk& disk_;
  std::vector<Read> reads_;
  unsigned asked_ = 0;
};

// "place" goes into memory laid out as the file, "beside" through a slot, "device" onto a device.
struct Example {
  TempDir dir;
  std::vector<ModelTensor> tensors{{"beside", Dtype::u8, {4'400'001}},
                                   {"device", Dtype::u8, {4'800'000}},
                                   {"place", Dtype::u8, {9'200'003}}};
  Checkpoint checkpoint;
  std::vector<Target> targets;
  FakeDevice device;
  LoadPlan plan;
  Disk disk;
  std::atomic<bool> cancel = false;
  bool has_queue = true;
  Verify verify = Verify::yes;
  int no_queue = EPERM;  // the errno that comes in its place

  Example() : checkpoint(write()) {
    for (const ModelTensor& tensor : tensors) {
      const std::uint64_t lies = checkpoint.find(tensor.name)->where.offset % 4096;
      const bool in_place = tensor.name == "place";
      targets.emplace_back(tensor.bytes.size(), in_place ? lies : (lies + 64) % 4096);
    }
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      Device* const to = tensors[i].name == "device" ? &device : nullptr;
      const auto group = static_cast<std::uint32_t>(i);  // so that none are read together
      EXPECT_OK(
          plan.add(checkpoint, tensors[i].name, targets[i].destination(to), {.group = {group}}));
    }
  }
  [[nodiscard]] std::filesystem::path path() const { return dir / "a.safetensors"; }
  Checkpoint write() {
    fill(tensors);
    return write_model(path(), tensors);
  }

  std::vector<std::uint32_t> ready;  // groups, in the order in which they were announced
  StagingPool* pool = nullptr;

  Result<LoadReport> run(IoMode io = IoMode::direct) {
    LoadHooks hooks;
    hooks.now_ns = [] { return std::uint64_t{0}; };
    hooks.queue = [this]() -> Result<std::unique_ptr<ReadQueue>> {
      if (!has_queue) return system_error(no_queue, "io_uring");
      return std::unique_ptr<ReadQueue>(std::make_unique<FakeQueue>(disk));
    };
    const auto announced = [this](const GroupReady& group) -> Result<void> {
      ready.push_back(group.group);
      return {};
    };
    disk.ended = 0;
    ready.clear();
    Result<LoadReport> report = load_with_hooks(plan,
                                                {.verify = verify,
                                                 .io = io,
                                                 .threads = 1,
                                                 .pool = pool,
                                                 .staging_nbytes = 32 << 20,
                                                 .slot_nbytes = 16 << 20,
                                                 .ready = announced,
                                                 .cancel = &cancel},
                                                hooks);
    EXPECT_EQ(disk.left, 0u);
    EXPECT_EQ(device.pending(), 0u);
    EXPECT_EQ(device.staged_nbytes(), pool == nullptr ? 0u : pool->nbytes());
    for (Target& target : targets) EXPECT_TRUE(target.border_is_whole());
    return report;
  }
  void expect_arrived(const Result<LoadReport>& report) {
    ASSERT_OK(report);
    for (std::size_t i = 0; i < tensors.size(); ++i)
      EXPECT_TRUE(targets[i].bytes() == tensors[i].bytes) << tensors[i].name;
    EXPECT_EQ(report->bytes_verified, report->bytes_wanted);
    EXPECT_EQ(ready, (std::vector<std::uint32_t>{0, 1, 2}));
  }
};

// As in load_file_test: some folders for temporary files have no O_DIRECT.
bool is_direct(const Result<LoadReport>& report) { return report && report->files_direct == 1; }

TEST(LoadAhead, ReadsSeveralJobsAtOnce) {
  Example a;
  const Result<LoadReport> report = a.run();
  a.expect_arrived(report);
  if (!is_direct(report)) GTEST_SKIP() << "no O_DIRECT in the folder for temporary files";
  EXPECT_TRUE(report->queued);
  EXPECT_EQ(report->no_queue, NoQueue::none);
  EXPECT_EQ(a.disk.most_under_way, 7u);  // all: slots are made as they are needed
  EXPECT_LE(report->bytes_read, report->bytes_wanted + 16 * 4096);
}

// What the queue reads is what arrives: read in the usual way are only the ends of what goes to its
// place, which are no whole blocks.
TEST(LoadAhead, ReadsNothingTwice) {
  Example a;
  a.verify = Verify::no;
  a.disk.changes = true;
  const Result<LoadReport> report = a.run();
  ASSERT_OK(report);
  if (!is_direct(report)) GTEST_SKIP() << "no O_DIRECT in the folder for temporary files";
  std::uint64_t blocks = 0;
  for (std::size_t i = 0; i < a.tensors.size(); ++i) {
    const std::string& bytes = a.tensors[i].bytes;
    const std::string_view found = a.targets[i].bytes();
    std::size_t changed = 0;
    for (std::size_t k = 0; k < bytes.size(); ++k) changed += bytes[k] != found[k] ? 1 : 0;
    const bool in_place = a.tensors[i].name == "place";
    EXPECT_EQ(changed, in_place ? 3u : 2u) << a.tensors[i].name;
    const std::uint64_t offset = a.checkpoint.find(a.tensors[i].name)->where.offset;
    const std::uint64_t end = offset + bytes.size();
    blocks += in_place ? end / 4096 - (offset + 4095) / 4096 : (end + 4095) / 4096 - offset / 4096;
  }
  EXPECT_EQ(a.disk.nbytes, blocks * 4096);
  EXPECT_GE(report->bytes_read, report->bytes_wanted);
}

TEST(LoadAhead, NeedsNoMoreThanRoomForOneRead) {
  for (const unsigned capacity : {0U, 1U, 2U}) {
    Example a;
    a.disk.capacity = capacity;
    a.expect_arrived(a.run());
    EXPECT_LE(a.disk.most_under_way, capacity);
  }
}

TEST(LoadAhead, ReadsInTheUsualWayWhatTheQueueDoesNotTake) {
  Example a;
  a.disk.moody = true;
  a.expect_arrived(a.run());
  // Nor is it begun later: that would leave bytes that nobody looks at again.
  a.disk.fault = [](std::uint64_t) { return std::optional<std::int64_t>(0); };
  a.expect_arrived(a.run());
}

TEST(LoadAhead, ReadsOnceMoreWhatDidNotArriveWhole) {
  Example a;
  const Result<LoadReport> whole = a.run();
  if (!is_direct(whole)) GTEST_SKIP() << "no O_DIRECT in the folder for temporary files";
  const std::uint64_t reads = a.disk.ended;
  ASSERT_EQ(reads, 7u);  // two, two and three
  for (const std::int64_t result : {-EINTR, -EAGAIN, -ECANCELED, -EIO, 0, 4096, 5000}) {
    for (std::uint64_t n = 1; n <= reads; ++n) {
      SCOPED_TRACE(str_cat("read ", n, " gives ", result));
      a.disk.fault = [&](std::uint64_t number) {
        return number == n ? std::optional(result) : std::nullopt;
      };
      const Result<LoadReport> report = a.run();
      a.expect_arrived(report);
      EXPECT_TRUE(is_direct(report));
    }
    a.disk.fault = [&](std::uint64_t) { return result; };
    a.expect_arrived(a.run());
  }
}

TEST(LoadAhead, FindsFilesThatShrinkWhileTheyAreRead) {
  Example a;
  if (!is_direct(a.run())) GTEST_SKIP() << "no O_DIRECT in the folder for temporary files";
  const std::uint64_t reads = a.disk.ended;
  for (std::uint64_t n = 1; n <= reads; ++n) {
    Example b;
    b.disk.before = [&](std::uint64_t number) {
      if (number == n) std::filesystem::resize_file(b.path(), 10'000);
    };
    EXPECT_ERROR(b.run(), file_changed);
  }
}

// Only so many files are open past the page cache at once, and this one cannot be opened again.
TEST(LoadAhead, ReadsInTheUsualWayAFileThatIsNoLongerOpen) {
  const TempDir dir;
  const std::string bytes(9000, 'x');
  test::write_file(dir / "a", bytes);
  test::write_file(dir / "b", bytes);
  const File files[] = {File::open(dir / "a").value(), File::open(dir / "b").value()};
  const LoadHooks hooks;
  const auto pool = std::make_shared<DirectPool>(1);
  LoadFile a(files[0], {&hooks, 0, true, pool});
  const LoadFile b(files[1], {&hooks, 1, true, pool});
  if (!a.direct()) GTEST_SKIP() << "no O_DIRECT in the folder for temporary files";
  FaultIo faults;
  faults.refuse_direct(IoCall::open);
  Disk disk;
  FakeQueue queue(disk);
  Target target(bytes.size());
  const Job job{.nbytes = bytes.size(), .direct = true};
  LoadAhead ahead(queue);
  ahead.begin({&job, target.data()}, a);
  std::uint64_t reached = 0;
  for (int i = 0; i < 9 && reached < bytes.size(); ++i) {
    const Result<std::uint64_t> next = ahead.next();
    ASSERT_OK(next);
    reached = *next;
  }
  ahead.drop();
  EXPECT_TRUE(target.bytes() == bytes);
  EXPECT_EQ(disk.nbytes, 0u);
}

TEST(LoadAhead, EndsWhatIsUnderWayWhenTheLoadStops) {
  Example a;
  if (!is_direct(a.run())) GTEST_SKIP() << "no O_DIRECT in the folder for temporary files";
  const std::uint64_t reads = a.disk.ended;
  for (std::uint64_t n = 1; n <= reads; ++n) {
    a.cancel = false;
    a.disk.before = [&](std::uint64_t number) { a.cancel = a.cancel || number == n; };
    const Result<LoadReport> report = a.run();
    if (!report) {
      EXPECT_ERROR(report, cancelled);
    }
  }
  a.disk.before = {};
  a.cancel = false;
  std::string damaged = test::read_file(a.path());
  damaged[a.checkpoint.find("device")->where.offset + 1'000'000] ^= 1;
  test::write_file(a.path(), damaged);
  EXPECT_FALSE(a.run());
}

TEST(LoadAhead, NamesACopyThatFails) {
  Example a;
  a.device.faults.copy = 1;
  EXPECT_ERROR(a.run(), device_error);
}

TEST(LoadAhead, GivesItsSlotsBackWhenReadingFails) {
  Example a;
  const std::unique_ptr<StagingPool> pool =
      StagingPool::create(a.device, {.staging_nbytes = 32 << 20, .slot_nbytes = 16 << 20}).value();
  a.pool = pool.get();
  a.disk.before = [&](std::uint64_t) { std::filesystem::resize_file(a.path(), 10'000); };
  EXPECT_FALSE(a.run());
  const StagingSlots slots(*pool);
  const std::optional<std::uint32_t> first = slots.try_take();
  const std::optional<std::uint32_t> second = slots.try_take();
  ASSERT_TRUE(first && second);
  slots.give_back(*first);
  slots.give_back(*second);
}

// The jobs of the first tensor hold both slots. That of the second, which is cast, has no queue.
TEST(LoadAhead, HoldsNoSlotWhileItWaitsForOne) {
  const TempDir dir;
  std::vector<ModelTensor> tensors{{"a", Dtype::u8, {1'200'000}}, {"b", Dtype::bf16, {1'000}}};
  fill(tensors);
  const Checkpoint checkpoint = write_model(dir / "a.safetensors", tensors);
  FakeDevice device;
  Target a(1'200'000);
  Target b(4'000);
  LoadPlan plan;
  ASSERT_OK(plan.add(checkpoint, "a", a.destination(&device)));
  ASSERT_OK(plan.add(checkpoint, "b", b.destination(&device), {.group = {1}, .as = Dtype::f32}));
  Disk disk;
  std::atomic<bool> cancel = false;
  LoadHooks hooks;
  hooks.now_ns = [] { return std::uint64_t{0}; };
  hooks.queue = [&disk]() -> Result<std::unique_ptr<ReadQueue>> {
    return std::unique_ptr<ReadQueue>(std::make_unique<FakeQueue>(disk));
  };
  // It would be for ever: there is no other thread.
  hooks.wait_for_slot = [&cancel](std::chrono::nanoseconds) { cancel = true; };
  EXPECT_OK(load_with_hooks(plan,
                            {.io = IoMode::direct,
                             .threads = 1,
                             .staging_nbytes = 2 << 20,
                             .slot_nbytes = 1 << 20,
                             .cancel = &cancel},
                            hooks));
  EXPECT_TRUE(a.bytes() == tensors[0].bytes);
  EXPECT_EQ(device.pending(), 0u);
}

// The group is complete once the last of its jobs is, which reads to host memory.
TEST(LoadAhead, FailsWhereNobodyCouldTellThatAGroupArrived) {
  const TempDir dir;
  std::vector<ModelTensor> tensors{{"a", Dtype::u8, {1'200'000}},
                                   {"between", Dtype::u8, {1'000'000}},  // so that each has a job
                                   {"c", Dtype::u8, {1'000'003}}};
  fill(tensors);
  const Checkpoint checkpoint = write_model(dir / "a.safetensors", tensors);
  Disk disk;
  LoadHooks hooks;
  hooks.now_ns = [] { return std::uint64_t{0}; };
  hooks.queue = [&disk]() -> Result<std::unique_ptr<ReadQueue>> {
    return std::unique_ptr<ReadQueue>(std::make_unique<FakeQueue>(disk));
  };
  for (const bool has_events : {true, false}) {
    FakeDevice device;
    device.faults.no_events = !has_events;
    Target a(1'200'000);
    Target c(1'000'003, checkpoint.find("c")->where.offset % 4096);
    LoadPlan plan;
    ASSERT_OK(plan.add(checkpoint, "a", a.destination(&device)));
    ASSERT_OK(plan.add(checkpoint, "c", c.destination()));
    unsigned groups = 0;
    const auto note = [&](const GroupReady&) -> Result<void> {
      ++groups;
      return {};
    };
    const Result<LoadReport> report =
        load_with_hooks(plan, {.io = IoMode::direct, .threads = 1, .ready = note}, hooks);
    EXPECT_EQ(groups, has_events ? 1U : 0U);
    if (has_events) {
      EXPECT_OK(report);
    } else {
      EXPECT_ERROR(report, device_error);
    }
  }
}

// Neighbours in the file and in memory alike, which one job reads.
TEST(LoadAhead, ReadsNeighboursToTheirPlacesAndCopiesNothing) {
  const TempDir dir;
  std::vector<ModelTensor> tensors{
      {"t", Dtype::u8, {1 << 20}}, {"u", Dtype::u8, {4096}}, {"v", Dtype::u8, {1'000'003}}};
  fill(tensors);
  const Checkpoint checkpoint = write_model(dir / "a.safetensors", tensors);
  const std::uint64_t lies = checkpoint.find("t")->where.offset;
  ASSERT_EQ(checkpoint.find("v")->where.offset, lies + (1 << 20) + 4096);
  Target target((1 << 20) + 4096 + 1'000'003, lies % 4096);
  LoadPlan plan;
  for (const ModelTensor& tensor : tensors) {
    std::byte* const at = target.data() + (checkpoint.find(tensor.name)->where.offset - lies);
    ASSERT_OK(plan.add(checkpoint, tensor.name, {nullptr, at, tensor.bytes.size(), 0}));
  }
  Disk disk;
  LoadHooks hooks;
  hooks.now_ns = [now = std::uint64_t{0}]() mutable { return ++now; };
  hooks.queue = [&disk]() -> Result<std::unique_ptr<ReadQueue>> {
    return std::unique_ptr<ReadQueue>(std::make_unique<FakeQueue>(disk));
  };
  const auto run = [&](Verify verify) {
    return load_with_hooks(plan, {.verify = verify, .io = IoMode::direct, .threads = 1}, hooks);
  };
  for (const Verify verify : {Verify::yes, Verify::no}) {
    std::ranges::fill(target.span(), std::byte{});
    const Result<LoadReport> report = run(verify);
    ASSERT_OK(report);
    EXPECT_TRUE(target.bytes() == tensors[0].bytes + tensors[1].bytes + tensors[2].bytes);
    EXPECT_TRUE(target.border_is_whole());
    EXPECT_EQ(report->peak_staging_nbytes, 0u);
    EXPECT_EQ(report->submit_seconds, 0.0);
    EXPECT_GT(report->read_seconds, 0.0);
  }
  std::string damaged = test::read_file(dir / "a.safetensors");
  damaged[checkpoint.find("v")->where.offset + 1'000'000] ^= 1;
  test::write_file(dir / "a.safetensors", damaged);
  EXPECT_ERROR(run(Verify::yes), chunk_corrupt);
}

TEST(LoadAhead, IsNotNeeded) {
  Example a;
  a.has_queue = false;
  const Result<LoadReport> report = a.run();
  a.expect_arrived(report);
  EXPECT_FALSE(report->queued);
  EXPECT_EQ(report->no_queue, built_with_read_queue() ? NoQueue::forbidden : NoQueue::not_built);
  EXPECT_EQ(a.disk.ended, 0u);
  EXPECT_EQ(a.run(IoMode::buffered)->no_queue, NoQueue::none);
}

TEST(LoadAhead, SaysWhyThereIsNoQueue) {
  if (!built_with_read_queue()) GTEST_SKIP() << "built without one";
  for (const auto& [number, why, text] :
       {std::tuple(EPERM, NoQueue::forbidden, "forbidden"),
        std::tuple(EACCES, NoQueue::forbidden, "forbidden"),
        std::tuple(ENOMEM, NoQueue::no_memory, "no_memory"),
        std::tuple(EMFILE, NoQueue::no_memory, "no_memory"),
        std::tuple(ENOSYS, NoQueue::not_in_kernel, "not_in_kernel")}) {
    Example a;
    a.has_queue = false;
    a.no_queue = number;
    const Result<LoadReport> report = a.run();
    a.expect_arrived(report);
    EXPECT_EQ(report->no_queue, why) << number;
    EXPECT_EQ(name(report->no_queue), text);
  }
}

// ---- the system's queue -------------------------------------------------------------------------

TEST(ReadQueue, ReadsWhateverItsSize) {
  const TempDir dir;
  const std::string bytes(10'000, 'x');
  test::write_file(dir / "a", bytes);
  const int descriptor = ::open((dir / "a").c_str(), O_RDONLY | O_CLOEXEC);
  for (const unsigned reads : {1U, 2U, 64U}) {
    const Result<std::unique_ptr<ReadQueue>> queue = open_read_queue(reads);
    if (!queue) GTEST_SKIP() << queue.error().message;
    std::vector<std::string> out(5, std::string(4000, '.'));
    std::size_t begun = 0;
    std::size_t ended = 0;
    while (ended < out.size()) {
      while (begun < out.size() &&
             (*queue)->begin({descriptor, begun * 3000,
                              std::as_writable_bytes(std::span(out[begun])), begun})) {
        ++begun;
      }
      ASSERT_GT(begun, ended);
      const ReadQueue::Ended one = (*queue)->wait();
      const std::int64_t wanted = one.tag < 3 ? 4000 : one.tag == 3 ? 1000 : 0;
      EXPECT_EQ(one.result, wanted) << one.tag;
      EXPECT_EQ(out[one.tag].find('.'), wanted == 4000 ? std::string::npos : std::size_t(wanted));
      ++ended;
    }
    ASSERT_TRUE((*queue)->begin({-1, 0, std::as_writable_bytes(std::span(out[0])), 7}));
    EXPECT_EQ((*queue)->wait().result, -EBADF);
  }
  ::close(descriptor);
}

// What the system says in a process that may not make this call (from then on: its threads, too).
std::string error_where_forbidden(unsigned call, unsigned error_number) {
  sock_filter filter[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error_number),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog program{std::size(filter), filter};
  int ends[2] = {};
  EXPECT_EQ(::pipe(ends), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
        ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) != 0) {
      ::_exit(77);
    }
    const Result<std::unique_ptr<ReadQueue>> queue = open_read_queue();
    const std::string text = queue ? "open" : queue.error().message;
    ::_exit(::write(ends[1], text.data(), text.size()) < 0 ? 1 : 0);
  }
  ::close(ends[1]);
  char text[200] = {};
  EXPECT_GE(::read(ends[0], text, sizeof text - 1), 0);
  ::close(ends[0]);
  int status = 0;
  EXPECT_EQ(::waitpid(child, &status, 0), child);
  return WEXITSTATUS(status) == 77 ? "skip" : text;
}

TEST(ReadQueue, IsNotOpenedWhereItIsForbidden) {
  if (!open_read_queue()) GTEST_SKIP() << "no io_uring here";
  for (const unsigned call : {unsigned{SYS_io_uring_setup}, unsigned{SYS_io_uring_enter}}) {
    for (const unsigned error_number : {unsigned{EPERM}, unsigned{ENOSYS}}) {
      const std::string found = error_where_forbidden(call, error_number);
      if (found == "skip") GTEST_SKIP() << "no seccomp here";
      EXPECT_EQ(found, system_error(static_cast<int>(error_number), "io_uring").message);
    }
  }
}

// As Linux 5.1 to 5.5 answers who asks what its rings know; reads into plain memory they do not.
TEST(ReadQueue, IsNotOpenedWhereRingsDoNotKnowReads) {
  if (!open_read_queue()) GTEST_SKIP() << "no io_uring here";
  const std::string found = error_where_forbidden(SYS_io_uring_register, EINVAL);
  if (found == "skip") GTEST_SKIP() << "no seccomp here";
  EXPECT_EQ(found, system_error(ENOSYS, "io_uring").message);
  EXPECT_EQ(error_where_forbidden(SYS_io_uring_register, EPERM), "open");
}

}  // namespace
}  // namespace flatbed
