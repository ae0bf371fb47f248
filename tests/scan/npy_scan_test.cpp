// NumPy's array files: harmless ones are plain, objects are followed.
#include "scan/npy_scan.hpp"

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "support/scan_bytes.hpp"
#include "support/scan_payload.hpp"
#include "support/zip_builder.hpp"

namespace flatbed {
namespace {

using std::string;
using test::build_zip;
using test::find;
using test::le;
using test::payload;
using test::says;
using test::scan_bytes;
using test::show;
using test::torch_items;
using test::verdict_of;
using namespace std::string_literals;

constexpr auto kPlain = ScanVerdict::plain;
constexpr auto kUnknown = ScanVerdict::unknown;
constexpr auto kDangerous = ScanVerdict::dangerous;

string npy_header(const string& header, int version = 1) {
  return "\x93NUMPY"s + static_cast<char>(version) + '\0' +
         le(header.size(), version == 1 ? 2 : 4) + header;
}

string npy(const string& descr, const string& data, const string& order = "False") {
  return npy_header("{'descr': " + descr + ", 'fortran_order': " + order +
                    ", 'shape': (2,), }            \n") +
         data;
}

TEST(NpyScan, TakesNumbersForPlain) {
  for (const char* descr :
       {"'<f4'", "'|b1'", "'>c16'", "'<U3'", "'|S10'", "'<M8[ns]'", "'|V4'",
        "[('a', '<f4'), ('b', '|u1', (3,)), ('c', '<i8', 2)]", "[(('title', 'a'), '<f4')]",
        "[('a', [('x', '<f4'), ('y', '<f4')])]", "[('a', [('x', '<f4')], (2, 2)), ('b', '<i4')]"}) {
    const ScanReport report = scan_bytes(npy(descr, string(2, '\x80')));
    EXPECT_EQ(report.verdict, kPlain) << descr << "\n" << show(report);
    EXPECT_EQ(report.files[0].what, "a NumPy array file");
  }
  EXPECT_EQ(verdict_of(npy("'<f4'", string(8, '\1'), "True")), kPlain);
}

TEST(NpyScan, KnowsWhereTheNumbersEnd) {
  for (const auto& [descr, nbytes] : std::vector<std::pair<string, std::size_t>>{
           {"'|b1'", 2},
           {"'<f8'", 16},
           {"'<U3'", 24},
           {"'|S10'", 20},
           {"'<M8[ns]'", 16},
           {"[('a', '<f4'), ('b', '|u1', (3, 2)), ('c', '<i8', 2)]", 2 * (4 + 6 + 16)},
           {"[('a', [('x', '<f4'), ('y', '<f4', (2,))], 3), ('b', '|V4')]", 2 * (3 * 12 + 4)}}) {
    EXPECT_EQ(verdict_of(npy(descr, string(nbytes, '\1'))), kPlain) << descr;
    const ScanReport more = scan_bytes(npy(descr, string(nbytes + 3, '\1')));
    EXPECT_TRUE(says(more, ScanKind::trailing, "3 bytes after the array")) << descr << show(more);
  }
}

TEST(NpyScan, FollowsWhatComesAfterTheNumbers) {
  // numpy.save() into an open file, again and again.
  const string numbers = npy("'<f4'", string(8, '\1'));
  EXPECT_EQ(verdict_of(numbers + numbers + numbers), kPlain);
  const ScanReport array = scan_bytes(numbers + numbers + npy("'|O'", payload()));
  EXPECT_EQ(array.verdict, kDangerous) << show(array);
  ASSERT_NE(find(array, ScanKind::called, "os.system"), nullptr);
  EXPECT_EQ(find(array, ScanKind::called, "os.system")->record, "[array 3]");
  EXPECT_EQ(verdict_of(numbers + payload()), kDangerous);
  EXPECT_EQ(verdict_of(numbers + "cos\nsystem\n(S'id'\ntR."), kDangerous);
  EXPECT_EQ(verdict_of(build_zip({test::deflated_item("a.npy", numbers + payload())})), kDangerous);
}

TEST(NpyScan, FollowsArraysUpToALimit) {
  const string empty = npy_header("{'descr': '|b1', 'fortran_order': False, 'shape': (0,), }");
  string arrays;
  for (int i = 0; i < 10'000; ++i) arrays += empty;
  EXPECT_EQ(verdict_of(arrays), kPlain);
  const ScanReport more = scan_bytes(arrays + npy("'|O'", payload()));
  EXPECT_EQ(more.verdict, kUnknown);
  EXPECT_TRUE(says(more, ScanKind::unseen, "arrays after the first 10000 are not scanned"))
      << show(more);
}

TEST(NpyScan, ReadsHeadersUpToALimit) {
  const string field = ", 'fortran_order': False, 'shape': (1,), }";
  const auto padded = [&](std::size_t nbytes) {
    const string header = "{'descr': '<f4'" + field;
    return npy_header(header + string(nbytes - header.size(), ' '), 2) + "1234";
  };
  EXPECT_EQ(verdict_of(padded(1 << 20)), kPlain);
  EXPECT_EQ(verdict_of(padded((1 << 20) + 1)), kUnknown);
  const auto nested = [&](int depth) {
    string descr = "'<f4'";
    for (int i = 0; i < depth; ++i) descr = "[('a', " + descr + ")]";
    return npy_header("{'descr': " + descr + field) + "1234";
  };
  EXPECT_EQ(verdict_of(nested(16)), kPlain);
  EXPECT_EQ(verdict_of(nested(17)), kUnknown);
  EXPECT_EQ(verdict_of(npy_header("{'descr': '<f4', 'fortran_order': False, "
                                  "'shape': (4294967296, 4294967296), }")),
            kUnknown);
}

TEST(NpyScan, ReadsEveryVersionOfTheHeader) {
  const string header = "{'descr': '<f4', 'fortran_order': False, 'shape': (3L, 2L), }\n";
  for (const int version : {1, 2, 3})
    EXPECT_EQ(verdict_of(npy_header(header, version) + string(24, '\1')), kPlain) << version;
  EXPECT_EQ(verdict_of(npy_header(header, 4) + string(24, '\1')), kUnknown);
  EXPECT_EQ(verdict_of(npy_header(header).substr(0, 40)), kUnknown);
}

TEST(NpyScan, FollowsTheObjectsOfAnArray) {
  for (const char* descr : {"'|O'", "'O'", "'|O8'", "[('a', '<f4'), ('b', '|O')]", "'object'",
                            "'<f4,O'", "[('a', [('x', 'O')])]"}) {
    const ScanReport report = scan_bytes(npy(descr, payload()));
    EXPECT_EQ(report.verdict, kDangerous) << descr << "\n" << show(report);
    EXPECT_NE(find(report, ScanKind::called, "os.system"), nullptr) << show(report);
  }
  EXPECT_EQ(verdict_of(npy("'|O'", test::pickle::finish("]"))), kUnknown);
}

TEST(NpyScan, TrustsNoHeaderThatPythonReadsInAnotherWay) {
  for (const char* header :
       {"{'descr': '<f4', 'fortran_order': False, 'shape': (1,), \"descr\": '|O', }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1,), 'de' 'scr': '|O', }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1,), '\\x64escr': '|O', }",
        "{'descr': '<f4' 'O', 'fortran_order': False, 'shape': (1,), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1,), } or {}"})
    EXPECT_EQ(verdict_of(npy_header(header) + payload()), kDangerous) << header;
}

TEST(NpyScan, FollowsArraysInZips) {
  const string object = npy("'|O'", payload()), numbers = npy("'<f4'", string(8, '\1'));
  const ScanReport plain = scan_bytes(
      build_zip({{.name = "a.npy", .data = numbers}, test::deflated_item("b.npy", numbers)}));
  EXPECT_EQ(plain.verdict, kPlain) << show(plain);
  EXPECT_EQ(plain.files[0].what, "a zip of NumPy arrays");
  const string stored =
      build_zip({{.name = "a.npy", .data = numbers}, {.name = "b.npy", .data = object}});
  EXPECT_EQ(verdict_of(stored), kDangerous);
  EXPECT_EQ(verdict_of(build_zip({test::deflated_item("a.npy", object)})), kDangerous);
  std::vector<test::ZipItem> items = torch_items();
  items.push_back({.name = "archive/mean", .data = object});
  EXPECT_EQ(verdict_of(build_zip(items)), kDangerous);
  items.back().data = numbers;
  EXPECT_EQ(verdict_of(build_zip(items)), kPlain);
}

}  // namespace
}  // namespace flatbed
