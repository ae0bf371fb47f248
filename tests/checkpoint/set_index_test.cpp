// read_set_index(): the names of files (spec H2), and their kinds. The vectors have the other
// rules.
#include "checkpoint/set_index.hpp"

#include <gtest/gtest.h>

#include <string>

#include "base/str_cat.hpp"
#include "io/file.hpp"
#include "support/expect_error.hpp"
#include "support/temp_dir.hpp"

namespace flatbed {
namespace {

// The normal form of a file's name in an index called `index`; or the error's code.
std::string listed(const std::string& file, const char* index = "m.safetensors.index.json") {
  const test::TempDir dir;
  test::write_file(dir / index, str_cat(R"({"weight_map":{"w":")", file, "\"}}"));
  const Result<SetIndex> read = read_set_index(File::open(dir / index).value(), index);
  return read ? read->shards.begin()->first : std::string(name(read.error().code));
}

TEST(SetIndex, LeavesOutDotComponents) {
  EXPECT_EQ(listed("a.safetensors"), "a.safetensors");
  EXPECT_EQ(listed("././part/./a.SafeTensors"), "part/a.SafeTensors");
  EXPECT_EQ(listed("a.safetensors/."), "a.safetensors");
  EXPECT_EQ(listed("part/a.BIN/././.", "m.bin.index.json"), "part/a.BIN");
}

TEST(SetIndex, RefusesNamesThatLeaveTheFolderOrHide) {
  for (const char* file :
       {"", ".", "./", "/a.safetensors", "../a.safetensors", "a/../b.safetensors",
        "a//b.safetensors", ".a/b.safetensors", "a/.b.safetensors", "a/.safetensors",
        "C:a.safetensors", "a.safetensors/", "a.safetensors/./", "a.bin/./.", "a.bin"})
    EXPECT_EQ(listed(file), "shard_name_refused") << file;
}

TEST(SetIndex, ReportsTheFirstFaultOfItsMap) {
  const auto fault = [](std::string_view map) {
    const test::TempDir dir;
    test::write_file(dir / "m.safetensors.index.json", str_cat(R"({"weight_map":{)", map, "}}"));
    return read_set_index(File::open(dir / "m.safetensors.index.json").value(),
                          "m.safetensors.index.json");
  };
  EXPECT_ERROR(fault(R"("a":"1.safetensors","a":"1.safetensors","b":"../x")"),
               index_duplicate_name);
  EXPECT_ERROR(fault(R"("a":"1.safetensors","a":"../x")"), index_duplicate_name);
  EXPECT_ERROR(fault(R"("a":"1.safetensors","b":"../x","a":"1.safetensors")"), shard_name_refused);
  EXPECT_ERROR(fault(R"("a":"1.safetensors","a":1)"), index_malformed);
}

// An index of so many files; the code of its error, or "ok".
std::string index_of(int files) {
  const test::TempDir dir;
  std::string map;
  for (int i = 0; i < files; ++i)
    map += str_cat(i == 0 ? "" : ",", "\"t", i, "\":\"", i, ".safetensors\"");
  test::write_file(dir / "m.safetensors.index.json", str_cat(R"({"weight_map":{)", map, "}}"));
  const auto read = read_set_index(File::open(dir / "m.safetensors.index.json").value(),
                                   "m.safetensors.index.json");
  return read ? "ok" : std::string(name(read.error().code));
}

TEST(SetIndex, NamesAtMostTenThousandFiles) {
  EXPECT_EQ(index_of(10'000), "ok");
  EXPECT_EQ(index_of(10'001), "limit_exceeded");
}

TEST(SetIndex, OfPicklesNamesPicklesOnly) {
  EXPECT_EQ(listed("a.bin", "m.bin.index.json"), "a.bin");
  EXPECT_EQ(listed("a.BIN", "M.BIN.INDEX.FP16.JSON"), "a.BIN");
  EXPECT_EQ(listed("a.safetensors", "m.bin.index.json"), "shard_name_refused");
  EXPECT_EQ(listed("a.bin", "myindex.json"), "shard_name_refused");
}

}  // namespace
}  // namespace flatbed
