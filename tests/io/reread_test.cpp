// Sources where bytes may be damaged on the way: read(), load() and verify() read a chunk again, a
// bounded number of times, and say how often.
#include "io/reread.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/bytes.hpp"
#include "flatbed/checkpoint.hpp"
#include "flatbed/load.hpp"
#include "flatbed/save.hpp"
#include "flatbed/save_plan.hpp"
#include "flatbed/verify.hpp"
#include "safetensors/seal.hpp"
#include "support/bytes_source.hpp"
#include "support/damaging_source.hpp"
#include "support/expect_error.hpp"
#include "support/listed_damage.hpp"
#include "support/stored_blocks.hpp"
#include "support/temp_dir.hpp"
#include "support/zip_builder.hpp"

namespace flatbed {
namespace {

using test::DamagingSource;

constexpr std::size_t kTensor = 700'000;  // three chunks

std::string contents() {
  std::string data(kTensor, '\0');
  for (std::size_t i = 0; i < data.size(); ++i) data[i] = static_cast<char>(i * 7 + i / 251);
  return data;
}

std::string sealed_file() {
  const test::TempDir dir;
  const std::string data = contents();
  SavePlan plan;
  plan.items.push_back({"w", Dtype::u8, {data.size()}, as_bytes(data)});
  static_cast<void>(save(dir / "a", plan, {.sync = false}).value());
  return test::read_file(dir / "a");
}

// The sealed file, with one byte of its last chunk damaged this many times.
std::shared_ptr<DamagingSource> damaged(int times) {
  std::string file = sealed_file();
  const std::uint64_t at = file.size() - 100;
  return std::make_shared<DamagingSource>(std::move(file), at, times);
}

TEST(Reread, ReadsAChunkAgain) {
  for (int times = 0; times <= 3; ++times) {
    const auto source = damaged(times);
    const auto opened = Checkpoint::open(source);
    ASSERT_OK(opened);
    std::string out(kTensor, '\0');
    ASSERT_OK(opened->read(opened->tensor("w").value(), 0, std::as_writable_bytes(std::span(out))));
    EXPECT_EQ(out, contents());
    EXPECT_EQ(source->rereads, times);
    EXPECT_LE(source->largest, safetensors::kChunkBytes);
  }
}

TEST(Reread, ReadGivesUp) {
  const auto source = damaged(1000);
  const auto opened = Checkpoint::open(source);
  std::string out(kTensor, '\0');
  EXPECT_ERROR(opened->read(opened->tensor("w").value(), 0, std::as_writable_bytes(std::span(out))),
               chunk_corrupt);
  EXPECT_EQ(source->rereads, 3);
}

TEST(Reread, LoadReadsAChunkAgain) {
  const auto source = damaged(2);
  const auto opened = Checkpoint::open(source);
  ASSERT_OK(opened);
  std::string out(kTensor, '\0');
  LoadPlan plan;
  ASSERT_OK(plan.add(*opened, "w", {.data = out.data(), .capacity = out.size()}));
  const auto report = load(plan);
  ASSERT_OK(report);
  EXPECT_EQ(out, contents());
  EXPECT_EQ(report->chunks_reread, 2u);
  EXPECT_EQ(report->chunks_verified, 3u);
}

TEST(Reread, LoadGivesUp) {
  const auto opened = Checkpoint::open(damaged(1000));
  std::string out(kTensor, '\0');
  LoadPlan plan;
  ASSERT_OK(plan.add(*opened, "w", {.data = out.data(), .capacity = out.size()}));
  EXPECT_ERROR(load(plan), chunk_corrupt);
}

TEST(Reread, VerifyReadsAChunkAgain) {
  const auto once = verify(Checkpoint::open(damaged(1)).value());
  ASSERT_OK(once);
  EXPECT_TRUE(once->damaged.empty());
  EXPECT_EQ(once->chunks_reread, 1u);
  const auto always = verify(Checkpoint::open(damaged(1000)).value());
  ASSERT_OK(always);
  ASSERT_EQ(always->damaged.size(), 1u);
  EXPECT_EQ(always->damaged[0].begin, 2 * safetensors::kChunkBytes);
  EXPECT_EQ(always->chunks_reread, 3u);
}

TEST(Reread, VerifyReadsARecordOfAZipAgain) {
  const std::string file =
      test::read_file(std::string(FLATBED_FIXTURES_DIR) + "/torch2/state_dict.pth");
  const auto clean = Checkpoint::open(std::make_shared<test::BytesSource>(file));
  ASSERT_OK(clean);
  const TensorInfo tensor = clean->tensors()[0];
  ASSERT_EQ(tensor.stored, Stored::plain);
  const auto source = std::make_shared<DamagingSource>(file, tensor.where.offset, 0);
  const auto opened = Checkpoint::open(source);
  ASSERT_OK(opened);
  source->left = 1;
  const auto report = verify(*opened);
  ASSERT_OK(report);
  EXPECT_EQ(report->crc.mismatched, 0u);
  EXPECT_EQ(report->chunks_reread, 1u);
  source->left = 1000;
  EXPECT_EQ(verify(*opened)->crc.mismatched, 1u);
}

TEST(Reread, SaveReadsAChunkAgain) {
  const test::TempDir dir;
  const auto source = damaged(2);
  const auto report =
      save(dir / "copy", make_plan(Checkpoint::open(source).value()).value(), {.sync = false});
  ASSERT_OK(report);
  EXPECT_EQ(source->rereads, 2);
  EXPECT_EQ(report->chunks_reread, 2U);
  EXPECT_EQ(test::read_file(dir / "copy"), sealed_file());
  EXPECT_ERROR(save(dir / "other", make_plan(Checkpoint::open(damaged(1000)).value()).value(),
                    {.sync = false}),
               chunk_corrupt);
}

// The bytes were written before the record's sum was known, and are written again.
TEST(Reread, SaveReadsARecordOfAZipAgain) {
  const test::TempDir dir;
  const std::string file =
      test::read_file(std::string(FLATBED_FIXTURES_DIR) + "/torch2/state_dict.pth");
  const auto clean = Checkpoint::open(std::make_shared<test::BytesSource>(file)).value();
  ASSERT_OK(save(dir / "clean", make_plan(clean).value(), {.sync = false}));
  const auto source = std::make_shared<DamagingSource>(file, clean.tensors()[0].where.offset, 0);
  const auto opened = Checkpoint::open(source).value();
  const SavePlan plan = make_plan(opened).value();
  for (int times = 1; times <= 3; ++times) {
    source->left = times;
    const auto report = save(dir / "copy", plan, {.sync = false});
    ASSERT_OK(report);
    EXPECT_GE(report->chunks_reread, 1U);
    EXPECT_EQ(test::read_file(dir / "copy"), test::read_file(dir / "clean"));
    EXPECT_EQ(source->left, -1);
  }
  source->left = 1000;
  EXPECT_ERROR(save(dir / "other", plan, {.sync = false}), zip_crc_mismatch);
  // Whoever ignores the sum does not wait for another try.
  source->rereads = 0;
  EXPECT_OK(save(dir / "other", plan, {.sync = false, .ignore_crc = true}));
  EXPECT_EQ(source->rereads, 0);
}

// A zip with a record of 3 MB, and a source that damages it.
std::shared_ptr<DamagingSource> damaged_record(bool deflated) {
  using namespace test::pickle;  // NOLINT: the assembler's words are the subject here
  std::string data;
  for (std::uint32_t i = 0; data.size() < 3'000'000; ++i)
    data += std::to_string(i * 2'654'435'761U);
  data.resize(3'000'000);
  const auto record = [deflated](std::string name, const std::string& bytes) {
    return deflated ? test::deflated_item(std::move(name), bytes)
                    : test::ZipItem{.name = std::move(name), .data = bytes};
  };
  const std::string file =
      test::build_zip({record("m/data.pkl", finish(dict({text("a"), tensor()}))),
                       record("m/data/0", contents().substr(0, 24)),
                       record("m/extra", data),
                       {.name = "m/version", .data = "3\n"}});
  const std::string stored = deflated ? test::deflated(data) : data;
  return std::make_shared<DamagingSource>(file, file.find(stored) + stored.size() / 2, 0);
}

TEST(Reread, ReadsALargeRecordAgainInFewReads) {
  for (const bool deflated : {false, true}) {
    const auto source = damaged_record(deflated);
    source->preferred = 8 << 20;
    const auto opened = Checkpoint::open(source);
    ASSERT_OK(opened);
    source->left = 1;
    const auto report = verify(*opened);
    ASSERT_OK(report);
    EXPECT_EQ(report->crc.mismatched, 0U);
    // Once more where an earlier piece inflated to other bytes before the damage showed.
    EXPECT_LE(source->rereads, deflated ? 2 : 1);
  }
}

TEST(Reread, OfALargeRecordMayBeCancelled) {
  for (const bool deflated : {false, true}) {
    const auto source = damaged_record(deflated);
    const auto opened = Checkpoint::open(source);
    ASSERT_OK(opened);
    source->left = 1000;
    source->cancels = true;
    EXPECT_ERROR(verify(*opened, {.cancel = &source->cancel}), cancelled);
    EXPECT_EQ(source->rereads, 1);
  }
}

TEST(Reread, VerifyReadsADeflatedRecordAgain) {
  using namespace test::pickle;  // NOLINT: the assembler's words are the subject here
  const std::string data = contents().substr(0, 24);
  const std::string pickled = finish(dict({text("a"), tensor()}));
  const std::string deflated = test::deflated(data);
  const std::string file = test::build_zip({test::deflated_item("m/data.pkl", pickled),
                                            test::deflated_item("m/data/0", data),
                                            {.name = "m/version", .data = "3\n"}});
  const std::size_t at = file.find(deflated);
  ASSERT_NE(at, std::string::npos);
  // The first byte says how the rest is compressed; a later one is only other data.
  for (const std::size_t byte : {std::size_t{0}, deflated.size() / 2}) {
    const auto source = std::make_shared<DamagingSource>(file, at + byte, 0);
    const auto opened = Checkpoint::open(source);
    ASSERT_OK(opened);
    for (int times = 1; times <= 3; ++times) {
      source->left = times;
      const auto report = verify(*opened);
      ASSERT_OK(report);
      EXPECT_EQ(report->crc.mismatched, 0u) << byte;
      EXPECT_GE(report->chunks_reread, 1u) << byte;
    }
    source->left = 1000;
    const auto never = verify(*opened);
    if (never) {
      EXPECT_EQ(never->crc.mismatched, 1u) << byte;
    } else {
      EXPECT_ERROR(never, zip_deflate_malformed) << byte;
    }
  }
}

// A zip with a deflated tensor of 700,000 bytes, and a source that damages the byte `at` of what is
// stored.
struct Deflated {
  explicit Deflated(std::size_t at) {
    using namespace test::pickle;  // NOLINT: the assembler's words are the subject here
    const Storage bytes{.type = global("torch", "ByteStorage"), .count = integer(kTensor)};
    const Tensor flat{
        .storage = storage(bytes), .sizes = counts({kTensor}), .strides = counts({1})};
    const std::string stored = test::deflated(contents());
    const std::string file =
        test::build_zip({test::deflated_item("m/data.pkl", finish(dict({text("a"), tensor(flat)}))),
                         test::deflated_item("m/data/0", contents()),
                         {.name = "m/version", .data = "3\n"}});
    source = std::make_shared<DamagingSource>(file, file.find(stored) + at, 0);
    checkpoint.emplace(Checkpoint::open(source).value());
    source->left = 0;
  }
  [[nodiscard]] Result<std::string> read() const {
    std::string out(kTensor, '\0');
    FLATBED_TRY(checkpoint->read(checkpoint->tensor("a").value(), 0,
                                 std::as_writable_bytes(std::span(out))));
    return out;
  }

  std::shared_ptr<DamagingSource> source;
  std::optional<Checkpoint> checkpoint;
};

// The first byte says how the rest is compressed; a later one is only other data.
TEST(Reread, ReadsADeflatedTensorAgain) {
  for (const std::size_t at : {std::size_t{0}, std::size_t{2000}}) {
    const Deflated file(at);
    for (int times = 1; times <= 3; ++times) {
      file.source->left = times;
      const auto read = file.read();
      ASSERT_OK(read);
      EXPECT_EQ(*read, contents()) << at;
    }
  }
}

TEST(Reread, LoadReadsADeflatedTensorAgain) {
  for (const std::size_t at : {std::size_t{0}, std::size_t{2000}}) {
    const Deflated file(at);
    file.source->left = 2;
    std::string out(kTensor, '\0');
    LoadPlan plan;
    ASSERT_OK(plan.add(*file.checkpoint, "a", {.data = out.data(), .capacity = out.size()}));
    const auto report = load(plan);
    ASSERT_OK(report);
    EXPECT_EQ(out, contents());
    EXPECT_EQ(report->chunks_reread, 6U);  // three chunks, twice
  }
}

// A zip with a deflated tensor "a" of these contents, in blocks that are stored.
std::string zip_of_stored_blocks(const std::string& data, const test::pickle::Tensor& view) {
  using namespace test::pickle;  // NOLINT: the assembler's words are the subject here
  const Storage bytes{.type = global("torch", "ByteStorage"),
                      .count = integer(static_cast<std::int64_t>(data.size()))};
  Tensor tensor_of_it = view;
  tensor_of_it.storage = storage(bytes);
  return test::build_zip(
      {test::deflated_item("m/data.pkl", finish(dict({text("a"), tensor(tensor_of_it)}))),
       test::stored_blocks_item("m/data/0", data),
       {.name = "m/version", .data = "3\n"}});
}

std::string flat_zip() {
  using test::pickle::counts;
  return zip_of_stored_blocks(contents(), {.sizes = counts({kTensor}), .strides = counts({1})});
}

Result<std::string> read_range(const Checkpoint& checkpoint, std::size_t begin, std::size_t nbytes,
                               Verify verify = Verify::yes) {
  std::string out(nbytes, '\0');
  FLATBED_TRY(checkpoint.read(checkpoint.tensor("a").value(), begin,
                              std::as_writable_bytes(std::span(out)), verify));
  return out;
}

TEST(Reread, OfADeflatedTensorGivesUp) {
  const std::string file = flat_zip();
  const std::uint64_t begin = file.find(test::stored_blocks(contents()));
  const auto opened = [&](std::uint64_t at) {
    const auto source = std::make_shared<DamagingSource>(file, begin + at, 0);
    const Checkpoint checkpoint = Checkpoint::open(source).value();
    source->left = 1000;
    return checkpoint;
  };
  const Checkpoint broken = opened(test::stored_block_size_at(300'000));
  EXPECT_ERROR(read_range(broken, 0, kTensor), zip_deflate_malformed);
  const Checkpoint other = opened(test::stored_byte_at(300'000));
  EXPECT_ERROR(read_range(other, 0, kTensor), zip_crc_mismatch);
  // Whoever does not verify gets what inflates.
  EXPECT_OK(read_range(other, 0, kTensor, Verify::no));
}

// What a reread fetched ahead, and maybe damaged, serves no later read.
TEST(Reread, ADeflatedTensorIsFetchedForEachReread) {
  const std::string file = flat_zip();
  const std::uint64_t begin = file.find(test::stored_blocks(contents()));
  const std::uint64_t near = begin + test::stored_block_size_at(100'000);
  const std::uint64_t far = begin + test::stored_block_size_at(600'000);
  const auto source = std::make_shared<test::ListedDamage>(file);
  const Checkpoint opened = Checkpoint::open(source).value();
  const std::size_t half = kTensor / 2;
  for (const bool also_later : {false, true}) {
    std::vector<test::Damage> damage{{near, test::Way::read, 1}, {far, test::Way::reread, 1}};
    if (also_later) damage.push_back({far, test::Way::read, 1});
    source->damage(damage);
    const auto first = read_range(opened, 0, half);
    ASSERT_OK(first);
    EXPECT_EQ(*first, contents().substr(0, half));
    const auto second = read_range(opened, half, kTensor - half);
    ASSERT_OK(second);
    EXPECT_EQ(*second, contents().substr(half));
    EXPECT_EQ(source->rereads, also_later ? 2 : 1);
    EXPECT_TRUE(source->all_came());
  }
}

// Its runs do not touch. All are read in one pass over the record.
TEST(Reread, AStridedTensorIsInflatedOnce) {
  using test::pickle::counts;
  constexpr std::size_t kRow = 40'000;
  constexpr std::size_t kRows = 100;
  constexpr std::size_t kWidth = 5'000;  // of a row in the tensor
  std::string data;
  while (data.size() < kRow * kRows) data += contents();
  data.resize(kRow * kRows);
  std::string expected;
  for (std::size_t row = 0; row < kRows; ++row) expected += data.substr(row * kRow, kWidth);
  const std::string file =
      zip_of_stored_blocks(data, {.sizes = counts({kRows, kWidth}), .strides = counts({kRow, 1})});
  const std::string stored = test::stored_blocks(data);
  const auto source = std::make_shared<test::ListedDamage>(file);
  const Checkpoint opened = Checkpoint::open(source).value();
  source->damage({{file.find(stored) + test::stored_block_size_at(2'000'000), test::Way::read, 1}});
  const auto read = read_range(opened, 0, expected.size());
  ASSERT_OK(read);
  EXPECT_EQ(*read, expected);
  EXPECT_LE(source->reread_nbytes, stored.size());
  EXPECT_GT(source->reread_nbytes, 0U);
}

TEST(Reread, AWholeRecordIsComparedWithItsCrc) {
  const std::string file =
      test::read_file(std::string(FLATBED_FIXTURES_DIR) + "/torch2/state_dict.pth");
  const auto clean = Checkpoint::open(std::make_shared<test::BytesSource>(file)).value();
  const TensorInfo tensor = clean.tensors()[0];
  const auto source = std::make_shared<DamagingSource>(file, tensor.where.offset, 0);
  const auto opened = Checkpoint::open(source).value();
  const auto read = [&](std::size_t nbytes, Verify verify) -> Result<std::string> {
    std::string out(nbytes, '\0');
    FLATBED_TRY(opened.read(tensor, 0, std::as_writable_bytes(std::span(out)), verify));
    return out;
  };
  const std::string right = file.substr(tensor.where.offset, tensor.nbytes);
  source->left = 3;
  EXPECT_EQ(read(tensor.nbytes, Verify::yes).value(), right);
  source->left = 1000;
  EXPECT_ERROR(read(tensor.nbytes, Verify::yes), zip_crc_mismatch);
  source->rereads = 0;
  EXPECT_OK(read(tensor.nbytes, Verify::no));
  EXPECT_OK(read(tensor.nbytes - 1, Verify::yes));  // a part has no CRC
  EXPECT_EQ(source->rereads, 0);
}

// Which names the tensors: damage there would go unnoticed. Other reads see the byte before.
TEST(Reread, OpenReadsThePickleAgain) {
  using namespace test::pickle;  // NOLINT: the assembler's words are the subject here
  const std::string pickle = finish(dict({text("name"), tensor()}));
  for (const bool deflated : {false, true}) {
    const std::string file =
        test::build_zip({deflated ? test::deflated_item("m/data.pkl", pickle)
                                  : test::ZipItem{.name = "m/data.pkl", .data = pickle},
                         {.name = "m/data/0", .data = contents().substr(0, 24)},
                         {.name = "m/version", .data = "3\n"}});
    const std::string stored = deflated ? test::deflated(pickle) : pickle;
    const std::size_t at = file.find(stored) + (deflated ? 0 : pickle.find("name"));
    const auto whole = std::make_shared<DamagingSource>(file, at, 0);
    ASSERT_OK(Checkpoint::open(whole));
    for (int last = 0; last < 3; ++last) {
      const auto source = std::make_shared<DamagingSource>(file, at, whole->reads + last);
      const auto opened = Checkpoint::open(source);
      ASSERT_OK(opened);
      EXPECT_EQ(opened->tensors()[0].name, "name");
      EXPECT_EQ(source->rereads, 1 + last);
    }
  }
}

TEST(Reread, IsNotForLocalSources) {
  std::string file = sealed_file();
  file[file.size() - 100] ^= 4;
  const auto report = verify(Checkpoint::open_memory(as_bytes(file), "near").value());
  ASSERT_OK(report);
  EXPECT_EQ(report->damaged.size(), 1u);
  EXPECT_EQ(report->chunks_reread, 0u);
}

}  // namespace
}  // namespace flatbed
