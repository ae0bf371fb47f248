// Whole checkpoints in one block of memory: choices, groups, what callbacks see, arguments.
#include "check.h"

static void loads_everything(void) {
  flatbed_error error;
  flatbed_checkpoint* const model = open_small_model();
  flatbed_loaded* loaded = NULL;
  flatbed_load_report report = FLATBED_INIT(flatbed_load_report);
  CHECK_OK(flatbed_load_all(model, NULL, NULL, &loaded, &report, &error));
  flatbed_checkpoint_free(model);  // may go first
  CHECK_NUMBER(report.bytes_wanted, 40);
  CHECK_NUMBER(flatbed_loaded_count(loaded), 3);
  CHECK(flatbed_loaded_nbytes(loaded) >= 40);
  flatbed_loaded_tensor tensor = FLATBED_INIT(flatbed_loaded_tensor);
  CHECK_OK(flatbed_loaded_at(loaded, 0, &tensor, &error));
  CHECK_TEXT(tensor.name, "a.weight");
  CHECK(tensor.rank == 2 && tensor.shape[0] == 2 && tensor.shape[1] == 3 && tensor.nbytes == 24);
  CHECK(tensor.dtype == FLATBED_DTYPE_F32 && tensor.group == 0 && tensor.index == 0);
  CHECK((uintptr_t)tensor.data % 256 == 0 && ((const float*)tensor.data)[5] == 5);
  CHECK_OK(flatbed_loaded_find(loaded, flatbed_text("b"), &tensor, &error));
  CHECK(tensor.rank == 0 && *(const int64_t*)tensor.data == -1);
  CHECK_ERROR(flatbed_loaded_find(loaded, flatbed_text("none"), &tensor, &error),
              FLATBED_ERROR_TENSOR_NOT_FOUND, "'none'");
  flatbed_loaded_free(loaded);
}

// ---- Callbacks ----------------------------------------------------------------------------------

typedef struct chooser {
  const flatbed_checkpoint* model;
  const flatbed_loaded* loaded;
  int asked;
  int ready;
  int32_t answer;
  int32_t placed_answer;
  bool sets_too_much;
} chooser;

// The bias stays out; of the weight it takes the second column, for rank 1 of 3.
static int32_t on_choose(void* context, const flatbed_tensor* tensor, flatbed_transfer* transfer,
                         uint32_t* is_loaded) {
  chooser* const self = context;
  flatbed_error error;
  ++self->asked;
  CHECK(transfer->struct_size == sizeof *transfer && *is_loaded == 1);
  if (self->sets_too_much) transfer->capacity = 1;
  if (tensor->rank == 1) *is_loaded = 0;
  if (tensor->rank == 2) {
    CHECK_OK(flatbed_shard_slice(self->model, tensor->index, 1, 1, 3, transfer, &error));
  }
  transfer->group = (uint32_t)(10 - tensor->rank);
  transfer->priority = tensor->rank == 0 ? -1 : 0;
  return self->answer;
}

static int32_t on_placed(void* context, const flatbed_loaded* loaded) {
  chooser* const self = context;
  flatbed_error error;
  flatbed_loaded_tensor tensor = FLATBED_INIT(flatbed_loaded_tensor);
  struct DLManagedTensorVersioned* out = NULL;
  self->loaded = loaded;
  CHECK_OK(flatbed_loaded_find(loaded, flatbed_text("a.weight"), &tensor, &error));
  CHECK(tensor.data != NULL && tensor.group == 8);
  CHECK_INVALID(flatbed_loaded_dlpack(loaded, 0, 1, 0, &out, &error), "still being loaded");
  return self->placed_answer;
}

static int32_t on_ready(void* context, uint32_t group, const flatbed_ready_event* events,
                        uint64_t count) {
  chooser* const self = context;
  (void)events;
  CHECK_NUMBER(count, 0);
  CHECK_NUMBER(group, self->ready == 0 ? 10 : 8);
  CHECK_NUMBER(flatbed_loaded_count(self->loaded), 2);
  ++self->ready;
  return 0;
}

static void chooses(void) {
  flatbed_error error;
  chooser self = {0};
  flatbed_checkpoint* const model = open_small_model();
  self.model = model;
  flatbed_load_options load = FLATBED_INIT(flatbed_load_options);
  load.context = &self;
  load.ready = on_ready;
  flatbed_load_all_options options = FLATBED_INIT(flatbed_load_all_options);
  options.context = &self;
  options.choose = on_choose;
  options.placed = on_placed;
  options.load = &load;
  options.alignment = 64;
  flatbed_loaded* loaded = NULL;
  CHECK_OK(flatbed_load_all(model, NULL, &options, &loaded, NULL, &error));
  CHECK(self.asked == 3 && self.ready == 2 && self.loaded == loaded);
  flatbed_loaded_tensor tensor = FLATBED_INIT(flatbed_loaded_tensor);
  CHECK_OK(flatbed_loaded_find(loaded, flatbed_text("a.weight"), &tensor, &error));
  CHECK(tensor.shape[0] == 2 && tensor.shape[1] == 1 && tensor.nbytes == 8);
  CHECK(((const float*)tensor.data)[0] == 1 && ((const float*)tensor.data)[1] == 4);
  CHECK_ERROR(flatbed_loaded_find(loaded, flatbed_text("a.bias"), &tensor, &error),
              FLATBED_ERROR_TENSOR_NOT_FOUND, "a.bias");
  flatbed_loaded_free(loaded);

  self.answer = FLATBED_ERROR_SLICE_INVALID;
  CHECK_ERROR(flatbed_load_all(model, NULL, &options, &loaded, NULL, &error),
              FLATBED_ERROR_SLICE_INVALID, "choose");
  self.answer = 0;
  self.placed_answer = 12345;
  CHECK_ERROR(flatbed_load_all(model, NULL, &options, &loaded, NULL, &error),
              FLATBED_ERROR_CANCELLED, "placed returned 12345");
  self.placed_answer = 0;
  self.sets_too_much = true;
  CHECK_INVALID(flatbed_load_all(model, NULL, &options, &loaded, NULL, &error), "'transfer'");
  CHECK(loaded == NULL);
  flatbed_checkpoint_free(model);
}

static void groups_by_layer(void) {
  flatbed_error error;
  flatbed_transfer transfer = FLATBED_INIT(flatbed_transfer);
  CHECK_OK(flatbed_group_by_layer(flatbed_text("model.layers.7.mlp.weight"), &transfer, &error));
  CHECK(transfer.group == 7 && transfer.priority == 0);
  CHECK_OK(flatbed_group_by_layer(flatbed_text("embedding"), &transfer, &error));
  CHECK(transfer.group == FLATBED_NO_LAYER && transfer.priority == -1);
  CHECK_INVALID(flatbed_group_by_layer((flatbed_string){NULL, 1}, &transfer, &error), "'name'");
  CHECK_INVALID(flatbed_group_by_layer(flatbed_text("x"), NULL, &error), "'transfer'");
  transfer.struct_size = 8;
  CHECK_INVALID(flatbed_group_by_layer(flatbed_text("x"), &transfer, &error), "struct_size");
}

static void loads_nothing(void) {
  flatbed_error error;
  flatbed_save_plan* plan = NULL;
  flatbed_checkpoint* model = NULL;
  flatbed_loaded* loaded = NULL;
  const char* const path = path_in(output_folder, "nothing.safetensors");
  CHECK_OK(flatbed_save_plan_new(&plan, &error));
  CHECK_OK(flatbed_save(path, plan, NULL, NULL, &error));
  flatbed_save_plan_free(plan);
  CHECK_OK(flatbed_open(path, NULL, &model, &error));
  CHECK_OK(flatbed_load_all(model, NULL, NULL, &loaded, NULL, &error));
  CHECK_NUMBER(flatbed_loaded_count(loaded) + flatbed_loaded_nbytes(loaded), 0);
  flatbed_loaded_free(loaded);
  flatbed_checkpoint_free(model);
}

static void checks_arguments(void) {
  flatbed_error error;
  flatbed_loaded* loaded = NULL;
  flatbed_checkpoint* const model = open_small_model();
  CHECK_INVALID(flatbed_load_all(NULL, NULL, NULL, &loaded, NULL, &error), "'checkpoint'");
  CHECK_INVALID(flatbed_load_all(model, NULL, NULL, NULL, NULL, &error), "'out'");
  CHECK_INVALID(
      flatbed_load_all(model, (const flatbed_device*)wrong_kind(), NULL, &loaded, NULL, &error),
      "'device'");
  flatbed_load_report report = {0};
  CHECK_INVALID(flatbed_load_all(model, NULL, NULL, &loaded, &report, &error), "'report'");
  flatbed_load_all_options options = FLATBED_INIT(flatbed_load_all_options);
  options.alignment = 3;
  CHECK_INVALID(flatbed_load_all(model, NULL, &options, &loaded, NULL, &error), "alignment");
  options.struct_size = 24;
  CHECK_INVALID(flatbed_load_all(model, NULL, &options, &loaded, NULL, &error), "struct_size");
  flatbed_loaded_tensor tensor = FLATBED_INIT(flatbed_loaded_tensor);
  CHECK_OK(flatbed_load_all(model, NULL, NULL, &loaded, NULL, &error));
  flatbed_checkpoint_free(model);
  const flatbed_string name = flatbed_text("b");
  CHECK_INVALID(flatbed_loaded_at(NULL, 0, &tensor, &error), "'loaded'");
  CHECK_INVALID(flatbed_loaded_at(loaded, 3, &tensor, &error), "found 3");
  CHECK_INVALID(flatbed_loaded_at(loaded, 0, NULL, &error), "'out'");
  CHECK_INVALID(flatbed_loaded_find(NULL, name, &tensor, &error), "'loaded'");
  CHECK_INVALID(flatbed_loaded_find(loaded, (flatbed_string){NULL, 1}, &tensor, &error), "'name'");
  CHECK_INVALID(flatbed_loaded_find(loaded, name, NULL, &error), "'out'");
  tensor.struct_size = 64;
  CHECK_INVALID(flatbed_loaded_find(loaded, name, &tensor, &error), "struct_size");
  CHECK_NUMBER(flatbed_loaded_count(NULL) + flatbed_loaded_nbytes(NULL), 0);
  flatbed_loaded_free(loaded);
  flatbed_loaded_free(NULL);
  flatbed_loaded_free((flatbed_loaded*)wrong_kind());
}

void test_load_all(void) {
  loads_everything();
  chooses();
  groups_by_layer();
  loads_nothing();
  checks_arguments();
}
