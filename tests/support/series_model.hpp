// Small checkpoints for the tests of series: plans, and files that state whatever a test wants.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/bytes.hpp"
#include "flatbed/save_plan.hpp"
#include "flatbed/series.hpp"
#include "save/save_in_series.hpp"
#include "series/statement.hpp"
#include "support/expect_error.hpp"

namespace flatbed::test {

// One tensor of these bytes, which the plan borrows.
inline SavePlan plan_of(std::string_view bytes) {
  SavePlan plan;
  plan.items.push_back({"w", Dtype::u8, {bytes.size()}, as_bytes(bytes)});
  return plan;
}

inline SavePlan small_plan() { return plan_of("0123456789"); }

// Several tensors of four bytes, for sets.
inline SavePlan parts_of(std::string_view bytes) {
  SavePlan plan;
  for (std::size_t i = 0; i < bytes.size(); i += 4)
    plan.items.push_back({"w" + std::to_string(i), Dtype::u8, {4}, as_bytes(bytes.substr(i, 4))});
  return plan;
}

inline Statement statement_of(std::uint64_t sequence, std::uint64_t step,
                              std::optional<double> score = std::nullopt) {
  Statement statement{.sequence = sequence, .step = step, .score = score};
  if (score) statement.metric = "loss";
  return statement;
}

// A checkpoint that states this, under any name.
inline void put(const std::filesystem::path& path, const Statement& statement,
                const SavePlan& plan = small_plan()) {
  const Result<std::string> text = encode_statement(statement);
  ASSERT_OK(text);
  ASSERT_OK(save_in_series(path, plan, {.sync = false}, *text));
}

inline void put_set(const std::filesystem::path& folder, const Statement& statement,
                    const SavePlan& plan = parts_of("01234567")) {
  const Result<std::string> text = encode_statement(statement);
  ASSERT_OK(text);
  ASSERT_OK(
      save_set_in_series(folder, plan, {.max_shard_nbytes = 4, .file = {.sync = false}}, *text));
}

inline Series open_series(const std::filesystem::path& folder, const SeriesOptions& options = {}) {
  Result<Series> series = Series::open(folder, options);
  EXPECT_OK(series);
  return *std::move(series);
}

inline std::vector<std::uint64_t> steps_of(const std::vector<SeriesEntry>& entries) {
  std::vector<std::uint64_t> steps;
  for (const SeriesEntry& entry : entries) steps.push_back(entry.step);
  return steps;
}

// The steps that the folder lists, in order.
inline std::vector<std::uint64_t> steps_in(const std::filesystem::path& folder) {
  const Result<SeriesListing> listing = open_series(folder).list();
  EXPECT_OK(listing);
  return listing ? steps_of(listing->entries) : std::vector<std::uint64_t>();
}

inline std::uint64_t latest_step(const std::filesystem::path& folder) {
  const Result<SeriesEntry> latest = open_series(folder).latest();
  EXPECT_OK(latest);
  return latest ? latest->step : UINT64_MAX;
}

}  // namespace flatbed::test
