// The vectors of spec/vectors: the lines of their manifest, and the folder with their files (the
// columns are explained in spec/vectors/README.md).
#pragma once

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <ostream>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "support/temp_dir.hpp"

namespace flatbed::test {

namespace fs = std::filesystem;

inline const fs::path kVectors = FLATBED_SPEC_VECTORS_DIR;

using Row = std::map<std::string, std::string>;  // a line of a table, by column

inline std::vector<std::string> split(const std::string& line, char separator) {
  std::vector<std::string> parts;
  std::istringstream fields(line);
  for (std::string part; std::getline(fields, part, separator);) parts.push_back(part);
  return parts;
}

inline std::vector<Row> read_table(const char* name) {
  std::ifstream file(kVectors / name);
  std::vector<Row> rows;
  std::string line;
  std::getline(file, line);
  const std::vector<std::string> columns = split(line, '\t');
  while (std::getline(file, line)) {
    const std::vector<std::string> fields = split(line, '\t');
    Row& row = rows.emplace_back();
    for (std::size_t i = 0; i < columns.size(); ++i) row[columns[i]] = fields.at(i);
  }
  return rows;
}

struct Vector {
  std::string path, kind, expect, cause, where, options;

  // Whether `found` is the result, or one of the errors that are all right (E1).
  [[nodiscard]] bool expects(std::string_view found) const {
    return std::ranges::count(split(expect, '|'), found) > 0;
  }
  // The value of "key=value" among the options; empty if there is none.
  [[nodiscard]] std::string option(const std::string& key) const {
    for (const std::string& part : split(options, ' ')) {
      if (part.starts_with(key + "=")) return part.substr(key.size() + 1);
    }
    return {};
  }
};

inline std::vector<Vector> read_manifest() {
  std::vector<Vector> vectors;
  for (const Row& row : read_table("manifest.tsv")) {
    vectors.push_back({row.at("path"), row.at("kind"), row.at("expect"), row.at("cause"),
                       row.at("where"), row.at("options")});
  }
  return vectors;
}

// Keeps gtest from naming the tests by number alone.
inline void PrintTo(const Vector& vector, std::ostream* out) { *out << vector.path; }

// The folder of a vector: that of the checkout, or one in which the files of made.tsv that belong
// to the vector were made.
class Folder {
 public:
  explicit Folder(const Vector& vector) {
    if (!vector.path.starts_with("made/")) return;
    root_ = scratch_.path();
    for (const char* name : {"valid", "shards", "sidecar", "series"})
      fs::create_directory_symlink(kVectors / name, root_ / name);
    const bool alone = fs::path(vector.path).parent_path() == "made";
    const std::string stem =
        alone ? vector.path : fs::path(vector.path).parent_path().native() + "/";
    for (const Row& row : read_table("made.tsv")) {
      if (row.at("path").starts_with(stem)) make(row);
    }
  }

  [[nodiscard]] fs::path operator/(const std::string& path) const { return root_ / path; }

 private:
  void make(const Row& row) const {
    const fs::path path = root_ / row.at("path");
    fs::create_directories(path.parent_path());
    const std::string& how = row.at("how");
    if (how == "link") return fs::create_symlink(row.at("source"), path);
    if (how == "fifo") {
      ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0);
      return;
    }
    fs::copy_file(root_ / row.at("source"), path);
    if (how != "fill") return;
    const std::size_t missing = std::stoul(row.at("size")) - fs::file_size(path);
    std::ofstream(path, std::ios::binary | std::ios::app) << std::string(missing, ' ');
  }

  TempDir scratch_;
  fs::path root_ = kVectors;
};

}  // namespace flatbed::test
