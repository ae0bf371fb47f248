// Every folder of spec/vectors/series is found to be the series that the .json beside it says.
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.hpp"
#include "flatbed/series.hpp"
#include "flatbed/verify.hpp"
#include "spec/manifest.hpp"
#include "support/temp_dir.hpp"

namespace flatbed {
namespace {

using test::Folder;
using test::kVectors;
using test::Vector;

JsonDocument read_json(const Vector& vector) {
  const std::string name = std::filesystem::path(vector.path).filename().native() + ".json";
  const JsonRules rules{ErrorCode::internal_error, ErrorCode::internal_error,
                        ErrorCode::internal_error, ErrorCode::internal_error, 16};
  return *JsonDocument::parse_copy(test::read_file(kVectors / "series" / name), rules);
}

// The member of an object, which must be there.
JsonValue at(JsonValue object, std::string_view member) {
  JsonValue key = object.first();
  while (key.text() != member) key = key.member().next();
  return key.member();
}

std::optional<std::string> text_or_null(JsonValue value) {
  if (value.is_null()) return std::nullopt;
  return std::string(value.text());
}

std::optional<double> score_of(JsonValue value) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  if (value.is_null()) return std::nullopt;
  if (value.text() == "nan") return std::numeric_limits<double>::quiet_NaN();
  if (value.is_string()) return value.text() == "inf" ? kInfinity : -kInfinity;
  return value.as_real();
}

bool same_score(std::optional<double> a, std::optional<double> b) {
  if (!a || !b) return a.has_value() == b.has_value();
  return std::isnan(*a) ? std::isnan(*b) : *a == *b && std::signbit(*a) == std::signbit(*b);
}

template <typename T>
std::string code_of(const Result<T>& result) {
  return result ? "ok" : std::string(name(result.error().code));
}

std::string name_of(const SeriesEntry& entry) { return entry.path.filename().native(); }

// The name that is chosen, or nothing, for which there is one error.
std::optional<std::string> chosen(const Result<SeriesEntry>& entry) {
  if (entry) return name_of(*entry);
  EXPECT_EQ(entry.error().code, ErrorCode::step_not_found) << entry.error().message;
  return std::nullopt;
}

// What reading every byte gives.
std::string verify_entry(const SeriesEntry& entry) {
  const Result<Checkpoint> opened = Series::open_entry(entry);
  if (!opened) return code_of(opened);
  const auto report = verify(*opened);
  if (!report) return code_of(report);
  return report->damaged.empty() ? "ok" : "chunk_corrupt";
}

void expect_entry(const SeriesEntry& entry, JsonValue expected) {
  EXPECT_EQ(name_of(entry), at(expected, "name").text());
  EXPECT_EQ(entry.sequence, at(expected, "sequence").as_unsigned());
  EXPECT_EQ(entry.step, at(expected, "step").as_unsigned());
  EXPECT_TRUE(same_score(entry.score, score_of(at(expected, "score"))));
  EXPECT_EQ(entry.parent, at(expected, "parent").text());
  EXPECT_EQ(entry.saved_at, at(expected, "saved_at").as_signed());
  EXPECT_EQ(entry.epoch, at(expected, "epoch").as_signed());
  EXPECT_EQ(code_of(Series::open_entry(entry)), at(expected, "whole").text());
  EXPECT_EQ(verify_entry(entry), at(expected, "verified").text());
}

// Each name is in a note of its own, and there is no other note.
void expect_notes(const std::vector<std::string>& notes, JsonValue expected) {
  std::vector<std::string> names;
  const JsonValue skipped = at(expected, "skipped");
  for (JsonValue key = skipped.first(); !key.at_end(); key = key.member().next())
    names.emplace_back(key.text());
  const JsonValue noted = at(expected, "noted");
  for (JsonValue name = noted.first(); !name.at_end(); name = name.next())
    names.emplace_back(name.text());
  for (const std::string& name : names) {
    const auto has_name = [&](const std::string& note) {
      return note.find("/" + name) != std::string::npos;
    };
    EXPECT_TRUE(std::ranges::any_of(notes, has_name)) << name;
  }
  EXPECT_EQ(notes.empty(), names.empty()) << (notes.empty() ? "" : notes.front());
  EXPECT_LE(notes.size(), names.size());
}

std::vector<Vector> series_vectors() {
  std::vector<Vector> vectors = test::read_manifest();
  std::erase_if(vectors, [](const Vector& vector) { return vector.kind != "series"; });
  return vectors;
}

class SeriesVector : public testing::TestWithParam<Vector> {};

TEST_P(SeriesVector, IsFoundAsItsFileSays) {
  const Folder folder(GetParam());
  const JsonDocument document = read_json(GetParam());
  const JsonValue expected = document.root();
  const auto series = Series::open(folder / GetParam().path);
  ASSERT_TRUE(series) << series.error().message;
  const auto listing = series->list();
  ASSERT_TRUE(listing) << listing.error().message;
  ASSERT_EQ(listing->entries.size(), at(expected, "entries").size());
  JsonValue entry = at(expected, "entries").first();
  for (const SeriesEntry& found : listing->entries) {
    SCOPED_TRACE(found.path);
    expect_entry(found, entry);
    entry = entry.next();
  }
  EXPECT_EQ(listing->metric, text_or_null(at(expected, "metric")));
  if (listing->metric) {
    EXPECT_EQ(name(listing->mode), at(expected, "mode").text());
  }
  EXPECT_EQ(chosen(series->latest()), text_or_null(at(expected, "latest")));
  EXPECT_EQ(chosen(series->best()), text_or_null(at(expected, "best")));
  expect_notes(listing->notes, expected);
}

INSTANTIATE_TEST_SUITE_P(Manifest, SeriesVector, testing::ValuesIn(series_vectors()));

TEST(SeriesVectors, AreThere) { EXPECT_GT(series_vectors().size(), 60u); }

}  // namespace
}  // namespace flatbed
