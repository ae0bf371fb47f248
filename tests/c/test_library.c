// The library, errors and dtypes of flatbed.h.
#include "check.h"

static void names_errors(void) {
  CHECK(strcmp(flatbed_error_name(FLATBED_ERROR_TENSOR_NOT_FOUND), "tensor_not_found") == 0);
  CHECK(strcmp(flatbed_error_meaning(FLATBED_ERROR_TENSOR_NOT_FOUND), "no tensor has this name") ==
        0);
  CHECK(strcmp(flatbed_error_name(FLATBED_OK), "ok") == 0);
  CHECK(strcmp(flatbed_error_meaning(FLATBED_OK), "no error") == 0);
  CHECK(strcmp(flatbed_error_name(-1), "unknown") == 0);
  CHECK(strcmp(flatbed_error_name(INT32_MAX), "unknown") == 0);
}

static void names_dtypes(void) {
  for (uint32_t dtype = FLATBED_DTYPE_BOOL; dtype <= FLATBED_DTYPE_U64; ++dtype) {
    CHECK(flatbed_dtype_name(dtype) != NULL);
    CHECK_NUMBER(flatbed_dtype_parse(flatbed_text(flatbed_dtype_name(dtype))), dtype);
    CHECK(flatbed_dtype_bits(dtype) >= 4);
  }
  CHECK(strcmp(flatbed_dtype_name(FLATBED_DTYPE_BF16), "BF16") == 0);
  CHECK_NUMBER(flatbed_dtype_bits(FLATBED_DTYPE_BF16), 16);
  CHECK_NUMBER(flatbed_dtype_parse(flatbed_text("bf16")), FLATBED_DTYPE_NONE);
  CHECK_NUMBER(flatbed_dtype_parse(flatbed_text(NULL)), FLATBED_DTYPE_NONE);
  CHECK(flatbed_dtype_name(FLATBED_DTYPE_NONE) == NULL);
  CHECK(flatbed_dtype_name(FLATBED_DTYPE_U64 + 1) == NULL);
  CHECK_NUMBER(flatbed_dtype_bits(FLATBED_DTYPE_NONE), 0);
  CHECK_NUMBER(flatbed_dtype_bits(UINT32_MAX), 0);
}

void test_library(void) {
  CHECK_NUMBER(flatbed_abi(), FLATBED_ABI);
  CHECK(strchr(flatbed_version(), '.') != NULL);
  CHECK_NUMBER(sizeof(flatbed_error), 1024);
  names_errors();
  names_dtypes();
}
