// save_set() killed before each of its system calls: the old set or the new one is there, whole.
#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "base/bytes.hpp"
#include "flatbed/save_set.hpp"
#include "support/expect_error.hpp"
#include "support/kill_at_call.hpp"
#include "support/temp_dir.hpp"

namespace flatbed {
namespace {

using test::Ending;
using test::run_until_call;
using test::TempDir;
using Names = std::vector<std::string>;

SavePlan plan_of(std::string_view bytes) {
  SavePlan plan;
  for (std::size_t i = 0; i < bytes.size(); i += 4)
    plan.items.push_back({"w" + std::to_string(i), Dtype::u8, {4}, as_bytes(bytes.substr(i, 4))});
  return plan;
}

bool holds(const std::filesystem::path& folder, const SavePlan& plan) {
  const auto state = compare_set_output(folder, plan, {.max_shard_nbytes = 4}, CompareData::all);
  return state && state->kind == OutputKind::up_to_date;
}

void kill_at_each_call(bool replaces) {
  const TempDir dir;
  const SavePlan old_plan = plan_of("old 1234");
  const SavePlan new_plan = plan_of("new 12345678");
  const std::filesystem::path set = dir / "set";
  const auto write = [&] {
    return save_set(set, new_plan, {.max_shard_nbytes = 4, .replace = true}).has_value();
  };
  Ending ending = Ending::killed;
  for (std::uint64_t n = 1; ending == Ending::killed; ++n) {
    std::filesystem::remove_all(set);
    if (replaces) {
      ASSERT_OK(save_set(set, old_plan, {.max_shard_nbytes = 4}));
    }
    ending = run_until_call(n, write);
    if (ending == Ending::not_possible) GTEST_SKIP() << "no system call filters here";
    ASSERT_NE(ending, Ending::failed) << n;
    const bool is_old = replaces ? holds(set, old_plan) : !std::filesystem::exists(set);
    EXPECT_TRUE(is_old || holds(set, new_plan)) << n;
    ASSERT_TRUE(write()) << n;
    EXPECT_TRUE(holds(set, new_plan)) << n;
    EXPECT_EQ(dir.names(), Names{"set"}) << n;
  }
  EXPECT_EQ(ending, Ending::finished);
}

TEST(SaveSetKill, ANewSetIsAbsentOrWhole) { kill_at_each_call(false); }

TEST(SaveSetKill, AReplacedSetIsOldOrNew) { kill_at_each_call(true); }

}  // namespace
}  // namespace flatbed
