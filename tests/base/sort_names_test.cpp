// sort_names(): the order of std::sort, whatever names have in common.
#include "base/sort_names.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "base/str_cat.hpp"

namespace flatbed {
namespace {

std::vector<std::string> sorted(const std::vector<std::string>& texts) {
  std::vector<NumberedName> names;
  for (std::uint32_t i = 0; i < texts.size(); ++i) names.push_back({texts[i], i});
  sort_names(names);
  std::vector<std::string> order;
  for (const NumberedName& entry : names) {
    EXPECT_EQ(texts[entry.number], entry.name);
    order.emplace_back(entry.name);
  }
  return order;
}

void expect_sorted(std::vector<std::string> texts) {
  const std::vector<std::string> found = sorted(texts);
  std::ranges::sort(texts);
  EXPECT_EQ(found, texts);
}

TEST(SortNames, SortsNamesThatBeginAlike) {
  std::vector<std::string> texts{"lm_head.weight", "model.norm"};
  for (int layer = 0; layer < 300; ++layer) {
    for (const char* const part : {"q_proj", "k_proj", "mlp.up", "mlp.up.bias"})
      texts.push_back(str_cat("model.layers.", layer, ".self_attention.", part, ".weight"));
  }
  expect_sorted(texts);
  std::ranges::sort(texts);
  expect_sorted(texts);
}

// As of layers without gaps: 0 to 9, 10 to 99 and so on, in one run each.
TEST(SortNames, MergesAscendingRuns) {
  for (int count = 1; count <= 12; ++count) {
    std::vector<std::string> texts;
    for (int run = count; run-- > 0;) {
      for (int i = 0; i < 10 + run; ++i) texts.push_back(str_cat(run, ".", i + 100));
    }
    expect_sorted(texts);
  }
  std::vector<std::string> numbers;
  for (int i = 0; i < 12'000; ++i) numbers.push_back(str_cat("block.", i, ".weight"));
  expect_sorted(numbers);
}

// An end and a NUL are the same key, and have an order.
TEST(SortNames, SortsNamesThatEndInsideAKey) {
  std::vector<std::string> texts;
  for (std::size_t nbytes = 0; nbytes < 40; ++nbytes) {
    texts.push_back(std::string(nbytes, '\0'));
    texts.push_back(std::string(nbytes, 'x'));
    texts.push_back(std::string(nbytes, 'x') + std::string(1, '\0'));
    texts.push_back(std::string(nbytes, 'x') + "\xff");
  }
  std::ranges::reverse(texts);
  expect_sorted(texts);
}

TEST(SortNames, TakesEqualNamesAndNone) {
  expect_sorted({});
  expect_sorted({"a"});
  expect_sorted(std::vector<std::string>(50, "the same name"));
  std::vector<std::string> pairs;
  for (int i = 50; i-- > 0;) pairs.insert(pairs.end(), 2, str_cat("name.", i));
  expect_sorted(pairs);
}

}  // namespace
}  // namespace flatbed
