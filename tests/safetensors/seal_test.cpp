// The seal: its two digests against values worked out by hand and by another implementation, and
// every row of the table of states.
#include "safetensors/seal.hpp"

#include <gtest/gtest.h>

#include <array>
#include <string>
#include <vector>

#include "base/bytes.hpp"
#include "base/str_cat.hpp"
#include "io/digest.hpp"

namespace flatbed::safetensors {
namespace {

// The worked example of the specification: e = F32 [0], k = 4096 zero bytes, w = "abc".
constexpr std::string_view kContent = "a51077c2dc79f33f";
constexpr std::string_view kDigests = "93d76fe148c689ba78af5f94892f3950";
constexpr std::string_view kTree = R"(["dict","epoch",3,"w",["tensor","w"]])";

constexpr std::array<std::uint64_t, 1> kShapeE{0};
constexpr std::array<std::uint64_t, 1> kShapeK{1024};
constexpr std::array<std::uint64_t, 1> kShapeW{3};
// Not in name order.
const std::vector<SealTensor> kTensors{
    {"k", Dtype::f32, kShapeK, 4096}, {"w", Dtype::u8, kShapeW, 3}, {"e", Dtype::f32, kShapeE, 0}};

std::vector<MetadataPair> example_pairs(std::string_view seal) {
  return {
      {"flatbed", seal}, {"flatbed.digests", kDigests}, {"flatbed.tree", kTree}, {"format", "pt"}};
}

// Bytes 0..7+N: the envelope, the seal's text, and a rest that nobody here parses.
std::string header_text(std::string_view seal) {
  std::string json = str_cat(kSealEnvelope, seal, "\",...}}");
  std::string bytes(8, '\0');
  bytes[0] = static_cast<char>(json.size());
  return bytes + json;
}

// The same with the right header digest in place; `seal` gets it too.
std::string sealed_header(std::string& seal) {
  std::string bytes = header_text(seal);
  const std::string digest = hex16(header_digest(as_bytes(bytes)));
  bytes.replace(kHeaderDigestOffset, kDigestDigits, digest);
  seal.replace(0, kDigestDigits, digest);
  return bytes;
}

std::string seal_text(std::string_view version = "1", std::string_view rest = kContent) {
  return str_cat("0000000000000000/", version, "/", rest);
}

SealVerdict judge(std::string seal) {
  const std::string header = sealed_header(seal);
  return judge_seal(as_bytes(header), example_pairs(seal), kTensors);
}

TEST(Seal, ContentDigestIsThatOfTheSpecification) {
  const std::vector<std::uint32_t> order = name_order(kTensors);
  EXPECT_EQ(order, (std::vector<std::uint32_t>{2, 0, 1}));
  EXPECT_EQ(hex16(content_digest(kTensors, order, example_pairs(seal_text()))), kContent);
}

TEST(Seal, ContentDigestIgnoresOrderAndOtherMetadata) {
  std::vector<SealTensor> tensors(kTensors.rbegin(), kTensors.rend());
  std::vector<MetadataPair> pairs = example_pairs("whatever");
  std::swap(pairs[1], pairs[2]);
  pairs.emplace_back("author", "somebody");
  EXPECT_EQ(hex16(content_digest(tensors, name_order(tensors), pairs)), kContent);
  pairs.emplace_back("flatbed.later", "covered though unknown");
  EXPECT_NE(hex16(content_digest(tensors, name_order(tensors), pairs)), kContent);
}

TEST(Seal, ContentDigestTakesTextsOfAnyLength) {
  const std::string name(200'000, 'n');  // longer than any buffer inside
  const std::vector<SealTensor> tensors{{name, Dtype::u8, {}, 1}};
  std::string input("flatbed seal 1\n\0", 16);
  const auto add = [&](std::uint64_t n) { input.append(reinterpret_cast<const char*>(&n), 8); };
  add(1);
  add(name.size());
  input += name;
  add(2);
  input += "U8";
  add(0);
  add(0);
  const std::vector<std::uint32_t> order{0};
  EXPECT_EQ(content_digest(tensors, order, {}), xxh3(as_bytes(input)));
}

TEST(Seal, HeaderDigestTakesItsOwnDigitsAsZeros) {
  const std::string zeros = header_text(seal_text());
  EXPECT_EQ(header_digest(as_bytes(zeros)), xxh3(as_bytes(zeros)));
  std::string seal = seal_text();
  const std::string sealed = sealed_header(seal);
  EXPECT_NE(sealed, zeros);
  EXPECT_EQ(header_digest(as_bytes(sealed)), xxh3(as_bytes(zeros)));
}

TEST(Seal, NamesAscendByTheirBytes) {
  // U+10000 is f0 90 80 80, U+FFFF is ef bf bf: code-point order, not UTF-16's.
  const std::vector<SealTensor> tensors{{"\xF0\x90\x80\x80", Dtype::u8, {}, 1},
                                        {"\xEF\xBF\xBF", Dtype::u8, {}, 1},
                                        {std::string_view("\0", 1), Dtype::u8, {}, 1},
                                        {"", Dtype::u8, {}, 1}};
  EXPECT_EQ(name_order(tensors), (std::vector<std::uint32_t>{3, 2, 1, 0}));
}

TEST(SealStates, Row2NoFlatbedKeyIsUnsealed) {
  const std::vector<MetadataPair> pairs{{"format", "pt"}, {"flatbedding", "x"}};
  const SealVerdict verdict = judge_seal({}, pairs, kTensors);
  EXPECT_EQ(verdict.state, SealState::unsealed);
  EXPECT_FALSE(verdict.error);
  EXPECT_EQ(judge_seal({}, {}, {}).state, SealState::unsealed);
}

TEST(SealStates, Row3AFlatbedKeyWithoutTheSealIsBroken) {
  const std::vector<MetadataPair> pairs{{"flatbed.tree", kTree}};
  const SealVerdict verdict = judge_seal({}, pairs, kTensors);
  EXPECT_EQ(verdict.state, SealState::broken);
  EXPECT_EQ(verdict.error, ErrorCode::seal_malformed);
}

TEST(SealStates, Row3ASealOfAnotherFormIsBroken) {
  for (const std::string seal :
       {"", "x", "0000000000000000", "0000000000000000/1", "000000000000000/1/a51077c2dc79f33f",
        "00000000000000000/1/a51077c2dc79f33f", "000000000000000G/1/a51077c2dc79f33f",
        "000000000000000A/1/a51077c2dc79f33f", "0000000000000000//a51077c2dc79f33f",
        "0000000000000000/0/a51077c2dc79f33f", "0000000000000000/01/a51077c2dc79f33f",
        "0000000000000000/10000/a51077c2dc79f33f", "0000000000000000/-1/a51077c2dc79f33f",
        "0000000000000000/1x/a51077c2dc79f33f", "0000000000000000 1/a51077c2dc79f33f"}) {
    const std::string header = header_text(seal);
    const SealVerdict verdict = judge_seal(as_bytes(header), example_pairs(seal), kTensors);
    EXPECT_EQ(verdict.state, SealState::broken) << seal;
    EXPECT_EQ(verdict.error, ErrorCode::seal_malformed) << seal;
  }
}

TEST(SealStates, Row4ANewerVersionIsReadWithoutItsDigests) {
  for (const std::string version : {"2", "9999"}) {
    for (const std::string rest : {"", "anything/at all"}) {
      const SealVerdict verdict = judge(seal_text(version, rest));
      EXPECT_EQ(verdict.state, SealState::newer);
      EXPECT_NE(verdict.note.find("version " + version), std::string::npos);
      EXPECT_TRUE(verdict.digests.empty());
      EXPECT_EQ(verdict.content, "");
    }
  }
}

TEST(SealStates, Row5ANewerVersionWithAWrongHeaderIsBroken) {
  const std::string seal = seal_text("2");
  const SealVerdict verdict =
      judge_seal(as_bytes(header_text(seal)), example_pairs(seal), kTensors);
  EXPECT_EQ(verdict.state, SealState::broken);
  EXPECT_EQ(verdict.error, ErrorCode::seal_header_mismatch);
}

TEST(SealStates, Row6TheRestIsNoDigest) {
  for (const std::string rest : {"", "a51077c2dc79f33", "a51077c2dc79f33f0", "a51077c2dc79f33g",
                                 "A51077C2DC79F33F", "a51077c2dc79f33f/"}) {
    const SealVerdict verdict = judge(seal_text("1", rest));
    EXPECT_EQ(verdict.state, SealState::broken) << rest;
    EXPECT_EQ(verdict.error, ErrorCode::seal_malformed) << rest;
  }
}

TEST(SealStates, Row6TheContentIsAnother) {
  const SealVerdict verdict = judge(seal_text("1", "a51077c2dc79f33e"));
  EXPECT_EQ(verdict.state, SealState::broken);
  EXPECT_EQ(verdict.error, ErrorCode::seal_content_mismatch);
  EXPECT_NE(verdict.note.find(kContent), std::string::npos);
  EXPECT_NE(verdict.note.find("a51077c2dc79f33e"), std::string::npos);
}

// Seals these pairs rightly, so that only the digests' form is wrong.
SealVerdict judge_digests(const std::vector<MetadataPair>& flatbed_pairs) {
  std::string seal =
      seal_text("1", hex16(content_digest(kTensors, name_order(kTensors), flatbed_pairs)));
  const std::string header = sealed_header(seal);
  std::vector<MetadataPair> pairs = flatbed_pairs;
  pairs.emplace_back("flatbed", seal);
  return judge_seal(as_bytes(header), pairs, kTensors);
}

TEST(SealStates, Row6TheDigestsAreNotOnePerChunk) {
  EXPECT_EQ(judge_digests({{"flatbed.digests", kDigests}}).state, SealState::sealed);
  EXPECT_EQ(judge_digests({}).error, ErrorCode::seal_digests_malformed);
  for (const std::string digests :
       {"", "93d76fe148c689ba", "93d76fe148c689ba78af5f94892f39",
        "93d76fe148c689ba78af5f94892f39500000000000000000", "93D76FE148C689BA78AF5F94892F3950",
        "93d76fe148c689ba 8af5f94892f3950"}) {
    const SealVerdict verdict = judge_digests({{"flatbed.digests", digests}});
    EXPECT_EQ(verdict.state, SealState::broken) << digests;
    EXPECT_EQ(verdict.error, ErrorCode::seal_digests_malformed) << digests;
  }
}

TEST(SealStates, Row7OtherMetadataMayChange) {
  const std::string seal = seal_text();
  std::vector<MetadataPair> pairs = example_pairs(seal);
  pairs.emplace_back("author", "somebody");
  const SealVerdict verdict = judge_seal(as_bytes(header_text(seal)), pairs, kTensors);
  EXPECT_EQ(verdict.state, SealState::annotated);
  EXPECT_FALSE(verdict.error);
  EXPECT_EQ(verdict.content, kContent);
  EXPECT_EQ(verdict.digests.size(), 3u);
}

TEST(SealStates, Row7TheSealMayStandElsewhereInTheHeader) {
  std::string seal = seal_text();
  static_cast<void>(sealed_header(seal));
  const std::string moved = "12345678{\"w\":{},\"__metadata__\":{\"flatbed\":\"" + seal + "\"}}";
  EXPECT_EQ(judge_seal(as_bytes(moved), example_pairs(seal), kTensors).state, SealState::annotated);
  EXPECT_EQ(judge_seal(as_bytes("12345678{}"), example_pairs(seal), kTensors).state,
            SealState::annotated);
}

TEST(SealStates, Row8BothDigestsRightIsSealed) {
  const SealVerdict verdict = judge(seal_text());
  EXPECT_EQ(verdict.state, SealState::sealed);
  EXPECT_FALSE(verdict.error);
  EXPECT_EQ(verdict.note, "");
  EXPECT_EQ(verdict.content, kContent);
  // In the order in which the tensors were given: k, w, e.
  EXPECT_EQ(verdict.digests,
            (std::vector<std::string_view>{"93d76fe148c689ba", "78af5f94892f3950", ""}));
}

TEST(SealStates, EveryFlippedBitOfTheHeaderIsSeen) {
  std::string seal = seal_text();
  const std::string header = sealed_header(seal);
  for (std::size_t bit = 0; bit < header.size() * 8; ++bit) {
    std::string flipped = header;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << bit % 8));
    EXPECT_NE(judge_seal(as_bytes(flipped), example_pairs(seal), kTensors).state, SealState::sealed)
        << bit;
  }
}

const std::string kSidecarHeader = "any header at all";

SealVerdict judge_example_sidecar(std::string_view seal, std::string_view digests) {
  const std::vector<MetadataPair> pairs{{"flatbed", seal}, {"flatbed.digests", digests}};
  return judge_sidecar(as_bytes(kSidecarHeader), pairs, kTensors);
}

std::string sidecar_content() {
  const std::vector<MetadataPair> pairs{{"flatbed.digests", kDigests}};
  return hex16(content_digest(kTensors, name_order(kTensors), pairs));
}

TEST(Sidecar, WithBothDigestsRightIsSealed) {
  const std::string header = hex16(xxh3(as_bytes(kSidecarHeader)));
  const SealVerdict verdict = judge_example_sidecar(header + "/1/" + sidecar_content(), kDigests);
  EXPECT_EQ(verdict.state, SealState::sealed);
  EXPECT_EQ(verdict.content, sidecar_content());
  EXPECT_EQ(verdict.digests.size(), 3u);
}

TEST(Sidecar, OfAFileWithAnotherHeaderIsAnnotated) {
  const SealVerdict verdict =
      judge_example_sidecar("0000000000000000/1/" + sidecar_content(), kDigests);
  EXPECT_EQ(verdict.state, SealState::annotated);
}

TEST(Sidecar, WithAnyOtherKeysIsMalformed) {
  const std::string seal = hex16(xxh3(as_bytes(kSidecarHeader))) + "/1/" + sidecar_content();
  const std::vector<std::vector<MetadataPair>> wrong{
      {},
      {{"flatbed", seal}},
      {{"flatbed.digests", kDigests}},
      {{"flatbed", seal}, {"flatbed.tree", kTree}},
      {{"flatbed", seal}, {"flatbed.digests", kDigests}, {"x", "y"}},
  };
  for (const auto& pairs : wrong) {
    const SealVerdict verdict = judge_sidecar(as_bytes(kSidecarHeader), pairs, kTensors);
    EXPECT_EQ(verdict.state, SealState::broken);
    EXPECT_EQ(verdict.error, ErrorCode::sidecar_malformed);
  }
}

TEST(Sidecar, OfAnotherVersionIsMalformed) {
  const std::string header = hex16(xxh3(as_bytes(kSidecarHeader)));
  for (const std::string& seal : {header + "/2/" + sidecar_content(), header, std::string("x")}) {
    EXPECT_EQ(judge_example_sidecar(seal, kDigests).error, ErrorCode::sidecar_malformed) << seal;
  }
}

TEST(Sidecar, OfAnotherContentIsBroken) {
  EXPECT_EQ(judge_example_sidecar("0000000000000000/1/0000000000000000", kDigests).error,
            ErrorCode::seal_content_mismatch);
}

}  // namespace
}  // namespace flatbed::safetensors
