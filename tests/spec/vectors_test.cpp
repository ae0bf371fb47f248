// Every vector of spec/vectors gives what its manifest says (the columns are explained in
// spec/vectors/README.md).
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "base/json.hpp"
#include "checkpoint/checkpoint_access.hpp"
#include "flatbed/flatbed.hpp"
#include "spec/manifest.hpp"
#include "support/temp_dir.hpp"
#include "value/tensor_names.hpp"
#include "value/tree_json.hpp"

namespace flatbed {
namespace {

namespace fs = std::filesystem;
using test::Folder;
using test::kVectors;
using test::read_file;
using test::read_manifest;
using test::TempDir;
using test::Vector;

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

template <typename T>
std::string code_of(const Result<T>& result) {
  return result ? "ok" : std::string(name(result.error().code));
}

std::string read_all(const Checkpoint& checkpoint) {
  for (const TensorInfo& tensor : checkpoint.tensors()) {
    std::vector<std::byte> bytes(tensor.nbytes);
    if (auto done = checkpoint.read(tensor, 0, bytes); !done) return code_of(done);
  }
  return "ok";
}

std::string read_listed(const Checkpoint& checkpoint, const std::filesystem::path& index) {
  for (const std::string& listed : listed_names(index)) {
    if (auto tensor = checkpoint.tensor(listed); !tensor)
      return std::string(name(tensor.error().code));
  }
  return read_all(checkpoint);
}

std::string ask_for_tree(const Checkpoint& checkpoint) {
  return checkpoint.has_tree() ? code_of(checkpoint.tree()) : "absent";
}

// What asking for the aliases gives: they are read when a name is looked up that no tensor has.
std::string ask_for_aliases(const Checkpoint& checkpoint) {
  const std::string code = code_of(checkpoint.tensor("no such name"));
  return code == "tensor_not_found" ? "ok" : code;
}

// The first error of opening and reading everything.
std::string judge_set(const Result<Checkpoint>& opened, const fs::path& path) {
  if (!opened) return code_of(opened);
  if (const std::string code = read_listed(*opened, path); code != "ok") return code;
  if (const std::string code = ask_for_tree(*opened); code != "ok" && code != "absent") return code;
  return ask_for_aliases(*opened);
}

// The bytes of a file that save() writes of the input of a vector.
Result<std::string> write_again(const Vector& vector) {
  FLATBED_ASSIGN(Checkpoint input, Checkpoint::open(kVectors / vector.option("from")));
  if (const std::string only = vector.option("only"); !only.empty()) {
    FLATBED_ASSIGN(input, input.select({.include = {only}}));
  }
  FLATBED_ASSIGN(const SavePlan plan, make_plan(input));
  const TempDir dir;
  FLATBED_TRY(save(dir / "out", plan));
  return read_file(dir / "out");
}

// name -> bytes
std::map<std::string, std::string> files_of(const fs::path& folder) {
  std::map<std::string, std::string> files;
  for (const auto& entry : fs::directory_iterator(folder))
    files[entry.path().filename().native()] = read_file(entry.path());
  return files;
}

void expect_same_set(const Vector& vector) {
  const auto input = Checkpoint::open(kVectors / vector.option("from"));
  ASSERT_TRUE(input) << input.error().message;
  const auto plan = make_plan(*input);
  ASSERT_TRUE(plan) << plan.error().message;
  const TempDir dir;
  const auto saved =
      save_set(dir / "set", *plan, {.max_shard_nbytes = std::stoull(vector.option("shard"))});
  ASSERT_TRUE(saved) << saved.error().message;
  EXPECT_EQ(files_of(dir / "set"), files_of((kVectors / vector.path).parent_path()));
}

class SpecVector : public testing::TestWithParam<Vector> {};

TEST_P(SpecVector, GivesWhatTheManifestSays) {
  const Vector& vector = GetParam();
  const Folder folder(vector);
  const fs::path path = folder / vector.path;
  const auto opened = Checkpoint::open(path, {.follow_links = vector.option("links") != "forbid"});
  const std::string message = opened ? "" : opened.error().message;
  if (vector.kind == "container") {
    EXPECT_TRUE(vector.expects(code_of(opened))) << code_of(opened) << message;
  } else if (vector.kind == "shards") {
    EXPECT_TRUE(vector.expects(judge_set(opened, path))) << judge_set(opened, path) << message;
  } else if (vector.kind == "tree" || vector.kind == "aliases") {
    ASSERT_TRUE(opened) << message;
    EXPECT_EQ(read_all(*opened), "ok");
    EXPECT_EQ(name(opened->seal()), vector.expect == "absent" ? "newer" : "sealed");
    const bool newer = vector.kind == "aliases" && vector.expect == "absent";
    const std::string found =
        vector.kind == "tree" ? ask_for_tree(*opened) : ask_for_aliases(*opened);
    EXPECT_TRUE(vector.expects(newer && found == "ok" ? "absent" : found)) << found;
  } else if (vector.kind == "writer" && !vector.option("shard").empty()) {
    expect_same_set(vector);
  } else if (vector.kind == "writer") {
    const auto written = write_again(vector);
    ASSERT_TRUE(written) << written.error().message;
    EXPECT_TRUE(*written == read_file(path)) << *written;
  }
}

TEST_P(SpecVector, HasTheStateThatTheManifestSays) {
  const Vector& vector = GetParam();
  if (vector.kind != "seal" && vector.kind != "sidecar") return;
  const Folder folder(vector);
  const fs::path path = folder / vector.path;
  const auto lax = Checkpoint::open(path, {.check_seal = CheckSeal::off});
  const auto opened = Checkpoint::open(path);
  const auto demanded = Checkpoint::open(path, {.check_seal = CheckSeal::required});
  if (vector.expect == "invalid") {
    for (const auto* result : {&lax, &opened, &demanded}) EXPECT_EQ(code_of(*result), vector.cause);
    return;
  }
  ASSERT_TRUE(lax) << lax.error().message;
  EXPECT_EQ(name(lax->seal()), vector.expect) << lax->files()[0].seal_note;
  const bool broken = vector.expect == "broken";
  EXPECT_EQ(code_of(opened), broken ? vector.cause : "ok");
  EXPECT_EQ(code_of(demanded), broken                        ? vector.cause
                               : vector.expect == "unsealed" ? "not_sealed"
                               : vector.expect == "newer"    ? "seal_newer"
                                                             : "ok");
  if (opened) {
    EXPECT_EQ(read_all(*opened), vector.cause == "-" ? "ok" : vector.cause);
  }
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

// The names of tensors come from the tree alone (N1 to N5).
TEST_P(SpecVector, GetsItsNamesFromTheTree) {
  const Vector& vector = GetParam();
  if (vector.kind != "names") return;
  const auto input = Checkpoint::open(kVectors / vector.option("from"));
  const auto named = Checkpoint::open(kVectors / vector.path);
  ASSERT_TRUE(input && named);
  const auto tree = CheckpointAccess::copy_tree(*input);
  const auto expected = CheckpointAccess::copy_tree(*named);
  ASSERT_TRUE(tree && expected);
  const auto names = name_tensors(*tree);
  ASSERT_TRUE(names) << names.error().message;
  std::vector<std::string> by_tensor(input->tensors().size());
  for (std::uint32_t i = 0; i < names->order.size(); ++i)
    by_tensor[names->order[i]] = names->names[i];
  const auto text = encode_tree(*tree, by_tensor);
  ASSERT_TRUE(text) << text.error().message;
  std::vector<std::string> expected_names;
  for (const TensorInfo& tensor : named->tensors()) expected_names.emplace_back(tensor.name);
  EXPECT_EQ(*text, *encode_tree(*expected, expected_names));
  std::vector<std::pair<std::string, std::string>> aliases;
  for (const Alias& alias : names->aliases) aliases.emplace_back(alias.name, alias.target);
  std::vector<std::pair<std::string, std::string>> expected_aliases;
  for (const Alias& alias : named->aliases())
    expected_aliases.emplace_back(alias.name, alias.target);
  EXPECT_EQ(aliases, expected_aliases);
}

INSTANTIATE_TEST_SUITE_P(Manifest, SpecVector, testing::ValuesIn(read_manifest()));

TEST(SpecVectors, AreThere) { EXPECT_GT(read_manifest().size(), 700u); }

}  // namespace
}  // namespace flatbed
