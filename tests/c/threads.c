// Eight threads on the same handles, for the thread sanitizer: everything that takes `const`
// handles, while the main thread writes to the series that they read.
// Usage: flatbed_c_threads OUTPUT_FOLDER
#include <pthread.h>
#include <stdatomic.h>

#include "check.h"
#include "dlpack.h"

enum { kThreads = 8, kRounds = 6, kElements = 200000 };

// What all threads use.
typedef struct shared {
  flatbed_checkpoint* model;
  flatbed_checkpoint* renamed;
  flatbed_tree* tree;
  flatbed_device* device;
  flatbed_buffer* buffer;
  flatbed_staging_pool* pool;
  flatbed_plan* plan;
  flatbed_loaded* loaded;
  flatbed_expected* expected;
  flatbed_save_plan* save_plan;
  flatbed_cancel* cancel;
  flatbed_series* series;
  flatbed_series_entries* entries;
  flatbed_pending_save* pending;
  float* planned;  // memory of `plan`, which is only checked
} shared;

typedef struct worker {
  const shared* with;
  int number;
} worker;

typedef void (*task)(const shared* with, int number);

static float values[kElements];

// ---- What each thread does ----------------------------------------------------------------------

static void look_at_contents(const shared* with, int number) {
  flatbed_error error;
  flatbed_tensor tensor = FLATBED_INIT(flatbed_tensor);
  flatbed_file file = FLATBED_INIT(flatbed_file);
  flatbed_string first, second;
  (void)number;
  CHECK_NUMBER(flatbed_tensor_count(with->model), 2);
  CHECK_OK(flatbed_tensor_at(with->model, 1, &tensor, &error));
  CHECK_OK(flatbed_tensor_find(with->model, flatbed_text("tied"), &tensor, &error));
  CHECK_TEXT(tensor.name, "layers.0.w");
  CHECK_NUMBER(flatbed_alias_count(with->model), 1);
  CHECK_OK(flatbed_alias_at(with->model, 0, &first, &second, &error));
  CHECK(flatbed_metadata_count(with->model) > 0);
  CHECK_OK(flatbed_metadata_at(with->model, 0, &first, &second, &error));
  CHECK_NUMBER(flatbed_note_count(with->model), 0);
  CHECK_NUMBER(flatbed_file_count(with->model), 1);
  CHECK_OK(flatbed_file_at(with->model, 0, &file, &error));
  CHECK_NUMBER(flatbed_layout(with->model), FLATBED_LAYOUT_SAFETENSORS);
  CHECK_NUMBER(flatbed_seal(with->model), FLATBED_SEAL_SEALED);
  CHECK_ERROR(flatbed_tensor_find(with->model, flatbed_text("w"), &tensor, &error),
              FLATBED_ERROR_TENSOR_NOT_FOUND, "'w'");
}

static void read_bytes(const shared* with, int number) {
  flatbed_error error;
  flatbed_page_lock* lock = NULL;
  const void* data = NULL;
  uint64_t nbytes = 0;
  float value = 0;
  const uint64_t at = (uint64_t)(number * 1000) * sizeof value;
  CHECK_OK(flatbed_read(with->model, 0, at, &value, sizeof value, FLATBED_VERIFY_YES, &error));
  CHECK(value == (float)(number * 1000));
  CHECK_OK(flatbed_view(with->model, 0, &data, &nbytes, &error));
  CHECK(((const float*)data)[number] == (float)number);
  CHECK_OK(flatbed_prefetch(with->model, 0, at, 4096, &error));
  CHECK_OK(flatbed_release(with->model, 1, 0, 4, &error));
  const int32_t locked = flatbed_lock(with->model, 1, 0, 4, &lock, &error);
  CHECK(locked == 0 || locked == FLATBED_ERROR_RESOURCE_EXHAUSTED);
  flatbed_page_lock_free(lock);
}

static int32_t add_x(void* context, flatbed_string name, flatbed_string* new_name) {
  char* const made = context;
  snprintf(made, 64, "x.%.*s", (int)name.size, name.data);
  *new_name = flatbed_text(made);
  return 0;
}

static void make_views(const shared* with, int number) {
  flatbed_error error;
  flatbed_checkpoint *part = NULL, *renamed = NULL, *cast = NULL, *by = NULL;
  flatbed_selection selection = FLATBED_INIT(flatbed_selection);
  flatbed_cast_rules rules = FLATBED_INIT(flatbed_cast_rules);
  const flatbed_string include = flatbed_text("layers.*");
  char made[64];
  uint16_t value = 0;
  selection.include = &include;
  selection.include_count = 1;
  rules.to = FLATBED_DTYPE_BF16;
  CHECK_OK(flatbed_select(with->model, &selection, &part, &error));
  CHECK_OK(flatbed_rename(part, flatbed_text("add-prefix net."), &renamed, &error));
  CHECK_OK(flatbed_rename_by(renamed, add_x, made, &by, &error));
  flatbed_checkpoint_free(part);
  CHECK_OK(flatbed_cast(by, &rules, &cast, &error));
  flatbed_checkpoint_free(renamed);
  flatbed_checkpoint_free(by);
  CHECK_OK(flatbed_read(cast, 0, (uint64_t)number * 2, &value, 2, FLATBED_VERIFY_YES, &error));
  flatbed_checkpoint_free(cast);
  CHECK_NUMBER(flatbed_tensor_count(with->renamed), 2);
}

static int32_t take_text(void* context, flatbed_string text) {
  *(uint64_t*)context = text.size;
  return 0;
}

static void walk_trees(const shared* with, int number) {
  flatbed_error error;
  flatbed_tree* own = NULL;
  flatbed_value step;
  int64_t found = 0;
  uint64_t nbytes = 0;
  (void)number;
  CHECK_NUMBER(flatbed_has_tree(with->model), 1);
  CHECK_OK(flatbed_value_at(flatbed_tree_root(with->tree), flatbed_text("step"), &step, &error));
  CHECK_OK(flatbed_value_int(step, &found, &error));
  CHECK(found == 7);
  CHECK_OK(flatbed_tree_of(with->model, &own, &error));
  CHECK_NUMBER(flatbed_value_size(flatbed_tree_root(own)), 2);
  flatbed_tree_free(own);
  CHECK_OK(flatbed_tree_json(with->model, take_text, &nbytes, &error));
  CHECK(nbytes > 0);
}

static void load_into_own_memory(const shared* with, int number) {
  flatbed_error error;
  flatbed_plan* plan = NULL;
  float* const memory = malloc(sizeof values);
  flatbed_transfer transfer = FLATBED_INIT(flatbed_transfer);
  flatbed_load_options options = FLATBED_INIT(flatbed_load_options);
  flatbed_plan_report report = FLATBED_INIT(flatbed_plan_report);
  transfer.device = with->device;
  transfer.data = memory;
  transfer.capacity = sizeof values;
  options.pool = with->pool;
  options.cancel = with->cancel;
  options.threads = 2;
  CHECK_OK(flatbed_plan_new(&plan, &error));
  CHECK_OK(flatbed_plan_add(plan, with->model, flatbed_text("layers.0.w"), &transfer, &error));
  const int32_t code = flatbed_load(plan, &options, NULL, &error);
  CHECK(code == 0 || code == FLATBED_ERROR_CANCELLED);
  CHECK(code != 0 || memory[kElements - 1 - number] == (float)(kElements - 1 - number));
  flatbed_plan_free(plan);
  free(memory);
  CHECK_OK(flatbed_plan_check(with->plan, NULL, &report, &error));
  CHECK_NUMBER(flatbed_plan_size(with->plan), 1);
  CHECK(flatbed_staging_pool_peak_nbytes(with->pool) <= UINT64_C(4) << 20);
}

static void look_at_what_was_loaded(const shared* with, int number) {
  flatbed_error error;
  flatbed_loaded* own = NULL;
  flatbed_loaded_tensor tensor = FLATBED_INIT(flatbed_loaded_tensor);
  struct DLManagedTensorVersioned* out = NULL;
  CHECK_OK(flatbed_loaded_find(with->loaded, flatbed_text("tied"), &tensor, &error));
  CHECK(((const float*)tensor.data)[number] == (float)number);
  CHECK_NUMBER(flatbed_loaded_count(with->loaded), 2);
  CHECK_OK(flatbed_loaded_dlpack(with->loaded, 0, 1, 0, &out, &error));
  end_export(out);
  CHECK_OK(flatbed_load_all(with->model, with->device, NULL, &own, NULL, &error));
  CHECK_NUMBER(flatbed_loaded_nbytes(own), flatbed_loaded_nbytes(with->loaded));
  flatbed_loaded_free(own);
}

static void export_tensors(const shared* with, int number) {
  flatbed_error error;
  struct DLManagedTensorVersioned* out = NULL;
  const uint64_t shape[] = {64};
  flatbed_placed_tensor placed = FLATBED_INIT(flatbed_placed_tensor);
  char bytes[64];
  (void)number;
  CHECK_OK(flatbed_view_dlpack(with->model, 0, &out, &error));
  end_export(out);
  placed.shape = shape;
  placed.rank = 1;
  placed.dtype = FLATBED_DTYPE_U8;
  placed.device_type = 1;
  CHECK_OK(flatbed_buffer_dlpack(with->buffer, &placed, &out, &error));
  end_export(out);
  CHECK_OK(flatbed_buffer_read(with->buffer, 0, bytes, 64, &error));
  CHECK(flatbed_buffer_data(with->buffer) != NULL && flatbed_device_name(with->device).size == 4);
}

static void compare_and_check(const shared* with, int number) {
  flatbed_error error;
  flatbed_match_report matched = FLATBED_INIT(flatbed_match_report);
  flatbed_diff_report differences = FLATBED_INIT(flatbed_diff_report);
  flatbed_verify_options options = FLATBED_INIT(flatbed_verify_options);
  (void)number;
  options.cancel = with->cancel;
  CHECK_OK(flatbed_match(with->model, with->expected, NULL, &matched, &error));
  CHECK_NUMBER(matched.complete, 1);
  CHECK_OK(flatbed_diff(with->model, with->renamed, NULL, &differences, &error));
  CHECK_NUMBER(differences.same, 0);
  const int32_t code = flatbed_verify(with->model, &options, NULL, &error);
  CHECK(code == 0 || code == FLATBED_ERROR_CANCELLED);
}

static void save_one_plan(const shared* with, int number) {
  flatbed_error error;
  char path[4096];
  flatbed_save_options options = FLATBED_INIT(flatbed_save_options);
  flatbed_output_state state = FLATBED_INIT(flatbed_output_state);
  options.unsynced = 1;
  snprintf(path, sizeof path, "%s/thread-%d.safetensors", output_folder, number);
  CHECK_OK(flatbed_save(path, with->save_plan, &options, NULL, &error));
  CHECK_OK(flatbed_compare_output(path, with->save_plan, NULL, &state, &error));
  CHECK_NUMBER(state.kind, FLATBED_OUTPUT_UP_TO_DATE);
  CHECK_NUMBER(flatbed_save_plan_size(with->save_plan), 2);
}

static void read_the_series(const shared* with, int number) {
  flatbed_error error;
  flatbed_series_entries* found = NULL;
  flatbed_checkpoint* model = NULL;
  flatbed_series_entry entry = FLATBED_INIT(flatbed_series_entry);
  CHECK_OK(flatbed_series_list(with->series, &found, &error));
  CHECK(flatbed_series_entry_count(found) > 0);
  flatbed_series_entries_free(found);
  CHECK_OK(flatbed_series_latest(with->series, &found, &error));
  flatbed_series_entries_free(found);
  CHECK_OK(flatbed_series_best(with->series, &found, &error));
  CHECK_OK(flatbed_series_entry_at(found, 0, &entry, &error));
  CHECK(entry.step == 1);
  flatbed_series_entries_free(found);
  CHECK_OK(flatbed_series_at(with->series, 1, &found, &error));
  flatbed_series_entries_free(found);
  if (number == 0) {
    CHECK_OK(flatbed_series_verify(with->series, NULL, &found, &error));
    flatbed_series_entries_free(found);
  }
  CHECK_OK(flatbed_series_entry_open(with->entries, 0, &model, &error));
  flatbed_checkpoint_free(model);
  CHECK_OK(flatbed_series_entry_at(with->entries, 0, &entry, &error));
  CHECK_TEXT(flatbed_series_metric(with->entries), "loss");
}

static void wait_for_the_save(const shared* with, int number) {
  flatbed_error error;
  flatbed_series_entries* saved = NULL;
  (void)number;
  while (flatbed_pending_save_ready(with->pending) == 0) continue;
  CHECK_OK(flatbed_pending_save_wait(with->pending, &saved, NULL, &error));
  CHECK_NUMBER(flatbed_series_entry_count(saved), 1);
  flatbed_series_entries_free(saved);
}

// Calls that use the request may or may not see it.
static void cancel_and_take_back(const shared* with, int number) {
  if (number % 4 != 0) return;
  flatbed_cancel_set(with->cancel);
  flatbed_cancel_reset(with->cancel);
}

static const task kTasks[] = {
    look_at_contents,     read_bytes,      make_views,        walk_trees,
    load_into_own_memory, export_tensors,  save_one_plan,     look_at_what_was_loaded,
    compare_and_check,    read_the_series, wait_for_the_save, cancel_and_take_back};
enum { kTaskCount = sizeof kTasks / sizeof kTasks[0] };

// Each thread begins elsewhere, so that different functions meet.
static void* work(void* context) {
  const worker* const self = context;
  for (int i = 0; i < kRounds * kTaskCount; ++i) {
    kTasks[(i + self->number * 5) % kTaskCount](self->with, self->number);
  }
  return NULL;
}

// ---- What they share ----------------------------------------------------------------------------

static flatbed_save_plan* make_plan(void) {
  flatbed_error error;
  flatbed_save_plan* plan = NULL;
  flatbed_tree* tree = NULL;
  flatbed_value root, key, value;
  const uint64_t shape[] = {kElements};
  for (int i = 0; i < kElements; ++i) values[i] = (float)i;
  CHECK_OK(flatbed_save_plan_new(&plan, &error));
  CHECK_OK(flatbed_save_plan_add(plan, flatbed_text("layers.0.w"), FLATBED_DTYPE_F32, shape, 1,
                                 values, sizeof values, &error));
  CHECK_OK(flatbed_save_plan_add(plan, flatbed_text("b"), FLATBED_DTYPE_F32, NULL, 0, values, 4,
                                 &error));
  CHECK_OK(
      flatbed_save_plan_add_alias(plan, flatbed_text("tied"), flatbed_text("layers.0.w"), &error));
  CHECK_OK(flatbed_tree_new(&tree, &error));
  CHECK_OK(flatbed_tree_add_dict(tree, &root, &error));
  CHECK_OK(flatbed_tree_add_string(tree, flatbed_text("step"), &key, &error));
  CHECK_OK(flatbed_tree_add_int(tree, 7, &value, &error));
  CHECK_OK(flatbed_tree_set_item(tree, root, key, value, &error));
  CHECK_OK(flatbed_tree_add_string(tree, flatbed_text("w"), &key, &error));
  CHECK_OK(flatbed_tree_add_tensor(tree, 0, &value, &error));
  CHECK_OK(flatbed_tree_set_item(tree, root, key, value, &error));
  CHECK_OK(flatbed_tree_set_root(tree, root, &error));
  CHECK_OK(flatbed_save_plan_set_tree(plan, tree, &error));
  flatbed_tree_free(tree);
  return plan;
}

static void save_step(const shared* with, uint64_t step) {
  flatbed_error error;
  flatbed_series_stamp stamp = FLATBED_INIT(flatbed_series_stamp);
  stamp.step = step;
  stamp.score = (double)step;  // the first is the best
  stamp.has_score = 1;
  CHECK_OK(flatbed_series_save(with->series, with->save_plan, &stamp, NULL, NULL, &error));
}

static void make_series(shared* with) {
  flatbed_error error;
  const char* const folder = path_in(output_folder, "threads_series");
  flatbed_save_options save = FLATBED_INIT(flatbed_save_options);
  flatbed_series_options options = FLATBED_INIT(flatbed_series_options);
  remove_all(folder);
  save.unsynced = 1;
  options.save = &save;
  options.metric = flatbed_text("loss");
  options.keep_last = 2;
  CHECK_OK(flatbed_series_open(folder, &options, &with->series, &error));
  save_step(with, 1);
  CHECK_OK(flatbed_series_list(with->series, &with->entries, &error));
  flatbed_series_stamp stamp = FLATBED_INIT(flatbed_series_stamp);
  stamp.step = 2;
  CHECK_OK(
      flatbed_series_save_async(with->series, with->save_plan, &stamp, &with->pending, &error));
}

static void make_shared(shared* with) {
  flatbed_error error;
  const char* const path = path_in(output_folder, "threads.safetensors");
  with->save_plan = make_plan();
  CHECK_OK(flatbed_save(path, with->save_plan, NULL, NULL, &error));
  CHECK_OK(flatbed_open(path, NULL, &with->model, &error));
  CHECK_OK(flatbed_rename(with->model, flatbed_text("add-prefix m."), &with->renamed, &error));
  CHECK_OK(flatbed_tree_of(with->model, &with->tree, &error));
  CHECK_OK(flatbed_device_host(&with->device, &error));
  CHECK_OK(flatbed_buffer_new(with->device, 64, &with->buffer, &error));
  memset(flatbed_buffer_data(with->buffer), 0, 64);
  CHECK_OK(flatbed_staging_pool_new(with->device, 4 << 20, 1 << 20, &with->pool, &error));
  CHECK_OK(flatbed_load_all(with->model, with->device, NULL, &with->loaded, NULL, &error));
  CHECK_OK(flatbed_expected_of(with->model, &with->expected, &error));
  CHECK_OK(flatbed_cancel_new(&with->cancel, &error));
  with->planned = malloc(sizeof values);
  flatbed_transfer transfer = FLATBED_INIT(flatbed_transfer);
  transfer.data = with->planned;
  transfer.capacity = sizeof values;
  CHECK_OK(flatbed_plan_new(&with->plan, &error));
  CHECK_OK(flatbed_plan_add(with->plan, with->model, flatbed_text("tied"), &transfer, &error));
  make_series(with);
}

static void free_shared(shared* with) {
  flatbed_series_free(with->series);
  flatbed_pending_save_free(with->pending);
  flatbed_series_entries_free(with->entries);
  flatbed_checkpoint_free(with->model);
  flatbed_checkpoint_free(with->renamed);
  flatbed_tree_free(with->tree);
  flatbed_device_free(with->device);
  flatbed_buffer_free(with->buffer);
  flatbed_staging_pool_free(with->pool);
  flatbed_plan_free(with->plan);
  flatbed_loaded_free(with->loaded);
  flatbed_expected_free(with->expected);
  flatbed_save_plan_free(with->save_plan);
  flatbed_cancel_free(with->cancel);
  free(with->planned);
}

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  output_folder = argv[1];
  shared with;
  memset(&with, 0, sizeof with);
  make_shared(&with);
  pthread_t threads[kThreads];
  worker workers[kThreads];
  for (int i = 0; i < kThreads; ++i) {
    workers[i] = (worker){&with, i};
    CHECK(pthread_create(&threads[i], NULL, work, &workers[i]) == 0);
  }
  flatbed_error error;
  for (uint64_t step = 3; step < 10; ++step) {  // the one thread that writes
    save_step(&with, step);
    CHECK_OK(flatbed_series_prune(with.series, 0, NULL, &error));
  }
  for (int i = 0; i < kThreads; ++i) CHECK(pthread_join(threads[i], NULL) == 0);
  free_shared(&with);
  if (failed_checks() != 0) fprintf(stderr, "%d checks failed\n", failed_checks());
  return failed_checks() == 0 ? 0 : 1;
}
