// ByteSource: what its defaults do, and the two sources that are no files: memory, and a source of
// somebody else's held to its word.
#include "flatbed/byte_source.hpp"

#include <gtest/gtest.h>

#include <array>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/bytes.hpp"
#include "io/guarded_source.hpp"
#include "io/mapped_file.hpp"
#include "io/memory_source.hpp"
#include "support/expect_error.hpp"
#include "support/faulty_source.hpp"

namespace flatbed {
namespace {

using test::Faults;
using test::FaultySource;

std::span<std::byte> bytes_of(std::string& text) { return std::as_writable_bytes(std::span(text)); }

struct Guarded {
  std::shared_ptr<Faults> faults = std::make_shared<Faults>();
  std::shared_ptr<const ByteSource> source =
      GuardedSource::wrap(std::make_shared<FaultySource>("0123456789", "s3://a", faults)).value();
};

TEST(ByteSource, HasNeitherMemoryNorDescriptorUnlessItSaysSo) {
  const FaultySource source("0123456789", "s3://a", std::make_shared<Faults>());
  EXPECT_TRUE(source.memory().empty());
  EXPECT_FALSE(source.descriptor().value());
  EXPECT_EQ(source.preferred_read_nbytes(), 262'144u);
  EXPECT_OK(source.check_unchanged());
  EXPECT_ERROR(MappedFile::map(source), not_viewable);
}

TEST(ByteSource, ReadsPartsOneAfterTheOther) {
  const auto faults = std::make_shared<Faults>();
  const FaultySource source("0123456789", "s3://a", faults);
  std::string a(2, '?'), b(3, '?');
  ASSERT_OK(source.read_parts(4, std::array{bytes_of(a), bytes_of(b)}));
  EXPECT_EQ(a + b, "45678");
  EXPECT_EQ(faults->reads, 2u);
}

TEST(ByteSource, ReportsAllBytesAtTheEndUnlessItDoesBetter) {
  const FaultySource source("0123456789", "s3://a", std::make_shared<Faults>());
  std::string a(2, '?'), b(3, '?');
  std::vector<std::uint64_t> reported;
  const auto note = [&](std::uint64_t nbytes) -> Result<void> {
    EXPECT_EQ(a + b, "45678");
    reported.push_back(nbytes);
    return {};
  };
  ASSERT_OK(source.read_with_progress(4, std::array{bytes_of(a), bytes_of(b)}, note));
  EXPECT_EQ(reported, std::vector<std::uint64_t>{5});
}

TEST(ByteSource, ReportsNothingOfAReadThatFails) {
  const auto faults = std::make_shared<Faults>();
  faults->fail_at = 2;
  const FaultySource source("0123456789", "s3://a", faults);
  std::string a(2, '?'), b(3, '?');
  const auto note = [](std::uint64_t) -> Result<void> {
    ADD_FAILURE();
    return {};
  };
  EXPECT_ERROR(source.read_with_progress(4, std::array{bytes_of(a), bytes_of(b)}, note), io_error);
}

TEST(MemorySource, ReadsWhatItBorrows) {
  const MemorySource source(as_bytes("0123456789"), "blob");
  std::string out(3, '?');
  ASSERT_OK(source.read_at(7, bytes_of(out)));
  EXPECT_EQ(out, "789");
  EXPECT_EQ(as_text(source.memory()), "0123456789");
  const Result<void> beyond = source.read_at(8, bytes_of(out));
  EXPECT_ERROR(beyond, invalid_argument);
  EXPECT_NE(beyond.error().message.find("'blob'"), std::string::npos);
}

TEST(GuardedSource, NamesTheLabelInEveryError) {
  const Guarded guarded;
  std::string out(3, '?');
  guarded.faults->fail_at = 1;
  const Result<void> failed = guarded.source->read_at(0, bytes_of(out));
  EXPECT_ERROR(failed, io_error);
  EXPECT_EQ(failed.error().message, "'s3://a': the line went dead");
  guarded.faults->changed = true;
  EXPECT_EQ(guarded.source->check_unchanged().error().message,
            "'s3://a': another version is there");
}

TEST(GuardedSource, AsksForNothingBeyondTheSize) {
  const Guarded guarded;
  std::string out(3, '?');
  EXPECT_ERROR(guarded.source->read_at(8, bytes_of(out)), invalid_argument);
  EXPECT_ERROR(guarded.source->read_parts(7, std::array{bytes_of(out), bytes_of(out)}),
               invalid_argument);
  EXPECT_ERROR(guarded.source->read_at(UINT64_MAX, bytes_of(out)), invalid_argument);
  EXPECT_EQ(guarded.faults->reads, 0u);
}

TEST(GuardedSource, KeepsTheSizeThatItBeganWith) {
  const Guarded guarded;
  guarded.faults->shrink_at = 1;
  std::string out(3, '?');
  EXPECT_OK(guarded.source->read_at(0, bytes_of(out)));
  EXPECT_EQ(guarded.source->size(), 10u);
  EXPECT_ERROR(guarded.source->read_at(7, bytes_of(out)), file_changed);
  EXPECT_ERROR(guarded.source->check_unchanged(), file_changed);
}

// Reports what it is told to.
class Reporter final : public ByteSource {
 public:
  explicit Reporter(std::vector<std::uint64_t> reports) : reports_(std::move(reports)) {}
  [[nodiscard]] std::string_view label() const noexcept override { return "far"; }
  [[nodiscard]] std::uint64_t size() const noexcept override { return 10; }
  [[nodiscard]] Result<void> read_at(std::uint64_t, std::span<std::byte>) const override {
    return {};
  }
  [[nodiscard]] Result<void> read_with_progress(std::uint64_t,
                                                std::span<const std::span<std::byte>>,
                                                const ReadProgress& progress) const override {
    // It does not care what the reader says, and goes on.
    for (const std::uint64_t nbytes : reports_) static_cast<void>(progress(nbytes));
    return {};
  }

 private:
  std::vector<std::uint64_t> reports_;
};

// What a reader of 6 bytes is told, who refuses to go on from `stop` bytes on.
Result<std::vector<std::uint64_t>> reports_of(std::vector<std::uint64_t> reports,
                                              std::uint64_t stop = 100) {
  FLATBED_ASSIGN(const auto source,
                 GuardedSource::wrap(std::make_shared<Reporter>(std::move(reports))));
  std::string a(2, '?'), b(4, '?');
  std::vector<std::uint64_t> out;
  const auto note = [&](std::uint64_t nbytes) -> Result<void> {
    out.push_back(nbytes);
    if (nbytes >= stop) return Error{ErrorCode::cancelled, "enough"};
    return {};
  };
  FLATBED_TRY(source->read_with_progress(1, std::array{bytes_of(a), bytes_of(b)}, note));
  return out;
}

TEST(GuardedSource, PassesOnReportsThatIncreaseAndCompletesThem) {
  EXPECT_EQ(reports_of({1, 5, 6}).value(), (std::vector<std::uint64_t>{1, 5, 6}));
  EXPECT_EQ(reports_of({0, 3, 3, 2, 4}).value(), (std::vector<std::uint64_t>{3, 4, 6}));
  EXPECT_EQ(reports_of({}).value(), std::vector<std::uint64_t>{6});
}

TEST(GuardedSource, RefusesReportsOfBytesThatWereNotAskedFor) {
  const auto read = reports_of({3, 7, 6});
  EXPECT_ERROR(read, invalid_argument);
  EXPECT_EQ(read.error().message,
            "'far': the source reports bytes that it was not asked for: found 7 bytes, expected "
            "at most 6");
}

TEST(GuardedSource, EndsAReadWithTheErrorOfItsReader) {
  const auto read = reports_of({1, 3, 4, 6}, 3);
  EXPECT_ERROR(read, cancelled);
  EXPECT_EQ(read.error().message, "enough");
}

class TwoSizes final : public ByteSource {
  [[nodiscard]] std::string_view label() const noexcept override { return "two"; }
  [[nodiscard]] std::uint64_t size() const noexcept override { return 5; }
  [[nodiscard]] Result<void> read_at(std::uint64_t, std::span<std::byte>) const override {
    return {};
  }
  [[nodiscard]] std::span<const std::byte> memory() const noexcept override {
    return as_bytes("0123");
  }
};

TEST(GuardedSource, RefusesNoSourceAndMemoryOfAnotherSize) {
  EXPECT_ERROR(GuardedSource::wrap(nullptr), invalid_argument);
  EXPECT_ERROR(GuardedSource::wrap(std::make_shared<TwoSizes>()), invalid_argument);
}

}  // namespace
}  // namespace flatbed
