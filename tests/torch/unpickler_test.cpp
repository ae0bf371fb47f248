// The pickle machine: every opcode, and everything that a pickle can do wrong.
#include "torch/unpickler.hpp"

#include <gtest/gtest.h>

#include <random>
#include <set>
#include <string>
#include <vector>

#include "support/expect_error.hpp"
#include "support/pickle_asm.hpp"
#include "support/show.hpp"

namespace flatbed::pth {
namespace {

using test::le;
using namespace test::pickle;  // NOLINT: the assembler's words are the subject here
using std::string;

// Bytes with NULs in them.
template <std::size_t size>
string bytes(const char (&text)[size]) {
  return string(text, size - 1);
}

TEST(Unpickler, ReadsLiterals) {
  EXPECT_EQ(shown("N"), "None");
  EXPECT_EQ(shown("\x88"), "True");
  EXPECT_EQ(shown("\x89"), "False");
  EXPECT_EQ(shown("K\xff"), "255");
  EXPECT_EQ(shown("M\xff\xff"), "65535");
  EXPECT_EQ(shown("J\xff\xff\xff\xff"), "-1");
  EXPECT_EQ(shown("\x8a\x01\xff"), "-1");
  EXPECT_EQ(shown(bytes("\x8a\x00")), "0");
  EXPECT_EQ(shown(bytes("\x8b\x02\x00\x00\x00\xff\x7f")), "32767");
  EXPECT_EQ(shown("\x8a\x09" + string(8, '\0') + "\1"), "0x10000000000000000");
  EXPECT_EQ(shown("I17\n"), "17");
  EXPECT_EQ(shown("I01\n"), "True");
  EXPECT_EQ(shown("I00\n"), "False");
  EXPECT_EQ(shown("I1\n"), "1");
  EXPECT_EQ(shown("I18446744073709551616\n"), "0x10000000000000000");
  EXPECT_EQ(shown("L-5L\n"), "-5");
  EXPECT_EQ(shown(bytes("G\x3f\xf8\x00\x00\x00\x00\x00\x00")), "1.500000");
  EXPECT_EQ(shown("F-2.5\n"), "-2.500000");
  EXPECT_EQ(shown(bytes("X\x03\x00\x00\x00"
                        "abc")),
            "'abc'");
  EXPECT_EQ(shown("\x8c\x03"
                  "abc"),
            "'abc'");
  EXPECT_EQ(shown("\x8d" + le(3, 8) + "abc"), "'abc'");
  EXPECT_EQ(shown("Va\\u2603\n"), "'a\u2603'");
  EXPECT_EQ(shown("S'a\\x41'\n"), "'aA'");
  EXPECT_EQ(shown("U\x02"
                  "ab"),
            "'ab'");
  EXPECT_EQ(shown(bytes("T\x02\x00\x00\x00"
                        "ab")),
            "'ab'");
  EXPECT_EQ(shown("C\x02"
                  "ab"),
            "b'ab'");
  EXPECT_EQ(shown(bytes("B\x02\x00\x00\x00"
                        "ab")),
            "b'ab'");
  EXPECT_EQ(shown("\x8e" + le(2, 8) + "ab"), "b'ab'");
  EXPECT_EQ(shown("\x96" + le(2, 8) + "ab"), "builtins.bytearray(b'ab')");
}

TEST(Unpickler, KeepsSurrogatesAndPython2Bytes) {
  EXPECT_EQ(shown(text("\xed\xa0\x80")), "'\\xed\\xa0\\x80'");
  EXPECT_EQ(shown(text("\xff")), "pickle_not_utf8");
  EXPECT_EQ(shown(text("\xc0\x80")), "pickle_not_utf8");
  EXPECT_EQ(shown("U\x01\xe9"), "b'\\xe9'") << "a Python 2 str that is not a text";
}

TEST(Unpickler, ReadsContainers) {
  EXPECT_EQ(shown("]"), "[]");
  EXPECT_EQ(shown("]K\1a"), "[1]");
  EXPECT_EQ(shown("](K\1K\2e"), "[1, 2]");
  EXPECT_EQ(shown("(K\1K\2l"), "[1, 2]");
  EXPECT_EQ(shown(")"), "()");
  EXPECT_EQ(shown("K\1\x85"), "(1)");
  EXPECT_EQ(shown("K\1K\2\x86"), "(1, 2)");
  EXPECT_EQ(shown("K\1K\2K\3\x87"), "(1, 2, 3)");
  EXPECT_EQ(shown("(K\1K\2K\3K\4t"), "(1, 2, 3, 4)");
  EXPECT_EQ(shown("}"), "{}");
  EXPECT_EQ(shown("}K\1K\2s"), "{1: 2}");
  EXPECT_EQ(shown("}(K\1K\2K\3K\4u"), "{1: 2, 3: 4}");
  EXPECT_EQ(shown("(K\1K\2d"), "{1: 2}");
  EXPECT_EQ(shown("\x8f(K\1K\2\x90"), "builtins.set([1, 2])");
  EXPECT_EQ(shown("(K\1K\2\x91"), "builtins.frozenset([1, 2])");
}

TEST(Unpickler, ReadsStackAndMemoOpcodes) {
  EXPECT_EQ(shown("K\1K\2"
                  "0"),
            "1");
  EXPECT_EQ(shown("K\1(K\2K\3"
                  "1"),
            "1");
  EXPECT_EQ(shown("K\1(0"), "1") << "POP of a fresh mark takes the mark";
  EXPECT_EQ(shown("K\1"
                  "2\x86"),
            "(1, 1)");
  EXPECT_EQ(shown(bytes("]q\x00h\x00\x86")), "([], [])");
  EXPECT_EQ(shown("]r" + le(1, 4) + "j" + le(1, 4) + "\x86"), "([], [])");
  EXPECT_EQ(shown("]p0\ng0\n\x86"), "([], [])");
  EXPECT_EQ(shown(bytes("]\x94K\1\x94h\1h\x00\x87")), "(1, 1, [])") << "MEMOIZE numbers from 0 on";
}

TEST(Unpickler, KeepsIdentity) {
  const auto file = unpickle(finish(bytes("]q\x00h\x00]\x87")));
  ASSERT_OK(file);
  const Value tuple = file->tree.root();
  EXPECT_EQ(tuple.item(0).id(), tuple.item(1).id());
  EXPECT_NE(tuple.item(0).id(), tuple.item(2).id());
}

TEST(Unpickler, ReadsCyclesAsCPythonWritesThem) {
  // l = []; l.append(l)
  const auto list =
      unpickle(finish(bytes("]q\x00h\x00"
                            "a")));
  ASSERT_OK(list);
  EXPECT_EQ(list->tree.root().item(0).id(), list->tree.root().id());
  // t = ([],); t[0].append(t): the tuple is written inside its own list, then taken from the memo.
  const auto tuple =
      unpickle(finish(bytes("]q\x00h\x00\x85q\x01"
                            "a0h\x01")));
  ASSERT_OK(tuple);
  EXPECT_EQ(tuple->tree.root().item(0).item(0).id(), tuple->tree.root().id());
}

TEST(Unpickler, RecordsCalls) {
  const string cls = global("mod", "Cls");
  EXPECT_EQ(shown(cls), "mod.Cls");
  EXPECT_EQ(shown(text("mod") + text("A.b") + "\x93"), "mod.A.b");
  EXPECT_EQ(shown(cls + "K\1\x85R"), "mod.Cls(1)");
  EXPECT_EQ(shown(cls + "K\1\x85\x81"), "copyreg.__newobj__(mod.Cls, 1)");
  EXPECT_EQ(shown(cls + "K\1\x85}\x92"), "copyreg.__newobj_ex__(mod.Cls, (1), {})");
  EXPECT_EQ(shown("(K\1imod\nCls\n"), "mod.Cls(1)");
  EXPECT_EQ(shown("(" + cls + "K\1o"), "mod.Cls(1)");
  EXPECT_EQ(shown(cls + ")R}K\1K\2sb"), "mod.Cls()|{1: 2}");
  EXPECT_EQ(shown(cls + ")RK\1a(K\2K\3e"), "mod.Cls()+[1, 2, 3]");
  EXPECT_EQ(shown(cls + ")RK\1K\2s(K\3K\4u"), "mod.Cls(){1: 2, 3: 4}");
  EXPECT_EQ(shown(cls + ")R)R"), "mod.Cls()()") << "the result of a call is called";
}

TEST(Unpickler, GivesPython3Names) {
  EXPECT_EQ(shown(global("__builtin__", "unicode")), "builtins.str");
  EXPECT_EQ(shown(global("__builtin__", "xrange")), "builtins.range");
  EXPECT_EQ(shown(global("__builtin__", "slice")), "builtins.slice");
  EXPECT_EQ(shown(global("copy_reg", "_reconstructor")), "copyreg._reconstructor");
  EXPECT_EQ(shown(global("exceptions", "ValueError")), "builtins.ValueError");
  EXPECT_EQ(shown(global("exceptions", "StandardError")), "builtins.Exception");
  EXPECT_EQ(shown(global("itertools", "izip")), "builtins.zip");
  EXPECT_EQ(shown("(icopy_reg\nX\n"), "copyreg.X()");
  // From protocol 3 on pickles have Python 3's names, and a module may be called as an old one was.
  EXPECT_EQ(shown("\x80\x04" + text("commands") + text("Config") + "\x93"), "commands.Config");
  EXPECT_EQ(shown(text("commands") + text("Config") + "\x93"), "subprocess.Config");
}

TEST(Unpickler, SpellsPythonValuesInOneWay) {
  const auto call_of = [](const char* module, const char* name, const string& arguments) {
    return shown(call(global(module, name), arguments));
  };
  EXPECT_EQ(call_of("_codecs", "encode", tuple({text("a\u00ff"), text("latin1")})), "b'a\\xff'");
  EXPECT_EQ(call_of("_codecs", "encode", tuple({text("a\u00ff"), text("utf-8")})), "b'a\u00ff'");
  EXPECT_EQ(call_of("_codecs", "encode", tuple({text("\u0100"), text("latin1")})),
            "_codecs.encode('\u0100', 'latin1')");
  EXPECT_EQ(call_of("_codecs", "encode", tuple({text("a"), text("rot13")})),
            "_codecs.encode('a', 'rot13')");
  EXPECT_EQ(call_of("__builtin__", "bytes", ")"), "b''");
  EXPECT_EQ(call_of("__builtin__", "bytes", "]\x85"), "builtins.bytes([])");
  EXPECT_EQ(call_of("__builtin__", "bytearray", "C\1a\x85"), "builtins.bytearray(b'a')");
  EXPECT_EQ(call_of("__builtin__", "bytearray", ")"), "builtins.bytearray(b'')");
  EXPECT_EQ(call_of("__builtin__", "bytearray", tuple({text("a\u00ff"), text("latin-1")})),
            "builtins.bytearray(b'a\\xff')");
  EXPECT_EQ(call_of("__builtin__", "set", list({"K\1"}) + "\x85"), "builtins.set([1])");
  EXPECT_EQ(call_of("__builtin__", "set", ")"), "builtins.set([])");
  EXPECT_EQ(call_of("__builtin__", "frozenset", "K\1\x85\x85"), "builtins.frozenset([1])");
  EXPECT_EQ(call_of("__builtin__", "complex", "K\1K\2\x86"), "builtins.complex(1, 2)");
  EXPECT_EQ(call_of("collections", "OrderedDict", ")"), "collections.OrderedDict()");
  EXPECT_EQ(call_of("collections", "OrderedDict",
                    list({list({"K\1", "K\2"}), tuple({"K\3", "K\4"})}) + "\x85"),
            "collections.OrderedDict(){1: 2, 3: 4}");
  EXPECT_EQ(call_of("collections", "OrderedDict", list({list({"K\1"})}) + "\x85"),
            "collections.OrderedDict([[1]])");
  EXPECT_EQ(call_of("torch", "Size", "K\2K\3\x86\x85"), "torch.Size((2, 3))");
  EXPECT_EQ(call_of("torch", "device", text("cuda") + "K\1\x86"), "torch.device('cuda', 1)");
  EXPECT_EQ(call_of("torch.serialization", "_get_layout", text("torch.sparse_coo") + "\x85"),
            "torch.sparse_coo");
  EXPECT_EQ(call_of("torch.serialization", "_get_layout", text("torch.sparse") + "\x85"),
            "torch.serialization._get_layout('torch.sparse')");
}

TEST(Unpickler, LongBytesBecomeTensors) {
  const string longest(kLongBytes, 'x');
  const auto inline_bytes = unpickle(finish("B" + le(longest.size(), 4) + longest));
  ASSERT_OK(inline_bytes);
  EXPECT_TRUE(inline_bytes->tensors.empty());
  const auto file = unpickle(finish("B" + le(longest.size() + 1, 4) + longest + "y"));
  ASSERT_OK(file);
  EXPECT_EQ(show(file->tree.root()), "b@T0");
  ASSERT_EQ(file->tensors.size(), 1u);
  EXPECT_EQ(file->tensors[0].storage, kNoStorage);
  EXPECT_EQ(file->tensors[0].nbytes, kLongBytes + 1);
  EXPECT_EQ(file->held[file->tensors[0].held], longest + "y");
  EXPECT_EQ(file->dims[file->tensors[0].dims], kLongBytes + 1);
}

TEST(Unpickler, AnyByteIsAnOpcodeRefusedOrUnknown) {
  const std::set<int> refused{0x82, 0x83, 0x84, 0x97, 0x98};
  int known = 0;
  for (int byte = 0; byte < 256; ++byte) {
    const OpRow& row = kPickleOps[static_cast<std::size_t>(byte)];
    string operand(row.operand_nbytes, '\0');
    if (row.operand == Operand::line) operand = "1\n";
    if (row.operand == Operand::two_lines) operand = "a\nb\n";
    // With something on the stack for any of them, and a mark.
    const auto result = unpickle(finish(string("]](K\1K\2") + static_cast<char>(byte) + operand));
    const bool is_known = row.group != OpGroup::unknown;
    known += is_known ? 1 : 0;
    if (refused.contains(byte)) {
      EXPECT_ERROR(result, pickle_opcode_refused) << byte;
    } else if (!is_known) {
      EXPECT_ERROR(result, pickle_opcode_unknown) << byte;
    } else if (!result) {
      EXPECT_NE(result.error().code, ErrorCode::pickle_opcode_unknown)
          << byte << result.error().message;
    }
  }
  EXPECT_EQ(known, 68);
}

TEST(Unpickler, AnyOpcodeOnAnEmptyStackHasAVerdict) {
  for (int byte = 0; byte < 256; ++byte) {
    for (const char* head : {"", "(", "N", "(N", "]", "}("}) {
      const auto result = unpickle(string("\x80\x02") + head + static_cast<char>(byte));
      EXPECT_FALSE(result && byte != '.') << byte;  // nothing is complete without STOP
    }
  }
}

TEST(Unpickler, EveryPrefixIsTruncated) {
  const string whole = finish(dict({text("weight"), tensor(), text("epoch"), integer(3)}) + "q\1" +
                              "F1.5\n0" + "\x95" + le(4, 8) + "K\1K\2" + "00");
  ASSERT_OK(unpickle(whole));
  for (std::size_t size = 0; size < whole.size(); ++size) {
    const auto result = unpickle(whole.substr(0, size));
    EXPECT_ERROR(result, pickle_truncated) << size;
  }
}

TEST(Unpickler, MessagesNameByteAndOpcode) {
  const auto result = unpickle("\x80\x02]K\1K\2s.");
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().message, "byte 7: SETITEM: the target is a list, expected a dict");
  EXPECT_EQ(unpickle("\x80\x02\xfe").error().message,
            "byte 2: opcode 0xfe: not an opcode of protocols 0 to 5");
}

TEST(Unpickler, TakesNoMoreThanIsOnTheStack) {
  for (const char* body : {"", "0", "2", "\x85", "K\1\x86", "K\1K\2\x87", "K\1R", "K\1b", "K\1a",
                           "}K\1s", "Q", "q\1", "K\1\x81", "K\1K\2\x92", "K\1\x93", "\x94"})
    EXPECT_EQ(shown(body), "pickle_stack_underflow") << body;
  // Values below a mark are out of reach.
  for (const char* body :
       {"]K\1(a", "}K\1K\2(s", "K\1(2", "K\1(.", "K\1(\x85", "(e", "(u", "(\x90"})
    EXPECT_EQ(shown(body), "pickle_stack_underflow") << body;
}

TEST(Unpickler, WantsAMarkWhereOneBelongs) {
  for (const char* body : {"t", "]e", "}u", "l", "d", "1", "\x91", "\x8f\x90", "o", "imod\nCls\n"})
    EXPECT_EQ(shown(body), "pickle_mark_missing") << body;
}

TEST(Unpickler, ReadsOnlyWhatTheMemoHas) {
  for (const string& body :
       {string("h\1"), "j" + le(0xFFFFFFFF, 4), string("g5\n"), bytes("]q\x02h\1")})
    EXPECT_EQ(shown(body), "pickle_memo_missing") << body;
  for (const char* body :
       {"]p-1\n", "]p1_0\n", "]p 1\n", "]pabc\n", "]p\n", "]p999999999999999999999999\n", "g-1\n"})
    EXPECT_EQ(shown(body), "pickle_literal") << body;
}

TEST(Unpickler, FarMemoIndicesAllocateNothing) {
  EXPECT_EQ(shown("]q\3"), "[]");
  for (const std::uint64_t index : {1ULL << 20, 1ULL << 31, 0xFFFFFFFFULL})
    EXPECT_EQ(shown("]r" + le(index, 4)), "pickle_limit") << index;
  EXPECT_EQ(shown("]p9223372036854775807\n"), "pickle_limit");
  EXPECT_EQ(shown("]replace."), "pickle_limit") << "CVE-2018-20406";
}

TEST(Unpickler, HugeLengthsAllocateNothing) {
  for (const std::uint64_t length : {0x7FFFFFFFULL, 0x80000000ULL, 0xFFFFFFFFULL}) {
    for (const char* op : {"X", "B"})
      EXPECT_EQ(shown(op + le(length, 4) + "abc"), "pickle_truncated");
    const string wanted = length > 0x7FFFFFFF ? "pickle_literal" : "pickle_truncated";
    for (const char* op : {"T", "\x8b"})
      EXPECT_EQ(shown(op + le(length, 4) + "abc"), wanted) << length;
  }
  for (const std::uint64_t length : {1ULL << 31, 1ULL << 40, 1ULL << 62, 1ULL << 63, ~0ULL, 6ULL}) {
    for (const char* op : {"\x8d", "\x8e", "\x96", "\x95"})
      EXPECT_EQ(shown(op + le(length, 8) + "abcd"), "pickle_truncated") << length;
  }
}

TEST(Unpickler, FramesHoldWholeOpcodes) {
  EXPECT_EQ(shown("\x95" + le(2, 8) + "K\1"), "1");
  EXPECT_EQ(shown("\x95" + le(0, 8) + "K\1"), "1");
  EXPECT_EQ(shown("\x95" + le(3, 8) + "K\1"), "1") << "STOP belongs to the frame";
  EXPECT_EQ(shown("\x95" + le(4, 8) + "K\1"), "pickle_truncated") << "longer than the rest";
  EXPECT_EQ(shown("\x95" + le(1, 8) + "K\1"), "pickle_truncated") << "ends inside an opcode";
  EXPECT_EQ(shown("\x95" + le(3, 8) + "B" + le(2, 4) + "ab"), "pickle_truncated");
  EXPECT_EQ(shown("\x95" + le(11, 8) + "\x95" + le(1, 8) + "N"), "pickle_truncated")
      << "a frame in a frame";
  EXPECT_EQ(shown("\x95" + le(1, 8) + "N\x95" + le(1, 8) + "N0"), "None");
}

TEST(Unpickler, ProtocolsAreZeroToFive) {
  for (int protocol = 0; protocol <= 5; ++protocol)
    EXPECT_OK(unpickle(string("\x80") + static_cast<char>(protocol) + "N."));
  for (const int protocol : {6, 7, 255})
    EXPECT_ERROR(unpickle(string("\x80") + static_cast<char>(protocol) + "N."),
                 pickle_opcode_refused);
  EXPECT_OK(unpickle("N.")) << "protocols 0 and 1 have no PROTO";
}

TEST(Unpickler, ContainersTakeOnlyWhatBelongs) {
  // CVE-2026-24747 and its kind: opcodes on targets of another type.
  const string cls = global("mod", "Cls");
  for (const string& target : {string("N"), string("K\1"), text("a"), string(")"), string("}"), cls,
                               storage(), tensor(), string("C\1a")}) {
    EXPECT_EQ(shown(target + "K\1a"), "pickle_type") << target;
    EXPECT_EQ(shown(target + "(K\1e"), "pickle_type") << target;
  }
  for (const string& target : {string("N"), string("K\1"), text("a"), string(")"), string("]"), cls,
                               storage(), tensor(), string("C\1a")}) {
    EXPECT_EQ(shown(target + "K\1K\2s"), "pickle_type") << target;
    EXPECT_EQ(shown(target + "(K\1K\2u"), "pickle_type") << target;
    EXPECT_EQ(shown(target + "}b"), "pickle_type") << target;
  }
  for (const string& target :
       {string("]"), string("}"), cls + ")R", call(global("__builtin__", "set"), ")")})
    EXPECT_EQ(shown(target + "(K\1\x90"), "pickle_type") << target;
  EXPECT_EQ(shown("}(K\1u"), "pickle_type") << "a key without value";
  EXPECT_EQ(shown("(K\1d"), "pickle_type");
  EXPECT_EQ(shown("}]K\1s"), "pickle_type") << "a list as key";
  EXPECT_EQ(shown("}}K\1s"), "pickle_type") << "a dict as key";
  EXPECT_EQ(shown(cls + ")R}b}b"), "pickle_type") << "two states";
}

TEST(Unpickler, OnlyGlobalsAndObjectsAreCalled) {
  for (const string& target : {string("N"), text("os.system"), string("]"), storage(), tensor()}) {
    EXPECT_EQ(shown(target + ")R"), "pickle_type");
    EXPECT_EQ(shown(target + ")\x81"), "pickle_type");
    EXPECT_EQ(shown(target + ")}\x92"), "pickle_type");
    EXPECT_EQ(shown("(" + target + "o"), "pickle_type");
  }
  const string cls = global("mod", "Cls");
  for (const char* arguments : {"N", "]", "}", "K\1"}) {
    EXPECT_EQ(shown(cls + arguments + "R"), "pickle_type");
    EXPECT_EQ(shown(cls + arguments + "\x81"), "pickle_type");
    EXPECT_EQ(shown(cls + arguments + "}\x92"), "pickle_type");
  }
  EXPECT_EQ(shown(cls + ")]\x92"), "pickle_type") << "keyword arguments are a dict";
  EXPECT_EQ(shown(text("m") + "K\1\x93"), "pickle_type");
  EXPECT_EQ(shown("K\1" + text("n") + "\x93"), "pickle_type");
}

TEST(Unpickler, NamesAreText) {
  EXPECT_EQ(shown(global("m\xff", "n")), "pickle_not_utf8");
  EXPECT_EQ(shown(global("m\r", "n")), "pickle_literal");
  EXPECT_EQ(shown(global("", "n")), "pickle_literal");
  EXPECT_EQ(shown(global("m", "")), "pickle_literal");
  EXPECT_EQ(shown(text("m\n") + text("n") + "\x93"), "pickle_literal");
  EXPECT_EQ(shown(global("m", "\u540d")), "m.\u540d");
}

TEST(Unpickler, DangerousNamesAreInert) {
  for (const auto& [module, name] : {std::pair{"os", "system"},
                                     {"__builtin__", "eval"},
                                     {"builtins", "getattr"},
                                     {"torch._utils", "_rebuild_tensor_v2.__globals__"},
                                     {"torch._utils", "_rebuild_tensor_v4"},
                                     {"torch.utils", "_rebuild_tensor_v2"},
                                     {"Torch._utils", "_rebuild_tensor_v2"}}) {
    const auto file = unpickle(finish(call(global(module, name), text("x") + "\x85")));
    ASSERT_OK(file);
    EXPECT_EQ(file->tree.root().kind(), Kind::object);
  }
}

TEST(Unpickler, EqualKeysAreRefused) {
  const auto keys = [](const string& a, const string& b) {
    return shown(dict({a, "K\1", b, "K\2"}));
  };
  const string one_float = bytes("G\x3f\xf0\x00\x00\x00\x00\x00\x00");
  const string nan = bytes("G\x7f\xf8\x00\x00\x00\x00\x00\x00");
  EXPECT_EQ(keys(text("a"), text("a")), "pickle_duplicate_key");
  EXPECT_EQ(keys("K\1", "K\1"), "pickle_duplicate_key");
  EXPECT_EQ(keys("K\1", "\x88"), "pickle_duplicate_key") << "1 == True";
  EXPECT_EQ(keys("K\1", one_float), "pickle_duplicate_key") << "1 == 1.0";
  EXPECT_EQ(keys("\x8a\x08" + bytes("\0\0\0\0\0\0\0\x80"), bytes("G\xc3\xe0\0\0\0\0\0\0")),
            "pickle_duplicate_key")
      << "-2**63 == -2.0**63";
  EXPECT_EQ(keys("\x8a\x09" + bytes("\0\0\0\0\0\0\0\0\x40"), bytes("G\x44\x50\0\0\0\0\0\0")),
            "pickle_duplicate_key")
      << "2**70 == 2.0**70";
  EXPECT_EQ(keys("K\1", call(global("builtins", "complex"), tuple({one_float, bytes("K\0")}))),
            "pickle_duplicate_key")
      << "1 == complex(1, 0)";
  EXPECT_EQ(keys("N", "N"), "pickle_duplicate_key");
  EXPECT_EQ(keys("C\1a", "C\1a"), "pickle_duplicate_key");
  EXPECT_EQ(keys("\x8a\x09" + string(9, '\1'), "\x8a\x09" + string(9, '\1')),
            "pickle_duplicate_key");
  EXPECT_EQ(keys(text("1"), "K\1"), "{'1': 1, 1: 2}");
  EXPECT_EQ(keys(text("a"), "C\1a"), "{'a': 1, b'a': 2}");
  EXPECT_EQ(keys(nan, nan), "{nan: 1, nan: 2}") << "NaN equals nothing";
  EXPECT_EQ(shown(call(global("collections", "OrderedDict"),
                       list({list({text("a"), "K\1"}), list({text("a"), "K\1"})}) + "\x85")),
            "pickle_duplicate_key");
  EXPECT_EQ(shown("}K\1K\2sK\1K\3s"), "pickle_duplicate_key") << "in two steps";
}

TEST(Unpickler, EqualKeysAreFoundAmongMany) {
  std::vector<string> pairs;
  for (int i = 0; i < 1000; ++i) {
    pairs.insert(pairs.end(), {text("key" + std::to_string(i)), "N"});
    pairs.insert(pairs.end(), {integer(i), "N"});
  }
  EXPECT_OK(unpickle(finish(dict(pairs))));
  pairs.insert(pairs.end(), {text("key500"), "N"});
  EXPECT_EQ(shown(dict(pairs)), "pickle_duplicate_key");
  pairs[pairs.size() - 2] = "\x89";  // False == 0
  EXPECT_EQ(shown(dict(pairs)), "pickle_duplicate_key");
}

TEST(Unpickler, EqualKeysAreFoundBehindDictsOfTheSameKeys) {
  const string keys = text("a") + "q\1" + text("b") + "q\2" + "00";
  const string good = dict({"h\1", "K\1", "h\2", "K\2"});
  EXPECT_EQ(shown(keys + tuple({good, good})), "({'a': 1, 'b': 2}, {'a': 1, 'b': 2})");
  const string bad = dict({"h\1", "K\1", "h\1", "K\2"});
  EXPECT_EQ(shown(keys + tuple({good, bad})), "pickle_duplicate_key");
  EXPECT_EQ(shown(keys + tuple({bad, good})), "pickle_duplicate_key");
}

// Every node by number, with the numbers of its parts: graphs may be too much to show.
std::vector<std::vector<NodeId>> nodes_of(const ValueTree& tree) {
  std::vector<std::vector<NodeId>> nodes{{tree.root().id()}};
  for (NodeId id = 0; id < tree.size(); ++id) {
    const Value value = tree.value(id);
    const std::span<const NodeId> children = value.children();
    nodes.emplace_back(children.begin(), children.end());
    nodes.back().push_back(static_cast<NodeId>(value.kind()));
    if (value.kind() != Kind::object) continue;
    nodes.back().push_back(value.callable().id());
    nodes.back().push_back(value.arguments().id());
    nodes.back().push_back(value.state() ? value.state()->id() : kNoNode);
  }
  return nodes;
}

// Most opcodes run ahead without being looked at one by one, but not those that end with a frame.
TEST(Unpickler, RunsCommonOpcodesAheadAsItDoesOneByOne) {
  const std::vector<string> ops{"(",
                                ")",
                                "\x85",
                                "\x86",
                                "\x87",
                                "}",
                                "K\7",
                                "\x88",
                                "\x89",
                                "N",
                                "R",
                                "\x94",
                                "h\1",
                                "h\2",
                                "q\1",
                                "q\2",
                                "j" + le(1, 4),
                                "r" + le(3, 4),
                                "h\3",
                                text("k"),
                                "t",
                                "0",
                                "]",
                                "a",
                                "u",
                                "s",
                                "c"
                                "collections\nOrderedDict\n",
                                "c"
                                "m\nf\n",
                                "h\1)R",
                                bytes("h\x00")};
  std::minstd_rand random(20261124);
  int ok = 0;
  for (int round = 0; round < 20'000; ++round) {
    string ahead = bytes(
        "c"
        "collections\nOrderedDict\n"
        "q\x00"
        ")Rq\1");
    string framed = ahead;
    for (std::size_t i = 0, count = random() % 24; i < count; ++i) {
      const string& op = ops[random() % ops.size()];
      ahead += op;
      // Each opcode of these in a frame of its own.
      if (op == "h\1)R") {
        framed += "\x95" + le(2, 8) + "h\1" + "\x95" + le(1, 8) + ")" + "\x95" + le(1, 8) + "R";
      } else {
        framed += "\x95" + le(op.size(), 8) + op;
      }
    }
    const auto one = unpickle(finish(ahead));
    const auto other = unpickle(finish(framed));
    ASSERT_EQ(one.has_value(), other.has_value()) << quoted(ahead);
    if (!one) {
      ASSERT_EQ(one.error().code, other.error().code) << quoted(ahead);
      continue;
    }
    ++ok;
    ASSERT_EQ(nodes_of(one->tree), nodes_of(other->tree)) << quoted(ahead);
  }
  EXPECT_GT(ok, 1'000);
}

TEST(Unpickler, DeepNestingNeedsNoStack) {
  constexpr std::size_t kDepth = 1'000'000;
  string tuples = "N" + string(kDepth, '\x85');
  EXPECT_OK(unpickle(finish(tuples)));
  string lists = string(kDepth, ']') + string(kDepth - 1, 'a');
  EXPECT_OK(unpickle(finish(lists)));
  string calls = global("m", "C") + "q\1)R";
  for (std::size_t i = 0; i < kDepth / 4; ++i) calls += "h\1)R";
  for (std::size_t i = 0; i < kDepth / 4; ++i) calls += "b";
  EXPECT_OK(unpickle(finish(calls)));
}

TEST(Unpickler, BombsStayLinear) {
  string memo_bomb = "]q\1";  // each step doubles the size of a printed form
  for (int i = 0; i < 60; ++i) memo_bomb += "h\1h\1\x86q\1";
  const auto laughs = unpickle(finish(memo_bomb));
  ASSERT_OK(laughs);
  EXPECT_LT(laughs->tree.size(), 200u);
  string dup_bomb = ")";
  for (int i = 0; i < 64; ++i) dup_bomb += "2\x86";
  EXPECT_OK(unpickle(finish(dup_bomb)));
  EXPECT_OK(unpickle(finish(string(1'000'000, 'N'))));
  EXPECT_ERROR(unpickle(finish(string(1'000'000, '('))), pickle_stack_underflow);
  string pops;
  for (int i = 0; i < 500'000; ++i) pops += "(0";
  EXPECT_OK(unpickle(finish(pops + "N")));
  string dicts = "(" + string(500'000, '}') + "t";
  EXPECT_OK(unpickle(finish(dicts)));
}

TEST(Unpickler, NoFlippedBitDoesHarm) {
  const string good = finish(dict(
      {text("weight"), tensor(), text("epoch"), integer(3), text("x"), ordered_dict() + "}b"}));
  for (std::size_t bit = 0; bit < good.size() * 8; ++bit) {
    string bad = good;
    bad[bit / 8] = static_cast<char>(bad[bit / 8] ^ 1 << bit % 8);
    const auto result = unpickle(bad);
    EXPECT_TRUE(!result || result->tensors.size() <= 1) << bit;
  }
}

// Five bytes, and a copy of the long name, which was gigabytes for a pickle of some 100 KB.
TEST(Unpickler, NamesOutOfTheMemoAreBounded) {
  const auto named = [](int times) {
    string body = text(string(10'000, 'm')) + "q\1" + text("n") + "q\2" + "00";
    for (int i = 0; i < times; ++i) body += "h\1h\2\x93" + string("0");
    return shown(body + "N");
  };
  EXPECT_EQ(named(20), "None");
  EXPECT_EQ(named(200), "pickle_limit");
}

// Five bytes, and a copy of many items each time: 230 KB of pickle took 6 GB.
TEST(Unpickler, ItemsThatCallsCopyAreBounded) {
  const auto repeated = [](const string& arguments, const string& type, const string& call,
                           int times) {
    string body = arguments + "q\1" + type + "q\2" + "00";
    for (int i = 0; i < times; ++i) body += "h\2h\1" + call + "0";
    const auto file = unpickle(finish(body + "N"));
    return string(file ? "read" : name(file.error().code));
  };
  const string many = "(" + string(2'000, 'N') + "t";
  EXPECT_EQ(repeated(many, global("my", "Class"), "\x81", 20), "read");
  EXPECT_EQ(repeated(many, global("my", "Class"), "\x81", 1'000), "pickle_limit");
  // A call that could not be taken apart stays a call.
  EXPECT_OK(unpickle(finish(many + "\x85" + "q\1" + global("builtins", "set") + "q\2h\1R")));
  string sets = many + "\x85" + "q\1" + global("builtins", "set") + "q\2" + "00](";
  for (int i = 0; i < 1'000; ++i) sets += "h\2h\1R";
  const auto file = unpickle(finish(sets + "e"));
  ASSERT_OK(file);
  const Value root = file->tree.root();
  EXPECT_EQ(root.item(0).arguments().item(0).kind(), Kind::list);
  EXPECT_EQ(root.item(999).arguments().item(0).kind(), Kind::tuple);
}

}  // namespace
}  // namespace flatbed::pth
