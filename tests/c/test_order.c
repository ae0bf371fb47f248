// Handles that were made of each other, freed in every order that a shuffle gives: what is left
// works.
#include "check.h"

enum { kKinds = 13 };

// One handle of each kind that another can hold on to.
typedef struct handles {
  flatbed_checkpoint* model;
  flatbed_checkpoint* view;
  flatbed_page_lock* lock;
  flatbed_tree* tree;
  flatbed_device* device;
  flatbed_buffer* buffer;
  flatbed_staging_pool* pool;
  flatbed_plan* plan;
  flatbed_loaded* loaded;
  flatbed_expected* expected;
  flatbed_save_plan* save_plan;
  flatbed_series* series;
  flatbed_series_entries* entries;
  float weight[6];
} handles;

static void make_all(handles* all, const char* path, const char* folder) {
  flatbed_error error;
  flatbed_cast_rules rules = FLATBED_INIT(flatbed_cast_rules);
  rules.to = FLATBED_DTYPE_F64;
  CHECK_OK(flatbed_open(path, NULL, &all->model, &error));
  CHECK_OK(flatbed_cast(all->model, &rules, &all->view, &error));
  // Locking takes what RLIMIT_MEMLOCK allows, which may be nothing.
  const int32_t locked = flatbed_lock(all->model, 0, 0, 24, &all->lock, &error);
  CHECK(locked == 0 || locked == FLATBED_ERROR_RESOURCE_EXHAUSTED);
  CHECK_OK(flatbed_tree_of(all->model, &all->tree, &error));
  CHECK_OK(flatbed_device_host(&all->device, &error));
  CHECK_OK(flatbed_buffer_new(all->device, 64, &all->buffer, &error));
  CHECK_OK(flatbed_staging_pool_new(all->device, 1 << 20, 1 << 19, &all->pool, &error));
  CHECK_OK(flatbed_plan_new(&all->plan, &error));
  flatbed_transfer transfer = FLATBED_INIT(flatbed_transfer);
  transfer.device = all->device;
  transfer.data = all->weight;
  transfer.capacity = sizeof all->weight;
  CHECK_OK(flatbed_plan_add(all->plan, all->model, flatbed_text("a.weight"), &transfer, &error));
  CHECK_OK(flatbed_load_all(all->view, all->device, NULL, &all->loaded, NULL, &error));
  CHECK_OK(flatbed_expected_of(all->model, &all->expected, &error));
  CHECK_OK(flatbed_save_plan_of(all->view, NULL, &all->save_plan, &error));
  flatbed_save_options save = FLATBED_INIT(flatbed_save_options);
  flatbed_series_options options = FLATBED_INIT(flatbed_series_options);
  save.unsynced = 1;
  options.save = &save;
  CHECK_OK(flatbed_series_open(folder, &options, &all->series, &error));
  flatbed_series_stamp stamp = FLATBED_INIT(flatbed_series_stamp);
  stamp.step = 1;
  CHECK_OK(flatbed_series_save(all->series, all->save_plan, &stamp, &all->entries, NULL, &error));
}

static void use_checkpoints(const handles* all) {
  flatbed_error error;
  double wide[6] = {0};
  float narrow[6] = {0};
  if (all->model != NULL) {
    CHECK_OK(flatbed_read(all->model, 0, 0, narrow, sizeof narrow, FLATBED_VERIFY_YES, &error));
    CHECK(narrow[5] == 5);
  }
  if (all->view != NULL) {
    CHECK_OK(flatbed_read(all->view, 0, 0, wide, sizeof wide, FLATBED_VERIFY_YES, &error));
    CHECK(wide[5] == 5);
  }
  if (all->model != NULL && all->expected != NULL) {
    CHECK_OK(flatbed_match(all->model, all->expected, NULL, NULL, &error));
  }
  flatbed_checkpoint* opened = NULL;
  if (all->entries != NULL) {
    CHECK_OK(flatbed_series_entry_open(all->entries, 0, &opened, &error));
    flatbed_checkpoint_free(opened);
  }
  CHECK_NUMBER(flatbed_expected_count(all->expected), all->expected == NULL ? 0 : 3);
}

static void use_memory(handles* all) {
  flatbed_error error;
  char bytes[64];
  if (all->buffer != NULL) CHECK_OK(flatbed_buffer_read(all->buffer, 0, bytes, 64, &error));
  if (all->plan != NULL) {
    flatbed_load_options options = FLATBED_INIT(flatbed_load_options);
    options.pool = all->pool;  // may be NULL by now
    CHECK_OK(flatbed_load(all->plan, &options, NULL, &error));
    CHECK(all->weight[5] == 5);
  }
  if (all->loaded != NULL) {
    flatbed_loaded_tensor tensor = FLATBED_INIT(flatbed_loaded_tensor);
    CHECK_OK(flatbed_loaded_at(all->loaded, 0, &tensor, &error));
    CHECK_TEXT(tensor.name, "a.weight");
    CHECK(((const double*)tensor.data)[5] == 5);
  }
  if (all->tree != NULL) CHECK(flatbed_value_size(flatbed_tree_root(all->tree)) > 0);
  if (all->save_plan != NULL) {
    const char* const path = path_in(output_folder, "order_saved.safetensors");
    flatbed_save_options options = FLATBED_INIT(flatbed_save_options);
    options.unsynced = 1;
    CHECK_OK(flatbed_save(path, all->save_plan, &options, NULL, &error));
  }
}

static void free_one(handles* all, int kind) {
#define FREE(number, member, release) \
  if (kind == (number)) {             \
    release(all->member);             \
    all->member = NULL;               \
  }
  FREE(0, model, flatbed_checkpoint_free)
  FREE(1, view, flatbed_checkpoint_free)
  FREE(2, lock, flatbed_page_lock_free)
  FREE(3, tree, flatbed_tree_free)
  FREE(4, device, flatbed_device_free)
  FREE(5, buffer, flatbed_buffer_free)
  FREE(6, pool, flatbed_staging_pool_free)
  FREE(7, plan, flatbed_plan_free)
  FREE(8, loaded, flatbed_loaded_free)
  FREE(9, expected, flatbed_expected_free)
  FREE(10, save_plan, flatbed_save_plan_free)
  FREE(11, series, flatbed_series_free)
  FREE(12, entries, flatbed_series_entries_free)
#undef FREE
}

void test_order(void) {
  uint32_t seed = 1;
  char path[4096], folder[4096];
  snprintf(path, sizeof path, "%s", write_small_model("order.safetensors"));
  snprintf(folder, sizeof folder, "%s", path_in(output_folder, "order_series"));
  for (int round = 0; round < 20; ++round) {
    int order[kKinds];
    for (int i = 0; i < kKinds; ++i) {
      seed = seed * UINT32_C(1664525) + UINT32_C(1013904223);
      const int at = (int)(seed >> 8) % (i + 1);
      order[i] = order[at];
      order[at] = i;
    }
    handles all;
    memset(&all, 0, sizeof all);
    remove_all(folder);
    make_all(&all, path, folder);
    for (int i = 0; i < kKinds; ++i) {
      free_one(&all, order[i]);
      use_checkpoints(&all);
      use_memory(&all);
    }
  }
}
