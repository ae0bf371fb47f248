// Bytes of tensors: read, views, and the memory behind them, also from eight threads.
#include <pthread.h>

#include "check.h"

static void reads(const flatbed_checkpoint* model) {
  flatbed_error error;
  float values[3] = {0, 0, 0};
  CHECK_OK(flatbed_read(model, 0, 8, values, sizeof values, FLATBED_VERIFY_YES, &error));
  CHECK(values[0] == 2 && values[1] == 3 && values[2] == 4);
  CHECK_OK(flatbed_read(model, 0, 0, NULL, 0, FLATBED_VERIFY_NO, &error));
  CHECK_ERROR(flatbed_read(model, 0, 16, values, sizeof values, FLATBED_VERIFY_YES, &error),
              FLATBED_ERROR_BUFFER_TOO_SMALL, "a.weight");
  CHECK_ERROR(flatbed_read(model, 0, UINT64_MAX, values, 8, FLATBED_VERIFY_YES, &error),
              FLATBED_ERROR_BUFFER_TOO_SMALL, "a.weight");
  CHECK_INVALID(flatbed_read(model, 3, 0, values, 4, FLATBED_VERIFY_YES, &error), "'tensor'");
  CHECK_INVALID(flatbed_read(model, 0, 0, NULL, 4, FLATBED_VERIFY_YES, &error), "'out'");
  CHECK_INVALID(flatbed_read(model, 0, 0, values, 4, 2, &error), "'verify': found 2");
  CHECK_INVALID(flatbed_read(NULL, 0, 0, values, 4, 0, &error), "'checkpoint'");
  CHECK_INVALID(flatbed_read(wrong_kind(), 0, 0, values, 4, 0, &error), "'checkpoint'");
}

static void views(const flatbed_checkpoint* model) {
  flatbed_error error;
  const void* data = NULL;
  uint64_t nbytes = 0;
  CHECK_OK(flatbed_view(model, 1, &data, &nbytes, &error));
  CHECK_NUMBER(nbytes, 8);
  float values[2];
  memcpy(values, data, sizeof values);
  CHECK(values[0] == 6 && values[1] == 7);
  CHECK_INVALID(flatbed_view(model, 1, NULL, &nbytes, &error), "'data'");
  CHECK_INVALID(flatbed_view(model, 1, &data, NULL, &error), "'nbytes'");
  CHECK_INVALID(flatbed_view(model, 9, &data, &nbytes, &error), "'tensor'");
  CHECK_INVALID(flatbed_view(NULL, 0, &data, &nbytes, &error), "'checkpoint'");
}

static void keeps_pages(const flatbed_checkpoint* model) {
  flatbed_error error;
  flatbed_page_lock* lock = NULL;
  CHECK_OK(flatbed_prefetch(model, 0, 0, 24, &error));
  CHECK_OK(flatbed_release(model, 0, 0, 24, &error));
  CHECK_OK(flatbed_lock(model, 0, 0, 24, &lock, &error));
  flatbed_page_lock_free(lock);
  CHECK_ERROR(flatbed_prefetch(model, 0, 1, 24, &error), FLATBED_ERROR_BUFFER_TOO_SMALL, "");
  CHECK_ERROR(flatbed_release(model, 0, 1, 24, &error), FLATBED_ERROR_BUFFER_TOO_SMALL, "");
  CHECK_ERROR(flatbed_lock(model, 0, 1, 24, &lock, &error), FLATBED_ERROR_BUFFER_TOO_SMALL, "");
  CHECK(lock == NULL);
  CHECK_INVALID(flatbed_prefetch(NULL, 0, 0, 0, &error), "'checkpoint'");
  CHECK_INVALID(flatbed_release(NULL, 0, 0, 0, &error), "'checkpoint'");
  CHECK_INVALID(flatbed_lock(NULL, 0, 0, 0, &lock, &error), "'checkpoint'");
  CHECK_INVALID(flatbed_lock(model, 0, 0, 24, NULL, &error), "'out'");
  flatbed_page_lock_free(NULL);
  flatbed_page_lock_free((flatbed_page_lock*)wrong_kind());
}

// A lock outlives its checkpoint, and a lock is no checkpoint.
static void tells_handles_apart(void) {
  flatbed_error error;
  flatbed_checkpoint* model = open_small_model();
  flatbed_page_lock* lock = NULL;
  CHECK_OK(flatbed_lock(model, 1, 0, 8, &lock, &error));
  CHECK_NUMBER(flatbed_tensor_count((const flatbed_checkpoint*)lock), 0);
  flatbed_checkpoint_free((flatbed_checkpoint*)lock);  // left alone
  flatbed_checkpoint_free(model);
  flatbed_page_lock_free(lock);
}

static void* use_model(void* model) {
  flatbed_error error;
  for (int i = 0; i < 200; ++i) {
    float values[6];
    CHECK_OK(flatbed_read(model, 0, 0, values, sizeof values, FLATBED_VERIFY_YES, &error));
    CHECK(values[5] == 5);
    flatbed_checkpoint* renamed = NULL;
    CHECK_OK(flatbed_rename(model, flatbed_text("add-prefix x."), &renamed, &error));
    flatbed_tensor tensor = FLATBED_INIT(flatbed_tensor);
    CHECK_OK(flatbed_tensor_find(renamed, flatbed_text("x.b"), &tensor, &error));
    flatbed_checkpoint_free(renamed);
  }
  return NULL;
}

static void serves_eight_threads(flatbed_checkpoint* model) {
  pthread_t threads[8];
  for (int i = 0; i < 8; ++i) CHECK(pthread_create(&threads[i], NULL, use_model, model) == 0);
  for (int i = 0; i < 8; ++i) CHECK(pthread_join(threads[i], NULL) == 0);
}

void test_bytes(void) {
  flatbed_error error;
  flatbed_checkpoint* const model = open_small_model();
  reads(model);
  views(model);
  serves_eight_threads(model);
  flatbed_checkpoint_free(model);
  flatbed_checkpoint* file = NULL;
  CHECK_OK(flatbed_open(write_small_model("bytes.safetensors"), NULL, &file, &error));
  reads(file);
  views(file);
  keeps_pages(file);
  serves_eight_threads(file);
  flatbed_checkpoint_free(file);
  tells_handles_apart();
}
