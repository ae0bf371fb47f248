// TextPool: texts stay where they are while the pool grows and moves.
#include "io/text_pool.hpp"

#include <gtest/gtest.h>

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/str_cat.hpp"

namespace flatbed {
namespace {

TEST(TextPool, KeepsEveryTextWhereItIs) {
  TextPool pool;
  std::vector<std::string> texts{"", "a", std::string("a\0b", 3), std::string(5'000'000, 'x')};
  for (int i = 0; i < 200'000; ++i) texts.push_back(str_cat("layers.", i, ".weight"));
  std::vector<std::string_view> copies;
  for (const std::string& text : texts) copies.push_back(pool.add(text));
  const TextPool moved = std::move(pool);
  for (std::size_t i = 0; i < texts.size(); ++i) ASSERT_EQ(copies[i], texts[i]);
}

}  // namespace
}  // namespace flatbed
