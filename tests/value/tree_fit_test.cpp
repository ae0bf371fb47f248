// Whether a tree's statements about a tensor fit the stored tensor: the tables of spec T6.
#include "value/tree_fit.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <string_view>
#include <vector>

namespace flatbed {
namespace {

using Dims = std::vector<std::uint64_t>;

TensorInfo stored(Dtype dtype, const Dims& shape) {
  TensorInfo info;
  info.dtype = dtype;
  info.shape = shape;
  return info;
}

bool fits(std::string_view torch_dtype, Dtype dtype, const Dims& shape) {
  TensorAttributes attributes;
  attributes.dtype = torch_dtype;
  return attributes_fit(attributes, stored(dtype, shape));
}

bool array_fits(std::string_view typestr, Dtype dtype, const Dims& shape) {
  const auto type = parse_numpy_type(typestr);
  return type && array_fits(*type, stored(dtype, shape));
}

TEST(AttributesFit, ComplexNumbersAreStoredAsPairs) {
  EXPECT_TRUE(fits("complex128", Dtype::f64, {3, 2}));
  EXPECT_TRUE(fits("complex32", Dtype::f16, {2}));
  EXPECT_TRUE(fits("bcomplex32", Dtype::bf16, {0, 2}));
  EXPECT_FALSE(fits("complex128", Dtype::f64, {3}));
  EXPECT_FALSE(fits("complex128", Dtype::f64, {}));
  EXPECT_FALSE(fits("complex128", Dtype::f32, {3, 2}));
  EXPECT_FALSE(fits("complex32", Dtype::bf16, {3, 2}));
}

TEST(AttributesFit, QuantizedAndNarrowIntegersAreStoredAsTheirBytes) {
  for (const std::string_view name : {"qint8", "int1", "int7"}) {
    EXPECT_TRUE(fits(name, Dtype::i8, {3}));
    EXPECT_FALSE(fits(name, Dtype::u8, {3}));
  }
  for (const std::string_view name :
       {"quint8", "uint1", "uint7", "bits8", "bits1x8", "bits2x4", "bits4x2"}) {
    EXPECT_TRUE(fits(name, Dtype::u8, {3}));
    EXPECT_FALSE(fits(name, Dtype::i8, {3}));
  }
  EXPECT_TRUE(fits("qint32", Dtype::i32, {}));
  EXPECT_TRUE(fits("bits16", Dtype::u16, {1}));
}

TEST(AttributesFit, PairsOfFourBitFloatsAreBytesOnlyInAScalar) {
  EXPECT_TRUE(fits("float4_e2m1fn_x2", Dtype::u8, {}));
  EXPECT_FALSE(fits("float4_e2m1fn_x2", Dtype::u8, {4}));
  EXPECT_FALSE(fits("float4_e2m1fn_x2", Dtype::f4, {4}));
}

TEST(AttributesFit, ATypeThatTheStoredOneImpliesIsNotStated) {
  EXPECT_FALSE(fits("float32", Dtype::f32, {3}));
  EXPECT_FALSE(fits("float32", Dtype::i32, {3}));
  EXPECT_FALSE(fits("float8_e8m0fnu", Dtype::f8_e8m0, {3}));
}

bool packed_fits(std::string_view torch_dtype, const Dims& shape, std::uint64_t stored_nbytes) {
  TensorAttributes attributes;
  attributes.dtype = torch_dtype;
  attributes.shape = shape;
  return attributes_fit(attributes, stored(Dtype::u8, {stored_nbytes}));
}

TEST(AttributesFit, RowsOfPackedTypesFillWholeBytes) {
  EXPECT_TRUE(packed_fits("quint4x2", {3, 5}, 9));
  EXPECT_FALSE(packed_fits("quint4x2", {3, 5}, 8));
  EXPECT_TRUE(packed_fits("quint2x4", {3, 5}, 6));
  EXPECT_FALSE(packed_fits("quint2x4", {3, 5}, 9));
  EXPECT_TRUE(packed_fits("quint2x4", {}, 1));
  EXPECT_TRUE(packed_fits("quint4x2", {std::uint64_t{1} << 52, std::uint64_t{1} << 52, 0}, 0));
  EXPECT_FALSE(packed_fits("quint4x2", {std::uint64_t{1} << 52, std::uint64_t{1} << 52}, 0));
}

TEST(AttributesFit, PackedTypesNeedTheirOwnShape) {
  TensorAttributes attributes;
  attributes.dtype = "quint4x2";
  EXPECT_FALSE(attributes_fit(attributes, stored(Dtype::u8, {4})));
  attributes.shape = {2, 3};
  EXPECT_TRUE(attributes_fit(attributes, stored(Dtype::u8, {4})));
  EXPECT_FALSE(attributes_fit(attributes, stored(Dtype::u8, {4, 1})));
  attributes.stride = {3, 1};
  EXPECT_TRUE(attributes_fit(attributes, stored(Dtype::u8, {4})));
  attributes.stride = {1};
  EXPECT_FALSE(attributes_fit(attributes, stored(Dtype::u8, {4})));
}

TEST(AttributesFit, AnOwnShapeStandsOnlyWhereItIsNeeded) {
  TensorAttributes attributes;
  attributes.shape = {4};
  EXPECT_FALSE(attributes_fit(attributes, stored(Dtype::f32, {4})));
  attributes.dtype = "qint8";
  EXPECT_FALSE(attributes_fit(attributes, stored(Dtype::i8, {4})));
  attributes.dtype = "dtype_of_2031";
  EXPECT_TRUE(attributes_fit(attributes, stored(Dtype::i8, {9})));
}

TEST(AttributesFit, StridesHaveTheRankOfTheTensor) {
  TensorAttributes attributes;
  attributes.stride = {1, 3};
  EXPECT_TRUE(attributes_fit(attributes, stored(Dtype::f32, {3, 3})));
  EXPECT_FALSE(attributes_fit(attributes, stored(Dtype::f32, {3})));
  attributes.dtype = "complex128";
  EXPECT_TRUE(attributes_fit(attributes, stored(Dtype::f64, {3, 3, 2})));
  EXPECT_FALSE(attributes_fit(attributes, stored(Dtype::f64, {3, 2})));
}

TEST(AttributesFit, UnknownTypesFitAnything) {
  EXPECT_TRUE(fits("dtype_of_2031", Dtype::u8, {}));
  EXPECT_TRUE(fits("", Dtype::f6_e2m3, {4}));
}

TEST(NumpyType, HasByteOrderKindAndSize) {
  const auto type = parse_numpy_type("<f8");
  ASSERT_TRUE(type);
  EXPECT_EQ(type->kind, 'f');
  EXPECT_EQ(type->nbytes, 8u);
  EXPECT_EQ(parse_numpy_type(">U3")->nbytes, 12u);
  EXPECT_EQ(parse_numpy_type("|S10")->nbytes, 10u);
}

TEST(NumpyType, OfDatesMayHaveAUnit) {
  EXPECT_TRUE(parse_numpy_type("<M8[ns]"));
  EXPECT_TRUE(parse_numpy_type("<m8[25s]"));
  EXPECT_TRUE(parse_numpy_type("<M8"));
  EXPECT_FALSE(parse_numpy_type("<M8[]"));
  EXPECT_FALSE(parse_numpy_type("<M8[25]"));
  EXPECT_FALSE(parse_numpy_type("<M8[n s]"));
  EXPECT_FALSE(parse_numpy_type("<M8[ns"));
  EXPECT_FALSE(parse_numpy_type("<f8[ns]"));
  for (const std::string_view text : {"<M8[0s]", "<M8[1s]", "<M8[02s]", "<M8[1234567890s]",
                                      "<M8[days]", "<M8[B]", "<M8[2]", "<M4[s]", "|M8[s]"}) {
    EXPECT_FALSE(parse_numpy_type(text)) << text;
  }
}

TEST(NumpyType, OfAnotherFormIsNone) {
  for (const std::string_view text :
       {"",    "<",    "<f",  "f8",  "=f8", "<x8", "<f8 ", "<f-8", "<f8x", "<O8",  "<f1234567890",
        "< 8", "<f08", "|S0", "<i3", "|b2", "<b1", "<i1",  "|i4",  "<f1",  "<f10", "<f32",
        "<c4", "<c20", "<S3", "|U3", "<V8"}) {
    EXPECT_FALSE(parse_numpy_type(text)) << text;
  }
}

TEST(ArrayFits, NumericTypesAreStoredAsThemselves) {
  EXPECT_TRUE(array_fits("|b1", Dtype::boolean, {}));
  EXPECT_TRUE(array_fits(">i4", Dtype::i32, {3}));
  EXPECT_TRUE(array_fits("<u8", Dtype::u64, {3}));
  EXPECT_TRUE(array_fits("<f2", Dtype::f16, {3}));
  EXPECT_TRUE(array_fits("<c8", Dtype::c64, {3}));
  EXPECT_FALSE(array_fits("<i4", Dtype::u32, {3}));
  EXPECT_FALSE(array_fits("<f2", Dtype::bf16, {3}));
}

TEST(ArrayFits, ComplexDoublesAreStoredAsPairs) {
  EXPECT_TRUE(array_fits("<c16", Dtype::f64, {3, 2}));
  EXPECT_FALSE(array_fits("<c16", Dtype::f64, {3}));
  EXPECT_FALSE(array_fits("<c16", Dtype::f64, {}));
}

TEST(ArrayFits, EverythingElseIsStoredAsBytesOfItems) {
  EXPECT_TRUE(array_fits("<f16", Dtype::u8, {3, 16}));
  EXPECT_TRUE(array_fits("<M8[ns]", Dtype::u8, {8}));
  EXPECT_TRUE(array_fits("<U2", Dtype::u8, {0, 8}));
  EXPECT_TRUE(array_fits("|V5", Dtype::u8, {5}));
  EXPECT_FALSE(array_fits("|V5", Dtype::u8, {4}));
  EXPECT_FALSE(array_fits("|V5", Dtype::u8, {}));
  EXPECT_FALSE(array_fits("|V5", Dtype::i8, {5}));
}

}  // namespace
}  // namespace flatbed
