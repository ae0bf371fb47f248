// listed(): what ZipArchive says is in a zip that a test built; kTwo, the zip that most of these
// tests change in one place.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "archive/zip_archive.hpp"
#include "base/bytes.hpp"
#include "support/bytes_source.hpp"
#include "support/zip_builder.hpp"

namespace flatbed::pth {

using test::build_zip;
using test::ZipEnding;
using test::ZipItem;

// Names and contents as the archive gives them, "name=contents;" each.
inline Result<std::string> listed(const std::string& bytes) {
  const test::BytesSource file(bytes);
  FLATBED_ASSIGN(const ZipArchive archive, ZipArchive::open(file));
  std::string out;
  for (const ZipEntry& entry : archive.entries()) {
    EXPECT_EQ(archive.find(entry.name), &entry);
    FLATBED_ASSIGN(const ByteBuffer contents, read_entry(file, entry, 1 << 20));
    out += std::string(entry.name) + "=" + std::string(as_text(contents)) + ";";
  }
  return out;
}

inline Result<std::string> listed(const std::vector<ZipItem>& items, const ZipEnding& ending = {}) {
  return listed(build_zip(items, ending));
}

inline const std::vector<ZipItem> kTwo = {{.name = "a/x", .data = "one"},
                                          {.name = "a/y", .data = "three"}};
inline constexpr const char* kTwoListed = "a/x=one;a/y=three;";

// kTwo with its first entry changed.
template <typename Change>
std::vector<ZipItem> with(Change change) {
  std::vector<ZipItem> items = kTwo;
  change(items[0]);
  return items;
}

}  // namespace flatbed::pth
