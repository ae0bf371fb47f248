// The library itself, errors and dtypes in flatbed.h.
#include <array>

#include "c/arguments.hpp"
#include "flatbed/error.hpp"
#include "flatbed/version.hpp"

namespace flatbed::c {

// Numbers of the C interface never change, whatever becomes of the C++ enums.
static_assert(dtype_number(Dtype::boolean) == FLATBED_DTYPE_BOOL);
static_assert(dtype_number(Dtype::f4) == FLATBED_DTYPE_F4);
static_assert(dtype_number(Dtype::f6_e2m3) == FLATBED_DTYPE_F6_E2M3);
static_assert(dtype_number(Dtype::f6_e3m2) == FLATBED_DTYPE_F6_E3M2);
static_assert(dtype_number(Dtype::u8) == FLATBED_DTYPE_U8);
static_assert(dtype_number(Dtype::i8) == FLATBED_DTYPE_I8);
static_assert(dtype_number(Dtype::f8_e5m2) == FLATBED_DTYPE_F8_E5M2);
static_assert(dtype_number(Dtype::f8_e4m3) == FLATBED_DTYPE_F8_E4M3);
static_assert(dtype_number(Dtype::f8_e8m0) == FLATBED_DTYPE_F8_E8M0);
static_assert(dtype_number(Dtype::f8_e4m3fnuz) == FLATBED_DTYPE_F8_E4M3FNUZ);
static_assert(dtype_number(Dtype::f8_e5m2fnuz) == FLATBED_DTYPE_F8_E5M2FNUZ);
static_assert(dtype_number(Dtype::i16) == FLATBED_DTYPE_I16);
static_assert(dtype_number(Dtype::u16) == FLATBED_DTYPE_U16);
static_assert(dtype_number(Dtype::f16) == FLATBED_DTYPE_F16);
static_assert(dtype_number(Dtype::bf16) == FLATBED_DTYPE_BF16);
static_assert(dtype_number(Dtype::i32) == FLATBED_DTYPE_I32);
static_assert(dtype_number(Dtype::u32) == FLATBED_DTYPE_U32);
static_assert(dtype_number(Dtype::f32) == FLATBED_DTYPE_F32);
static_assert(dtype_number(Dtype::c64) == FLATBED_DTYPE_C64);
static_assert(dtype_number(Dtype::f64) == FLATBED_DTYPE_F64);
static_assert(dtype_number(Dtype::i64) == FLATBED_DTYPE_I64);
static_assert(dtype_number(Dtype::u64) == FLATBED_DTYPE_U64);
static_assert(kDtypes.size() == 22, "a new dtype gets a number in flatbed.h");

}  // namespace flatbed::c

#define FLATBED_TEXT_OF(number) #number
#define FLATBED_DOTTED(major, minor, patch) \
  FLATBED_TEXT_OF(major) "." FLATBED_TEXT_OF(minor) "." FLATBED_TEXT_OF(patch)

uint32_t flatbed_abi(void) { return FLATBED_ABI; }

const char* flatbed_version(void) {
  return FLATBED_DOTTED(FLATBED_VERSION_MAJOR, FLATBED_VERSION_MINOR, FLATBED_VERSION_PATCH);
}

// The texts of errors and dtypes are literals, which end with a NUL.
const char* flatbed_error_name(int32_t code) {
  return code == 0 ? "ok" : flatbed::name(static_cast<flatbed::ErrorCode>(code)).data();
}

const char* flatbed_error_meaning(int32_t code) {
  return code == 0 ? "no error" : flatbed::meaning(static_cast<flatbed::ErrorCode>(code)).data();
}

const char* flatbed_dtype_name(uint32_t dtype) {
  const bool known = dtype >= 1 && dtype <= flatbed::kDtypes.size();
  return known ? flatbed::kDtypes[dtype - 1].name.data() : nullptr;
}

uint32_t flatbed_dtype_bits(uint32_t dtype) {
  const bool known = dtype >= 1 && dtype <= flatbed::kDtypes.size();
  return known ? flatbed::kDtypes[dtype - 1].bits : 0;
}

uint32_t flatbed_dtype_parse(flatbed_string name) {
  if (name.data == nullptr) return FLATBED_DTYPE_NONE;
  const auto dtype = flatbed::parse_dtype({name.data, name.size});
  if (!dtype) return FLATBED_DTYPE_NONE;
  return flatbed::c::dtype_number(*dtype);
}
