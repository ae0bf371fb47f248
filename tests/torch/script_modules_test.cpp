// read_torch_zip() of TorchScript archives made by hand: which attributes become parameters,
// buffers and submodules, and what is left as it is.
#include "torch/script_modules.hpp"

#include <gtest/gtest.h>

#include <string>

#include "support/expect_error.hpp"
#include "support/show.hpp"
#include "support/zip_builder.hpp"

namespace flatbed::pth {
namespace {

using test::build_zip;
using test::torch_items;
using test::ZipItem;
using namespace test::pickle;  // NOLINT: the assembler's words are the subject here
using std::string;

// An object of a class in __torch__, with this state.
string object(const string& name, const string& state, const string& module = "__torch__") {
  return global(module, name) + ")\x81" + state + "b";
}

string small_tensor(const string& key) {
  return tensor({.storage = storage({.key = text(key), .count = integer(1)}),
                 .sizes = counts({1}),
                 .strides = counts({1})});
}

struct Script {
  string pickle;
  std::vector<std::pair<string, string>> code = {};  // record below code/ -> text
  string constants = finish(")");
  std::vector<string> storages = {"0"};  // keys; of one float each
};

std::vector<ZipItem> script_items(const Script& script) {
  test::TorchZip zip{.pickle = finish(script.pickle), .storages = {}};
  for (const string& key : script.storages) zip.storages.emplace_back(key, "abcd");
  std::vector<ZipItem> items = torch_items(zip);
  for (const auto& [record, code] : script.code)
    items.push_back(test::deflated_item("archive/code/" + record, code));
  items.push_back({.name = "archive/constants.pkl", .data = script.constants});
  return items;
}

Result<TorchFile> read(const Script& script) { return read_zip(build_zip(script_items(script))); }

string shown_script(const Script& script) {
  const auto file = read(script);
  return file ? show(file->tree.root()) : string(name(file.error().code));
}

// All notes but that of the code.
std::vector<string> notes(const Script& script) {
  const auto file = read(script);
  std::vector<string> out;
  for (const string& note : file.value().notes) {
    if (!note.starts_with("left out the TorchScript code")) out.push_back(note);
  }
  return out;
}

const string kNet =
    "class Net(Module):\n"
    "  __parameters__ = [\"w\", \"none\", ]\n"
    "  __buffers__ = [\"b\", ]\n";

TEST(ScriptModules, AttributesBecomeTheStateOfAModule) {
  const string inner = object("Inner", dict({text("training"), "\x88"}), "__torch__.a.b");
  const Script script{
      .pickle = object("Net", dict({text("w"), small_tensor("0"), text("none"), "N",
                                    text("training"), "\x88", text("b"), small_tensor("1"),
                                    text("plain"), small_tensor("2"), text("sub"), inner})),
      .code = {{"__torch__.py", kNet}, {"__torch__/a/b.py", "class Inner(Module):\n"}},
      .storages = {"0", "1", "2"}};
  const auto file = read(script);
  ASSERT_OK(file);
  EXPECT_EQ(file->layout, TorchLayout::script);
  EXPECT_EQ(show(file->tree.root()),
            "copyreg.__newobj__(__torch__.Net)|{"
            "'_parameters': collections.OrderedDict(){'w': T0, 'none': None}, "
            "'_buffers': collections.OrderedDict(){'b': T1}, "
            "'_modules': collections.OrderedDict(){'sub': copyreg.__newobj__(__torch__.a.b.Inner)|{"
            "'_parameters': collections.OrderedDict(), '_buffers': collections.OrderedDict(), "
            "'_modules': collections.OrderedDict(), 'training': True}}, "
            "'training': True, 'plain': T2}");
  EXPECT_EQ(notes(script), std::vector<string>{});
}

TEST(ScriptModules, AMangledClassHasARecordOfItsOwn) {
  const string module = "__torch__.___torch_mangle_3";
  const auto read_with = [&](const string& record) {
    return shown_script({.pickle = object("Net", dict({text("w"), small_tensor("0")}), module),
                         .code = {{record, kNet}}});
  };
  EXPECT_NE(read_with("__torch__/___torch_mangle_3.py").find("'_parameters'"), string::npos);
  for (const char* other :
       {"__torch__.py", "__torch__/___torch_mangle_30.py", "__torch__/___TORCH_mangle_3.py",
        "__torch__/___torch_mangle_3/__init__.py"})
    EXPECT_EQ(read_with(other).find("'_parameters'"), string::npos) << other;
}

TEST(ScriptModules, OneModuleInTwoPlacesIsOneObject) {
  const string inner = object("Inner", dict({text("w"), small_tensor("0")})) + "q\7";
  const auto file = read({.pickle = object("Net", dict({text("a"), inner, text("b"), "h\7"})),
                          .code = {{"__torch__.py", kNet + "class Inner(Module):\n"
                                                           "  __parameters__ = [\"w\", ]\n"}}});
  ASSERT_OK(file);
  const auto root = file->tree.root();
  const auto first = root.at("_modules.a");
  const auto second = root.at("_modules.b");
  ASSERT_OK(first);
  ASSERT_OK(second);
  EXPECT_EQ(first->id(), second->id());
  EXPECT_EQ(first->at("_parameters.w")->tensor(), 0u);
}

TEST(ScriptModules, AnObjectWithoutDeclarationStaysAsItIs) {
  const string lost = object("Lost", dict({text("w"), small_tensor("0")}));
  const Script script{.pickle = object("Net", dict({text("sub"), lost})),
                      .code = {{"__torch__.py", kNet}}};
  EXPECT_EQ(shown_script(script),
            "copyreg.__newobj__(__torch__.Net)|{'_parameters': collections.OrderedDict(), "
            "'_buffers': collections.OrderedDict(), '_modules': collections.OrderedDict(), "
            "'sub': copyreg.__newobj__(__torch__.Lost)|{'w': T0}}");
  EXPECT_EQ(notes(script),
            std::vector<string>{"kept as they are: 1 TorchScript object with no declaration in "
                                "code/ of their attributes; the first is of '__torch__.Lost'"});
}

TEST(ScriptModules, UnreadableCodeDeclaresNothing) {
  const Script script{.pickle = object("Net", dict({text("w"), small_tensor("0")})),
                      .code = {{"__torch__.py", kNet + "x = (\n"}}};
  EXPECT_EQ(shown_script(script), "copyreg.__newobj__(__torch__.Net)|{'w': T0}");
  EXPECT_EQ(notes(script).size(), 1u);
}

TEST(ScriptModules, OnlyModulesAreArranged) {
  const string pickle = object("Net", dict({text("w"), small_tensor("0")}));
  for (const char* head : {"class Net:\n", "class Net(NamedTuple):\n", "class Net(Enum):\n",
                           "class Net(ModuleInterface):\n"}) {
    const Script script{.pickle = pickle, .code = {{"__torch__.py", head}}};
    EXPECT_EQ(shown_script(script), "copyreg.__newobj__(__torch__.Net)|{'w': T0}") << head;
    EXPECT_TRUE(notes(script).empty()) << head;
  }
  EXPECT_EQ(shown_script({.pickle = object("Net", dict({text("w"), small_tensor("0")}), "torch.nn"),
                          .code = {{"torch/nn.py", kNet}}}),
            "copyreg.__newobj__(torch.nn.Net)|{'w': T0}");
}

TEST(ScriptModules, ClassesOfTorchItselfStayInert) {
  const Script script{
      .pickle = object("Packed", tuple({small_tensor("0")}), "__torch__.torch.classes.quantized")};
  EXPECT_EQ(shown_script(script),
            "copyreg.__newobj__(__torch__.torch.classes.quantized.Packed)|(T0)");
  EXPECT_TRUE(notes(script).empty());
}

TEST(ScriptModules, AStateThatCodeMadeIsNotTakenApart) {
  const string made = kNet + "  def __getstate__(self: __torch__.Net) -> Dict[str, Tensor]:\n";
  const string pickle = object("Net", dict({text("w"), small_tensor("0")}));
  const Script script{.pickle = pickle, .code = {{"__torch__.py", made}}};
  EXPECT_EQ(shown_script(script), "copyreg.__newobj__(__torch__.Net)|{'w': T0}");
  EXPECT_EQ(notes(script),
            std::vector<string>{"kept as they are: 1 TorchScript object with a state made by their "
                                "own code; the first is of '__torch__.Net'"});
  EXPECT_EQ(shown_script({.pickle = object("Net", tuple({small_tensor("0")})),
                          .code = {{"__torch__.py", kNet}}}),
            "copyreg.__newobj__(__torch__.Net)|(T0)");
}

TEST(ScriptModules, WithoutAListOfBuffersOtherTensorsAreBuffers) {
  const auto file =
      read({.pickle = object("Net", dict({text("w"), small_tensor("0"), text("mean"),
                                          small_tensor("1"), text("n"), "N", text("k"), "K\1"})),
            .code = {{"__torch__.py", "class Net(Module):\n  __parameters__ = [\"w\", ]\n"}},
            .storages = {"0", "1"}});
  ASSERT_OK(file);
  EXPECT_EQ(show(*file->tree.root().state()),
            "{'_parameters': collections.OrderedDict(){'w': T0}, "
            "'_buffers': collections.OrderedDict(){'mean': T1}, "
            "'_modules': collections.OrderedDict(), 'n': None, 'k': 1}");
}

TEST(ScriptModules, OnlyTensorsAreParameters) {
  EXPECT_EQ(shown_script({.pickle = object("Net", dict({text("w"), "K\1", text("b"), "]", "K\2",
                                                        text("int key")})),
                          .code = {{"__torch__.py", kNet}}}),
            "copyreg.__newobj__(__torch__.Net)|{'_parameters': collections.OrderedDict(), "
            "'_buffers': collections.OrderedDict(), '_modules': collections.OrderedDict(), "
            "'w': 1, 'b': [], 2: 'int key'}");
}

TEST(ScriptModules, AnAttributeInAPartsPlaceLeavesTheObjectAsItIs) {
  EXPECT_EQ(shown_script({.pickle = object("Net", dict({text("_modules"), "K\1"})),
                          .code = {{"__torch__.py", kNet}}}),
            "copyreg.__newobj__(__torch__.Net)|{'_modules': 1}");
}

TEST(ScriptModules, AnAttributeIsSetOnce) {
  const string inner = object("Net", "}");
  for (const string& second : {small_tensor("0"), string("K\1"), inner})
    EXPECT_EQ(shown_script(
                  {.pickle = object("Net", dict({text("w"), small_tensor("0"), text("w"), second})),
                   .code = {{"__torch__.py", kNet}}}),
              "pickle_duplicate_key");
}

// Each of the objects would have a copy of the state: 10,000 of 10,000 attributes.
TEST(ScriptModules, OneStateOfManyObjectsIsArrangedOnce) {
  string state = "}(";
  for (int i = 0; i < 10'000; ++i) state += text("a" + std::to_string(i)) + "K\1";
  state += "uq\1";
  string pickle = "](" + global("__torch__", "Net") + "q" + string(1, '\0') + ")\x81" + state + "b";
  for (int i = 0; i < 10'000; ++i) pickle += "h" + string(1, '\0') + ")\x81h\1b";
  const auto file = read({.pickle = pickle + "e", .code = {{"__torch__.py", kNet}}});
  ASSERT_OK(file);
  EXPECT_LT(file->tree.size(), 100'000u);
  const auto root = file->tree.root();
  EXPECT_EQ(root.item(0).state()->id(), root.item(9'999).state()->id());
  EXPECT_EQ(root.item(0).state()->key(0).text(), "_parameters");
}

TEST(ScriptModules, OneStateOfTwoClassesIsArrangedForTheFirst) {
  const string pickle = "](" + global("__torch__", "Net") + ")\x81}q\7b" +
                        global("__torch__", "Other") + ")\x81h\7be";
  const auto file =
      read({.pickle = pickle, .code = {{"__torch__.py", kNet + "class Other(Module):\n"}}});
  ASSERT_OK(file);
  EXPECT_EQ(file->tree.root().item(0).state()->size(), 3u);
  EXPECT_EQ(file->tree.root().item(1).state()->size(), 0u);
}

TEST(ScriptModules, InflatedCodeIsBounded) {
  const auto read_code = [](const string& code) {
    return read({.pickle = object("Net", "}"), .code = {{"__torch__.py", code}}, .storages = {}});
  };
  EXPECT_OK(read_code(kNet + string(15'000'000, '\n')));
  EXPECT_ERROR(read_code(kNet + string(18'000'000, '\n')), limit_exceeded);
}

TEST(ScriptModules, ManyRecordsAreBoundedTogether) {
  const auto read_records = [](int count) {
    Script script{.pickle = "](", .storages = {}};
    for (int i = 0; i < count; ++i) {
      const string part = "m" + std::to_string(i);
      script.pickle += object("Net", "}", "__torch__." + part);
      script.code.emplace_back("__torch__/" + part + ".py", kNet + string(6'000'000, '\n'));
    }
    script.pickle += "e";
    return read(script);
  };
  EXPECT_OK(read_records(2));
  EXPECT_ERROR(read_records(6), limit_exceeded);
}

TEST(ScriptModules, DamagedCodeIsAnError) {
  std::vector<ZipItem> items = script_items(
      {.pickle = object("Net", "}"), .code = {{"__torch__.py", kNet}}, .storages = {}});
  ASSERT_OK(read_zip(build_zip(items)));
  for (ZipItem& item : items) {
    if (item.name.ends_with(".py")) item.data = string(item.data.size(), '\xff');
  }
  EXPECT_ERROR(read_zip(build_zip(items)), zip_deflate_malformed);
}

TEST(ScriptConstants, AreAnAttributeOfTheWhole) {
  Script script{.pickle = object("Net", dict({text("w"), small_tensor("0")})),
                .code = {{"__torch__.py", kNet}},
                .constants = finish(tuple({small_tensor("0"), "K\1"}))};
  std::vector<ZipItem> items = script_items(script);
  EXPECT_ERROR(read_zip(build_zip(items)), storage_missing) << "data/0 is another storage";
  items.push_back({.name = "archive/constants/0", .data = "efgh"});
  const string bytes = build_zip(items);
  const auto file = read_zip(bytes);
  ASSERT_OK(file);
  EXPECT_EQ(show(file->tree.root().at("CONSTANTS").value()), "(T1, 1)");
  ASSERT_EQ(file->storages.size(), 2u);
  EXPECT_EQ(bytes.substr(file->storages[0].stored_offset, 4), "abcd");
  EXPECT_EQ(bytes.substr(file->storages[1].stored_offset, 4), "efgh");
  EXPECT_EQ(file->notes, std::vector<string>{"left out the TorchScript code: 1 record in code/"});
}

TEST(ScriptConstants, WithoutAPlaceAreLeftOut) {
  const string constants = finish(tuple({"K\1"}));
  for (const string& pickle :
       {string("N"), object("Net", tuple({})), object("Net", dict({text("CONSTANTS"), "N"}))}) {
    const Script script{
        .pickle = pickle, .code = {{"__torch__.py", kNet}}, .constants = constants, .storages = {}};
    EXPECT_EQ(notes(script).back(), "left out 1 constant of the TorchScript code");
  }
}

TEST(ScriptConstants, AreAPickleThatIsChecked) {
  const auto read_constants = [](const string& constants) {
    return read({.pickle = object("Net", "}"), .constants = constants, .storages = {}});
  };
  EXPECT_OK(read_constants(finish("N")));
  const auto bad = read_constants("\x80\2(");
  ASSERT_FALSE(bad);
  EXPECT_EQ(name(bad.error().code), "pickle_truncated");
  EXPECT_TRUE(bad.error().message.starts_with("'archive/constants.pkl': byte 3: "))
      << bad.error().message;
  const auto trailing = read_constants(finish(")") + "x");
  ASSERT_OK(trailing);
  EXPECT_EQ(trailing->notes.back(), "ignored 1 byte after the end of constants.pkl's pickle");
}

TEST(ScriptArchive, WhatIsLeftOutIsNoted) {
  std::vector<ZipItem> items = script_items(
      {.pickle = object("Net", "}"), .code = {{"__torch__.py", kNet}}, .storages = {}});
  items.push_back({.name = "archive/extra/note.txt", .data = "hello"});
  items.push_back({.name = "archive/extra/sub/x", .data = "abc"});
  const auto file = read_zip(build_zip(items));
  ASSERT_OK(file);
  EXPECT_EQ(file->notes,
            (std::vector<string>{"left out the TorchScript code: 1 record in code/",
                                 "left out 2 records in extra/: 8 bytes that torch does not "
                                 "read by itself"}));
}

TEST(ScriptArchive, NoPrefixAndNoFlippedBitDoesHarm) {
  std::vector<ZipItem> items =
      script_items({.pickle = object("Net", dict({text("w"), small_tensor("0")})),
                    .code = {},
                    .constants = finish(tuple({small_tensor("0")}))});
  items.push_back({.name = "archive/constants/0", .data = "efgh"});
  items.push_back({.name = "archive/code/__torch__.py", .data = kNet});
  const string good = build_zip(items);
  ASSERT_OK(read_zip(good));
  for (std::size_t bit = 0; bit < good.size() * 8; ++bit) {
    string bad = good;
    bad[bit / 8] = static_cast<char>(bad[bit / 8] ^ 1 << bit % 8);
    static_cast<void>(read_zip(bad));
  }
}

}  // namespace
}  // namespace flatbed::pth
