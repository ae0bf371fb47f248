// Every vector of spec/vectors gives what its manifest says (the columns are explained in
// spec/vectors/README.md).
#include <gtest/gtest.h>

#include <charconv>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>
#include <string>
#include <vector>

#include "base/json.hpp"
#include "flatbed/flatbed.hpp"

namespace flatbed {
namespace {

const std::filesystem::path kVectors = FLATBED_SPEC_VECTORS_DIR;

struct Vector {
  std::string path, kind, expect, rule, twin, cause, where;
};

std::vector<Vector> read_manifest() {
  std::ifstream file(kVectors / "manifest.tsv");
  std::vector<Vector> vectors;
  std::string line;
  std::getline(file, line);
  while (std::getline(file, line)) {
    std::istringstream fields(line);
    Vector vector;
    for (std::string* field : {&vector.path, &vector.kind, &vector.expect, &vector.rule,
                               &vector.twin, &vector.cause, &vector.where}) {
      std::getline(fields, *field, '\t');
    }
    vectors.push_back(vector);
  }
  return vectors;
}

// Keeps gtest from naming the tests by number alone.
void PrintTo(const Vector& vector, std::ostream* out) { *out << vector.path; }

std::string read_all(const Checkpoint& checkpoint) {
  for (const TensorInfo& tensor : checkpoint.tensors()) {
    std::vector<std::byte> bytes(tensor.nbytes);
    if (auto done = checkpoint.read(tensor, 0, bytes); !done) {
      return std::string(name(done.error().code));
    }
  }
  return "ok";
}

// The names that an index lists; none of a folder.
std::vector<std::string> listed_names(const std::filesystem::path& index) {
  std::vector<std::string> names;
  if (std::filesystem::is_directory(index)) return names;
  std::ifstream stream(index, std::ios::binary);
  const std::string text((std::istreambuf_iterator<char>(stream)), {});
  const JsonRules rules{ErrorCode::index_malformed, ErrorCode::index_malformed,
                        ErrorCode::index_malformed, ErrorCode::index_malformed, 127};
  const Result<JsonDocument> json = JsonDocument::parse_copy(text, rules);
  if (!json || !json->root().is_object()) return names;
  for (JsonValue key = json->root().first(); !key.at_end();) {
    const JsonValue value = key.member();
    if (key.text() == "weight_map") {
      for (JsonValue name = value.first(); !name.at_end(); name = name.member().next())
        names.emplace_back(name.text());
    }
    key = value.next();
  }
  return names;
}

std::string read_listed(const Checkpoint& checkpoint, const std::filesystem::path& index) {
  for (const std::string& listed : listed_names(index)) {
    if (auto tensor = checkpoint.tensor(listed); !tensor)
      return std::string(name(tensor.error().code));
  }
  return read_all(checkpoint);
}

template <typename T>
std::string code_of(const Result<T>& result) {
  return result ? "ok" : std::string(name(result.error().code));
}

class SpecVector : public testing::TestWithParam<Vector> {};

TEST_P(SpecVector, GivesWhatTheManifestSays) {
  const Vector& vector = GetParam();
  const std::filesystem::path path = kVectors / vector.path;
  const auto opened = Checkpoint::open(path);
  const std::string message = opened ? "" : opened.error().message;
  if (vector.kind == "container") {
    EXPECT_EQ(code_of(opened), vector.expect) << message;
    return;
  }
  if (vector.kind == "shards") {
    EXPECT_EQ(opened ? read_listed(*opened, path) : code_of(opened), vector.expect) << message;
    return;
  }
  if (vector.kind == "tree" || vector.kind == "aliases") {
    ASSERT_TRUE(opened) << message;
    EXPECT_EQ(opened->seal(), SealState::sealed);
    EXPECT_EQ(read_all(*opened), "ok");
    const std::string found =
        vector.kind == "tree" ? code_of(opened->tree()) : code_of(opened->tensor("no such name"));
    const std::string wanted =
        vector.kind == "aliases" && vector.expect == "ok" ? "tensor_not_found" : vector.expect;
    EXPECT_EQ(found, wanted);
    return;
  }
  const auto lax = Checkpoint::open(path, {.check_seal = CheckSeal::off});
  if (vector.expect == "invalid") {
    EXPECT_EQ(code_of(lax), vector.cause);
    return;
  }
  ASSERT_TRUE(lax) << lax.error().message;
  EXPECT_EQ(name(lax->seal()), vector.expect) << lax->files()[0].seal_note;
  if (vector.expect == "broken") {
    EXPECT_EQ(code_of(opened), vector.cause) << message;
    return;
  }
  ASSERT_TRUE(opened) << message;
  EXPECT_EQ(read_all(*opened), vector.cause == "-" ? "ok" : vector.cause);
}

TEST_P(SpecVector, WhereDamageIsNamedVerifyFindsIt) {
  const Vector& vector = GetParam();
  if (vector.where == "-" || vector.kind == "shards") return;
  const auto opened = Checkpoint::open(kVectors / vector.path);
  ASSERT_TRUE(opened) << opened.error().message;
  const auto report = verify(*opened);
  ASSERT_TRUE(report) << report.error().message;
  ASSERT_FALSE(report->damaged.empty());
  const DamagedRange& first = report->damaged.front();
  std::ostringstream found;
  found << opened->tensors()[first.tensor].name << ':' << first.begin;
  EXPECT_EQ(found.str(), vector.where.substr(0, vector.where.rfind('-')));
}

INSTANTIATE_TEST_SUITE_P(Manifest, SpecVector, testing::ValuesIn(read_manifest()));

TEST(SpecVectors, AreThere) { EXPECT_GT(read_manifest().size(), 500u); }

}  // namespace
}  // namespace flatbed
