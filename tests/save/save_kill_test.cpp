// save(), save_torch() and save_sidecar() killed before each of their system calls.
#include <gtest/gtest.h>

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "base/bytes.hpp"
#include "flatbed/save.hpp"
#include "flatbed/save_torch.hpp"
#include "support/expect_error.hpp"
#include "support/kill_at_call.hpp"
#include "support/temp_dir.hpp"

namespace flatbed {
namespace {

using test::Ending;
using test::read_file;
using test::run_until_call;
using test::TempDir;
using Names = std::vector<std::string>;

SavePlan small_plan(std::string_view bytes) {
  SavePlan plan;
  plan.items.push_back({"w", Dtype::u8, {bytes.size()}, as_bytes(bytes)});
  return plan;
}

// `write` writes dir / `name`. Before it, that is there with other contents, or is not.
void kill_at_each_call(const TempDir& dir, const std::string& name,
                       const std::function<bool()>& write) {
  const std::filesystem::path target = dir / name;
  ASSERT_TRUE(write());
  const std::string whole = read_file(target);
  const Names names = dir.names();
  for (const bool replaces : {false, true}) {
    Ending ending = Ending::killed;
    for (std::uint64_t n = 1; ending == Ending::killed; ++n) {
      std::filesystem::remove(target);
      if (replaces) test::write_file(target, "old");
      ending = run_until_call(n, write);
      if (ending == Ending::not_possible) GTEST_SKIP() << "no system call filters here";
      ASSERT_NE(ending, Ending::failed) << n;
      const bool there = std::filesystem::exists(target);
      const std::string contents = there ? read_file(target) : "";
      EXPECT_TRUE(contents == whole || (replaces ? contents == "old" : !there)) << n;
      ASSERT_TRUE(write());
      EXPECT_TRUE(read_file(target) == whole) << n;
      EXPECT_EQ(dir.names(), names) << n;
    }
    EXPECT_EQ(ending, Ending::finished);
  }
}

TEST(SaveKill, ASafetensorsFileIsOldOrWhole) {
  const TempDir dir;
  const std::string bytes(3 << 20, 'w');
  const SavePlan plan = small_plan(bytes);
  kill_at_each_call(dir, "a.safetensors",
                    [&] { return save(dir / "a.safetensors", plan).has_value(); });
}

TEST(SaveKill, APyTorchFileIsOldOrWhole) {
  const TempDir dir;
  const SavePlan plan = small_plan("0123456789");
  kill_at_each_call(dir, "a.pth", [&] { return save_torch(dir / "a.pth", plan).has_value(); });
}

TEST(SaveKill, ASidecarIsOldOrWhole) {
  const TempDir dir;
  const SavePlan plan = small_plan("0123456789");
  ASSERT_OK(save(dir / "a.safetensors", plan, {.seal = false}));
  kill_at_each_call(dir, "a.safetensors.flatbed.json",
                    [&] { return save_sidecar(dir / "a.safetensors").has_value(); });
}

}  // namespace
}  // namespace flatbed
