// CRC-32 sums of zip records: verify() names exactly the records that do not match, and save() and
// save_torch() do so for what they copy.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "flatbed/crc.hpp"
#include "flatbed/save_plan.hpp"
#include "flatbed/save_torch.hpp"
#include "flatbed/verify.hpp"
#include "support/expect_error.hpp"
#include "support/temp_dir.hpp"
#include "support/zip_builder.hpp"

namespace flatbed {
namespace {

using test::read_file;
using test::TempDir;
using test::write_file;
using test::ZipItem;
using namespace test::pickle;  // NOLINT: the assembler's words are the subject here
using std::string;
using Names = std::vector<string>;

constexpr std::int64_t kLong = 300'000;  // elements of "b", of four bytes: five chunks

string key_of(std::size_t record, std::int64_t count) {
  return storage({.key = text(std::to_string(record)), .count = integer(count)});
}

// Tensors "a" (24 bytes, record data/0) and "b" (data/1), and others that a test adds.
string two_tensors(const string& more = "") {
  return finish(
      dict({text("a"), tensor(), text("b"),
            tensor({.storage = key_of(1, kLong), .sizes = counts({kLong}), .strides = counts({1})}),
            more}));
}

string long_data() {
  string data(kLong * 4, '\0');
  for (std::size_t i = 0; i < data.size(); ++i) data[i] = static_cast<char>(i * 7 + i / 251);
  return data;
}

std::vector<ZipItem> two_records(const string& pickle = two_tensors()) {
  return test::torch_items(
      {.pickle = pickle, .storages = {{"0", string(24, '\1')}, {"1", long_data()}}});
}

void lie(std::vector<ZipItem>& items, std::string_view record) {
  for (ZipItem& item : items) {
    if (item.name == record) item.central.crc = test::crc_of(item.data) ^ 1;
  }
}

Names names_of(const CrcReport& report) {
  Names names;
  for (const CrcMismatch& mismatch : report.mismatches) {
    EXPECT_EQ(mismatch.stated ^ 1, mismatch.found) << mismatch.record;
    names.push_back(mismatch.record);
  }
  EXPECT_EQ(report.mismatched, names.size());
  return names;
}

class Crc : public testing::Test {
 protected:
  Checkpoint open(const std::vector<ZipItem>& items) {
    write_file(dir_ / "in.pth", test::build_zip(items));
    return Checkpoint::open(dir_ / "in.pth").value();
  }
  static CrcReport verified(const Checkpoint& checkpoint) { return verify(checkpoint).value().crc; }
  CrcReport saved(const Checkpoint& checkpoint) {
    return save(dir_ / "out.safetensors", make_plan(checkpoint).value(), {.ignore_crc = true})
        .value()
        .crc;
  }
  CrcReport saved_for_torch(const Checkpoint& checkpoint) {
    return save_torch(dir_ / "out.pth", make_plan(checkpoint).value(),
                      {.file = {.ignore_crc = true}})
        .value()
        .file.crc;
  }
  // What all three say, who must agree.
  CrcReport report(const std::vector<ZipItem>& items) {
    const Checkpoint checkpoint = open(items);
    const CrcReport all = verified(checkpoint);
    for (const CrcReport& copied : {saved(checkpoint), saved_for_torch(checkpoint)}) {
      EXPECT_EQ(names_of(copied), names_of(all));
      EXPECT_EQ(copied.checked, all.checked);
      EXPECT_EQ(copied.unstated, all.unstated);
      EXPECT_EQ(copied.without, all.without);
    }
    return all;
  }
  Result<SaveReport> strictly(const Checkpoint& checkpoint) {
    return save(dir_ / "strict.safetensors", make_plan(checkpoint).value(), {.strict_crc = true});
  }

  TempDir dir_;
};

TEST_F(Crc, OfEveryRecordIsChecked) {
  const CrcReport found = report(two_records());
  EXPECT_EQ(found.checked, 5u);
  EXPECT_EQ(found.mismatched, 0u);
  EXPECT_TRUE(found.without.empty());
  EXPECT_OK(strictly(open(two_records())));
}

TEST_F(Crc, EachRecordThatDoesNotMatchIsNamed) {
  for (const char* record : {"archive/data.pkl", "archive/byteorder", "archive/data/0",
                             "archive/data/1", "archive/version"}) {
    std::vector<ZipItem> items = two_records();
    lie(items, record);
    EXPECT_EQ(names_of(report(items)), Names{record});
    EXPECT_ERROR(strictly(open(items)), zip_crc_mismatch);
  }
}

TEST_F(Crc, SeveralAreNamedInTheOrderOfTheFile) {
  std::vector<ZipItem> items = two_records();
  lie(items, "archive/data/1");
  lie(items, "archive/version");
  lie(items, "archive/data.pkl");
  EXPECT_EQ(names_of(report(items)),
            (Names{"archive/data.pkl", "archive/data/1", "archive/version"}));
  const auto refused = strictly(open(items));
  EXPECT_NE(refused.error().message.find("'archive/data.pkl'"), string::npos);
  EXPECT_NE(refused.error().message.find("2 more"), string::npos);
}

TEST_F(Crc, AFlippedByteIsFoundInAnyChunk) {
  const string good = test::build_zip(two_records());
  const std::size_t data = good.find(long_data());
  for (const std::size_t at : {std::size_t{0}, std::size_t{262'144}, std::size_t{1'199'999}}) {
    string bad = good;
    bad[data + at] ^= 1;
    write_file(dir_ / "in.pth", bad);
    const Checkpoint checkpoint = Checkpoint::open(dir_ / "in.pth").value();
    for (const CrcReport& found :
         {verified(checkpoint), saved(checkpoint), saved_for_torch(checkpoint)}) {
      ASSERT_EQ(found.mismatched, 1u);
      EXPECT_EQ(found.mismatches[0].record, "archive/data/1");
      EXPECT_EQ(found.mismatches[0].stated, test::crc_of(long_data()));
      EXPECT_EQ(found.mismatches[0].found, test::crc_of(bad.substr(data, kLong * 4)));
    }
  }
}

TEST_F(Crc, IsThatOfTheInflatedBytes) {
  std::vector<ZipItem> items{test::deflated_item("m/data.pkl", two_tensors()),
                             test::deflated_item("m/data/0", string(24, '\2')),
                             test::deflated_item("m/data/1", long_data()),
                             {.name = "m/version", .data = "3\n"}};
  EXPECT_TRUE(names_of(report(items)).empty());
  items[2].central.crc = test::crc_of(long_data()) ^ 1;
  EXPECT_EQ(names_of(report(items)), Names{"m/data/1"});
  items[0].central.crc = test::crc_of(two_tensors()) ^ 1;
  EXPECT_EQ(names_of(report(items)), (Names{"m/data.pkl", "m/data/1"}));
}

TEST_F(Crc, AZipThatStatesNoneIsCheckedAgainstNothing) {
  std::vector<ZipItem> items = two_records();
  for (ZipItem& item : items) item.central.crc = 0;
  const CrcReport found = report(items);
  EXPECT_EQ(found.checked, 0u);
  EXPECT_EQ(found.without, std::vector{dir_ / "in.pth"});
  EXPECT_ERROR(strictly(open(items)), zip_crc_mismatch);
  // With any other sum in it, 0 is a sum like others, except for storages.
  items[0].central.crc.reset();
  EXPECT_EQ(verified(open(items)).mismatched, 2u);
  EXPECT_EQ(verified(open(items)).unstated, 2u);
}

TEST_F(Crc, WhatIsCopiedInAnotherOrderIsReadOnceMore) {
  const string transposed =
      text("c") + tensor({.sizes = counts({3, 2}), .strides = counts({1, 3})});
  const string part = text("d") + tensor({.storage = key_of(1, kLong),
                                          .offset = integer(kLong / 2),
                                          .sizes = counts({kLong / 2}),
                                          .strides = counts({1})});
  const string pickle = finish(dict({transposed, part}));
  std::vector<ZipItem> items = two_records(pickle);
  EXPECT_EQ(names_of(report(items)), Names{});
  lie(items, "archive/data/0");
  lie(items, "archive/data/1");
  EXPECT_EQ(names_of(report(items)), (Names{"archive/data/0", "archive/data/1"}));
}

// Of the record of "b", with 1.2 MB, two elements are wanted.
TEST_F(Crc, ALargeRecordIsNotReadForASmallPartUnlessStrict) {
  const string part =
      tensor({.storage = key_of(1, kLong), .sizes = counts({2}), .strides = counts({1})});
  std::vector<ZipItem> items = two_records(finish(dict({text("a"), tensor(), text("d"), part})));
  lie(items, "archive/data/1");
  const Checkpoint checkpoint = open(items);
  for (const CrcReport& found : {saved(checkpoint), saved_for_torch(checkpoint)}) {
    EXPECT_EQ(found.mismatched, 0u);
    EXPECT_EQ(found.checked, 4u);
    EXPECT_EQ(found.read_in_part, 1u);
  }
  EXPECT_EQ(names_of(verified(checkpoint)), Names{"archive/data/1"});
  EXPECT_ERROR(strictly(checkpoint), zip_crc_mismatch);
  EXPECT_OK(strictly(open(two_records(finish(dict({text("d"), part}))))));
}

TEST_F(Crc, RecordsOfTensorsThatAreLeftOutAreNotRead) {
  std::vector<ZipItem> items = two_records();
  lie(items, "archive/data/1");
  const Checkpoint checkpoint = open(items);
  const Checkpoint a = checkpoint.select({.path = "", .include = {"a"}, .exclude = {}}).value();
  EXPECT_EQ(saved(a).checked, 4u);
  EXPECT_EQ(saved(a).mismatched, 0u);
  EXPECT_OK(strictly(a));
  const Checkpoint b = checkpoint.select({.path = "", .include = {"b"}, .exclude = {}}).value();
  EXPECT_EQ(names_of(saved(b)), Names{"archive/data/1"});
}

// What torch.serialization.skip_data() writes: sums for all but the storages.
TEST_F(Crc, AStorageThatStatesZeroStatesNone) {
  std::vector<ZipItem> items = two_records();
  for (ZipItem& item : items) {
    if (item.name == "archive/data/1") item.central.crc = 0;
  }
  const CrcReport found = report(items);
  EXPECT_EQ(found.mismatched, 0u);
  EXPECT_EQ(found.unstated, 1u);
  EXPECT_EQ(found.checked, 4u);
  EXPECT_OK(save(dir_ / "out.safetensors", make_plan(open(items)).value()));
  EXPECT_ERROR(strictly(open(items)), zip_crc_mismatch);
}

TEST_F(Crc, APickleThatStatesZeroIsAMismatch) {
  std::vector<ZipItem> items = two_records();
  for (ZipItem& item : items) {
    if (item.name == "archive/data.pkl") item.central.crc = 0;
  }
  const CrcReport found = verified(open(items));
  EXPECT_EQ(found.mismatched, 1u);
  EXPECT_EQ(found.unstated, 0u);
}

TEST_F(Crc, ARefusedSaveLeavesNothing) {
  std::vector<ZipItem> items = two_records();
  lie(items, "archive/data/0");
  const SavePlan plan = make_plan(open(items)).value();
  const Result<SaveReport> refused = save(dir_ / "out.safetensors", plan);
  EXPECT_ERROR(refused, zip_crc_mismatch);
  EXPECT_NE(refused.error().message.find("'archive/data/0'"), std::string::npos);
  EXPECT_ERROR(save_torch(dir_ / "out.pth", plan), zip_crc_mismatch);
  EXPECT_EQ(dir_.names(), Names{"in.pth"});
}

TEST_F(Crc, ADamagedPickleThatCannotBeReadIsCalledSo) {
  std::vector<ZipItem> items = two_records();
  const string good = items[0].data;
  items[0].data[good.size() - 1] = '\xFF';
  const auto opened = [&] {
    write_file(dir_ / "in.pth", test::build_zip(items));
    return Checkpoint::open(dir_ / "in.pth");
  };
  EXPECT_ERROR(opened(), pickle_opcode_unknown);
  EXPECT_EQ(opened().error().message.find("CRC"), string::npos);
  items[0].central.crc = test::crc_of(good);
  EXPECT_ERROR(opened(), pickle_opcode_unknown);
  EXPECT_NE(opened().error().message.find("the record is damaged: CRC-32"), string::npos);
}

TEST_F(Crc, FilesThatAreNoZipsStateNone) {
  const std::filesystem::path fixtures = std::filesystem::path(FLATBED_FIXTURES_DIR) / "torch2";
  for (const char* name : {"legacy.pth", "tar.pth", "pickled_5.pth"}) {
    const CrcReport found = verified(Checkpoint::open(fixtures / name).value());
    EXPECT_EQ(found.checked, 0u) << name;
    EXPECT_TRUE(found.without.empty()) << name;
  }
}

TEST_F(Crc, OfFilesThatTorchWroteMatches) {
  const std::filesystem::path fixtures = std::filesystem::path(FLATBED_FIXTURES_DIR) / "torch2";
  for (const char* name : {"checkpoint.pth", "deflated.pth", "views.pth", "tied.pth"}) {
    const Checkpoint checkpoint = Checkpoint::open(fixtures / name).value();
    const CrcReport found = verified(checkpoint);
    EXPECT_GT(found.checked, 4u) << name;
    EXPECT_EQ(found.mismatched, 0u) << name;
    EXPECT_EQ(saved(checkpoint).mismatched, 0u) << name;
    EXPECT_TRUE(names_of(verified(Checkpoint::open(dir_ / "out.safetensors").value())).empty());
  }
  const Checkpoint without = Checkpoint::open(fixtures / "without_crc.pth").value();
  EXPECT_EQ(verified(without).without.size(), 1u);
  EXPECT_OK(save(dir_ / "out.safetensors", make_plan(without).value()));
  EXPECT_ERROR(strictly(without), zip_crc_mismatch);
}

}  // namespace
}  // namespace flatbed
