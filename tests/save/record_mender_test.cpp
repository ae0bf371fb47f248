// save() and save_torch() of records of zips that arrive damaged: what was written of them is
// written again, also to sinks that take bytes in order and in parts.
#include "save/record_mender.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "base/bytes.hpp"
#include "flatbed/byte_sink.hpp"
#include "flatbed/checkpoint.hpp"
#include "flatbed/save.hpp"
#include "flatbed/save_torch.hpp"
#include "flatbed/verify.hpp"
#include "support/damaging_source.hpp"
#include "support/expect_error.hpp"
#include "support/listed_damage.hpp"
#include "support/read_checkpoint.hpp"
#include "support/stored_blocks.hpp"
#include "support/temp_dir.hpp"
#include "support/zip_builder.hpp"

namespace flatbed {
namespace {

using test::DamagingSource;
using namespace test::pickle;  // NOLINT: the assembler's words are the subject here

constexpr std::size_t kPart = 700'000;  // not a multiple of the chunk size

// Parts in memory. One that is full has left, and is replaced whole.
class PartSink final : public ByteSink {
 public:
  explicit PartSink(std::uint64_t part_nbytes) : part_nbytes_(part_nbytes) {}

  [[nodiscard]] std::string_view label() const noexcept override { return "parts"; }
  [[nodiscard]] Result<void> begin(const SinkLayout& layout) override {
    bytes.resize(layout.nbytes);
    filled_.resize(layout.nbytes / kPart + 1);
    return {};
  }
  [[nodiscard]] Result<void> write_at(std::uint64_t offset,
                                      std::span<const std::byte> from) override {
    const std::lock_guard lock(mutex_);
    std::memcpy(bytes.data() + offset, from.data(), from.size());
    for (std::size_t at = offset; at < offset + from.size();) {
      const std::size_t part = at / kPart;
      const std::size_t end = std::min((part + 1) * kPart, offset + from.size());
      filled_[part] += end - at;
      at = end;
    }
    return {};
  }
  [[nodiscard]] std::uint64_t rewrite_nbytes() const noexcept override { return part_nbytes_; }
  [[nodiscard]] Result<void> rewrite_at(std::uint64_t offset,
                                        std::span<const std::byte> from) override {
    const std::size_t part = offset / kPart;
    const std::size_t nbytes = std::min(kPart, bytes.size() - part * kPart);
    EXPECT_LE(offset + from.size(), part * kPart + nbytes);
    if (filled_[part] == nbytes) {
      EXPECT_EQ(from.size(), nbytes) << "of a part that has left";
    }
    std::memcpy(bytes.data() + offset, from.data(), from.size());
    parts.push_back(part);
    return {};
  }
  [[nodiscard]] Result<void> commit() override { return {}; }

  std::string bytes;
  std::vector<std::size_t> parts;  // that came again

 private:
  std::uint64_t part_nbytes_;
  std::mutex mutex_;
  std::vector<std::size_t> filled_;
};

std::string numbers(std::size_t nbytes, std::uint32_t seed) {
  std::string data;
  for (std::uint32_t i = seed; data.size() < nbytes; ++i) data += std::to_string(i * 2'654'435'761);
  data.resize(nbytes);
  return data;
}

// A .pth file of three tensors of bytes, the second of which takes several pieces and parts.
constexpr std::size_t kSizes[] = {300'000, 3'000'001, 400'000};

std::string make_torch_file(bool deflated) {
  std::vector<std::string> members;
  std::vector<test::ZipItem> items;
  for (std::uint32_t i = 0; i < 3; ++i) {
    const auto count = static_cast<std::int64_t>(kSizes[i]);
    const Storage bytes{.type = global("torch", "ByteStorage"),
                        .key = text(std::to_string(i)),
                        .count = integer(count)};
    members.push_back(text(std::string(1, static_cast<char>('a' + i))));
    members.push_back(
        tensor({.storage = storage(bytes), .sizes = counts({count}), .strides = counts({1})}));
    const std::string name = "m/data/" + std::to_string(i);
    const std::string data = numbers(kSizes[i], i * 1000);
    items.push_back(deflated ? test::deflated_item(name, data)
                             : test::ZipItem{.name = name, .data = data});
  }
  items.insert(items.begin(), {.name = "m/data.pkl", .data = finish(dict(members))});
  items.push_back({.name = "m/version", .data = "3\n"});
  return test::build_zip(items);
}

const std::string& torch_file(bool deflated) {
  static const std::string files[] = {make_torch_file(false), make_torch_file(true)};
  return files[deflated ? 1 : 0];
}

// The file with a byte of the second tensor damaged, `back` bytes before its end.
struct DamagedFile {
  DamagedFile(bool deflated, std::size_t back) {
    const std::string& file = torch_file(deflated);
    const std::string data = numbers(kSizes[1], 1000);
    const std::string stored = deflated ? test::deflated(data) : data;
    source = std::make_shared<DamagingSource>(file, file.find(stored) + stored.size() - back, 0);
    plan = make_plan(Checkpoint::open(source).value()).value();
  }
  // The next reads of the byte.
  void damage(int times, int also = 0) const {
    source->reads = 0;
    source->left = times;
    source->also = also;
  }

  std::shared_ptr<DamagingSource> source;
  SavePlan plan;
};

Result<SaveReport> save_any(bool torch, ByteSink& sink, const SavePlan& plan) {
  if (!torch) return save(sink, plan);
  FLATBED_ASSIGN(SaveTorchReport report, save_torch(sink, plan));
  return std::move(report.file);
}

TEST(RecordMender, SendsPartsAgain) {
  for (const bool torch : {false, true}) {
    for (const bool deflated : {false, true}) {
      for (const std::size_t back : {std::size_t{3}, std::size_t{400'000}}) {
        const DamagedFile file(deflated, back);
        PartSink clean(kPart);
        ASSERT_OK(save_any(torch, clean, file.plan));
        EXPECT_TRUE(clean.parts.empty());
        for (const int times : {1, 2, 3}) {
          file.damage(times);
          PartSink sink(kPart);
          const auto report = save_any(torch, sink, file.plan);
          ASSERT_OK(report);
          EXPECT_EQ(sink.bytes, clean.bytes) << torch << deflated << back << times;
          EXPECT_GE(report->chunks_reread, 1U);
          EXPECT_EQ(sink.parts.empty(), deflated);
        }
      }
    }
  }
}

// Only the part with the damaged chunk, and of a zip that with the sum.
TEST(RecordMender, SendsFewPartsAgain) {
  const DamagedFile file(false, 1'500'000);
  file.damage(1);
  PartSink sink(kPart);
  ASSERT_OK(save(sink, file.plan));
  EXPECT_LE(sink.parts.size(), 2U);
  file.damage(1);
  PartSink zip(kPart);
  ASSERT_OK(save_torch(zip, file.plan));
  EXPECT_LE(zip.parts.size(), 3U);
  EXPECT_EQ(zip.parts.front(), 0U);
}

// What is read once more to fill a part may be damaged in turn.
TEST(RecordMender, ComparesWhatItSendsAgain) {
  for (const bool torch : {false, true}) {
    const DamagedFile file(false, 1'500'000);
    PartSink clean(kPart);
    ASSERT_OK(save_any(torch, clean, file.plan));
    file.damage(1, 3);
    PartSink sink(kPart);
    ASSERT_OK(save_any(torch, sink, file.plan));
    EXPECT_EQ(sink.bytes, clean.bytes);
    EXPECT_GE(file.source->reads, 4);
  }
}

TEST(RecordMender, GivesUp) {
  for (const bool torch : {false, true}) {
    const DamagedFile file(false, 1'500'000);
    file.damage(1000);
    PartSink sink(kPart);
    EXPECT_ERROR(save_any(torch, sink, file.plan), zip_crc_mismatch);
    EXPECT_TRUE(sink.parts.empty());
    file.damage(1);
    PartSink once(0);  // takes bytes once
    EXPECT_ERROR(save_any(torch, once, file.plan), zip_crc_mismatch);
  }
}

// One that is inflated in several pieces, so that the damage shows when some have left.
TEST(RecordMender, ReadsALargeDeflatedRecordAgain) {
  constexpr std::size_t kNbytes = 60'000'000;
  std::string data = numbers(100'000, 0);
  while (data.size() < kNbytes) data += data;
  data.resize(kNbytes);
  const Storage bytes{.type = global("torch", "ByteStorage"), .count = integer(kNbytes)};
  const Tensor flat{.storage = storage(bytes), .sizes = counts({kNbytes}), .strides = counts({1})};
  const std::string stored = test::deflated(data);
  const std::string zip =
      test::build_zip({{.name = "m/data.pkl", .data = finish(dict({text("a"), tensor(flat)}))},
                       test::deflated_item("m/data/0", data),
                       {.name = "m/version", .data = "3\n"}});
  const auto source = std::make_shared<DamagingSource>(zip, zip.find(stored) + 60'000, 0);
  const SavePlan plan = make_plan(Checkpoint::open(source).value()).value();
  PartSink sink(kPart);
  source->left = 1;
  const auto report = save(sink, plan);
  ASSERT_OK(report);
  EXPECT_TRUE(sink.bytes.ends_with(data));
  EXPECT_GE(report->chunks_reread, 1U);
}

// A deflated record that is inflated in two pieces, so that it is compared when both have left. Of
// blocks that are stored: damage to the size of one is found where it is, other damage at the end.
struct LargeRecord {
  static constexpr std::size_t kNbytes = 50'500'000;
  LargeRecord() {
    data = numbers(100'003, 0);
    while (data.size() < kNbytes) data += data;
    data.resize(kNbytes);
    const Storage bytes{.type = global("torch", "ByteStorage"), .count = integer(kNbytes)};
    const Tensor flat{
        .storage = storage(bytes), .sizes = counts({kNbytes}), .strides = counts({1})};
    const std::string zip =
        test::build_zip({{.name = "m/data.pkl", .data = finish(dict({text("a"), tensor(flat)}))},
                         test::stored_blocks_item("m/data/0", data),
                         {.name = "m/version", .data = "3\n"}});
    begin = zip.find(test::stored_blocks(data.substr(0, 200'000)).substr(0, 100'000));
    source = std::make_shared<test::ListedDamage>(zip);
    plan = make_plan(Checkpoint::open(source).value()).value();
  }
  [[nodiscard]] std::uint64_t byte(std::uint64_t at) const {
    return begin + test::stored_byte_at(at);
  }
  [[nodiscard]] std::uint64_t block_size(std::uint64_t at) const {
    return begin + test::stored_block_size_at(at);
  }

  std::string data;
  std::uint64_t begin = 0;  // of the stream
  std::shared_ptr<test::ListedDamage> source;
  SavePlan plan;
};

// Whether the file has the tensor, and the CRCs that it states.
void expect_right(const std::string& file, const LargeRecord& record) {
  const auto copy = Checkpoint::open_memory(as_bytes(file), "copy");
  ASSERT_OK(copy);
  EXPECT_TRUE(test::bytes_of(*copy, "a") == record.data);
  const auto verified = verify(*copy);
  ASSERT_OK(verified);
  EXPECT_EQ(verified->crc.mismatched, 0U);
}

// The reread mends the record before it breaks off.
TEST(RecordMender, SumsWhatAnUnfinishedRereadReplaced) {
  const LargeRecord record;
  for (const bool in_order : {false, true}) {
    record.source->damage({{record.byte(1'000'000), test::Way::read, 1},
                           {record.block_size(20'000'000), test::Way::reread, 1}});
    if (in_order) {
      PartSink sink(kPart);
      ASSERT_OK(save_torch(sink, record.plan));
      expect_right(sink.bytes, record);
    } else {
      const test::TempDir dir;
      ASSERT_OK(save_torch(dir / "copy.pth", record.plan, {.file = {.sync = false}}));
      expect_right(test::read_file(dir / "copy.pth"), record);
    }
    EXPECT_TRUE(record.source->all_came());
  }
}

// What fills a part is damaged, read again, and does not inflate then.
TEST(RecordMender, ReadsAgainWhatDoesNotInflate) {
  const LargeRecord record;
  record.source->damage({{record.byte(1'000'000), test::Way::read, 1},
                         {record.byte(1'000'000), test::Way::read, 2},
                         {record.block_size(1'000'000), test::Way::reread, 2}});
  PartSink sink(kPart);
  ASSERT_OK(save(sink, record.plan));
  expect_right(sink.bytes, record);
  EXPECT_TRUE(record.source->all_came());
}

TEST(RecordMender, MayBeCancelled) {
  const DamagedFile file(false, 1'500'000);
  file.damage(1000);
  file.source->cancels = true;
  std::set<std::uint64_t> totals;
  SaveOptions options{.cancel = &file.source->cancel};
  options.progress = [&totals](const Progress& progress) -> Result<void> {
    EXPECT_LE(progress.bytes_done, progress.bytes_total);
    totals.insert(progress.bytes_total);
    return {};
  };
  PartSink sink(kPart);
  EXPECT_ERROR(save(sink, file.plan, options), cancelled);
  EXPECT_EQ(file.source->rereads, 1);
  file.source->cancel = false;
  EXPECT_ERROR(save_torch(sink, file.plan, {.file = options}), cancelled);
  EXPECT_EQ(totals.size(), 2U);  // of two files
}

TEST(RecordMender, WritesLocalFilesAgain) {
  const test::TempDir dir;
  for (const bool deflated : {false, true}) {
    for (const std::size_t back : {std::size_t{3}, std::size_t{400'000}}) {
      const DamagedFile file(deflated, back);
      ASSERT_OK(save(dir / "clean", file.plan, {.sync = false}));
      ASSERT_OK(save_torch(dir / "clean.pth", file.plan, {.file = {.sync = false}}));
      for (const int times : {1, 2, 3}) {
        file.damage(times);
        const auto report = save(dir / "copy", file.plan, {.sync = false});
        ASSERT_OK(report);
        EXPECT_GE(report->chunks_reread, 1U);
        EXPECT_EQ(test::read_file(dir / "copy"), test::read_file(dir / "clean"));
        file.damage(times);
        const auto torch = save_torch(dir / "copy.pth", file.plan, {.file = {.sync = false}});
        ASSERT_OK(torch);
        EXPECT_GE(torch->file.chunks_reread, 1U);
        EXPECT_EQ(test::read_file(dir / "copy.pth"), test::read_file(dir / "clean.pth"));
      }
    }
  }
}

// A record that one read takes whole is right before anything is passed on.
TEST(RecordMender, SmallRecordsAreNotPassedOnDamaged) {
  const std::string& file = torch_file(false);
  const auto source = std::make_shared<DamagingSource>(file, file.find(numbers(kSizes[0], 0)), 0);
  const SavePlan plan = make_plan(Checkpoint::open(source).value()).value();
  PartSink clean(kPart);
  ASSERT_OK(save(clean, plan));
  source->left = 2;
  PartSink sink(0);
  const auto report = save(sink, plan);
  ASSERT_OK(report);
  EXPECT_EQ(sink.bytes, clean.bytes);
  EXPECT_EQ(report->chunks_reread, 4U);  // two chunks, twice
}

}  // namespace
}  // namespace flatbed
