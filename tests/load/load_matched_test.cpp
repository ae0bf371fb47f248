// plan_matched(): the load of what match() found.
#include "flatbed/load_matched.hpp"

#include <gtest/gtest.h>

#include <array>
#include <string>
#include <vector>

#include "flatbed/load.hpp"
#include "flatbed/save.hpp"
#include "support/expect_message.hpp"
#include "support/temp_dir.hpp"

namespace flatbed {
namespace {

using test::expect_error;
using test::TempDir;
using Shape = std::vector<std::uint64_t>;

constexpr std::array<float, 3> kValues{1, 2, 3};

// Tensors a [3], b [1] and module.c [3] of kValues.
Checkpoint saved(const TempDir& dir) {
  SavePlan plan;
  const auto bytes = std::as_bytes(std::span(kValues));
  plan.items = {{"a", Dtype::f32, {3}, bytes},
                {"b", Dtype::f32, {1}, bytes.first(4)},
                {"module.c", Dtype::f32, {3}, bytes}};
  static_cast<void>(save(dir / "a", plan, {.sync = false}).value());
  return Checkpoint::open(dir / "a").value();
}

TEST(PlanMatched, LoadsWhatMatchesToTheDestinationOfTheSameNumber) {
  const TempDir dir;
  const Checkpoint checkpoint = saved(dir);
  const std::vector<Expected> expected{{"none"}, {"a", Shape{3}, Dtype::f32}, {"b", Shape{7}}};
  const MatchReport report = match(checkpoint, expected).value();
  std::array<float, 3> memory{};
  std::vector<Destination> destinations(3);
  destinations[1] = {.data = memory.data(), .capacity = sizeof memory};
  const LoadPlan plan = plan_matched(checkpoint, expected, report, destinations).value();
  EXPECT_EQ(plan.size(), 1u);
  ASSERT_OK(load(plan));
  EXPECT_EQ(memory, kValues);
}

TEST(PlanMatched, LoadsUnderTheNamesOfTheFileAfterAReadySet) {
  const TempDir dir;
  const Checkpoint checkpoint = saved(dir);
  const std::vector<Expected> expected{{"c", Shape{3}}};
  const MatchReport report = match(checkpoint, expected, {.ready_sets = true}).value();
  ASSERT_TRUE(report.applied);
  std::array<float, 3> memory{};
  const std::array<Destination, 1> to{
      Destination{.data = memory.data(), .capacity = sizeof memory}};
  ASSERT_OK(load(plan_matched(checkpoint, expected, report, to).value()));
  EXPECT_EQ(memory, kValues);
}

TEST(PlanMatched, LoadsATensorOfShapeOneAsAScalar) {
  const TempDir dir;
  const Checkpoint checkpoint = saved(dir);
  const std::vector<Expected> expected{{"b", Shape{}, Dtype::f32}};
  const MatchReport report = match(checkpoint, expected, {.meaning = MatchMeaning::torch}).value();
  float memory = 0;
  const std::array<Destination, 1> to{Destination{.data = &memory, .capacity = sizeof memory}};
  ASSERT_OK(load(plan_matched(checkpoint, expected, report, to).value()));
  EXPECT_EQ(memory, 1);
}

TEST(PlanMatched, RefusesTheFirstElementOfMoreAsAScalar) {
  const TempDir dir;
  const Checkpoint checkpoint = saved(dir);
  const std::vector<Expected> expected{{"a", Shape{}}};
  MatchReport report;
  report.matched = {{0, 0}};
  float memory = 0;
  const std::array<Destination, 1> to{Destination{.data = &memory, .capacity = sizeof memory}};
  EXPECT_ERROR(plan_matched(checkpoint, expected, report, to), load_mismatch);
}

TEST(PlanMatched, CastsToTheExpectedDtype) {
  const TempDir dir;
  const Checkpoint checkpoint = saved(dir);
  const std::vector<Expected> expected{{"a", Shape{3}, Dtype::f64}};
  const MatchReport report = match(checkpoint, expected).value();
  ASSERT_EQ(report.matched.size(), 1u);
  std::array<double, 3> memory{};
  const std::array<Destination, 1> to{
      Destination{.data = memory.data(), .capacity = sizeof memory}};
  const LoadReport loaded = load(plan_matched(checkpoint, expected, report, to).value()).value();
  EXPECT_EQ(memory[0], 1.0);
  EXPECT_EQ(loaded.casts.tensors, 1u);
}

TEST(PlanMatched, NamesATensorThatCannotBeCast) {
  const TempDir dir;
  const Checkpoint checkpoint = saved(dir);
  const std::vector<Expected> expected{{"a", Shape{3}, Dtype::i32}};
  const MatchReport report = match(checkpoint, expected).value();
  std::array<std::int32_t, 3> memory{};
  const std::array<Destination, 1> to{
      Destination{.data = memory.data(), .capacity = sizeof memory}};
  expect_error(plan_matched(checkpoint, expected, report, to), ErrorCode::invalid_argument, "'a'");
}

TEST(PlanMatched, RefusesWhatDoesNotBelongTogether) {
  const TempDir dir;
  const Checkpoint checkpoint = saved(dir);
  const std::vector<Expected> expected{{"a"}};
  const MatchReport report = match(checkpoint, expected).value();
  expect_error(plan_matched(checkpoint, expected, report, {}), ErrorCode::invalid_argument,
               "found 0, expected 1");
  MatchReport other;
  other.matched = {{0, 99}};
  const std::array<Destination, 1> to{};
  expect_error(plan_matched(checkpoint, expected, other, to), ErrorCode::invalid_argument,
               "not of this checkpoint");
}

}  // namespace
}  // namespace flatbed
