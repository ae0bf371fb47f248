// Processors of NUMA nodes, by a sysfs made up here, and threads that stay on some.
#include "io/numa.hpp"

#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <string_view>
#include <thread>

#include "support/temp_dir.hpp"

namespace flatbed {
namespace {

using test::TempDir;

struct Sysfs {
  TempDir dir;
  void add(int node, std::string_view list) const {
    const std::filesystem::path folder =
        dir / "devices" / "system" / "node" / ("node" + std::to_string(node));
    std::filesystem::create_directories(folder);
    test::write_file(folder / "cpulist", list);
  }
  [[nodiscard]] Processors of(std::string_view list) const {
    add(0, list);
    return processors_of_node(0, dir.path());
  }
};

std::string list_of(const Processors& processors) {
  std::string out;
  for (const unsigned each : processors) out += (out.empty() ? "" : ",") + std::to_string(each);
  return out;
}

TEST(Numa, ReadsTheProcessorsOfANode) {
  const Sysfs sysfs;
  EXPECT_EQ(sysfs.of("0-3\n"), (Processors{0, 1, 2, 3}));
  EXPECT_EQ(sysfs.of("0-1,8-9,1023\n"), (Processors{0, 1, 8, 9, 1023}));
  EXPECT_EQ(sysfs.of("7"), (Processors{7}));
  sysfs.add(12, "5\n");
  EXPECT_EQ(processors_of_node(12, sysfs.dir.path()), (Processors{5}));
}

TEST(Numa, KnowsNothingOfWhatItDoesNotUnderstand) {
  const Sysfs sysfs;
  for (const std::string_view list :
       {"", "\n", "-1", "0-", "3-1", "0,", ",0", "0 1", "0-3x", "1,0", "0-3,3", "1024",
        "0-99999999", "99999999999999999999", "0x1"}) {
    EXPECT_EQ(sysfs.of(list), Processors{}) << list;
  }
  EXPECT_EQ(sysfs.of(std::string(5000, '1')), Processors{});
  EXPECT_EQ(processors_of_node(1, sysfs.dir.path()), Processors{});
  EXPECT_EQ(processors_of_node(-1, sysfs.dir.path()), Processors{});
}

// Of the machine: it has at least the processor that this thread runs on.
TEST(Numa, StaysOnTheNodeUnlessSomebodyHasDecided) {
  const Processors mine = processors_of_thread();
  ASSERT_FALSE(mine.empty());
  const Sysfs sysfs;
  sysfs.add(0, list_of(mine));
  const auto all = static_cast<unsigned>(mine.size());
  EXPECT_EQ(processors_to_stay_on(0, all, sysfs.dir.path()), mine);
  EXPECT_EQ(processors_to_stay_on(0, all + 1, sysfs.dir.path()), Processors{});
  EXPECT_EQ(processors_to_stay_on(1, 1, sysfs.dir.path()), Processors{});
  Processors more = mine;
  more.push_back(1023);  // which this thread may not use
  sysfs.add(2, list_of(more));
  EXPECT_EQ(processors_to_stay_on(2, 1, sysfs.dir.path()), Processors{});
}

TEST(Numa, KeepsAThreadAndThoseThatItStarts) {
  const Processors mine = processors_of_thread();
  ASSERT_FALSE(mine.empty());
  std::thread([&] {
    EXPECT_TRUE(stay_on({mine.back()}));
    EXPECT_EQ(processors_of_thread(), Processors{mine.back()});
    std::thread([&] { EXPECT_EQ(processors_of_thread(), Processors{mine.back()}); }).join();
    EXPECT_FALSE(stay_on({}));
    EXPECT_EQ(processors_of_thread(), Processors{mine.back()});
  }).join();
  EXPECT_EQ(processors_of_thread(), mine);
}

}  // namespace
}  // namespace flatbed
