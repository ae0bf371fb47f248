// save() and save_set() to sinks: what sinks are given, in which order, and what is left of errors.
#include "flatbed/byte_sink.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <map>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "base/bytes.hpp"
#include "flatbed/checkpoint.hpp"
#include "flatbed/save.hpp"
#include "flatbed/save_compare.hpp"
#include "flatbed/save_set.hpp"
#include "flatbed/save_torch.hpp"
#include "support/bytes_source.hpp"
#include "support/expect_error.hpp"
#include "support/faulty_source.hpp"
#include "support/temp_dir.hpp"

namespace flatbed {
namespace {

using test::read_file;
using test::TempDir;

// What happened to the files that were written.
struct Events {
  std::map<std::string, std::string, std::less<>> files;  // those that are visible
  std::vector<std::string> order;                         // "begin a", "commit a", "discard a"
};

// A file in memory that checks its caller.
class MemorySink final : public ByteSink {
 public:
  MemorySink(std::string name, Events& events) : name_(std::move(name)), events_(events) {}
  ~MemorySink() override {
    if (!committed_) events_.order.push_back("discard " + name_);
  }

  [[nodiscard]] std::string_view label() const noexcept override { return name_; }
  [[nodiscard]] Result<void> begin(const SinkLayout& layout) override {
    events_.order.push_back("begin " + name_);
    layout_ = layout;
    bytes_.resize(layout.nbytes);
    written_.resize(layout.nbytes);
    return {};
  }
  [[nodiscard]] Result<void> write_at(std::uint64_t offset,
                                      std::span<const std::byte> bytes) override {
    if (++writes_ == fail_at) return Error{ErrorCode::io_error, "the line went dead"};
    const std::lock_guard lock(mutex_);
    if (offset < layout_.head_nbytes) {
      EXPECT_EQ(offset, 0U);
      EXPECT_EQ(bytes.size(), layout_.head_nbytes);
      EXPECT_EQ(first_unwritten(), layout_.nbytes) << "the head must come last";
    } else if (layout_.has_gaps && bytes.size() == kGap) {
      ++gaps;
    } else {
      widest = std::max<std::uint64_t>(widest, offset - std::min(offset, first_unwritten()));
    }
    std::memcpy(bytes_.data() + offset, bytes.data(), bytes.size());
    const std::span<char> marks = std::span(written_).subspan(offset, bytes.size());
    EXPECT_EQ(std::memchr(marks.data(), 1, marks.size()), nullptr) << "written twice";
    std::memset(marks.data(), 1, marks.size());
    return {};
  }
  [[nodiscard]] Result<void> commit() override {
    EXPECT_EQ(std::memchr(written_.data(), 0, written_.size()), nullptr) << "not every byte";
    if (fail_commit) return Error{ErrorCode::no_space, "the bucket is full"};
    events_.order.push_back("commit " + name_);
    events_.files[name_] = bytes_;
    committed_ = true;
    return {};
  }

  unsigned fail_at = 0;  // this call of write_at() fails
  bool fail_commit = false;
  std::atomic<std::uint64_t> widest = 0;  // between the first unwritten byte and an offset
  unsigned gaps = 0;                      // that were left out and then written

 private:
  static constexpr std::size_t kGap = 4;

  [[nodiscard]] std::uint64_t first_unwritten() {
    unwritten_ = std::max(unwritten_, layout_.head_nbytes);
    for (;;) {
      const std::size_t found =
          std::string_view(written_.data(), written_.size()).find('\0', unwritten_);
      unwritten_ = std::min(found, written_.size());
      if (!layout_.has_gaps || !is_gap(unwritten_)) return unwritten_;
      unwritten_ += kGap;
    }
  }
  // Whether what is written goes on after a few bytes.
  [[nodiscard]] bool is_gap(std::size_t offset) const {
    const std::string_view marks(written_.data(), written_.size());
    return marks.substr(std::min(offset, marks.size()), kGap + 1) == std::string(kGap, '\0') + '\1';
  }

  std::string name_;
  Events& events_;
  SinkLayout layout_;
  std::mutex mutex_;
  std::atomic<unsigned> writes_ = 0;
  std::string bytes_;
  std::vector<char> written_;
  std::uint64_t unwritten_ = 0;  // the first byte after the head
  bool committed_ = false;
};

class MemoryFolder final : public SinkFolder {
 public:
  explicit MemoryFolder(Events& events) : events_(events) {}

  [[nodiscard]] std::string_view label() const noexcept override { return "memory"; }
  [[nodiscard]] Result<void> begin(std::uint64_t nbytes) override {
    events_.order.push_back("begin folder of " + std::to_string(nbytes));
    return {};
  }
  [[nodiscard]] Result<std::unique_ptr<ByteSink>> create(std::string_view file_name) override {
    auto sink = std::make_unique<MemorySink>(std::string(file_name), events_);
    sink->fail_commit = file_name == fail_commit_of;
    return std::unique_ptr<ByteSink>(std::move(sink));
  }
  [[nodiscard]] Result<void> commit() override {
    events_.order.emplace_back("commit folder");
    return {};
  }

  std::string fail_commit_of;

 private:
  Events& events_;
};

// Not of one period: no two chunks are equal.
std::string pattern(std::size_t nbytes) {
  std::string bytes(nbytes, '\0');
  for (std::size_t i = 0; i + 8 <= nbytes; i += 8) std::memcpy(bytes.data() + i, &i, sizeof i);
  return bytes;
}

SaveItem item(std::string name, const std::string& bytes) {
  return {std::move(name), Dtype::u8, {bytes.size()}, as_bytes(bytes)};
}

SavePlan plan_of(std::vector<SaveItem> items) {
  SavePlan plan;
  plan.items = std::move(items);
  return plan;
}

TEST(ByteSink, GetsTheFileThatSaveWrites) {
  const TempDir dir;
  const std::string large = pattern(5'000'001), small = pattern(77);
  const SavePlan plan = plan_of({item("large", large), item("small", small), item("empty", "")});
  Events events;
  MemorySink sink("s", events);
  const SaveReport report = save(sink, plan).value();
  const SaveReport local = save(dir / "file", plan).value();
  EXPECT_EQ(events.files["s"], read_file(dir / "file"));
  EXPECT_EQ(report.nbytes, local.nbytes);
  EXPECT_EQ(report.content, local.content);
  EXPECT_EQ(report.durability, Durability::committed);
  EXPECT_EQ(events.order, (std::vector<std::string>{"begin s", "commit s"}));
}

// Storages of one piece and of several, whose sums are known late.
TEST(ByteSink, GetsTheFileThatSaveTorchWrites) {
  const TempDir dir;
  const std::string large = pattern(kSinkWindowBytes * 3 / 2), middle = pattern(3'000'001),
                    small = pattern(77);
  SavePlan plan = plan_of({item("small", small), item("large", large), item("empty", ""),
                           item("middle", middle), item("last", small)});
  ASSERT_OK(save(dir / "source", plan_of({item("w", large)})));
  const Checkpoint source = Checkpoint::open(dir / "source").value();
  plan.items.push_back({"sealed", Dtype::u8, {large.size()}, TensorRef{source, 0}});
  const SaveTorchReport local = save_torch(dir / "file.pth", plan).value();
  for (const unsigned threads : {1U, 4U}) {
    Events events;
    MemorySink sink("s", events);
    const SaveTorchReport report = save_torch(sink, plan, {.file = {.threads = threads}}).value();
    EXPECT_TRUE(events.files["s"] == read_file(dir / "file.pth")) << threads;
    EXPECT_EQ(report.file.nbytes, local.file.nbytes);
    EXPECT_EQ(report.tensors, local.tensors);
    EXPECT_LE(sink.widest, kSinkWindowBytes);
    EXPECT_GE(sink.gaps, 3U);
    EXPECT_EQ(events.order, (std::vector<std::string>{"begin s", "commit s"}));
    const auto held = std::make_shared<test::BytesSource>(events.files["s"]);
    EXPECT_EQ(compare_torch_output(held, plan).value().kind, OutputKind::up_to_date);
    plan.items[0].from = as_bytes(middle).first(77);
    EXPECT_EQ(compare_torch_output(held, plan).value().kind, OutputKind::different);
    plan.items[0].from = as_bytes(small);
  }
}

TEST(ByteSink, OfAPytorchFileIsNotCommittedAfterAnError) {
  const std::string bytes = pattern(9'000'000);
  const SavePlan plan = plan_of({item("a", bytes)});
  for (const unsigned fail_at : {1U, 5U, 9U, 18U}) {
    Events events;
    {
      MemorySink sink("s", events);
      sink.fail_at = fail_at;
      EXPECT_ERROR(save_torch(sink, plan, {.file = {.threads = 4}}), io_error) << fail_at;
    }
    EXPECT_EQ(events.order, (std::vector<std::string>{"begin s", "discard s"}));
  }
  Events events;
  {
    MemorySink sink("s", events);
    ASSERT_OK(save_torch(sink, plan, {.file = {.dry_run = true}}));
  }
  EXPECT_EQ(events.order, (std::vector<std::string>{"begin s", "discard s"}));
}

TEST(ByteSink, IsOnlyBegunByADryRun) {
  const std::string bytes = pattern(100);
  Events events;
  {
    MemorySink sink("s", events);
    ASSERT_OK(save(sink, plan_of({item("a", bytes)}), {.dry_run = true}));
  }
  EXPECT_EQ(events.order, (std::vector<std::string>{"begin s", "discard s"}));
}

TEST(ByteSink, IsNotCommittedAfterAnError) {
  const std::string bytes = pattern(9'000'000);
  const SavePlan plan = plan_of({item("a", bytes)});
  for (const unsigned fail_at : {1U, 3U, 9U, 10U}) {  // 9 pieces and the header
    Events events;
    {
      MemorySink sink("s", events);
      sink.fail_at = fail_at;
      EXPECT_ERROR(save(sink, plan, {.threads = 4}), io_error) << fail_at;
    }
    EXPECT_EQ(events.order, (std::vector<std::string>{"begin s", "discard s"}));
  }
  Events events;
  MemorySink sink("s", events);
  sink.fail_commit = true;
  EXPECT_ERROR(save(sink, plan), no_space);
  EXPECT_TRUE(events.files.empty());
}

// The first tensor's file is slow, so that its thread is left behind by the others.
TEST(ByteSink, IsWrittenWithinTheWindow) {
  const TempDir dir;
  const std::string first = pattern(300'000), rest = pattern(kSinkWindowBytes * 3 / 2);
  ASSERT_OK(save(dir / "slow", plan_of({item("w", first)})));
  const auto faults = std::make_shared<test::Faults>();
  const Checkpoint slow = Checkpoint::open(std::make_shared<test::FaultySource>(
                                               read_file(dir / "slow"), "slow", faults))
                              .value();
  SavePlan plan = plan_of({item("z", rest)});
  plan.items.push_back({"a", Dtype::u8, {first.size()}, TensorRef{slow, 0}});
  Events events;
  MemorySink sink("s", events);
  faults->delay = std::chrono::milliseconds(100);  // in which the others could run on
  faults->before_delay = [&sink] {
    while (sink.widest == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  };
  ASSERT_OK(save(sink, plan, {.threads = 4}));
  EXPECT_LE(sink.widest, kSinkWindowBytes);
  EXPECT_GT(sink.widest, 0U);
}

// The thread that fails holds the piece that the others wait for.
TEST(ByteSink, LeavesNoThreadWaitingForOneThatFailed) {
  const TempDir dir;
  const std::string first = pattern(300'000), rest = pattern(kSinkWindowBytes * 3 / 2);
  ASSERT_OK(save(dir / "slow", plan_of({item("w", first)})));
  const auto faults = std::make_shared<test::Faults>();
  const Checkpoint slow = Checkpoint::open(std::make_shared<test::FaultySource>(
                                               read_file(dir / "slow"), "slow", faults))
                              .value();
  faults->delay = std::chrono::milliseconds(400);
  faults->fail_at = faults->reads + 1;
  SavePlan plan = plan_of({item("z", rest)});
  plan.items.push_back({"a", Dtype::u8, {first.size()}, TensorRef{slow, 0}});
  Events events;
  {
    MemorySink sink("s", events);
    EXPECT_ERROR(save(sink, plan, {.threads = 4}), io_error);
  }
  EXPECT_EQ(events.order.back(), "discard s");
}

TEST(CompareOutput, ComparesAFileThatIsNotLocal) {
  const std::string bytes = pattern(100'000), other = std::string(100'000, 'x');
  Events events;
  MemorySink sink("s", events);
  const SaveReport report = save(sink, plan_of({item("a", bytes)})).value();
  const auto file = std::make_shared<test::FaultySource>(events.files["s"], "s",
                                                         std::make_shared<test::Faults>());
  const OutputState same = compare_output(file, plan_of({item("a", bytes)})).value();
  EXPECT_EQ(same.kind, OutputKind::up_to_date);
  EXPECT_EQ(same.content, report.content);
  const OutputState differs = compare_output(file, plan_of({item("a", other)})).value();
  EXPECT_EQ(differs.kind, OutputKind::different);
  EXPECT_EQ(differs.difference, "tensor 'a': bytes [0,100000) differ");
}

TEST(SinkFolder, GetsTheShardsFirstAndTheIndexLast) {
  const TempDir dir;
  const std::string bytes = pattern(100);
  const SavePlan plan = plan_of({item("a", bytes), item("b", bytes)});
  const SaveSetOptions options{.max_shard_nbytes = 100};
  Events events;
  MemoryFolder folder(events);
  const SaveSetReport report = save_set(folder, plan, options).value();
  EXPECT_EQ(report.shards.size(), 2U);
  ASSERT_OK(save_set(dir / "set", plan, options));
  for (const auto& [name, file] : events.files) EXPECT_EQ(file, read_file(dir / "set" / name));
  const std::string one = "model-00001-of-00002.safetensors";
  const std::string two = "model-00002-of-00002.safetensors";
  const std::string index = "model.safetensors.index.json";
  EXPECT_EQ(events.order,
            (std::vector<std::string>{"begin folder of 200", "begin " + one, "begin " + two,
                                      "commit " + one, "commit " + two, "begin " + index,
                                      "commit " + index, "commit folder"}));
}

TEST(SinkFolder, IsNotCommittedIfAFileIsNot) {
  const std::string bytes = pattern(100);
  Events events;
  MemoryFolder folder(events);
  folder.fail_commit_of = "model-00002-of-00002.safetensors";
  EXPECT_ERROR(
      save_set(folder, plan_of({item("a", bytes), item("b", bytes)}), {.max_shard_nbytes = 100}),
      no_space);
  EXPECT_EQ(events.files.size(), 1U);
  EXPECT_EQ(std::ranges::count(events.order, "commit folder"), 0);
}

TEST(SinkFolder, IsOnlyBegunByADryRun) {
  const std::string bytes = pattern(100);
  Events events;
  MemoryFolder folder(events);
  ASSERT_OK(save_set(folder, plan_of({item("a", bytes)}), {.file = {.dry_run = true}}));
  EXPECT_EQ(events.order, (std::vector<std::string>{"begin folder of 100"}));
}

}  // namespace
}  // namespace flatbed
