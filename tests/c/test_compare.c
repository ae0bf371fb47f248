// What a path holds against what a save would write there.
#include "check.h"

static const float kValues[4] = {1, 2, 3, 4};

static flatbed_save_plan* plan_of(const float* values) {
  flatbed_error error;
  flatbed_save_plan* plan = NULL;
  const uint64_t shape[] = {4};
  CHECK_OK(flatbed_save_plan_new(&plan, &error));
  CHECK_OK(flatbed_save_plan_add(plan, flatbed_text("w"), FLATBED_DTYPE_F32, shape, 1, values, 16,
                                 &error));
  return plan;
}

static uint32_t kind_of(const char* path, const flatbed_save_plan* plan, uint32_t format) {
  flatbed_error error;
  flatbed_compare_options options = FLATBED_INIT(flatbed_compare_options);
  flatbed_output_state state = FLATBED_INIT(flatbed_output_state);
  options.format = format;
  options.all_data = 1;
  state.kind = 99;
  CHECK_OK(flatbed_compare_output(path, plan, &options, &state, &error));
  return state.kind;
}

static void compares_a_file(void) {
  flatbed_error error;
  const char* const path = path_in(output_folder, "compared.safetensors");
  remove(path);
  flatbed_save_plan* const plan = plan_of(kValues);
  flatbed_output_state state = FLATBED_INIT(flatbed_output_state);
  CHECK_OK(flatbed_compare_output(path, plan, NULL, &state, &error));
  CHECK_NUMBER(state.kind, FLATBED_OUTPUT_ABSENT);
  flatbed_save_report report = FLATBED_INIT(flatbed_save_report);
  CHECK_OK(flatbed_save(path, plan, NULL, &report, &error));
  CHECK_OK(flatbed_compare_output(path, plan, NULL, &state, &error));
  CHECK(state.kind == FLATBED_OUTPUT_UP_TO_DATE && state.nbytes == report.nbytes);
  CHECK(strcmp(state.content, report.content) == 0 && state.difference_size == 0);

  static const float other[4] = {1, 2, 3, 5};
  flatbed_save_plan* const changed = plan_of(other);
  CHECK_OK(flatbed_compare_output(path, changed, NULL, &state, &error));
  CHECK_NUMBER(state.kind, FLATBED_OUTPUT_DIFFERENT);
  CHECK(state.difference_size > 0 && strlen(state.difference) == state.difference_size);
  flatbed_save_plan_free(changed);

  flatbed_save_options save = FLATBED_INIT(flatbed_save_options);
  flatbed_compare_options options = FLATBED_INIT(flatbed_compare_options);
  options.save = &save;
  save.unsealed = 1;
  CHECK_OK(flatbed_compare_output(path, plan, &options, &state, &error));
  CHECK_NUMBER(state.kind, FLATBED_OUTPUT_DIFFERENT);
  flatbed_save_plan_free(plan);
}

static void compares_other_formats(void) {
  flatbed_error error;
  flatbed_save_plan* const plan = plan_of(kValues);
  const char* const torch = path_in(output_folder, "compared.pth");
  const char* const set = path_in(output_folder, "compared_set");
  CHECK_OK(flatbed_save_torch(torch, plan, NULL, NULL, &error));
  CHECK_NUMBER(kind_of(torch, plan, FLATBED_FORMAT_TORCH), FLATBED_OUTPUT_UP_TO_DATE);
  CHECK_OK(flatbed_save_set(set, plan, 1, NULL, NULL, &error));
  CHECK_NUMBER(kind_of(set, plan, FLATBED_FORMAT_SET), FLATBED_OUTPUT_UP_TO_DATE);
  flatbed_save_plan_free(plan);
  flatbed_save_plan* const other = plan_of((const float[4]){0});
  CHECK_NUMBER(kind_of(torch, other, FLATBED_FORMAT_TORCH), FLATBED_OUTPUT_DIFFERENT);
  CHECK_NUMBER(kind_of(set, other, FLATBED_FORMAT_SET), FLATBED_OUTPUT_DIFFERENT);
  flatbed_output_state state = FLATBED_INIT(flatbed_output_state);
  CHECK_ERROR(flatbed_compare_output(set, other, NULL, &state, &error),
              FLATBED_ERROR_NOT_A_REGULAR_FILE, "compared_set");
  flatbed_save_plan_free(other);
}

static void compares_a_sidecar(void) {
  flatbed_error error;
  const char* const path = write_small_model("sidecar.safetensors");
  const char* const sidecar = path_in(output_folder, "sidecar.safetensors.flatbed.json");
  remove(sidecar);
  flatbed_output_state state = FLATBED_INIT(flatbed_output_state);
  CHECK_OK(flatbed_compare_sidecar(path, NULL, &state, &error));
  CHECK_NUMBER(state.kind, FLATBED_OUTPUT_ABSENT);
  CHECK_OK(flatbed_save_sidecar(path, NULL, NULL, &error));
  CHECK_OK(flatbed_compare_sidecar(path, NULL, &state, &error));
  CHECK_NUMBER(state.kind, FLATBED_OUTPUT_UP_TO_DATE);
  unsigned char bytes[512];
  uint64_t nbytes = 0;
  memcpy(bytes, small_model(&nbytes), sizeof bytes);
  bytes[nbytes - 1] ^= 1;
  write_file(path, bytes, nbytes);
  CHECK_OK(flatbed_compare_sidecar(path, NULL, &state, &error));
  CHECK_NUMBER(state.kind, FLATBED_OUTPUT_DIFFERENT);
  CHECK(strcmp(state.difference, "tensor 'b': bytes [0,8) differ") == 0);
  remove(sidecar);
}

static void checks_arguments(void) {
  flatbed_error error;
  flatbed_save_plan* const plan = plan_of(kValues);
  flatbed_output_state state = FLATBED_INIT(flatbed_output_state);
  flatbed_compare_options options = FLATBED_INIT(flatbed_compare_options);
  CHECK_INVALID(flatbed_compare_output(NULL, plan, NULL, &state, &error), "'path'");
  CHECK_INVALID(flatbed_compare_output("x", NULL, NULL, &state, &error), "'plan'");
  CHECK_INVALID(flatbed_compare_output("x", plan, NULL, NULL, &error), "'out'");
  CHECK_INVALID(flatbed_compare_sidecar(NULL, NULL, &state, &error), "'path'");
  CHECK_INVALID(flatbed_compare_sidecar("x", NULL, NULL, &error), "'out'");
  options.format = 3;
  CHECK_INVALID(flatbed_compare_output("x", plan, &options, &state, &error), "'format'");
  options.format = 0;
  options.all_data = 2;
  CHECK_INVALID(flatbed_compare_output("x", plan, &options, &state, &error), "'all_data'");
  options.struct_size = 8;
  CHECK_INVALID(flatbed_compare_sidecar("x", &options, &state, &error), "struct_size");
  state.struct_size = 40;
  CHECK_INVALID(flatbed_compare_output("x", plan, NULL, &state, &error), "struct_size");
  flatbed_save_plan_free(plan);
}

void test_compare(void) {
  compares_a_file();
  compares_other_formats();
  compares_a_sidecar();
  checks_arguments();
}
