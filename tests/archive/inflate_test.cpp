// InflateReader: any range in any order, and streams that are not what their entry says.
#include "archive/inflate.hpp"

#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

#include "base/bytes.hpp"
#include "support/bytes_source.hpp"
#include "support/expect_error.hpp"
#include "support/zip_builder.hpp"

namespace flatbed::pth {
namespace {

// A file that holds `record` after four other bytes.
struct RecordFile {
  explicit RecordFile(const std::string& record) : file("head" + record + "tail") {}
  test::BytesSource file;
};

// Numbers that deflate halves, each at its own place.
std::string numbers(std::size_t nbytes) {
  std::string out;
  for (std::uint32_t i = 0; out.size() < nbytes; ++i) out += test::le(i * 2654435761U >> 8, 4);
  out.resize(nbytes);
  return out;
}

TEST(InflateReader, ReadsAnyRangeInAnyOrder) {
  const std::string data = numbers(300'000);
  const std::string stored = test::deflated(data);
  const RecordFile at(stored);
  Result<InflateReader> reader = InflateReader::open(at.file, {4, stored.size(), data.size()});
  ASSERT_OK(reader);
  std::mt19937 random(7);
  for (int i = 0; i < 200; ++i) {
    const std::size_t offset = random() % data.size();
    std::vector<std::byte> out(random() % (data.size() - offset + 1));
    ASSERT_OK(reader->read(offset, out));
    ASSERT_TRUE(as_text(out) == std::string_view(data).substr(offset, out.size()))
        << offset << " " << out.size();
  }
}

// 200 states would be due; the 64 kept ones are thinned out on the way.
TEST(InflateReader, JumpsInARecordWithMoreStatesThanItKeeps) {
  constexpr std::uint64_t kInterval = 8 * 1024;
  const std::string data = numbers(200 * kInterval + 17);
  const std::string stored = test::deflated(data);
  const RecordFile at(stored);
  Result<InflateReader> reader =
      InflateReader::open(at.file, {4, stored.size(), data.size()}, kInterval);
  ASSERT_OK(reader);
  for (const std::uint64_t state : {199U, 0U, 180U, 100U, 101U, 3U, 200U, 1U}) {
    std::vector<std::byte> out(17);
    ASSERT_OK(reader->read(state * kInterval, out));
    EXPECT_TRUE(as_text(out) == data.substr(state * kInterval, 17)) << state;
  }
}

TEST(InflateReader, ChecksTheEndWhenItReadsUpToIt) {
  const std::string data = numbers(1000);
  const std::string stored = test::deflated(data);
  const auto read_all = [](const std::string& record, std::uint64_t nbytes) -> Result<void> {
    const RecordFile at(record);
    FLATBED_ASSIGN(InflateReader reader, InflateReader::open(at.file, {4, record.size(), nbytes}));
    std::vector<std::byte> out(nbytes);
    return reader.read(0, out);
  };
  EXPECT_OK(read_all(stored, 1000));
  EXPECT_ERROR(read_all(stored, 999), zip_deflate_malformed);
  EXPECT_ERROR(read_all(stored, 1001), zip_deflate_malformed);
  EXPECT_ERROR(read_all(stored + "x", 1000), zip_deflate_malformed);
  for (std::size_t size = 0; size < stored.size(); ++size)
    EXPECT_ERROR(read_all(stored.substr(0, size), 1000), zip_deflate_malformed) << size;
  EXPECT_OK(read_all(test::deflated(""), 0));
  EXPECT_ERROR(read_all(test::deflated("a"), 0), zip_deflate_malformed);
}

TEST(InflateReader, GoesOnAfterAnError) {
  const std::string data = numbers(1000);
  const std::string stored = test::deflated(data);
  const RecordFile at(stored);
  InflateReader reader = InflateReader::open(at.file, {4, stored.size(), 900}).value();
  std::vector<std::byte> out(900);
  EXPECT_ERROR(reader.read(0, out), zip_deflate_malformed);
  out.resize(100);
  ASSERT_OK(reader.read(50, out));
  EXPECT_TRUE(as_text(out) == data.substr(50, 100));
}

TEST(InflateReader, RefusesRangesOutsideAndImpossibleRatios) {
  const std::string stored = test::deflated("hello");
  const RecordFile at(stored);
  InflateReader reader = InflateReader::open(at.file, {4, stored.size(), 5}).value();
  std::vector<std::byte> out(3);
  EXPECT_OK(reader.read(2, out));
  EXPECT_ERROR(reader.read(3, out), invalid_argument);
  EXPECT_ERROR(reader.read(~std::uint64_t{0}, out), invalid_argument);
  EXPECT_ERROR(InflateReader::open(at.file, {4, stored.size(), 1 << 20}), zip_deflate_malformed);
  EXPECT_ERROR(InflateReader::open(at.file, {4, stored.size() + 5, 5}), zip_out_of_bounds);
  EXPECT_ERROR(InflateReader::open(at.file, {~std::uint64_t{0}, 1, 5}), zip_out_of_bounds);
}

}  // namespace
}  // namespace flatbed::pth
