// TextList: every text that was added, in its place.
#include "io/text_list.hpp"

#include <gtest/gtest.h>

#include <string>

namespace flatbed {
namespace {

TEST(TextList, GivesBackWhatWasAdded) {
  TextList texts;
  texts.add("weight");
  texts.add("");
  texts.add(std::string_view("a\0b", 3));
  ASSERT_EQ(texts.size(), 3u);
  EXPECT_EQ(texts[0], "weight");
  EXPECT_EQ(texts[1], "");
  EXPECT_EQ(texts[2], std::string_view("a\0b", 3));
}

TEST(TextList, GrowsPastWhatWasReserved) {
  TextList texts;
  texts.reserve(1);
  for (int i = 0; i < 10'000; ++i) texts.add(std::to_string(i) + std::string(100, '.'));
  EXPECT_EQ(texts.size(), 10'000u);
  EXPECT_EQ(texts[9'999].substr(0, 5), "9999.");
}

}  // namespace
}  // namespace flatbed
