// numpy's arrays and scalars in pickles, as numpy 1 and 2 write them, and as nobody should.
#include "torch/numpy_objects.hpp"

#include <gtest/gtest.h>

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
using namespace std::string_literals;  // NOLINT: pickles hold NULs
namespace pickle = test::pickle;

string bytes(const string& contents) { return "B" + le(contents.size(), 4) + contents; }

struct DtypeText {
  string name = "i2";
  string order = "<";
  string version = integer(3);
  string fields = "NNN";  // subarray, names, fields
  string nbytes = integer(-1);
  string more = {};
};
string dtype(const DtypeText& d = {}) {
  return call(global("numpy", "dtype"), pickle::tuple({text(d.name), "\x89", "\x88"})) +
         pickle::tuple(
             {d.version, text(d.order), d.fields, d.nbytes, integer(-1), integer(0), d.more}) +
         "b";
}
// Of dates: (metadata, (unit, count, 1, 1)).
string dates(const string& unit, int count, const string& metadata = "N") {
  return dtype({.name = "M8",
                .version = integer(4),
                .more = pickle::tuple({metadata, pickle::tuple({bytes(unit), integer(count),
                                                                integer(1), integer(1)})})});
}

struct ArrayText {
  string type = dtype();
  string shape = counts({3});
  string fortran = "\x89";
  string data = bytes("abcdef");
  string version = integer(1);
  string module = "numpy._core.multiarray";
  string kind = global("numpy", "ndarray");
};
string array(const ArrayText& a = {}) {
  return call(global(a.module, "_reconstruct"), pickle::tuple({a.kind, counts({0}), bytes("b")})) +
         pickle::tuple({a.version, a.shape, a.type, a.fortran, a.data}) + "b";
}
string buffer(const ArrayText& a, const string& order = "C") {
  return call(global("numpy._core.numeric", "_frombuffer"),
              pickle::tuple({a.data, a.type, a.shape, text(order)}));
}
string scalar(const string& type, const string& data) {
  return call(global("numpy.core.multiarray", "scalar"), pickle::tuple({type, data}));
}

// "<i2 I16 [3] 'abcdef'" of the array at the root, or the whole value, or the error's name.
string made(const string& body) {
  const auto file = unpickle(finish(body));
  if (!file) return string(name(file.error().code));
  const Value root = file->tree.root();
  if (root.kind() == Kind::scalar) return str_cat(root.text(), " ", quoted(root.raw()));
  if (root.kind() != Kind::array) return show(root);
  const TorchTensor& tensor = file->tensors[*root.tensor()];
  EXPECT_EQ(file->held[tensor.held].size(), tensor.nbytes);
  EXPECT_EQ(tensor.rank, tensor.stored_rank);
  return str_cat(root.text(), " ", name(tensor.dtype), " ",
                 shape_text(file->dims.data() + tensor.dims, tensor.rank), " ",
                 quoted(file->held[tensor.held]));
}

TEST(NumpyObjects, ReadsArraysOfEveryPickler) {
  EXPECT_EQ(made(array()), "<i2 I16 [3] 'abcdef'");
  EXPECT_EQ(made(array({.module = "numpy.core.multiarray"})), "<i2 I16 [3] 'abcdef'");
  EXPECT_EQ(made(array({.shape = counts({1, 3})})), "<i2 I16 [1,3] 'abcdef'");
  EXPECT_EQ(made(array({.shape = counts({}), .data = bytes("ab")})), "<i2 I16 [] 'ab'");
  EXPECT_EQ(made(array({.shape = counts({0, 7}), .data = bytes("")})), "<i2 I16 [0,7] ''");
  const string latin1 = call(global("_codecs", "encode"), pickle::tuple({text("\u00e9"
                                                                              "bcdef"),
                                                                         text("latin1")}));
  EXPECT_EQ(made(array({.data = latin1})), "<i2 I16 [3] '\\xe9bcdef'");
  EXPECT_EQ(made(array({.data = "U\6abcdef"})), "<i2 I16 [3] 'abcdef'") << "Python 2";
  EXPECT_EQ(made(array({.data = "U\6\xff"
                                "bcdef"})),
            "<i2 I16 [3] '\\xffbcdef'");
  EXPECT_EQ(made(array({.data = "U\6\u00e9"
                                "cdef"})),
            "<i2 I16 [3] '\u00e9cdef'");
  EXPECT_EQ(made(array({.data = text("\u00e9"
                                     "bcdef")})),
            "<i2 I16 [3] '\\xe9bcdef'");
  EXPECT_EQ(made(buffer({})), "<i2 I16 [3] 'abcdef'") << "protocol 5";
  EXPECT_EQ(made(buffer({.data = "\x96" + le(6, 8) + "abcdef"})), "<i2 I16 [3] 'abcdef'");
}

TEST(NumpyObjects, ArraysAreInCOrder) {
  const ArrayText fortran{
      .shape = counts({3, 2}), .fortran = "\x88", .data = bytes("a1b2c3d4e5f6")};
  EXPECT_EQ(made(array(fortran)), "<i2 I16 [3,2] 'a1d4b2e5c3f6'");
  EXPECT_EQ(made(buffer(fortran, "F")), "<i2 I16 [3,2] 'a1d4b2e5c3f6'");
  EXPECT_EQ(made(buffer(fortran, "C")), "<i2 I16 [3,2] 'a1b2c3d4e5f6'");
  EXPECT_EQ(made(array({.type = dtype({.name = "i1", .order = "|"}),
                        .shape = counts({2, 1, 3}),
                        .fortran = "\x88"})),
            "|i1 I8 [2,1,3] 'acebdf'");
  EXPECT_EQ(made(array({.shape = counts({3}), .fortran = "\x88"})), "<i2 I16 [3] 'abcdef'");
}

TEST(NumpyObjects, ArraysAreLittleEndian) {
  const string big = dtype({.order = ">"});
  EXPECT_EQ(made(array({.type = big})), "<i2 I16 [3] 'badcfe'") << "numpy reads it so, too";
  EXPECT_EQ(made(buffer({.type = big})), ">i2 I16 [3] 'badcfe'");
  const string text_type = dtype({.name = "U1", .order = ">", .nbytes = integer(4)});
  EXPECT_EQ(made(array({.type = text_type, .shape = counts({1}), .data = bytes("abcd")})),
            "<U1 U8 [1,4] 'dcba'");
  EXPECT_EQ(made(buffer({.type = text_type, .shape = counts({1}), .data = bytes("abcd")})),
            ">U1 U8 [1,4] 'abcd'");
  const auto eight = [](const char* type) {
    return made(array({.type = dtype({.name = type, .order = ">"}),
                       .shape = counts({1}),
                       .data = bytes("abcdefgh")}));
  };
  EXPECT_EQ(eight("f8"), "<f8 F64 [1] 'hgfedcba'");
  EXPECT_EQ(eight("c8"), "<c8 C64 [1] 'dcbahgfe'") << "each part of a complex number";
  EXPECT_EQ(eight("M8"), "<M8 U8 [1,8] 'hgfedcba'");
  EXPECT_EQ(eight("V8"), "|V8 U8 [1,8] 'abcdefgh'");
}

TEST(NumpyObjects, KnowsEveryType) {
  const auto of = [](const DtypeText& type, std::size_t nbytes) {
    return made(
               array(
                   {.type = dtype(type), .shape = counts({1}), .data = bytes(string(nbytes, '.'))}))
        .substr(0, 15);
  };
  const std::vector<std::pair<const char*, const char*>> orderless = {
      {"b1", "|b1 BOOL [1] '."}, {"i1", "|i1 I8 [1] '.'"}, {"u1", "|u1 U8 [1] '.'"}};
  for (const auto& [type, wanted] : orderless)
    EXPECT_EQ(of({.name = type, .order = "|"}, 1), wanted);
  EXPECT_EQ(of({.name = "u2"}, 2), "<u2 U16 [1] '..");
  EXPECT_EQ(of({.name = "i4"}, 4), "<i4 I32 [1] '..");
  EXPECT_EQ(of({.name = "u4"}, 4), "<u4 U32 [1] '..");
  EXPECT_EQ(of({.name = "i8"}, 8), "<i8 I64 [1] '..");
  EXPECT_EQ(of({.name = "u8"}, 8), "<u8 U64 [1] '..");
  EXPECT_EQ(of({.name = "f2"}, 2), "<f2 F16 [1] '..");
  EXPECT_EQ(of({.name = "f4"}, 4), "<f4 F32 [1] '..");
  EXPECT_EQ(of({.name = "f8"}, 8), "<f8 F64 [1] '..");
  EXPECT_EQ(of({.name = "c8"}, 8), "<c8 C64 [1] '..");
  EXPECT_EQ(of({.name = "c16"}, 16), "<c16 F64 [1,2] ");
  EXPECT_EQ(of({.name = "f16"}, 16), "<f16 U8 [1,16] ");
  EXPECT_EQ(of({.name = "S3", .order = "|", .nbytes = integer(3)}, 3), "|S3 U8 [1,3] '.");
  EXPECT_EQ(of({.name = "U2", .nbytes = integer(8)}, 8), "<U2 U8 [1,8] '.");
  EXPECT_EQ(of({.name = "m8"}, 8), "<m8 U8 [1,8] '.");
  const auto dated = [](const string& type) {
    return made(array({.type = type, .shape = counts({}), .data = bytes("12345678")}));
  };
  EXPECT_EQ(dated(dates("ns", 1)), "<M8[ns] U8 [8] '12345678'");
  EXPECT_EQ(dated(dates("s", 25, "}")), "<M8[25s] U8 [8] '12345678'");
  EXPECT_EQ(dated(dates("generic", 1)), "<M8 U8 [8] '12345678'");
}

TEST(NumpyObjects, ReadsScalars) {
  EXPECT_EQ(made(scalar(dtype({.name = "f8"}), bytes("12345678"))), "<f8 '12345678'");
  EXPECT_EQ(made(scalar(dtype({.name = "b1", .order = "|"}), bytes("\1"))), "|b1 '\\x01'");
  EXPECT_EQ(made(scalar(dtype({.order = ">"}), bytes("ab"))), "<i2 'ba'");
  EXPECT_EQ(made(scalar(dtype(), "U\2ab")), "<i2 'ab'") << "Python 2";
  EXPECT_EQ(made(scalar(dates("D", 1), bytes("12345678"))), "<M8[D] '12345678'");
}

TEST(NumpyObjects, OthersStayCalls) {
  const auto stays = [](const string& body, bool as_call = true) {
    const auto file = unpickle(finish(body));
    ASSERT_OK(file);
    EXPECT_EQ(file->tree.root().kind(), as_call ? Kind::object : Kind::array) << body;
  };
  stays(array(), false);
  stays(array({.kind = global("numpy", "recarray")}));
  stays(
      array({.type = dtype({.name = "O8", .order = "|"}), .data = pickle::list({"N", "N", "N"})}));
  stays(array({.type = dtype({.fields = pickle::tuple({"N", "N"}) + "NN"})}));
  stays(array({.type = dtype({.fields = "N" + pickle::tuple({text("x")}) + "}"})}));
  stays(array({.type = dtype({.order = "="})}));
  stays(array({.type = dtype({.order = "|"})}));
  stays(array({.type = dtype({.version = integer(2)})}));
  stays(array({.type = dtype({.nbytes = integer(4)})}));
  stays(array({.type = dtype({.more = dict({text("unit"), text("m")})})}));
  stays(array({.type = dates("ns", 0)}));
  stays(array({.type = dates("n]", 1)}));
  stays(array({.type = dates("ns", 1, dict({text("a"), "N"}))}));
  for (const char* type : {"i3", "S0", "S01", "S1000000000", "U", "", "T16", "f4x", "c3", "b2"})
    stays(array({.type = dtype({.name = type})}));
  stays(array({.type = "N"}));
  stays(array({.type = call(global("numpy", "dtype"), text("i2") + "\x85")}));
  stays(array({.fortran = "N"}));
  stays(array({.data = "N"}));
  stays(array({.version = integer(0)}));
  stays(scalar(dtype({.name = "O8", .order = "|"}), "N"));
  stays(scalar(dtype({.name = "S2000", .order = "|", .nbytes = integer(2000)}),
               bytes(string(2000, 'x'))));
  stays(buffer({.data = global("my", "buffer") + ")R"}));
  EXPECT_EQ(shown(dtype()), "numpy.dtype('i2', False, True)|(3, '<', None, None, None, -1, -1, 0)");
}

TEST(NumpyObjects, RefusesWhatDoesNotFit) {
  const string malformed = "rebuild_malformed";
  EXPECT_EQ(made(array({.data = bytes("abcde")})), malformed);
  EXPECT_EQ(made(array({.data = bytes("abcdefg")})), malformed);
  EXPECT_EQ(made(array({.data = bytes(string(2000, 'x'))})), malformed);
  EXPECT_EQ(made(array({.shape = counts({-3})})), malformed);
  EXPECT_EQ(made(array({.shape = "N"})), malformed);
  EXPECT_EQ(made(array({.shape = "\x88\x85"})), malformed);
  EXPECT_EQ(made(array({.shape = counts(std::vector<std::int64_t>(65, 1)), .data = bytes("ab")})),
            malformed);
  EXPECT_EQ(made(array({.shape = counts({INT64_MAX, 3})})), "size_overflow");
  EXPECT_EQ(made(array({.shape = counts({0, INT64_MAX, 3}), .data = bytes("")})), "size_overflow");
  EXPECT_EQ(made(array({.shape = counts({INT64_MAX})})), "size_overflow");
  EXPECT_EQ(made(buffer({}, "K")), malformed);
  EXPECT_EQ(made(buffer({.data = bytes("abcde")})), malformed);
  EXPECT_EQ(made(scalar(dtype(), bytes("abc"))), malformed);
  EXPECT_EQ(made(scalar(dtype(), text("\u2603"))), malformed);
}

TEST(NumpyObjects, LongContentsAreNotCopied) {
  const string long_bytes = bytes(string(4000, 'x'));
  const auto file = unpickle(finish(array({.shape = counts({2000}), .data = long_bytes})));
  ASSERT_OK(file);
  ASSERT_EQ(file->tensors.size(), 1u) << "that of the bytes object is dropped";
  EXPECT_EQ(file->tensors[0].dtype, Dtype::i16);
  EXPECT_EQ(file->held.size(), 1u);
  // Bytes that are also a value of their own are both.
  const auto both = unpickle(finish(
      pickle::list({long_bytes + "q\0"s, array({.shape = counts({2000}), .data = "h\0"s})})));
  ASSERT_OK(both);
  EXPECT_EQ(show(both->tree.root().item(0)), "b@T0");
  EXPECT_EQ(both->tree.root().item(1).tensor(), 1u);
  EXPECT_EQ(both->held.size(), 1u);
}

TEST(NumpyObjects, RepeatedCopiesAreBounded) {
  const ArrayText big{.type = dtype({.order = ">"}),
                      .shape = counts({500'000}),
                      .data = "h\0"s,
                      .module = "numpy.core.multiarray"};
  const string first = bytes(string(1'000'000, 'x')) + "q\0"s;
  const auto times = [&](int count) {
    string body = "](" + first;
    for (int i = 0; i < count; ++i) body += array(big);
    const auto file = unpickle(finish(body + "e"));
    return file ? string("read") : string(name(file.error().code));
  };
  EXPECT_EQ(times(68), "read");
  EXPECT_EQ(times(69), "pickle_limit");
}

TEST(NumpyObjects, AnArrayIsOneObject) {
  // Memorised when it is still empty, as numpy writes it; then filled.
  const string empty = call(global("numpy.core.multiarray", "_reconstruct"),
                            pickle::tuple({global("numpy", "ndarray"), counts({0}), bytes("b")}));
  const string state = pickle::tuple({integer(1), counts({3}), dtype(), "\x89", bytes("abcdef")});
  const auto file = unpickle(finish("](" + empty + "q\1h\1" + state + "be"));
  ASSERT_OK(file);
  EXPECT_EQ(file->tree.root().item(0).kind(), Kind::array);
  EXPECT_EQ(file->tree.root().item(0).id(), file->tree.root().item(1).id());
  EXPECT_EQ(shown(array() + state + "b"), "pickle_type") << "filled twice";
}

TEST(NumpyObjects, ArraysAreNoKeys) {
  EXPECT_EQ(shown(dict({array(), "N"})), "pickle_type");
  // A key that becomes one later.
  const string empty = call(global("numpy.core.multiarray", "_reconstruct"),
                            pickle::tuple({global("numpy", "ndarray"), counts({0}), bytes("b")}));
  const string state = pickle::tuple({integer(1), counts({3}), dtype(), "\x89", bytes("abcdef")});
  EXPECT_EQ(shown("](}" + empty + "q\1Nsh\1" + state + "be"), "pickle_type");
  EXPECT_EQ(shown("](}" + empty + "q\1Nsh\1N" + "be").substr(0, 2), "[{") << "its valid twin";
  EXPECT_EQ(shown(dict({scalar(dtype(), bytes("ab")), "N"})).substr(0, 1), "{");
}

TEST(NumpyObjects, ReadsTheStateOfARandomGenerator) {
  const string state = pickle::tuple({text("MT19937"),
                                      array({.type = dtype({.name = "u4"}),
                                             .shape = counts({624}),
                                             .data = bytes(string(2496, 'r'))}),
                                      integer(7), integer(0), "G" + string(8, '\0')});
  EXPECT_EQ(shown(state), "('MT19937', A0 <u4, 7, 0, 0.000000)");
}

}  // namespace
}  // namespace flatbed::pth
