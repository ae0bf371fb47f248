// DLPack: what a consumer finds in the structs, which memory it gets, and when that ends.
#include "check.h"
#include "dlpack.h"

static void exports_a_file(void) {
  flatbed_error error;
  flatbed_checkpoint* model = NULL;
  struct DLManagedTensorVersioned* weight = NULL;
  struct DLManagedTensorVersioned* again = NULL;
  struct DLManagedTensor* bias = NULL;
  const char* const path = write_small_model("dlpack.safetensors");
  CHECK_OK(flatbed_open(path, NULL, &model, &error));
  CHECK_OK(flatbed_view_dlpack(model, 0, &weight, &error));
  CHECK_OK(flatbed_view_dlpack_legacy(model, 1, &bias, &error));
  CHECK(weight->major == 1 && weight->flags == 2);
  const DLTensor* const tensor = &weight->tensor;
  CHECK(tensor->device_type == 1 && tensor->device_id == 0 && tensor->byte_offset == 0);
  CHECK(tensor->code == 2 && tensor->bits == 32 && tensor->lanes == 1);
  CHECK(tensor->ndim == 2 && tensor->shape[0] == 2 && tensor->shape[1] == 3);
  CHECK(tensor->strides[0] == 3 && tensor->strides[1] == 1);
  float* const values = tensor->data;
  CHECK(values[5] == 5 && ((const float*)bias->tensor.data)[1] == 7);

  // The consumer may write, and nobody sees it.
  values[5] = 50;
  float value = 0;
  CHECK_OK(flatbed_view_dlpack(model, 0, &again, &error));
  CHECK(((const float*)again->tensor.data)[5] == 5);
  CHECK_OK(flatbed_read(model, 0, 20, &value, 4, FLATBED_VERIFY_YES, &error));
  CHECK(value == 5);
  again->deleter(again);
  flatbed_checkpoint_free(model);  // may go first
  CHECK(values[5] == 50 && values[0] == 0);
  weight->deleter(weight);
  bias->deleter(bias);

  CHECK_OK(flatbed_open(path, NULL, &model, &error));
  CHECK_OK(flatbed_read(model, 0, 20, &value, 4, FLATBED_VERIFY_YES, &error));
  CHECK(value == 5);
  flatbed_checkpoint_free(model);
}

static void exports_every_dtype(void) {
  flatbed_error error;
  flatbed_save_plan* plan = NULL;
  CHECK_OK(flatbed_save_plan_new(&plan, &error));
  const uint64_t shape[] = {3, 8};
  static const unsigned char bytes[3 * 8 * 8];
  for (uint32_t dtype = FLATBED_DTYPE_BOOL; dtype <= FLATBED_DTYPE_U64; ++dtype) {
    CHECK_OK(flatbed_save_plan_add(plan, flatbed_text(flatbed_dtype_name(dtype)), dtype, shape, 2,
                                   bytes, 3 * flatbed_dtype_bits(dtype), &error));
  }
  const char* const path = path_in(output_folder, "dtypes.safetensors");
  CHECK_OK(flatbed_save(path, plan, NULL, NULL, &error));
  flatbed_save_plan_free(plan);
  flatbed_checkpoint* model = NULL;
  CHECK_OK(flatbed_open(path, NULL, &model, &error));
  for (uint64_t i = 0; i < flatbed_tensor_count(model); ++i) {
    flatbed_tensor info = FLATBED_INIT(flatbed_tensor);
    struct DLManagedTensorVersioned* out = NULL;
    CHECK_OK(flatbed_tensor_at(model, i, &info, &error));
    CHECK_OK(flatbed_view_dlpack(model, i, &out, &error));
    const int64_t elements = out->tensor.shape[0] * out->tensor.shape[1];
    CHECK_NUMBER((uint64_t)elements * out->tensor.bits * out->tensor.lanes, info.nbytes * 8);
    CHECK_NUMBER(out->tensor.bits, flatbed_dtype_bits(info.dtype));
    out->deleter(out);
  }
  flatbed_checkpoint_free(model);
}

// Scalars, tensors without elements, computed ones, and memory of the caller's.
static void exports_the_odd_ones(void) {
  flatbed_error error;
  struct DLManagedTensorVersioned* out = NULL;
  flatbed_checkpoint* const model = open_small_model();
  CHECK_OK(flatbed_view_dlpack(model, 2, &out, &error));
  CHECK(out->tensor.ndim == 0 && *(const int64_t*)out->tensor.data == -1);
  const void* data = NULL;
  uint64_t nbytes = 0;
  CHECK_OK(flatbed_view(model, 2, &data, &nbytes, &error));
  CHECK(data != out->tensor.data);  // a copy
  out->deleter(out);

  flatbed_checkpoint* cast = NULL;
  flatbed_cast_rules rules = FLATBED_INIT(flatbed_cast_rules);
  rules.to = FLATBED_DTYPE_BF16;
  CHECK_OK(flatbed_cast(model, &rules, &cast, &error));
  flatbed_checkpoint_free(model);
  CHECK_OK(flatbed_view_dlpack(cast, 0, &out, &error));
  CHECK(out->tensor.code == 4 && ((const uint16_t*)out->tensor.data)[1] == 0x3f80);
  flatbed_checkpoint_free(cast);
  out->deleter(out);

  flatbed_save_plan* plan = NULL;
  const uint64_t none[] = {0, UINT64_C(1) << 52, UINT64_C(1) << 52};
  const uint64_t odd[] = {2, 3};
  CHECK_OK(flatbed_save_plan_new(&plan, &error));
  CHECK_OK(flatbed_save_plan_add(plan, flatbed_text("none"), FLATBED_DTYPE_U8, none, 3, NULL, 0,
                                 &error));
  CHECK_OK(
      flatbed_save_plan_add(plan, flatbed_text("odd"), FLATBED_DTYPE_F4, odd, 2, "abc", 3, &error));
  const char* const path = path_in(output_folder, "odd.safetensors");
  CHECK_OK(flatbed_save(path, plan, NULL, NULL, &error));
  flatbed_save_plan_free(plan);
  flatbed_checkpoint* file = NULL;
  flatbed_tensor info = FLATBED_INIT(flatbed_tensor);
  CHECK_OK(flatbed_open(path, NULL, &file, &error));
  CHECK_OK(flatbed_tensor_find(file, flatbed_text("none"), &info, &error));
  CHECK_OK(flatbed_view_dlpack(file, info.index, &out, &error));
  CHECK(out->tensor.data == NULL && out->tensor.shape[0] == 0);
  out->deleter(out);
  CHECK_OK(flatbed_tensor_find(file, flatbed_text("odd"), &info, &error));
  CHECK_INVALID(flatbed_view_dlpack(file, info.index, &out, &error), "expected a last dimension");
  CHECK(out == NULL);
  flatbed_checkpoint_free(file);
}

static void exports_buffers(void) {
  flatbed_error error;
  flatbed_device* device = NULL;
  flatbed_buffer* buffer = NULL;
  struct DLManagedTensorVersioned* out = NULL;
  CHECK_OK(flatbed_device_host(&device, &error));
  CHECK_OK(flatbed_buffer_new(device, 32, &buffer, &error));
  flatbed_device_free(device);
  memcpy((char*)flatbed_buffer_data(buffer) + 8, "abcdefgh", 8);
  const uint64_t shape[] = {2, 4};
  flatbed_placed_tensor placed = FLATBED_INIT(flatbed_placed_tensor);
  placed.offset = 8;
  placed.shape = shape;
  placed.rank = 2;
  placed.dtype = FLATBED_DTYPE_U8;
  placed.device_type = 1;
  CHECK_OK(flatbed_buffer_dlpack(buffer, &placed, &out, &error));
  CHECK(out->tensor.device_type == 1 && out->flags == 0);
  CHECK(out->tensor.data == (char*)flatbed_buffer_data(buffer) + 8);
  placed.offset = 25;
  struct DLManagedTensorVersioned* none = NULL;
  CHECK_ERROR(flatbed_buffer_dlpack(buffer, &placed, &none, &error), FLATBED_ERROR_BUFFER_TOO_SMALL,
              "the buffer has 32");
  const uint64_t large[] = {UINT64_C(1) << 60, 16};
  placed.shape = large;
  CHECK_ERROR(flatbed_buffer_dlpack(buffer, &placed, &none, &error), FLATBED_ERROR_SIZE_OVERFLOW,
              "");
  placed.dtype = 0;
  CHECK_INVALID(flatbed_buffer_dlpack(buffer, &placed, &none, &error), "'tensor.dtype'");
  placed.dtype = FLATBED_DTYPE_U8;
  placed.shape = NULL;
  CHECK_INVALID(flatbed_buffer_dlpack(buffer, &placed, &none, &error), "'tensor.shape'");
  CHECK_INVALID(flatbed_buffer_dlpack(buffer, NULL, &none, &error), "'tensor'");
  CHECK_INVALID(flatbed_buffer_dlpack(NULL, &placed, &none, &error), "'buffer'");
  CHECK_INVALID(flatbed_buffer_dlpack(buffer, &placed, NULL, &error), "'out'");
  struct DLManagedTensor* legacy = NULL;
  placed.shape = shape;
  placed.offset = 8;
  placed.device_type = 2;  // what the caller says of its device is what the consumer reads
  placed.device_id = 3;
  CHECK_OK(flatbed_buffer_dlpack_legacy(buffer, &placed, &legacy, &error));
  CHECK(legacy->tensor.device_type == 2 && legacy->tensor.device_id == 3);
  struct DLManagedTensor* none_legacy = NULL;
  CHECK_INVALID(flatbed_buffer_dlpack_legacy(buffer, NULL, &none_legacy, &error), "'tensor'");
  CHECK_INVALID(flatbed_buffer_dlpack_legacy(NULL, &placed, &none_legacy, &error), "'buffer'");
  CHECK_INVALID(flatbed_buffer_dlpack_legacy(buffer, &placed, NULL, &error), "'out'");
  flatbed_buffer_free(buffer);  // may go first
  CHECK(memcmp(out->tensor.data, "abcdefgh", 8) == 0);
  out->deleter(out);
  CHECK(memcmp(legacy->tensor.data, "abcdefgh", 8) == 0);
  legacy->deleter(legacy);
}

static void exports_what_was_loaded(void) {
  flatbed_error error;
  flatbed_loaded* loaded = NULL;
  struct DLManagedTensorVersioned* weight = NULL;
  struct DLManagedTensor* bias = NULL;
  flatbed_checkpoint* const model = open_small_model();
  CHECK_OK(flatbed_load_all(model, NULL, NULL, &loaded, NULL, &error));
  flatbed_checkpoint_free(model);
  CHECK_OK(flatbed_loaded_dlpack(loaded, 0, 1, 0, &weight, &error));
  CHECK_OK(flatbed_loaded_dlpack_legacy(loaded, 1, 1, 0, &bias, &error));
  struct DLManagedTensorVersioned* none = NULL;
  struct DLManagedTensor* none_legacy = NULL;
  CHECK_INVALID(flatbed_loaded_dlpack(loaded, 3, 1, 0, &none, &error), "'index'");
  CHECK_INVALID(flatbed_loaded_dlpack(NULL, 0, 1, 0, &none, &error), "'loaded'");
  CHECK_INVALID(flatbed_loaded_dlpack(loaded, 0, 1, 0, NULL, &error), "'out'");
  CHECK_INVALID(flatbed_loaded_dlpack_legacy(loaded, 3, 1, 0, &none_legacy, &error), "'index'");
  CHECK_INVALID(flatbed_loaded_dlpack_legacy(NULL, 0, 1, 0, &none_legacy, &error), "'loaded'");
  CHECK_INVALID(flatbed_loaded_dlpack_legacy(loaded, 0, 1, 0, NULL, &error), "'out'");
  flatbed_loaded_free(loaded);  // may go first
  CHECK(weight->flags == 0 && weight->tensor.ndim == 2 && weight->tensor.shape[1] == 3);
  CHECK(((const float*)weight->tensor.data)[5] == 5);
  ((float*)weight->tensor.data)[5] = 50;  // it is the consumer's memory
  weight->deleter(weight);
  CHECK(((const float*)bias->tensor.data)[1] == 7);
  bias->deleter(bias);
}

static void checks_arguments(void) {
  flatbed_error error;
  struct DLManagedTensorVersioned* out = NULL;
  struct DLManagedTensor* legacy = NULL;
  flatbed_checkpoint* const model = open_small_model();
  CHECK_INVALID(flatbed_view_dlpack(model, 3, &out, &error), "'tensor'");
  CHECK_INVALID(flatbed_view_dlpack(NULL, 0, &out, &error), "'checkpoint'");
  CHECK_INVALID(flatbed_view_dlpack(model, 0, NULL, &error), "'out'");
  CHECK_INVALID(flatbed_view_dlpack_legacy(model, 3, &legacy, &error), "'tensor'");
  CHECK_INVALID(flatbed_view_dlpack_legacy(NULL, 0, &legacy, &error), "'checkpoint'");
  CHECK_INVALID(flatbed_view_dlpack_legacy(model, 0, NULL, &error), "'out'");
  flatbed_checkpoint_free(model);
}

void test_dlpack(void) {
  exports_a_file();
  exports_every_dtype();
  exports_the_odd_ones();
  exports_buffers();
  exports_what_was_loaded();
  checks_arguments();
}
