// A program as it was compiled against the first header: the structs, numbers and functions below
// are what it contains, and are never changed. It runs with every later library.
// Usage: flatbed_c_first CHECKPOINT OUTPUT
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct handle handle;

typedef struct text {
  const char* data;
  uint64_t size;
} text;

typedef struct first_error {
  int32_t code;
  uint32_t message_size;
  const char* name;
  char message[1008];
} first_error;

typedef struct first_tensor {
  uint64_t struct_size;
  text name;
  const uint64_t* shape;
  uint64_t rank;
  uint64_t nbytes;
  uint64_t index;
  uint32_t dtype;
  uint32_t stored;
  uint32_t storage;
  uint32_t file;
  uint64_t file_offset;
  uint64_t file_nbytes;
  text digests;
} first_tensor;

typedef struct first_transfer {
  uint64_t struct_size;
  const handle* device;
  void* data;
  uint64_t capacity;
  uint64_t row_pitch;
  uint64_t slice[5];
  const uint64_t* expect_shape;
  uint64_t expect_rank;
  uint32_t sliced;
  uint32_t group;
  int32_t priority;
  uint32_t expect_dtype;
  uint32_t cast_to;
  uint32_t reserved;
} first_transfer;

typedef struct first_load_options {
  uint64_t struct_size;
  void* context;
  int32_t (*progress)(void* context, uint64_t bytes_done, uint64_t bytes_total);
  int32_t (*ready)(void* context, uint32_t group, const void* events, uint64_t count);
  const handle* cancel;
  const handle* pool;
  uint64_t staging_nbytes;
  uint64_t slot_nbytes;
  uint64_t device_timeout_ms;
  uint32_t threads;
  uint32_t verify;
  uint32_t io;
  uint32_t reserved;
} first_load_options;

typedef struct first_load_report {
  uint64_t struct_size;
  uint64_t bytes_wanted;
  uint64_t rest[18];
} first_load_report;

typedef struct first_save_options {
  uint64_t struct_size;
  void* context;
  int32_t (*progress)(void* context, uint64_t bytes_done, uint64_t bytes_total);
  int32_t (*note)(void* context, text note);
  const handle* cancel;
  uint64_t max_shard_nbytes;
  uint32_t threads;
  uint32_t verify;
  uint32_t unsealed;
  uint32_t unsynced;
  uint32_t rest[8];
} first_save_options;

typedef struct first_save_report {
  uint64_t struct_size;
  uint64_t nbytes;
  uint64_t counts[9];
  char content[24];
  uint32_t durable;
  uint32_t reserved;
} first_save_report;

enum { kTensorNotFound = 11, kBf16 = 15, kF32 = 18 };

uint32_t flatbed_abi(void);
int32_t flatbed_open(const char* path, const void* options, handle** out, first_error* error);
void flatbed_checkpoint_free(handle* checkpoint);
uint64_t flatbed_tensor_count(const handle* checkpoint);
int32_t flatbed_tensor_at(const handle* checkpoint, uint64_t index, first_tensor* out,
                          first_error* error);
int32_t flatbed_tensor_find(const handle* checkpoint, text name, first_tensor* out,
                            first_error* error);
int32_t flatbed_plan_new(handle** out, first_error* error);
void flatbed_plan_free(handle* plan);
int32_t flatbed_plan_add(handle* plan, const handle* checkpoint, text name,
                         const first_transfer* transfer, first_error* error);
int32_t flatbed_load(const handle* plan, const first_load_options* options,
                     first_load_report* report, first_error* error);
int32_t flatbed_save_plan_of(const handle* checkpoint, const void* options, handle** out,
                             first_error* error);
void flatbed_save_plan_free(handle* plan);
int32_t flatbed_save(const char* path, const handle* plan, const first_save_options* options,
                     first_save_report* report, first_error* error);

// Ends the program with the place of what is not as it was.
#define EXPECT(condition)                                         \
  do {                                                            \
    if (!(condition)) {                                           \
      fprintf(stderr, "line %d: not %s\n", __LINE__, #condition); \
      exit(1);                                                    \
    }                                                             \
  } while (0)

// What lies behind a struct of the first header belongs to the program.
typedef struct guarded_tensor {
  first_tensor tensor;
  uint64_t after;
} guarded_tensor;

static int32_t on_progress(void* context, uint64_t bytes_done, uint64_t bytes_total) {
  *(uint64_t*)context = bytes_done;
  return bytes_done <= bytes_total ? 0 : 1;
}

static void load_as_bf16(const handle* model, const first_tensor* tensor) {
  first_error error;
  handle* plan = NULL;
  uint64_t done = 0;
  void* const memory = malloc(tensor->nbytes);
  first_transfer transfer = {.struct_size = sizeof transfer, .data = memory};
  transfer.capacity = tensor->nbytes;
  transfer.expect_dtype = kF32;
  transfer.cast_to = kBf16;
  first_load_options options = {.struct_size = sizeof options, .context = &done};
  options.progress = on_progress;
  first_load_report report = {.struct_size = sizeof report};
  EXPECT(flatbed_plan_new(&plan, &error) == 0);
  EXPECT(flatbed_plan_add(plan, model, tensor->name, &transfer, &error) == 0);
  EXPECT(flatbed_load(plan, &options, &report, &error) == 0);
  EXPECT(report.struct_size == sizeof report && report.bytes_wanted == tensor->nbytes / 2);
  EXPECT(done > 0);
  flatbed_plan_free(plan);
  free(memory);
}

static void save(const handle* model, const char* path) {
  first_error error;
  handle* plan = NULL;
  first_save_options options = {.struct_size = sizeof options};
  first_save_report report = {.struct_size = sizeof report};
  EXPECT(flatbed_save_plan_of(model, NULL, &plan, &error) == 0);
  EXPECT(flatbed_save(path, plan, &options, &report, &error) == 0);
  EXPECT(report.durable == 1 && strlen(report.content) == 16 && report.nbytes > 0);
  flatbed_save_plan_free(plan);
}

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  first_error error;
  handle* model = NULL;
  guarded_tensor found = {.tensor = {.struct_size = sizeof found.tensor}, .after = 77};
  EXPECT(flatbed_abi() >= 1);
  EXPECT(flatbed_open(argv[1], NULL, &model, &error) == 0 && error.code == 0);
  EXPECT(flatbed_tensor_count(model) > 0);
  EXPECT(flatbed_tensor_find(model, (text){"none", 4}, &found.tensor, &error) == kTensorNotFound);
  EXPECT(strcmp(error.name, "tensor_not_found") == 0 && error.message_size > 0);
  EXPECT(flatbed_tensor_at(model, 0, &found.tensor, &error) == 0);
  EXPECT(found.tensor.struct_size == sizeof found.tensor && found.after == 77);
  EXPECT(found.tensor.dtype == kF32 && found.tensor.nbytes > 0);
  load_as_bf16(model, &found.tensor);
  save(model, argv[2]);
  flatbed_checkpoint_free(model);
  return 0;
}
