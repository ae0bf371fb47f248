// PickleScan: what pickles would import and call, including forms that no pickler writes.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "support/legacy_builder.hpp"
#include "support/pickle_asm.hpp"
#include "support/scan_bytes.hpp"

namespace flatbed {
namespace {

using test::find;
using test::le;
using test::says;
using test::scan_bytes;
using test::show;
using test::verdict_of;
using namespace test::pickle;  // NOLINT: the assembler's words are the subject here
using std::string;
using namespace std::string_literals;

constexpr auto kPlain = ScanVerdict::plain;
constexpr auto kUnknown = ScanVerdict::unknown;
constexpr auto kDangerous = ScanVerdict::dangerous;

// Short strings of protocol 4.
string word(const string& value) { return "\x8c" + le(value.size(), 1) + value; }
string protocol(int number, const string& body) {
  return "\x80" + string(1, static_cast<char>(number)) + body + ".";
}
const string kSystem = call(global("os", "system"), tuple({text("id")}));

void expect_called(const string& pickle, std::string_view name) {
  const ScanReport report = scan_bytes(pickle);
  EXPECT_EQ(report.verdict, kDangerous) << show(report);
  EXPECT_NE(find(report, ScanKind::called, name), nullptr) << show(report);
}

TEST(PickleScan, TakesAStateDictForPlain) {
  const ScanReport report = scan_bytes(finish(dict({text("w"), ordered_dict()})));
  EXPECT_EQ(report.verdict, kPlain) << show(report);
  const ScanFinding* called = find(report, ScanKind::called, "collections.OrderedDict");
  ASSERT_NE(called, nullptr);
  EXPECT_EQ(called->severity, kPlain);
  EXPECT_EQ(report.files[0].pickles, 1u);
}

TEST(PickleScan, SaysWhereACallIsAndWhatItIsGiven) {
  const ScanReport report = scan_bytes(finish(kSystem));
  EXPECT_EQ(report.verdict, kDangerous);
  const ScanFinding* called = find(report, ScanKind::called, "os.system");
  ASSERT_NE(called, nullptr) << show(report);
  // PROTO at 0, GLOBAL at 2 (11 bytes), MARK, BINUNICODE of 2 bytes (7), TUPLE, REDUCE.
  EXPECT_EQ(called->offset, 2u + 11 + 1 + 7 + 1);
  EXPECT_EQ(called->opcode, 5u);
  EXPECT_EQ(called->count, 1u);
  EXPECT_NE(called->text.find("first given 'id'"), string::npos) << called->text;
}

TEST(PickleScan, TellsImportedFromCalled) {
  const ScanReport report = scan_bytes(finish(global("os", "system")));
  EXPECT_EQ(report.verdict, kDangerous);
  EXPECT_NE(find(report, ScanKind::imported, "os.system"), nullptr);
  EXPECT_EQ(find(report, ScanKind::called, "os.system"), nullptr);
}

TEST(PickleScan, TakesOtherClassesForUnknown) {
  const ScanReport report =
      scan_bytes(finish(global("argparse", "Namespace") + ")\x81}" + text("a") + "Nsb"));
  EXPECT_EQ(report.verdict, kUnknown) << show(report);
  EXPECT_NE(find(report, ScanKind::called, "argparse.Namespace"), nullptr);
}

TEST(PickleScan, FollowsStackGlobalThroughTheMemo) {
  // The texts are memorised, dropped, and fetched again in the other order.
  const string body = word("system") +
                      "\x94"
                      "0" +
                      word("os") +
                      "\x94"
                      "0h\x01h\x00\x93"s;
  expect_called(protocol(4, body + word("id") + "\x85R"), "os.system");
  const string twin = word("OrderedDict") +
                      "\x94"
                      "0" +
                      word("collections") +
                      "\x94"
                      "0h\x01h\x00\x93)R"s;
  const ScanReport plain = scan_bytes(protocol(4, twin));
  EXPECT_NE(find(plain, ScanKind::called, "collections.OrderedDict"), nullptr);
}

TEST(PickleScan, FollowsAnIndexThatIsWrittenTwice) {
  const string body = text("json") +
                      "q\x05"
                      "0" +
                      text("os") +
                      "q\x05"
                      "0h\x05" +
                      text("system") + "\x93" + tuple({text("id")}) + "R";
  expect_called(finish(body), "os.system");
}

TEST(PickleScan, FollowsCopiesAndFarMemoEntries) {
  expect_called(finish(global("os", "system") + "20" + tuple({text("id")}) + "R"), "os.system");
  expect_called(finish(global("os", "system") +
                       "r\xff\xff\xff\x7f"
                       "0j\xff\xff\xff\x7f" +
                       tuple({text("id")}) + "R"),
                "os.system");
  expect_called("cos\nsystem\np1_0\n0g10\n(S'id'\ntR.", "os.system");
}

TEST(PickleScan, HoldsHugeIndicesOfTheMemoUpToALimit) {
  const auto puts = [](std::uint64_t count) {
    string body = "N";
    for (std::uint64_t i = 0; i < count; ++i)
      body += "p1" + std::to_string(10'000'000'000'000'000'000U + i) + "\n";
    return finish(body);
  };
  EXPECT_FALSE(says(scan_bytes(puts(1 << 16)), ScanKind::unseen, "its stack or memo is larger"));
  EXPECT_TRUE(
      says(scan_bytes(puts((1 << 16) + 2)), ScanKind::unseen, "its stack or memo is larger"));
}

TEST(PickleScan, ReadsTheIndicesOfTheMemoAsPythonDoes) {
  const auto put_and_get = [](const string& put, const string& get) {
    return "S'x'\n0cos\nsystem\np" + put + "\n0Ng" + get + "\n(S'id'\ntR.";
  };
  const string huge = "123456789012345678901234567890";
  for (const string& index : {string(63, ' ') + "1", string(64, ' ') + "1", string(70, ' ') + "1",
                              "1" + string(70, ' '), string(70, '0') + "1", "0_1"s, "+1"s, "1\0x"s})
    expect_called(put_and_get(index, "1"), "os.system");
  expect_called(put_and_get(huge, "0" + huge), "os.system");
  expect_called(put_and_get(huge, huge.substr(0, 8) + "_" + huge.substr(8)), "os.system");
  expect_called(put_and_get(" -0", "0"), "os.system");
  // Python stops at what is no number, and at an entry that was never written.
  for (const string& pickle : {put_and_get("1 1", "1"), put_and_get("oat", "1"),
                               put_and_get("1", huge), put_and_get(huge, "1")}) {
    const ScanReport report = scan_bytes("S'x'\n0" + pickle);
    EXPECT_EQ(find(report, ScanKind::called), nullptr) << pickle << show(report);
  }
}

TEST(PickleScan, SeesTextProtocols) {
  expect_called("cos\nsystem\n(S'id'\ntR.", "os.system");
  expect_called("(S'id'\nios\nsystem\n.", "os.system");
  expect_called(
      "V"
      "o\\u0073\nV\\u0073ystem\n\x93(V"
      "id\ntR.",
      "os.system");
}

TEST(PickleScan, SeesACallWhoseResultIsDropped) {
  expect_called(finish("(" + global("os", "system") + text("id") + "o0N"), "os.system");
  expect_called(finish(global("os", "system") + tuple({text("id")}) + "R0N"), "os.system");
  expect_called(finish("((" + text("id") + "ios\nsystem\n1N"), "os.system");
}

TEST(PickleScan, SeesWhatNewObjectsAreMadeOf) {
  expect_called(finish(global("subprocess", "Popen") + tuple({text("id")}) + "\x81"),
                "subprocess.Popen");
  expect_called(protocol(4, global("subprocess", "Popen") + ")}\x92"), "subprocess.Popen");
  const string made = call(global("copy_reg", "_reconstructor"),
                           tuple({global("subprocess", "Popen"), global("x", "y"), "N"}));
  expect_called(finish(made), "subprocess.Popen");
}

TEST(PickleScan, KnowsTheNamesOfPython2) {
  expect_called(finish(call(global("__builtin__", "eval"), tuple({text("1")}))), "builtins.eval");
  expect_called(finish(call(global("commands", "getoutput"), tuple({text("id")}))),
                "subprocess.getoutput");
  // Protocol 3 and later do not translate; the old name is dangerous all the same.
  EXPECT_EQ(verdict_of(protocol(4, global("__builtin__", "eval"))), kDangerous);
  EXPECT_EQ(verdict_of(finish(call(global("__builtin__", "set"), tuple({list({})})))), kPlain);
  // In protocol 4 this is a module of somebody's.
  EXPECT_EQ(verdict_of(protocol(4, global("UserDict", "OrderedDict"))), kUnknown);
}

TEST(PickleScan, KnowsOtherNamesOfTheSystemsModule) {
  expect_called(finish(call(global("nt", "system"), tuple({text("id")}))), "nt.system");
  expect_called(finish(call(global("posix", "system"), tuple({text("id")}))), "posix.system");
}

TEST(PickleScan, JudgesDottedNamesByWhatTheyReach) {
  for (const auto& [module, name] :
       std::vector<std::pair<string, string>>{{"os", "path.join"},
                                              {"torch.serialization", "os.system"},
                                              {"collections", "abc.sys.modules"},
                                              {"torch", "hub.load"},
                                              {"collections", "OrderedDict.__class__"},
                                              {"torch._utils", "_rebuild_tensor_v2.__globals__"},
                                              {"pathlib", "Path.write_text"},
                                              {"argparse", "_os.system"},
                                              {"package", "__sys.modules"},
                                              {"unittest.mock", "patch"}})
    EXPECT_EQ(verdict_of(protocol(4, word(module) + word(name) + "\x93")), kDangerous)
        << module << " " << name;
  EXPECT_EQ(verdict_of(protocol(4, word("package") + word("Outer.Inner") + "\x93")), kUnknown);
  // A dotted name is never one that weights_only=True allows.
  EXPECT_EQ(verdict_of(finish(global("torch", "nn.parameter.Parameter"))), kUnknown);
}

TEST(PickleScan, JudgesAttributesByTheirNames) {
  const auto attribute = [](const string& of, const string& attribute_name) {
    return call(global("__builtin__", "getattr"), tuple({of, text(attribute_name)}));
  };
  // So Python 3.11 writes a member of an enumeration.
  const ScanReport member = scan_bytes(finish(attribute(global("colours", "Colour"), "RED")));
  EXPECT_EQ(member.verdict, kUnknown) << show(member);
  EXPECT_NE(find(member, ScanKind::imported, "colours.Colour.RED"), nullptr);
  expect_called(finish(call(attribute(attribute(global("torch._utils", "torch"), "os"), "system"),
                            tuple({text("id")}))),
                "torch._utils.torch.os.system");
  // What a method of an object does depends on the object's class.
  EXPECT_EQ(verdict_of(finish(attribute(ordered_dict(), "clear"))), kUnknown);
  EXPECT_EQ(verdict_of(finish(attribute(ordered_dict(), "__class__"))), kDangerous);
  EXPECT_EQ(verdict_of(finish(attribute(ordered_dict(), "os"))), kDangerous);
  const string hidden = call(global("_codecs", "encode"), tuple({text("os"), text("ascii")}));
  EXPECT_EQ(verdict_of(finish(call(global("__builtin__", "getattr"),
                                   tuple({global("colours", "Colour"), hidden})))),
            kDangerous);
  EXPECT_EQ(verdict_of(finish(global("__builtin__", "getattr"))), kDangerous);
  // A harmless call is no excuse for others that are not seen.
  const string harmless = attribute(ordered_dict(), "keys");
  const string given =
      call(global("functools", "partial"),
           tuple({global("__builtin__", "getattr"), global("a", "b"), text("os")}));
  EXPECT_EQ(verdict_of(finish(harmless + "0" + given)), kDangerous);
  EXPECT_EQ(verdict_of(finish(harmless + "0" + list({global("__builtin__", "getattr")}))),
            kDangerous);
  EXPECT_EQ(verdict_of(finish(harmless + "0" + global("__builtin__", "getattr") + "0" + harmless)),
            kUnknown);
  // A text in another place is not the attribute's name.
  const string other = tuple({global("colours", "Colour"), ordered_dict(), text("RED")});
  EXPECT_EQ(verdict_of(finish(call(global("__builtin__", "getattr"), other))), kDangerous);
}

TEST(PickleScan, JudgesAPartialByItsFunction) {
  const auto partial = [](const string& of) {
    return finish(call(global("functools", "partial"), tuple({of})));
  };
  EXPECT_EQ(verdict_of(partial(global("torch.nn.modules.normalization", "LayerNorm"))), kUnknown);
  EXPECT_EQ(verdict_of(partial(global("os", "system"))), kDangerous);
  EXPECT_EQ(verdict_of(partial(global("__builtin__", "getattr"))), kDangerous);
  EXPECT_EQ(verdict_of(partial(call(global("package", "f"), ")"))), kDangerous);
}

TEST(PickleScan, KnowsSubclassesOfTensorsAndWhatTorchCompileMakes) {
  for (const auto& [module, name] : {std::pair("torch.testing._internal.two_tensor", "TwoTensor"),
                                     {"torch._dynamo.eval_frame", "OptimizedModule"},
                                     {"torch._dynamo.backends.debugging", "eager"}})
    EXPECT_EQ(verdict_of(finish(global(module, name))), kUnknown) << name;
  for (const auto& [module, name] :
       {std::pair("torch.testing._internal.two_tensor", "os"),
        {"torch._dynamo.eval_frame", "OptimizedModule.__init__.__globals__"},
        {"torch.testing._internal.custom_tensor", "torch.load"},
        {"torch._dynamo.guards", "GuardBuilder.get"}})
    EXPECT_EQ(verdict_of(protocol(4, word(module) + word(name) + "\x93")), kDangerous) << name;
}

TEST(PickleScan, TakesNamesWithOddCharactersForNoNames) {
  EXPECT_EQ(verdict_of("cos\r\nsystem\r\n(S'id'\ntR."), kDangerous);
  EXPECT_EQ(verdict_of(finish(global(" os", "system"))), kDangerous);
  EXPECT_EQ(verdict_of(finish(global("collections\r", "OrderedDict"))), kUnknown);
  EXPECT_EQ(verdict_of(finish(global("collections", "OrderedDict"))), kPlain);
}

TEST(PickleScan, TakesAComputedImportForDangerous) {
  const string joined = call(global("package", "join"), tuple({text("o"), text("s")}));
  const ScanReport report = scan_bytes(protocol(4, joined + word("system") + "\x93)R"));
  EXPECT_EQ(report.verdict, kDangerous);
  EXPECT_TRUE(says(report, ScanKind::computed, "imports what the pickle computes"));
  EXPECT_TRUE(says(report, ScanKind::computed, "calls something that the file does not determine"));
}

TEST(PickleScan, TakesTheExtensionRegistryForUnknown) {
  for (const string& op : {"\x82\x01"s, "\x83\x01\x02"s, "\x84\x01\x02\x03\x04"s}) {
    const ScanReport report = scan_bytes(finish(op + ")R"));
    EXPECT_EQ(report.verdict, kUnknown);
    EXPECT_TRUE(says(report, ScanKind::computed, "extension registry")) << show(report);
  }
}

TEST(PickleScan, TakesAChangeOfAnImportedClassForDangerous) {
  const string state = "}" + text("__repr__") + "Ns";
  EXPECT_EQ(verdict_of(finish(global("torch", "Tensor") + tuple({"N", state}) + "b")), kDangerous);
  EXPECT_EQ(verdict_of(finish(global("torch", "Tensor") + text("a") + "Ns")), kDangerous);
  EXPECT_EQ(verdict_of(finish(ordered_dict() + "}b")), kPlain);
}

TEST(PickleScan, TakesItemsOfWhatHasNoneForUnknown) {
  EXPECT_EQ(verdict_of(finish(tensor() + text("a") + "Ns")), kUnknown);
  EXPECT_EQ(verdict_of(finish(ordered_dict() + text("a") + "Ns")), kPlain);
  EXPECT_EQ(verdict_of(finish("N" + text("a") + "a")), kUnknown);
  EXPECT_EQ(verdict_of(finish("]" + text("a") + "a")), kPlain);
}

TEST(PickleScan, SaysWhichOpcodesWeightsOnlyRefuses) {
  const ScanReport report = scan_bytes(protocol(4, "\x95" + le(4, 8) + word("a") + "\x94"));
  EXPECT_EQ(report.verdict, kUnknown);
  EXPECT_TRUE(says(report, ScanKind::opcode, "SHORT_BINUNICODE, MEMOIZE, FRAME")) << show(report);
  EXPECT_EQ(verdict_of(finish(text("a"))), kPlain);
}

TEST(PickleScan, GoesOnAfterWhatNoUnpicklerTakes) {
  for (const string& bad : {"0"s, "R"s, "t0"s, "h\x09"s + "0", "gx\n0"s, "b0"s, "N)R0"s, "1"s}) {
    const ScanReport report = scan_bytes(finish(bad + kSystem));
    EXPECT_EQ(report.verdict, kDangerous) << bad;
    EXPECT_NE(find(report, ScanKind::malformed), nullptr) << bad << show(report);
  }
}

TEST(PickleScan, CountsWhatComesBeforeABrokenTail) {
  for (const string& tail : {""s, "\xff"s, "X\xff\xff\xff\x7f"s, "cos\n"s}) {
    const ScanReport report = scan_bytes("\x80\x02" + kSystem + tail);
    EXPECT_EQ(report.verdict, kDangerous);
    EXPECT_NE(find(report, ScanKind::unseen), nullptr) << show(report);
  }
  // No mark, and invalid in the bytes that identify a file.
  EXPECT_EQ(verdict_of("cos\nsystem\n(S'id'\ntR\xff\xff\xff"), kDangerous);
  EXPECT_EQ(verdict_of("\x80\x02" + ordered_dict() + "\xff"), kUnknown);
}

TEST(PickleScan, SeesEveryPickleOfAFile) {
  const ScanReport report = scan_bytes(finish("N") + finish(kSystem));
  EXPECT_EQ(report.verdict, kDangerous);
  EXPECT_TRUE(says(report, ScanKind::trailing, "another pickle"));
  EXPECT_EQ(report.files[0].pickles, 2u);
  EXPECT_EQ(verdict_of(finish("N") + finish("N")), kUnknown);
  EXPECT_EQ(verdict_of(finish("N") + "\x80\x02" + kSystem), kDangerous);  // cut off
  const ScanReport trailing = scan_bytes(finish("N") + "12345");
  EXPECT_TRUE(says(trailing, ScanKind::trailing, "5 bytes after"));
  EXPECT_EQ(trailing.files[0].pickles, 1u);
  // Too short to be told from text, until it calls something.
  EXPECT_EQ(verdict_of(finish("N") + "cos\nsystem\n(S'id'\ntR, and so on"), kDangerous);
  EXPECT_EQ(verdict_of(finish("N") + "cos\nsystem\n, and so on"), kUnknown);
}

TEST(PickleScan, ReadsFramesBothWays) {
  // The frame ends inside BINBYTES. Readers by frames see opcodes in what follows.
  const string hidden = kSystem + ".";
  const string bytes = "B" + le(hidden.size() + 2, 4) + "ab" + hidden;
  const ScanReport report = scan_bytes("\x80\x04\x95" + le(7, 8) + bytes + ".");
  EXPECT_EQ(report.verdict, kDangerous) << show(report);
  EXPECT_TRUE(says(report, ScanKind::malformed, "frame that ends inside an opcode"));
  const ScanReport twin = scan_bytes("\x80\x04\x95" + le(bytes.size() + 1, 8) + bytes + ".");
  EXPECT_EQ(twin.verdict, kUnknown) << show(twin);
  EXPECT_EQ(find(twin, ScanKind::malformed), nullptr);
}

TEST(PickleScan, TakesAFrameThatEndsInsideANameForDangerous) {
  // CPython's C unpickler reads the name from the frame's end on: package.b.
  const string name = "cpackage\nab\n";
  const auto framed = [&](std::size_t nbytes) {
    return "\x80\x04\x95" + le(nbytes, 8) + name + ".";
  };
  EXPECT_EQ(verdict_of(framed(name.size() - 2)), kDangerous);
  EXPECT_EQ(verdict_of(framed(name.size() + 1)), kUnknown);
  // A frame that begins inside another and ends after it drops what is between.
  const string inner = "\x95" + le(6, 8);
  EXPECT_EQ(verdict_of("\x80\x04\x95" + le(11, 8) + inner + "NNNNN."), kDangerous);
  EXPECT_EQ(verdict_of("\x80\x04\x95" + le(15, 8) + inner + "NNNNN."), kUnknown);
}

TEST(PickleScan, LooksIntoTheBytesOfLoadFromBytes) {
  const string inner = test::legacy_stream({.object = finish(kSystem), .storages = {}});
  const ScanReport report = scan_bytes(finish(test::load_from_bytes(inner)));
  EXPECT_EQ(report.verdict, kDangerous);
  const ScanFinding* called = find(report, ScanKind::called, "os.system");
  ASSERT_NE(called, nullptr) << show(report);
  EXPECT_EQ(called->record, "[bytes]");
  EXPECT_EQ(verdict_of(finish(test::load_from_bytes(test::nested_storage()))), kUnknown);
}

TEST(PickleScan, LooksIntoBytesThatAreSpelledAsText) {
  // Protocols 0 to 2: _codecs.encode(text, 'latin1'), in which é is one byte.
  const string inner = finish(call(global("os", "system"), tuple({"U\x02\xc3\xa9"})));
  string utf8;
  for (const char c : inner) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x80) utf8 += static_cast<char>(0xC0 | byte >> 6);
    utf8 += static_cast<char>(byte >= 0x80 ? 0x80 | (byte & 0x3F) : byte);
  }
  const string bytes = call(global("_codecs", "encode"), tuple({text(utf8), text("latin1")}));
  const string loaded = call(global("torch.storage", "_load_from_bytes"), tuple({bytes}));
  EXPECT_EQ(verdict_of(finish(loaded)), kDangerous);
  EXPECT_EQ(verdict_of(finish(bytes)), kPlain);
}

TEST(PickleScan, LooksIntoBytesOfBytesSoDeepAndSaysWhereItStops) {
  string pickle = finish(kSystem);
  for (int depth = 0; depth < 4; ++depth) pickle = finish(test::load_from_bytes(pickle));
  EXPECT_EQ(verdict_of(pickle), kDangerous);
  pickle = finish(test::load_from_bytes(pickle));
  const ScanReport report = scan_bytes(pickle);
  EXPECT_EQ(report.verdict, kUnknown);
  EXPECT_TRUE(says(report, ScanKind::unseen, "nested more than 4 levels deep")) << show(report);
}

TEST(PickleScan, TakesPersistentIdsOfOthersForUnknown) {
  EXPECT_EQ(verdict_of(finish(storage())), kPlain);
  EXPECT_EQ(verdict_of(finish(text("0") + "Q")), kUnknown);
  EXPECT_EQ(verdict_of("P0\n."), kUnknown);
  // The class of a 'module' is what gets called.
  const string module = tuple({text("module"), global("os", "system"), text(""), text("")}) + "Q";
  expect_called(finish(call(module, tuple({text("id")}))), "os.system");
}

TEST(PickleScan, TakesLinearTimeForBombs) {
  string laughs = "]q\x00"s;
  for (int i = 0; i < 100'000; ++i) laughs += "h\x00h\x00\x86q\x00"s;
  EXPECT_EQ(verdict_of(finish(laughs)), kPlain);
  EXPECT_EQ(verdict_of(finish(string(1'000'000, '('))), kUnknown);
  EXPECT_EQ(verdict_of(finish(string(1'000'000, '2'))), kUnknown);
  EXPECT_EQ(verdict_of(finish("]r\xff\xff\xff\x7f")), kPlain);
  string nested = "B" + le(1'000'000, 4) + finish("N") + string(999'996, '\0') +
                  "q\x00"
                  "0"s;
  for (int i = 0; i < 1000; ++i)
    nested += global("torch.storage", "_load_from_bytes") +
              "h\x00\x85R"
              "0"s;
  EXPECT_EQ(verdict_of(finish(nested + "N")), kUnknown);
}

}  // namespace
}  // namespace flatbed
