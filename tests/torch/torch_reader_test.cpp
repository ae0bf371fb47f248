// TorchReader, through Checkpoint: what is read, viewed, loaded and converted of zips of big-endian
// machines has the order of this machine. Strides are tested by gather_test.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "base/bytes.hpp"
#include "flatbed/checkpoint.hpp"
#include "flatbed/load.hpp"
#include "flatbed/save.hpp"
#include "flatbed/save_plan.hpp"
#include "support/expect_error.hpp"
#include "support/load_model.hpp"
#include "support/temp_dir.hpp"
#include "support/zip_builder.hpp"

namespace flatbed {
namespace {

namespace pickle = test::pickle;
using std::string;
using test::Target;
using test::TempDir;
using test::write_file;

// 0, 1, 2, ... as a big-endian machine and as this one stores numbers of `unit` bytes.
string big(std::size_t nbytes, std::size_t unit) {
  string out(nbytes, '\0');
  for (std::size_t i = 0; i < nbytes; ++i)
    out[i] = static_cast<char>(i / unit * unit + unit - 1 - i % unit);
  return out;
}
string little(std::size_t nbytes) {
  string out(nbytes, '\0');
  for (std::size_t i = 0; i < nbytes; ++i) out[i] = static_cast<char>(i);
  return out;
}

string zip_of(const pickle::Tensor& tensor, const string& data, bool deflate = false) {
  std::vector<test::ZipItem> items = test::torch_items(
      {.pickle = pickle::finish(pickle::dict({pickle::text("w"), pickle::tensor(tensor)})),
       .storages = {},
       .byteorder = "big"});
  if (deflate) {
    items.push_back(test::deflated_item("archive/data/0", data));
  } else {
    items.push_back({.name = "archive/data/0", .data = data});
  }
  return test::build_zip(items);
}

pickle::Tensor typed(const char* storage) {
  return {.storage = pickle::storage({.type = pickle::global("torch", storage)})};
}

string read_part(const Checkpoint& checkpoint, std::size_t begin, std::size_t end) {
  string out(end - begin, '\0');
  static_cast<void>(
      checkpoint.read(checkpoint.tensors()[0], begin, std::as_writable_bytes(std::span(out)))
          .value());
  return out;
}
string read_all(const Checkpoint& checkpoint) {
  return read_part(checkpoint, 0, checkpoint.tensors()[0].nbytes);
}

Result<Checkpoint> open_bytes(const TempDir& dir, const string& bytes) {
  write_file(dir / "a.pth", bytes);
  return Checkpoint::open(dir / "a.pth");
}

struct Row {
  const char* storage;
  std::size_t element, unit;
};
constexpr Row kRows[] = {
    {"DoubleStorage", 8, 8},   {"FloatStorage", 4, 4},        {"HalfStorage", 2, 2},
    {"BFloat16Storage", 2, 2}, {"LongStorage", 8, 8},         {"IntStorage", 4, 4},
    {"ShortStorage", 2, 2},    {"CharStorage", 1, 1},         {"ByteStorage", 1, 1},
    {"BoolStorage", 1, 1},     {"ComplexFloatStorage", 8, 4}, {"ComplexDoubleStorage", 16, 8}};

TEST(BigEndian, EveryDtypeIsReadInThisMachinesOrder) {
  const TempDir dir;
  for (const Row& row : kRows) {
    const std::size_t nbytes = 6 * row.element;
    for (const bool deflate : {false, true}) {
      const auto checkpoint =
          open_bytes(dir, zip_of(typed(row.storage), big(nbytes, row.unit), deflate));
      ASSERT_OK(checkpoint) << row.storage;
      EXPECT_EQ(checkpoint->tensors()[0].stored, deflate        ? Stored::deflated
                                                 : row.unit > 1 ? Stored::byteswapped
                                                                : Stored::plain);
      EXPECT_EQ(read_all(*checkpoint), little(nbytes)) << row.storage;
    }
  }
}

TEST(BigEndian, AnyRangeOfATensorIsReadAlike) {
  const TempDir dir;
  const auto checkpoint = open_bytes(dir, zip_of(typed("ComplexDoubleStorage"), big(96, 8)));
  ASSERT_OK(checkpoint);
  for (std::size_t begin = 0; begin <= 96; ++begin) {
    for (std::size_t end = begin; end <= 96; ++end)
      ASSERT_EQ(read_part(*checkpoint, begin, end), little(96).substr(begin, end - begin));
  }
}

TEST(BigEndian, StridedTensorsAreSwappedAndGathered) {
  const TempDir dir;
  pickle::Tensor transposed = typed("ShortStorage");
  transposed.sizes = pickle::counts({3, 2});
  transposed.strides = pickle::counts({1, 3});
  const auto checkpoint = open_bytes(dir, zip_of(transposed, big(12, 2)));
  ASSERT_OK(checkpoint);
  EXPECT_EQ(read_all(*checkpoint), string("\0\1\6\7\2\3\x8\x9\4\5\xa\xb", 12));
}

TEST(BigEndian, AViewBeginsAtItsOwnElement) {
  const TempDir dir;
  pickle::Tensor part = typed("IntStorage");
  part.offset = pickle::integer(2);
  part.sizes = pickle::counts({3});
  part.strides = pickle::counts({1});
  EXPECT_EQ(read_all(open_bytes(dir, zip_of(part, big(24, 4))).value()), little(24).substr(8, 12));
}

TEST(BigEndian, ConjugatesAreOfSwappedNumbers) {
  const TempDir dir;
  pickle::Tensor tensor = typed("ComplexFloatStorage");
  tensor.metadata = pickle::dict({pickle::text("conj"), "\x88"});
  string expected = little(48);
  for (std::size_t at = 7; at < expected.size(); at += 8)
    expected[at] = static_cast<char>(expected[at] ^ 0x80);
  EXPECT_EQ(read_all(open_bytes(dir, zip_of(tensor, big(48, 4))).value()), expected);
}

TEST(BigEndian, IsConvertedAndLoaded) {
  const TempDir dir;
  const auto checkpoint = open_bytes(dir, zip_of(typed("FloatStorage"), big(24, 4)));
  ASSERT_OK(checkpoint);
  EXPECT_ERROR(checkpoint->view(checkpoint->tensors()[0]), not_viewable);
  const auto plan = make_plan(*checkpoint);
  ASSERT_OK(plan);
  ASSERT_OK(save(dir / "b.safetensors", *plan, {.sync = false}));
  const auto converted =
      Checkpoint::open(dir / "b.safetensors", {.check_seal = CheckSeal::required});
  ASSERT_OK(converted);
  EXPECT_EQ(read_all(*converted), little(24));
  Target target(24, 0);
  LoadPlan load_plan;
  ASSERT_OK(load_plan.add(*checkpoint, "w", target.destination(nullptr)));
  ASSERT_OK(load(load_plan));
  EXPECT_EQ(target.bytes(), little(24));
}

// torch swaps such a file by the dtype of the storage, which _rebuild_tensor_v3 does not have.
TEST(BigEndian, AnUntypedStorageIsRefusedWhereItsOrderMatters) {
  const TempDir dir;
  const auto untyped = [&](const char* dtype, std::int64_t nbytes) {
    return open_bytes(
        dir, zip_of({.storage =
                         pickle::storage({.type = pickle::global("torch.storage", "UntypedStorage"),
                                          .count = pickle::integer(nbytes)}),
                     .metadata = pickle::global("torch", dtype),
                     .function = pickle::global("torch._utils", "_rebuild_tensor_v3")},
                    little(static_cast<std::size_t>(nbytes))));
  };
  for (const char* dtype : {"uint16", "uint32", "uint64", "complex32", "bits16", "float32"}) {
    const auto refused = untyped(dtype, 48);
    EXPECT_ERROR(refused, torch_unsupported) << dtype;
  }
  const auto refused = untyped("uint16", 12);
  EXPECT_NE(refused.error().message.find(
                "torch.uint16 in a big-endian file: its byte order is not recorded"),
            string::npos)
      << refused.error().message;
  for (const char* dtype : {"float8_e4m3fn", "float8_e5m2", "float8_e8m0fnu", "bits8", "uint8"}) {
    const auto checkpoint = untyped(dtype, 6);
    ASSERT_OK(checkpoint) << dtype;
    EXPECT_EQ(read_all(*checkpoint), little(6)) << dtype;
  }
}

// Six bytes of this dtype with torch's negative bit, as they are read.
string negated_bytes(const char* dtype, const string& data) {
  const TempDir dir;
  const pickle::Tensor tensor{
      .storage = pickle::storage({.type = pickle::global("torch.storage", "UntypedStorage")}),
      .metadata = pickle::global("torch", dtype) + pickle::dict({pickle::text("neg"), "\x88"}),
      .function = pickle::global("torch._utils", "_rebuild_tensor_v3")};
  const Result<Checkpoint> opened = open_bytes(dir, zip_of(tensor, data));
  return opened ? read_all(*opened) : opened.error().message;
}

TEST(TorchReader, NegatesFloatsOfEightBits) {
  const string data("\x00\x38\xb8\x7f\x01\x80", 6);
  EXPECT_EQ(negated_bytes("float8_e4m3fn", data), "\x80\xb8\x38\xff\x81" + string(1, '\0'));
  EXPECT_EQ(negated_bytes("float8_e5m2", data), "\x80\xb8\x38\xff\x81" + string(1, '\0'));
  // 0x80 is NaN, and there is no negative zero.
  EXPECT_EQ(negated_bytes("float8_e4m3fnuz", data), string(1, '\0') + "\xb8\x38\xff\x81\x80");
}

TEST(TorchReader, NegatesIntegersInTwosComplement) {
  const TempDir dir;
  pickle::Tensor tensor = typed("ShortStorage");
  tensor.metadata = pickle::dict({pickle::text("neg"), "\x88"});
  const string data("\x00\x00\x00\x01\xff\xff\x01\x00\x80\x00\x00\xff",
                    12);  // 0 1 -1 256 -32768 255
  const Result<Checkpoint> opened = open_bytes(dir, zip_of(tensor, data));
  ASSERT_OK(opened);
  EXPECT_EQ(read_all(*opened), string("\x00\x00\xff\xff\x01\x00\x00\xff\x00\x80\x01\xff", 12));
}

}  // namespace
}  // namespace flatbed
