// Loads into the host's memory: slices, casts, expectations, callbacks, cancelling.
#include <pthread.h>

#include "check.h"

static flatbed_transfer to_host(void* data, uint64_t capacity) {
  flatbed_transfer transfer = FLATBED_INIT(flatbed_transfer);
  transfer.data = data;
  transfer.capacity = capacity;
  return transfer;
}

static flatbed_plan* new_plan(void) {
  flatbed_error error;
  flatbed_plan* plan = NULL;
  CHECK_OK(flatbed_plan_new(&plan, &error));
  return plan;
}

static void loads_whole_tensors(flatbed_checkpoint* model) {
  flatbed_error error;
  float weight[6] = {0}, bias[2] = {0};
  flatbed_plan* const plan = new_plan();
  flatbed_transfer transfer = to_host(weight, sizeof weight);
  CHECK_OK(flatbed_plan_add(plan, model, flatbed_text("a.weight"), &transfer, &error));
  transfer = to_host(bias, sizeof bias);
  CHECK_OK(flatbed_plan_add(plan, model, flatbed_text("a.bias"), &transfer, &error));
  CHECK_NUMBER(flatbed_plan_size(plan), 2);

  flatbed_plan_report planned = FLATBED_INIT(flatbed_plan_report);
  CHECK_OK(flatbed_plan_check(plan, NULL, &planned, &error));
  CHECK_NUMBER(planned.bytes_wanted, 32);
  CHECK_OK(flatbed_plan_check(plan, NULL, NULL, &error));

  flatbed_load_report report = FLATBED_INIT(flatbed_load_report);
  CHECK_OK(flatbed_load(plan, NULL, &report, &error));
  CHECK_NUMBER(report.bytes_wanted, 32);
  CHECK(report.threads >= 1 && report.seconds > 0 && report.bottleneck <= FLATBED_STAGE_LINK);
  CHECK(weight[5] == 5 && bias[0] == 6);
  memset(weight, 0, sizeof weight);
  CHECK_OK(flatbed_load(plan, NULL, NULL, &error));
  CHECK(weight[5] == 5);
  flatbed_plan_free(plan);
}

static void loads_the_part_of_a_rank(const flatbed_checkpoint* model) {
  flatbed_error error;
  flatbed_transfer transfer = FLATBED_INIT(flatbed_transfer);
  CHECK_OK(flatbed_shard_slice(model, 0, 1, 1, 2, &transfer, &error));
  CHECK(transfer.sliced == 1 && transfer.dim == 1 && transfer.begin == 2 && transfer.end == 3);

  // The two rows side by side: 0 1 2 and 3 4 5, of which the second of three ranks has 1 and 4.
  flatbed_checkpoint* joined = NULL;
  CHECK_OK(flatbed_rename(model,
                          flatbed_text("x, y = split(a.weight, 1, 1)\nrow = cat(x, y, dim=1)\n"),
                          &joined, &error));
  flatbed_tensor row = FLATBED_INIT(flatbed_tensor);
  CHECK_OK(flatbed_tensor_find(joined, flatbed_text("row"), &row, &error));
  CHECK_NUMBER(row.stored, FLATBED_STORED_COMPUTED);
  float elements[2] = {0};
  transfer = to_host(elements, sizeof elements);
  CHECK_OK(flatbed_shard_slice(joined, row.index, 1, 1, 3, &transfer, &error));
  CHECK_NUMBER(transfer.end - transfer.begin, 2);
  flatbed_plan* const plan = new_plan();
  CHECK_OK(flatbed_plan_add(plan, joined, flatbed_text("row"), &transfer, &error));
  CHECK_OK(flatbed_load(plan, NULL, NULL, &error));
  CHECK(elements[0] == 1 && elements[1] == 4);
  flatbed_plan_free(plan);
  flatbed_checkpoint_free(joined);
}

static void loads_slices_and_casts(const flatbed_checkpoint* model) {
  flatbed_error error;
  flatbed_plan* const plan = new_plan();
  float columns[2][4] = {{0}};
  flatbed_transfer transfer = to_host(columns, sizeof columns);
  transfer.sliced = 1;
  transfer.dim = 1;
  transfer.begin = 1;
  transfer.end = 3;
  transfer.row_pitch = sizeof columns[0];
  const uint64_t shape[] = {2, 2};
  transfer.expect_shape = shape;
  transfer.expect_rank = 2;
  transfer.expect_dtype = FLATBED_DTYPE_F32;
  CHECK_OK(flatbed_plan_add(plan, model, flatbed_text("a.weight"), &transfer, &error));
  uint16_t bias[2] = {0};
  transfer = to_host(bias, sizeof bias);
  transfer.cast_to = FLATBED_DTYPE_F16;
  CHECK_OK(flatbed_plan_add(plan, model, flatbed_text("a.bias"), &transfer, &error));
  flatbed_load_report report = FLATBED_INIT(flatbed_load_report);
  CHECK_OK(flatbed_load(plan, NULL, &report, &error));
  CHECK(columns[0][0] == 1 && columns[0][1] == 2 && columns[1][0] == 4 && columns[1][1] == 5);
  CHECK(columns[0][2] == 0);
  CHECK_NUMBER(bias[0], 0x4600);  // 6
  CHECK_NUMBER(report.casts, 1);
  flatbed_plan_free(plan);
}

static void refuses_what_does_not_fit(const flatbed_checkpoint* model) {
  flatbed_error error;
  flatbed_plan* const plan = new_plan();
  float memory[8];
  const flatbed_string name = flatbed_text("a.weight");
  flatbed_transfer transfer = to_host(memory, 8);
  CHECK_ERROR(flatbed_plan_add(plan, model, name, &transfer, &error),
              FLATBED_ERROR_BUFFER_TOO_SMALL, "a.weight");
  transfer = to_host(NULL, 24);
  CHECK_ERROR(flatbed_plan_add(plan, model, name, &transfer, &error),
              FLATBED_ERROR_DESTINATION_INVALID, "a.weight");
  transfer = to_host(memory, sizeof memory);
  CHECK_ERROR(flatbed_plan_add(plan, model, flatbed_text("none"), &transfer, &error),
              FLATBED_ERROR_TENSOR_NOT_FOUND, "none");
  transfer.expect_dtype = FLATBED_DTYPE_BF16;
  CHECK_ERROR(flatbed_plan_add(plan, model, name, &transfer, &error), FLATBED_ERROR_LOAD_MISMATCH,
              "BF16");
  transfer.expect_dtype = 99;
  CHECK_INVALID(flatbed_plan_add(plan, model, name, &transfer, &error), "'transfer.expect_dtype'");
  transfer.expect_dtype = FLATBED_DTYPE_NONE;
  transfer.cast_to = 99;
  CHECK_INVALID(flatbed_plan_add(plan, model, name, &transfer, &error), "'transfer.cast_to'");
  transfer.cast_to = FLATBED_DTYPE_NONE;
  transfer.expect_rank = 2;
  CHECK_INVALID(flatbed_plan_add(plan, model, name, &transfer, &error), "'transfer.expect_shape'");
  const uint64_t shape[] = {3, 2};
  transfer.expect_shape = shape;
  CHECK_ERROR(flatbed_plan_add(plan, model, name, &transfer, &error), FLATBED_ERROR_LOAD_MISMATCH,
              "[3,2]");
  transfer = to_host(memory, sizeof memory);
  transfer.sliced = 1;
  transfer.dim = 2;
  CHECK_ERROR(flatbed_plan_add(plan, model, name, &transfer, &error), FLATBED_ERROR_SLICE_INVALID,
              "a.weight");
  transfer.sliced = 2;
  CHECK_INVALID(flatbed_plan_add(plan, model, name, &transfer, &error), "'transfer.sliced'");
  CHECK_NUMBER(flatbed_plan_size(plan), 0);

  transfer = to_host(memory, sizeof memory);
  CHECK_OK(flatbed_plan_add(plan, model, name, &transfer, &error));
  transfer = to_host(memory, sizeof memory);
  CHECK_OK(flatbed_plan_add(plan, model, flatbed_text("a.bias"), &transfer, &error));
  CHECK_ERROR(flatbed_plan_check(plan, NULL, NULL, &error), FLATBED_ERROR_DESTINATION_OVERLAP, "");
  CHECK_ERROR(flatbed_load(plan, NULL, NULL, &error), FLATBED_ERROR_DESTINATION_OVERLAP, "");
  flatbed_plan_free(plan);
}

static void checks_arguments(const flatbed_checkpoint* model) {
  flatbed_error error;
  flatbed_plan* const plan = new_plan();
  flatbed_transfer transfer = to_host(NULL, 0);
  const flatbed_string name = flatbed_text("a.bias");
  CHECK_INVALID(flatbed_plan_new(NULL, &error), "'out'");
  CHECK_INVALID(flatbed_plan_add(NULL, model, name, &transfer, &error), "'plan'");
  CHECK_INVALID(flatbed_plan_add(plan, NULL, name, &transfer, &error), "'checkpoint'");
  CHECK_INVALID(flatbed_plan_add(plan, model, name, NULL, &error), "'transfer'");
  CHECK_INVALID(flatbed_plan_add(plan, model, (flatbed_string){NULL, 1}, &transfer, &error),
                "'name'");
  transfer.device = (const flatbed_device*)wrong_kind();
  CHECK_INVALID(flatbed_plan_add(plan, model, name, &transfer, &error), "'transfer.device'");
  transfer.struct_size = 8;
  CHECK_INVALID(flatbed_plan_add(plan, model, name, &transfer, &error), "struct_size");
  CHECK_INVALID(flatbed_plan_check(NULL, NULL, NULL, &error), "'plan'");
  CHECK_INVALID(flatbed_load(NULL, NULL, NULL, &error), "'plan'");
  CHECK_INVALID(flatbed_load((const flatbed_plan*)model, NULL, NULL, &error), "flatbed_plan");
  flatbed_load_options options = FLATBED_INIT(flatbed_load_options);
  options.verify = 2;
  CHECK_INVALID(flatbed_load(plan, &options, NULL, &error), "'verify'");
  options = (flatbed_load_options)FLATBED_INIT(flatbed_load_options);
  options.io = 3;
  CHECK_INVALID(flatbed_load(plan, &options, NULL, &error), "'io'");
  options = (flatbed_load_options)FLATBED_INIT(flatbed_load_options);
  options.cancel = (const flatbed_cancel*)wrong_kind();
  CHECK_INVALID(flatbed_load(plan, &options, NULL, &error), "'cancel'");
  options.cancel = NULL;
  options.pool = (const flatbed_staging_pool*)wrong_kind();
  CHECK_INVALID(flatbed_plan_check(plan, &options, NULL, &error), "'pool'");
  flatbed_load_report report = {0};
  CHECK_INVALID(flatbed_load(plan, NULL, &report, &error), "'report'");
  flatbed_plan_report planned = {0};
  CHECK_INVALID(flatbed_plan_check(plan, NULL, &planned, &error), "'report'");
  flatbed_transfer part = FLATBED_INIT(flatbed_transfer);
  CHECK_INVALID(flatbed_shard_slice(model, 0, 0, 0, 1, NULL, &error), "'transfer'");
  CHECK_INVALID(flatbed_shard_slice(model, 3, 0, 0, 1, &part, &error), "'tensor'");
  CHECK_ERROR(flatbed_shard_slice(model, 0, 0, 1, 1, &part, &error), FLATBED_ERROR_SLICE_INVALID,
              "");
  part.struct_size = 8;
  CHECK_INVALID(flatbed_shard_slice(model, 0, 0, 0, 1, &part, &error), "'transfer'");
  CHECK_OK(flatbed_load(plan, NULL, NULL, &error));  // of nothing
  CHECK_NUMBER(flatbed_plan_size(NULL), 0);
  flatbed_plan_free(plan);
  flatbed_plan_free(NULL);
}

// ---- Callbacks ----------------------------------------------------------------------------------

typedef struct watcher {
  int progress_calls;
  uint64_t done;
  uint32_t groups[4];
  int ready_calls;
  int32_t progress_answer;
  int32_t ready_answer;
} watcher;

static int32_t on_progress(void* context, uint64_t done, uint64_t total) {
  watcher* const self = context;
  ++self->progress_calls;
  CHECK(done <= total);
  self->done = done;
  return self->progress_answer;
}

static int32_t on_ready(void* context, uint32_t group, const flatbed_ready_event* events,
                        uint64_t count) {
  watcher* const self = context;
  (void)events;
  CHECK_NUMBER(count, 0);  // of the host
  if (self->ready_calls < 4) self->groups[self->ready_calls] = group;
  ++self->ready_calls;
  flatbed_checkpoint_free(open_small_model());  // may call back in
  return self->ready_answer;
}

static flatbed_plan* plan_two_groups(const flatbed_checkpoint* model, float* weight, float* bias) {
  flatbed_error error;
  flatbed_plan* const plan = new_plan();
  flatbed_transfer transfer = to_host(weight, 24);
  transfer.group = 7;
  transfer.priority = 1;
  CHECK_OK(flatbed_plan_add(plan, model, flatbed_text("a.weight"), &transfer, &error));
  transfer = to_host(bias, 8);
  transfer.group = 8;
  transfer.priority = -1;
  CHECK_OK(flatbed_plan_add(plan, model, flatbed_text("a.bias"), &transfer, &error));
  return plan;
}

static void calls_back(const flatbed_checkpoint* model) {
  flatbed_error error;
  float weight[6], bias[2];
  flatbed_plan* const plan = plan_two_groups(model, weight, bias);
  watcher watching = {0};
  flatbed_load_options options = FLATBED_INIT(flatbed_load_options);
  options.context = &watching;
  options.progress = on_progress;
  options.ready = on_ready;
  options.threads = 2;
  CHECK_OK(flatbed_load(plan, &options, NULL, &error));
  CHECK(watching.progress_calls > 0);
  CHECK_NUMBER(watching.done, 32);
  CHECK_NUMBER(watching.ready_calls, 2);
  CHECK(watching.groups[0] == 8 && watching.groups[1] == 7);

  watching.ready_answer = FLATBED_ERROR_NO_SPACE;
  CHECK_ERROR(flatbed_load(plan, &options, NULL, &error), FLATBED_ERROR_NO_SPACE, "ready");
  watching.ready_answer = 0;
  watching.progress_answer = 1000;
  CHECK_ERROR(flatbed_load(plan, &options, NULL, &error), FLATBED_ERROR_CANCELLED,
              "progress returned 1000");
  flatbed_plan_free(plan);
}

static void cancels(const flatbed_checkpoint* model) {
  flatbed_error error;
  float weight[6], bias[2];
  flatbed_cancel* cancel = NULL;
  CHECK_OK(flatbed_cancel_new(&cancel, &error));
  flatbed_plan* const plan = plan_two_groups(model, weight, bias);
  flatbed_load_options options = FLATBED_INIT(flatbed_load_options);
  options.cancel = cancel;
  CHECK_OK(flatbed_load(plan, &options, NULL, &error));
  flatbed_cancel_set(cancel);
  CHECK_ERROR(flatbed_load(plan, &options, NULL, &error), FLATBED_ERROR_CANCELLED, "");
  flatbed_cancel_reset(cancel);
  CHECK_OK(flatbed_load(plan, &options, NULL, &error));
  flatbed_plan_free(plan);
  flatbed_cancel_free(cancel);
  flatbed_cancel_free(NULL);
  flatbed_cancel_set(NULL);
  flatbed_cancel_reset(NULL);
  flatbed_cancel_set((flatbed_cancel*)wrong_kind());
  CHECK_INVALID(flatbed_cancel_new(NULL, &error), "'out'");
}

static void* load_often(void* model) {
  flatbed_error error;
  for (int i = 0; i < 20; ++i) {
    float weight[6] = {0}, bias[2] = {0};
    flatbed_plan* const plan = plan_two_groups(model, weight, bias);
    CHECK_OK(flatbed_load(plan, NULL, NULL, &error));
    CHECK(weight[4] == 4 && bias[1] == 7);
    flatbed_plan_free(plan);
  }
  return NULL;
}

static void serves_eight_threads(flatbed_checkpoint* model) {
  pthread_t threads[8];
  for (int i = 0; i < 8; ++i) CHECK(pthread_create(&threads[i], NULL, load_often, model) == 0);
  for (int i = 0; i < 8; ++i) CHECK(pthread_join(threads[i], NULL) == 0);
}

// A plan keeps its checkpoint.
static void outlives_its_checkpoint(void) {
  flatbed_error error;
  float weight[6] = {0}, bias[2] = {0};
  flatbed_checkpoint* model = NULL;
  CHECK_OK(flatbed_open(write_small_model("load.safetensors"), NULL, &model, &error));
  flatbed_plan* const plan = plan_two_groups(model, weight, bias);
  flatbed_checkpoint_free(model);
  CHECK_OK(flatbed_load(plan, NULL, NULL, &error));
  CHECK(weight[5] == 5 && bias[1] == 7);
  flatbed_plan_free(plan);
}

void test_load(void) {
  flatbed_checkpoint* const model = open_small_model();
  loads_whole_tensors(model);
  loads_the_part_of_a_rank(model);
  loads_slices_and_casts(model);
  refuses_what_does_not_fit(model);
  checks_arguments(model);
  calls_back(model);
  cancels(model);
  serves_eight_threads(model);
  flatbed_checkpoint_free(model);
  outlives_its_checkpoint();
}
