// The header of new files: layout, alignment, text, limits, and the worked example of the
// specification, byte for byte.
#include "safetensors/header_write.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <bit>
#include <string>
#include <vector>

#include "base/bytes.hpp"
#include "base/str_cat.hpp"
#include "io/digest.hpp"
#include "support/expect_error.hpp"

namespace flatbed::safetensors {
namespace {

using Shape = std::vector<std::uint64_t>;

// A tensor of bytes.
SealTensor bytes_tensor(std::string_view name, const Shape& shape) {
  std::uint64_t nbytes = 1;
  for (const std::uint64_t n : shape) nbytes *= n;
  return {name, Dtype::u8, shape, nbytes};
}

std::string json_of(const NewHeader& header) {
  const std::string text = header.bytes.substr(8);
  return text.substr(0, text.find_last_not_of(' ') + 1);
}

TEST(HeaderWrite, WritesTheExampleOfTheSpecification) {
  const Shape none{0};
  const Shape page{1024};
  const Shape three{3};
  const std::vector<SealTensor> tensors{
      {"e", Dtype::f32, none, 0}, {"k", Dtype::f32, page, 4096}, {"w", Dtype::u8, three, 3}};
  const std::vector<MetadataPair> metadata{
      {"flatbed.tree", R"(["dict","epoch",3,"w",["tensor","w"]])"}};
  Result<NewHeader> header = build_header(tensors, metadata, {});
  ASSERT_OK(header);
  put_digest(*header, 1, 0, xxh3(as_bytes(std::string(4096, '\0'))));
  put_digest(*header, 2, 0, xxh3(as_bytes("abc")));
  EXPECT_EQ(seal_header(*header, tensors, metadata), "a51077c2dc79f33f");
  EXPECT_EQ(json_of(*header),
            R"({"__metadata__":{"flatbed":"feecf195512f7515/1/a51077c2dc79f33f",)"
            R"("flatbed.digests":"93d76fe148c689ba78af5f94892f3950",)"
            R"("flatbed.tree":"[\"dict\",\"epoch\",3,\"w\",[\"tensor\",\"w\"]]","format":"pt"},)"
            R"("e":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},)"
            R"("k":{"dtype":"F32","shape":[1024],"data_offsets":[0,4096]},)"
            R"("w":{"dtype":"U8","shape":[3],"data_offsets":[4096,4099]}})");
  EXPECT_EQ(load_le64(as_bytes(header->bytes).data()), 4088u);
  EXPECT_EQ(header->bytes.size(), 4096u);
  EXPECT_EQ(header->file_nbytes, 8195u);
  EXPECT_EQ(header->offsets, (std::vector<std::uint64_t>{4096, 4096, 8192}));
}

TEST(HeaderWrite, WithoutSealHasNoFlatbedKey) {
  const Shape shape{2};
  const std::vector<SealTensor> tensors{bytes_tensor("w", shape)};
  const Result<NewHeader> header = build_header(tensors, {}, {.seal = false});
  ASSERT_OK(header);
  EXPECT_EQ(json_of(*header), R"({"__metadata__":{"format":"pt"},)"
                              R"("w":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}})");
}

TEST(HeaderWrite, HoldsNoTensorsToo) {
  Result<NewHeader> header = build_header({}, {}, {});
  ASSERT_OK(header);
  seal_header(*header, {}, {});
  EXPECT_NE(json_of(*header).find(R"(","flatbed.digests":"","format":"pt"}})"), std::string::npos);
  EXPECT_EQ(header->file_nbytes, 4096u);
}

TEST(HeaderWrite, PutsMetadataInNameOrderAndKeepsTheSourcesFormat) {
  const std::vector<MetadataPair> metadata{
      {"z", "1"}, {"format", "np"}, {"a", "2"}, {"flatbed.tree", "null"}};
  const Result<NewHeader> header = build_header({}, metadata, {});
  ASSERT_OK(header);
  EXPECT_NE(json_of(*header).find(R"(0","a":"2","flatbed.digests":"","flatbed.tree":"null",)"
                                  R"("format":"np","z":"1"}})"),
            std::string::npos)
      << json_of(*header);
}

TEST(HeaderWrite, EscapesOnlyWhatJsonDemands) {
  const Shape shape{1};
  const std::string name("\"\\\b\t\n\f\r\x01\x1f\x7f/\0\xC3\xA9\xF0\x9F\x98\x80", 18);
  const std::vector<SealTensor> tensors{bytes_tensor(name, shape)};
  const Result<NewHeader> header = build_header(tensors, {}, {.seal = false});
  ASSERT_OK(header);
  EXPECT_NE(json_of(*header).find(
                "\"\\\"\\\\\\b\\t\\n\\f\\r\\u0001\\u001f\x7f/\\u0000\xC3\xA9\xF0\x9F\x98\x80\":{"),
            std::string::npos)
      << json_of(*header);
}

TEST(HeaderWrite, AlignsTensorsByTheirSizesAndKeepsTheOrderOfEquals) {
  const std::array<Shape, 7> shapes{Shape{3}, {4096}, {8}, {0}, {8192}, {24}, {5}};
  const std::array<std::string_view, 7> names{"a", "b", "c", "d", "e", "f", "g"};
  std::vector<SealTensor> tensors;
  for (std::size_t i = 0; i < 7; ++i) tensors.push_back(bytes_tensor(names[i], shapes[i]));
  const Result<NewHeader> header = build_header(tensors, {}, {});
  ASSERT_OK(header);
  // v: 1, 4096, 8, 4096, 4096, 8, 1.
  EXPECT_EQ(header->file_order, (std::vector<std::uint32_t>{1, 3, 4, 2, 5, 0, 6}));
  for (const std::uint32_t i : {1U, 3U, 4U}) EXPECT_EQ(header->offsets[i] % 4096, 0u) << i;
  for (const std::uint32_t i : {2U, 5U}) EXPECT_EQ(header->offsets[i] % 8, 0u) << i;
}

TEST(HeaderWrite, AlignsAnyMixOfSizes) {
  std::uint64_t random = 1;
  std::vector<Shape> shapes;
  std::vector<std::string> names;
  for (std::size_t i = 0; i < 2000; ++i) {
    random = random * 6364136223846793005 + 1442695040888963407;
    shapes.push_back({(random >> 40) << (random >> 33) % 14});
    names.push_back(str_cat("t", i));
  }
  std::vector<SealTensor> tensors;
  for (std::size_t i = 0; i < shapes.size(); ++i) {
    tensors.push_back(bytes_tensor(names[i], shapes[i]));
  }
  const Result<NewHeader> header = build_header(tensors, {}, {.seal = false});
  ASSERT_OK(header);
  std::uint64_t end = header->bytes.size();
  for (const std::uint32_t i : header->file_order) {
    EXPECT_EQ(header->offsets[i], end) << "no holes";
    const int bits = std::min(12, std::countr_zero(tensors[i].nbytes));
    EXPECT_EQ(end % (std::uint64_t{1} << bits), 0u) << tensors[i].nbytes;
    end += tensors[i].nbytes;
  }
  EXPECT_EQ(end, header->file_nbytes);
}

TEST(HeaderWrite, KeepsOneSlotPerChunkInNameOrder) {
  const Shape two_and_a_bit{2 * kChunkBytes + 1};
  const Shape one{1};
  const std::vector<SealTensor> tensors{bytes_tensor("z", two_and_a_bit), bytes_tensor("a", one)};
  Result<NewHeader> header = build_header(tensors, {}, {});
  ASSERT_OK(header);
  put_digest(*header, 1, 0, 0xa);
  for (std::uint64_t chunk = 0; chunk < 3; ++chunk) put_digest(*header, 0, chunk, chunk + 1);
  EXPECT_EQ(header->bytes.substr(header->digests_begin, header->digests.size + 1),
            "000000000000000a000000000000000100000000000000020000000000000003\"");
}

TEST(HeaderWrite, RefusesNamesThatNoFileMayHave) {
  const Shape shape{1};
  const auto build = [&](const std::vector<SealTensor>& tensors) {
    return build_header(tensors, {}, {});
  };
  EXPECT_ERROR(build({bytes_tensor("\xFF", shape)}), invalid_argument);
  EXPECT_ERROR(build({bytes_tensor("\xED\xA0\x80", shape)}), invalid_argument);
  EXPECT_ERROR(build({bytes_tensor("__metadata__", shape)}), invalid_argument);
  EXPECT_ERROR(
      build({bytes_tensor("a", shape), bytes_tensor("b", shape), bytes_tensor("a", shape)}),
      name_collision);
  EXPECT_OK(build({bytes_tensor("a", shape), bytes_tensor("", shape)}));
  EXPECT_ERROR(build_header({}, std::vector<MetadataPair>{{"k", "\x80"}}, {}), invalid_argument);
  EXPECT_ERROR(build_header({}, std::vector<MetadataPair>{{"\x80", "v"}}, {}), invalid_argument);
}

TEST(HeaderWrite, RefusesNumbersThatReadersRound) {
  constexpr std::uint64_t kLimit = std::uint64_t{1} << 53;
  const Shape most{kLimit - 1, 0};
  const Shape over{kLimit, 0};
  EXPECT_OK(build_header(std::vector<SealTensor>{{"a", Dtype::u8, most, 0}}, {}, {.seal = false}));
  EXPECT_ERROR(build_header(std::vector<SealTensor>{{"a", Dtype::u8, over, 0}}, {}, {}),
               invalid_argument);
  const Shape half{kLimit / 2};
  const std::vector<SealTensor> one{bytes_tensor("a", half)};
  const std::vector<SealTensor> two{bytes_tensor("a", half), bytes_tensor("b", half)};
  EXPECT_OK(build_header(one, {}, {.seal = false}));
  EXPECT_ERROR(build_header(two, {}, {.seal = false}), limit_exceeded);
}

// What safetensors 0.8.0 writes for the same tensors and metadata.
TEST(HeaderWrite, WritesWhatTheReferenceWrites) {
  const Shape square{2, 2};
  const Shape scalar;
  const Shape none{2, 0};
  const std::vector<SealTensor> tensors{{"b", Dtype::f16, square, 8},
                                        {"z", Dtype::f32, square, 16},
                                        {"a\n", Dtype::f32, scalar, 4},
                                        {"s", Dtype::boolean, scalar, 1},
                                        {"e", Dtype::i64, none, 0}};
  const std::vector<MetadataPair> metadata{{"k", "v"}};
  const Result<NewHeader> header =
      build_header(tensors, metadata, {.seal = false, .layout = HeaderLayout::reference});
  ASSERT_OK(header);
  const std::string_view json =
      R"({"__metadata__":{"k":"v"},"e":{"dtype":"I64","shape":[2,0],"data_offsets":[0,0]},)"
      R"("a\n":{"dtype":"F32","shape":[],"data_offsets":[0,4]},)"
      R"("z":{"dtype":"F32","shape":[2,2],"data_offsets":[4,20]},)"
      R"("b":{"dtype":"F16","shape":[2,2],"data_offsets":[20,28]},)"
      R"("s":{"dtype":"BOOL","shape":[],"data_offsets":[28,29]}})";
  EXPECT_EQ(json_of(*header), json);
  EXPECT_EQ(header->bytes.size(), 8 + (json.size() + 7) / 8 * 8);
  EXPECT_EQ(load_le64(as_bytes(header->bytes).data()), header->bytes.size() - 8);
  EXPECT_EQ(header->file_nbytes, header->bytes.size() + 29);
  EXPECT_EQ(header->offsets[1], header->bytes.size() + 4);
}

TEST(HeaderWrite, WritesMetadataAsTheReferenceDoesIfThereIsNone) {
  const auto written = [](bool empty_metadata) {
    return build_header(
               {}, {},
               {.seal = false, .layout = HeaderLayout::reference, .empty_metadata = empty_metadata})
        .value()
        .bytes.substr(8);
  };
  EXPECT_EQ(written(false), "{}      ");
  EXPECT_EQ(written(true), R"({"__metadata__":{}}     )");
}

TEST(HeaderWrite, RefusesASealInTheReferencesLayout) {
  EXPECT_ERROR(build_header({}, {}, {.layout = HeaderLayout::reference}), invalid_argument);
}

// A header whose JSON text has exactly this many bytes, without tensors and seal.
Result<NewHeader> build_json_of(std::size_t nbytes, bool allow_large) {
  const std::string_view around = R"({"__metadata__":{"format":"pt","k":""}})";
  const std::string value(nbytes - around.size(), 'x');
  const std::vector<MetadataPair> metadata{{"k", value}};
  return build_header({}, metadata, {.seal = false, .allow_large = allow_large});
}

TEST(HeaderWrite, RefusesHeadersThatCommonReadersRefuse) {
  EXPECT_OK(build_json_of(24'997'880, false));  // 8 + 24,997,880 = 6103 * 4096
  const Result<NewHeader> refused = build_json_of(24'997'881, false);
  EXPECT_ERROR(refused, header_over_limit);
  EXPECT_NE(refused.error().message.find("shards"), std::string::npos);
  EXPECT_OK(build_json_of(24'997'881, true));
}

TEST(HeaderWrite, NeverExceedsTheReferencesLimit) {
  const Result<NewHeader> header = build_json_of(99'999'736, true);
  ASSERT_OK(header);
  EXPECT_EQ(header->bytes.size(), 99'999'744u);
  EXPECT_ERROR(build_json_of(99'999'737, true), header_over_limit);
}

TEST(HeaderWrite, CountsTheDigestsOfHugeTensors) {
  const Shape pebibyte{std::uint64_t{1} << 50};
  const std::vector<SealTensor> tensors{bytes_tensor("a", pebibyte)};
  const Result<NewHeader> refused = build_header(tensors, {}, {.allow_large = true});
  EXPECT_ERROR(refused, header_over_limit);
  EXPECT_NE(
      refused.error().message.find("the header of 1 tensor, with 68719476736 bytes of digests,"),
      std::string::npos);
  EXPECT_NE(refused.error().message.find("or write no digests"), std::string::npos);
  EXPECT_OK(build_header(tensors, {}, {.seal = false}));
}

}  // namespace
}  // namespace flatbed::safetensors
