// scan_script_code(): the heads of classes and two lists, out of code that may be anything.
#include "torch/script_code.hpp"

#include <gtest/gtest.h>

#include <chrono>
#include <string>

#include "support/cpu_time.hpp"

namespace flatbed::pth {
namespace {

using std::string;
using Names = std::vector<string>;

const ScriptClass* find(const std::optional<std::vector<ScriptClass>>& classes,
                        std::string_view name) {
  for (const ScriptClass& type : *classes) {
    if (type.name == name) return &type;
  }
  return nullptr;
}

// The parameters of the one class in `list`'s place, or "refused".
Names parameters(const string& list) {
  const auto classes = scan_script_code("class A(Module):\n  __parameters__ = " + list + "\n");
  return classes ? classes->at(0).parameters : Names{"refused"};
}

const Names kRefused{"refused"};

TEST(ScriptCode, SaysWhatAClassDeclares) {
  const auto classes = scan_script_code(
      "class Linear(Module):\n"
      "  __parameters__ = [\"weight\", \"bias\", ]\n"
      "  __buffers__ = [\"scale\", ]\n"
      "  weight : Tensor\n"
      "  __annotations__[\"0\"] = __torch__.Inner\n"
      "  in_features : Final[int] = 3\n"
      "  def forward(self: __torch__.Linear,\n"
      "    x: Tensor) -> Tensor:\n"
      "    return torch.linear(x, self.weight)\n"
      "class Pair(NamedTuple):\n"
      "  a : int\n"
      "class Plain:\n"
      "  b : int\n");
  ASSERT_TRUE(classes);
  ASSERT_EQ(classes->size(), 3u);
  EXPECT_TRUE(classes->at(0).module);
  EXPECT_EQ(classes->at(0).parameters, (Names{"bias", "weight"})) << "sorted";
  EXPECT_EQ(classes->at(0).buffers, Names{"scale"});
  EXPECT_TRUE(classes->at(0).lists_buffers);
  EXPECT_FALSE(classes->at(0).makes_state);
  EXPECT_EQ(classes->at(1).name, "Pair");
  EXPECT_FALSE(classes->at(1).module);
  EXPECT_FALSE(classes->at(2).module);
}

TEST(ScriptCode, FunctionsAroundClassesArePassedOver) {
  const auto classes = scan_script_code(
      "op_version_set = 1\n"
      "import __torch__.a\n"
      "def f(x: Tensor) -> Tensor:\n"
      "  __parameters__ = 3\n"
      "  return x\n"
      "class A(Module):\n"
      "  __parameters__ = []\n"
      "def g() -> int:\n"
      "  __buffers__ = 3\n"
      "  return 1\n");
  ASSERT_TRUE(classes);
  ASSERT_EQ(classes->size(), 1u);
  EXPECT_FALSE(classes->at(0).lists_buffers);
}

TEST(ScriptCode, AClassMayMakeItsOwnState) {
  const auto classes = scan_script_code(
      "class A(Module):\n"
      "  def __getstate__(self: __torch__.A) -> int:\n"
      "    return 1\n"
      "class B(Module):\n"
      "  def forward(self):\n"
      "    def __getstate__(x):\n"
      "      pass\n");
  ASSERT_TRUE(classes);
  EXPECT_TRUE(find(classes, "A")->makes_state);
  EXPECT_FALSE(find(classes, "B")->makes_state) << "a method's own lines are no members";
}

TEST(ScriptCode, ListsAreOfStrings) {
  EXPECT_EQ(parameters("[]"), Names{});
  EXPECT_EQ(parameters("[ ]"), Names{});
  EXPECT_EQ(parameters("[\"a\", 'b']"), (Names{"a", "b"}));
  EXPECT_EQ(parameters("[\"a\",\n    \"b\",\n  ]  # two"), (Names{"a", "b"}));
  EXPECT_EQ(parameters("[\"we ird\", \"\xc3\xa9\", ]"), (Names{"we ird", "\xc3\xa9"}));
  EXPECT_EQ(parameters("[\"\", ]"), Names{""});
  EXPECT_EQ(parameters("[a]"), kRefused);
  EXPECT_EQ(parameters("[3]"), kRefused);
  EXPECT_EQ(parameters("[\"a\" \"b\"]"), kRefused);
  EXPECT_EQ(parameters("[, ]"), kRefused);
  EXPECT_EQ(parameters("[\"a\",, ]"), kRefused);
  EXPECT_EQ(parameters("[[\"a\"]]"), kRefused);
  EXPECT_EQ(parameters("(\"a\", )"), kRefused);
  EXPECT_EQ(parameters("[\"a\""), kRefused);
  EXPECT_EQ(parameters("[\"a"), kRefused);
  EXPECT_EQ(parameters("[\"a\n\"]"), kRefused);
  EXPECT_EQ(parameters("[\"\"\"a\"\"\"]"), kRefused);
  EXPECT_EQ(parameters("[\"\xff\"]"), kRefused) << "no UTF-8";
}

TEST(ScriptCode, StringsHaveEscapes) {
  EXPECT_EQ(parameters(R"(["\\", "\"", '\'', "\n\t", "\x41", "\101", "\60"])"),
            (Names{"\n\t", "\"", "'", "0", "A", "A", "\\"}));
  EXPECT_EQ(parameters(R"(["\q"])"), kRefused);
  EXPECT_EQ(parameters(R"(["\x4"])"), kRefused);
  EXPECT_EQ(parameters(R"(["\x"])"), kRefused);
  EXPECT_EQ(parameters(R"(["\777"])"), kRefused);
  EXPECT_EQ(parameters("[\"\\"), kRefused);
}

TEST(ScriptCode, TheSecondListAddsToTheFirst) {
  const auto classes = scan_script_code(
      "class A(Module):\n"
      "  __buffers__ = [\"b\", ]\n"
      "  __buffers__ = [\"a\", ]\n");
  EXPECT_EQ(find(classes, "A")->buffers, (Names{"a", "b"}));
}

TEST(ScriptCode, TextInStringsAndCommentsIsNoCode) {
  const auto classes = scan_script_code(
      "x = \"\"\"\n"
      "class Hidden(Module):\n"
      "  __parameters__ = 3\n"
      "\\\"\"\" still \"\" inside\"\"\"\n"
      "# class Comment(Module): \" (\n"
      "y = f(\n"
      "class InBrackets(Module):\n"
      ")\n"
      "z = '\\'(' + \"#\"\n"
      "w = 1 + \\\n"
      "class Continued(Module):\n"
      "class Real(Module):\n"
      "  __parameters__ = [\"p\", ]\n");
  ASSERT_TRUE(classes);
  ASSERT_EQ(classes->size(), 1u);
  EXPECT_EQ(classes->at(0).name, "Real");
  EXPECT_EQ(classes->at(0).parameters, Names{"p"});
}

TEST(ScriptCode, WhatDoesNotCloseIsRefused) {
  EXPECT_TRUE(scan_script_code(""));
  EXPECT_TRUE(scan_script_code("x = 1"));
  EXPECT_TRUE(scan_script_code("\n\r\n   \n  # end"));
  for (const char* text :
       {"x = (", "x = )", "x = ((1)", "x = 'a", "x = 'a\n'", "x = \"\"\"a\"\"", "class",
        "class :\n", "class A(Module:\n", "class A(Module)\n", "class A(a, b):\n",
        "class A(Module):\n  __parameters__\n", "class A(Module):\n  __buffers__ : int\n"})
    EXPECT_FALSE(scan_script_code(text)) << text;
}

TEST(ScriptCode, EveryPrefixEnds) {
  const string text =
      "class A(Module):\n  __parameters__ = [\"\\x41\", '''', ]\n  def f(self, x=\"\"\"a\"\"\"):\n";
  for (std::size_t size = 0; size <= text.size(); ++size)
    static_cast<void>(scan_script_code(text.substr(0, size)));
}

TEST(ScriptCode, TakesTimeInProportionToTheText) {
  const auto time = [](const string& text) {
    const auto begin = test::cpu_time();
    static_cast<void>(scan_script_code(text));
    return test::cpu_time() - begin;
  };
  string lists = "class A(Module):\n";
  string classes;
  for (int i = 0; i < 100'000; ++i) {
    lists += "  __parameters__ = [\"a\", ]\n";
    classes += "class A(Module):\n";
  }
  for (const string& text :
       {string(4'000'000, '('), string(4'000'000, '"'), string(4'000'000, '\''),
        string(4'000'000, '#'), string(4'000'000, '\\'), string(4'000'000, '\n'), lists, classes})
    EXPECT_LT(time(text), std::chrono::seconds(5)) << text.substr(0, 20);
}

}  // namespace
}  // namespace flatbed::pth
