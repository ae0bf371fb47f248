// read_header(): large headers in any order, and what it keeps of a header. Its rules are tested
// one by one by the vectors of the specification.
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/bytes.hpp"
#include "base/str_cat.hpp"
#include "io/file.hpp"
#include "safetensors/header.hpp"
#include "support/cpu_time.hpp"
#include "support/expect_error.hpp"
#include "support/pickle_asm.hpp"
#include "support/temp_dir.hpp"

namespace flatbed::safetensors {
namespace {

using test::le;
using test::TempDir;
using test::write_file;

constexpr std::chrono::seconds kNotQuadratic(30);

Result<Header> read(std::string_view json, std::string_view data = "") {
  const TempDir dir;
  write_file(dir / "a", le(json.size(), 8) + std::string(json) + std::string(data));
  FLATBED_ASSIGN(const File file, File::open(dir / "a"));
  return read_header(file);
}

std::string entry(std::string_view name, std::uint64_t begin, std::uint64_t end) {
  return str_cat("\"", name, "\":{\"dtype\":\"U8\",\"shape\":[", end - begin,
                 "],\"data_offsets\":[", begin, ",", end, "]}");
}

std::string object(const std::vector<std::string>& members) {
  std::string out = "{";
  for (const std::string& member : members) out += (out.size() > 1 ? "," : "") + member;
  return out + "}";
}

// Entries of "t0", "t1"... of one byte each.
std::vector<std::string> many(std::size_t count) {
  std::vector<std::string> members;
  for (std::size_t i = 0; i < count; ++i) members.push_back(entry(str_cat("t", i), i, i + 1));
  return members;
}

TEST(HeaderRead, ReportsTheFirstFaultOfItsMembers) {
  const std::string a = entry("a", 0, 1);
  EXPECT_ERROR(read(object({a, a, R"("b":1)"}), "a"), duplicate_name);
  EXPECT_ERROR(read(object({a, R"("a":1)"}), "a"), duplicate_name);
  EXPECT_ERROR(read(object({a, R"("b":1)", a}), "a"), entry_invalid);
  EXPECT_ERROR(read(object({a, R"("__metadata__":1)", a}), "a"), metadata_invalid);
  EXPECT_ERROR(read(object({a, a, R"("__metadata__":1)"}), "a"), duplicate_name);
}

TEST(HeaderRead, MovesTheTextsOfASetIntoItsPool) {
  const TempDir dir;
  std::optional<SetMemory> set(std::in_place);
  std::vector<Header> headers;
  for (const std::string_view name : {"first", "second", ""}) {
    const std::string json = object({R"("__metadata__":{"k\u0065y":"value"})", entry(name, 0, 1)});
    write_file(dir / "a", le(json.size(), 8) + json + "x");
    const auto file = File::open(dir / "a");
    ASSERT_OK(file);
    auto header = read_header(*file, &*set);
    ASSERT_OK(header);
    headers.push_back(*std::move(header));
  }
  set.reset();  // the headers keep the pool
  EXPECT_EQ(headers[0].tensors[0].name, "first");
  EXPECT_EQ(headers[1].tensors[0].name, "second");
  EXPECT_EQ(headers[2].tensors[0].name, "");
  for (const Header& header : headers) {
    EXPECT_EQ(header.metadata.front().first, "key");
    EXPECT_EQ(header.metadata.front().second, "value");
  }
}

TEST(HeaderRead, GivesTensorsInOrderOfTheirBytes) {
  const auto header = read(object({entry("b", 2, 5), entry("z", 2, 2), entry("a", 0, 2)}), "aabbb");
  ASSERT_OK(header);
  std::string names;
  for (const TensorInfo& tensor : header->tensors) {
    EXPECT_EQ(tensor.index, names.size());
    EXPECT_EQ(tensor.storage, tensor.index);
    EXPECT_EQ(tensor.where.nbytes, tensor.nbytes);
    names += tensor.name;
  }
  EXPECT_EQ(names, "azb");
  EXPECT_EQ(header->tensors[2].where.offset, header->nbytes + 2);
}

TEST(HeaderRead, KeepsEqualEmptyTensorsInNameOrder) {
  const auto header = read(object({entry("b", 0, 0), entry("a", 0, 0), entry("c", 0, 0)}));
  ASSERT_OK(header);
  EXPECT_EQ(header->tensors[0].name, "a");
  EXPECT_EQ(header->tensors[1].name, "b");
  EXPECT_EQ(header->tensors[2].name, "c");
}

TEST(HeaderRead, KeepsMetadataInTheOrderOfTheFile) {
  const auto header = read(R"({"__metadata__":{"z":"1","a":"","\u0062":"\n"}})");
  ASSERT_OK(header);
  ASSERT_EQ(header->metadata.size(), 3u);
  EXPECT_EQ(header->metadata[0].first, "z");
  EXPECT_EQ(header->metadata[1].second, "");
  EXPECT_EQ(header->metadata[2].first, "b");
  EXPECT_EQ(header->metadata[2].second, "\n");
}

TEST(HeaderRead, StaysValidWhenItIsMoved) {
  Result<Header> read_one = read(object({entry("name", 0, 3)}), "abc");
  ASSERT_OK(read_one);
  const Header header = *std::move(read_one);
  EXPECT_EQ(header.tensors[0].name, "name");
  EXPECT_EQ(header.tensors[0].shape[0], 3u);
  EXPECT_EQ(header.names.find("name", [&](std::uint32_t i) { return header.tensors[i].name; }), 0u);
}

// A literal -0 is replaced while the text is parsed: what the digest covers must be the file's
// text.
TEST(HeaderRead, RestoresTheTextAroundNegativeZeros) {
  const std::string json =
      R"({"w":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"x":[-0, -0 ,-0.0,"-0,-0"]}})";
  const auto header = read(json, "a");
  ASSERT_OK(header);
  EXPECT_EQ(as_text(header->raw()).substr(8), json);
}

TEST(HeaderRead, RefusesNegativeZerosWhereIntegersAreWanted) {
  EXPECT_ERROR(read(R"({"w":{"dtype":"U8","shape":[-0],"data_offsets":[0,0]}})"), shape_invalid);
  EXPECT_ERROR(read(R"({"w":{"dtype":"U8","shape":[0],"data_offsets":[-0,0]}})"), offsets_invalid);
  EXPECT_OK(read(R"({"w":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}})"));
}

TEST(HeaderRead, NamesTheTensorAndTheNumbers) {
  const auto header =
      read(R"({"w":{"dtype":"F32","shape":[2,2],"data_offsets":[0,8]}})", "12345678");
  EXPECT_ERROR(header, size_mismatch);
  EXPECT_EQ(header.error().message, "tensor 'w': offsets [0,8) hold 8 bytes, F32 [2,2] needs 16");
}

TEST(HeaderRead, RefusesOneByteThatIsSharedOrNobodys) {
  const auto two = [](std::uint64_t end, std::uint64_t begin) {
    return read(str_cat("{", entry("a", 0, end), ",", entry("b", begin, 6), "}"), "123456");
  };
  EXPECT_OK(two(3, 3));
  EXPECT_ERROR(two(4, 3), offsets_overlap);
  EXPECT_ERROR(two(3, 2), offsets_overlap);
  EXPECT_ERROR(two(3, 4), offsets_gap);
}

TEST(HeaderRead, FindsEachOfAHundredThousandTensors) {
  constexpr std::size_t kCount = 100'000;
  std::vector<std::string> members = many(kCount);
  const std::string data(kCount, 'x');
  const auto start = test::cpu_time();
  const auto ascending = read(object(members), data);
  ASSERT_OK(ascending);
  std::ranges::reverse(members);
  const auto descending = read(object(members), data);
  ASSERT_OK(descending);
  std::shuffle(members.begin(), members.end(), std::mt19937_64(1));
  const auto shuffled = read(object(members), data);
  ASSERT_OK(shuffled);
  for (const Header* header : {&*ascending, &*descending, &*shuffled}) {
    const auto name_of = [&](std::uint32_t i) { return header->tensors[i].name; };
    for (std::uint32_t i = 0; i < kCount; ++i) {
      ASSERT_EQ(header->tensors[i].where.offset, header->nbytes + i);
      ASSERT_EQ(header->names.find(str_cat("t", i), name_of), i);
    }
  }
  EXPECT_LT(test::cpu_time() - start, kNotQuadratic);
}

TEST(HeaderRead, FindsADuplicateAmongAHundredThousandTensors) {
  std::vector<std::string> members = many(100'000);
  const std::string data(100'001, 'x');
  const auto start = test::cpu_time();
  members.push_back(entry("t0", 100'000, 100'001));
  EXPECT_ERROR(read(object(members), data), duplicate_name);
  members.back() = entry("t99999", 100'000, 100'001);
  EXPECT_ERROR(read(object(members), data), duplicate_name);
  members.back() = entry("t\\u0030", 100'000, 100'001);  // t0, escaped
  EXPECT_ERROR(read(object(members), data), duplicate_name);
  members.back() = entry("t100000", 100'000, 100'001);
  EXPECT_OK(read(object(members), data));
  EXPECT_LT(test::cpu_time() - start, kNotQuadratic);
}

TEST(HeaderRead, FindsADuplicateAmongManyMetadataKeys) {
  std::string json = R"({"__metadata__":{)";
  for (int i = 0; i < 100'000; ++i) json += str_cat("\"k", i, "\":\"\",");
  const auto start = test::cpu_time();
  EXPECT_ERROR(read(json + "\"k0\":\"\"}}"), duplicate_metadata);
  EXPECT_OK(read(json + "\"k\":\"\"}}"));
  EXPECT_LT(test::cpu_time() - start, kNotQuadratic);
}

TEST(HeaderRead, TakesManyEmptyTensorsAtOnePlace) {
  std::vector<std::string> members;
  for (int i = 0; i < 50'000; ++i) members.push_back(entry(str_cat("e", i), 0, 0));
  const auto start = test::cpu_time();
  const auto header = read(object(members));
  ASSERT_OK(header);
  EXPECT_TRUE(std::ranges::is_sorted(header->tensors, {}, &TensorInfo::name));
  EXPECT_LT(test::cpu_time() - start, kNotQuadratic);
}

TEST(HeaderRead, TakesShapesOfAnyRank) {
  std::string shape = "1";
  for (int i = 1; i < 100'000; ++i) shape += ",1";
  const auto header =
      read(str_cat(R"({"w":{"dtype":"U8","shape":[)", shape, R"(],"data_offsets":[0,1]}})"), "a");
  ASSERT_OK(header);
  EXPECT_EQ(header->tensors[0].shape.size(), 100'000u);
}

TEST(HeaderRead, AllocatesNothingForALengthThatTheFileDoesNotHave) {
  const TempDir dir;
  write_file(dir / "a", le(99'999'999, 8) + "{}");
  const auto file = File::open(dir / "a");
  ASSERT_OK(file);
  EXPECT_ERROR(read_header(*file), header_truncated);
}

}  // namespace
}  // namespace flatbed::safetensors
