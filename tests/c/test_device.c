// Devices: the host's memory, and one of the caller's whose copies run late.
#include <pthread.h>

#include "check.h"

// A device of malloc's memory. Copies are queued and run when they are asked for by done().
typedef struct late_device {
  pthread_mutex_t mutex;
  flatbed_copy_piece queue[64];
  uint64_t queued;
  void* blocks[64];    // staging memory that was not given back
  uint64_t staged;     // their number
  uint64_t allocated;  // likewise
  int closed;
  int32_t stage_answer;
  int32_t copy_answer;
  int32_t wait_answer;
  int waits;
  const char* message;
  const void* shared;  // memory that the processor can write
  uint64_t asked_for_nbytes;
} late_device;

static int32_t check_memory(void* context, const void* data, uint64_t nbytes,
                            flatbed_error* error) {
  (void)context, (void)error;
  return data == NULL && nbytes != 0 ? FLATBED_ERROR_DESTINATION_INVALID : 0;
}

static int32_t stage(void* context, uint64_t nbytes, void** out, flatbed_error* error) {
  late_device* const self = context;
  if (self->message != NULL) snprintf(error->message, sizeof error->message, "%s", self->message);
  if (self->stage_answer != 0) return self->stage_answer;
  *out = aligned_alloc(4096, (nbytes + 4095) / 4096 * 4096);
  pthread_mutex_lock(&self->mutex);
  if (self->staged == 64) abort();
  self->blocks[self->staged++] = *out;
  pthread_mutex_unlock(&self->mutex);
  return *out == NULL ? FLATBED_ERROR_RESOURCE_EXHAUSTED : 0;
}

static void unstage(void* context, void* memory, uint64_t nbytes) {
  late_device* const self = context;
  (void)nbytes;
  pthread_mutex_lock(&self->mutex);
  uint64_t i = 0;
  while (i < self->staged && self->blocks[i] != memory) ++i;
  if (i == self->staged) abort();
  self->blocks[i] = self->blocks[--self->staged];
  pthread_mutex_unlock(&self->mutex);
  free(memory);
}

static int32_t copy(void* context, const flatbed_copy_piece* pieces, uint64_t count,
                    uint64_t* ticket, flatbed_error* error) {
  late_device* const self = context;
  (void)error;
  if (self->copy_answer != 0) return self->copy_answer;
  pthread_mutex_lock(&self->mutex);
  for (uint64_t i = 0; i < count && self->queued < 64; ++i) self->queue[self->queued++] = pieces[i];
  *ticket = self->queued;
  pthread_mutex_unlock(&self->mutex);
  return 0;
}

static int32_t fence(void* context, uint64_t* ticket, flatbed_error* error) {
  late_device* const self = context;
  (void)error;
  pthread_mutex_lock(&self->mutex);
  *ticket = self->queued;
  pthread_mutex_unlock(&self->mutex);
  return 0;
}

static int32_t done(void* context, uint64_t ticket, uint32_t* is_done, flatbed_error* error) {
  late_device* const self = context;
  (void)error;
  pthread_mutex_lock(&self->mutex);
  for (uint64_t i = 0; i < ticket && i < self->queued; ++i) {
    flatbed_copy_piece* const piece = &self->queue[i];
    for (uint64_t row = 0; row < piece->rows; ++row) {
      memcpy((char*)piece->to + row * piece->to_pitch,
             (const char*)piece->from + row * piece->from_pitch, piece->nbytes);
    }
    piece->rows = 0;  // once
  }
  *is_done = 1;
  pthread_mutex_unlock(&self->mutex);
  return 0;
}

static void* native_event(void* context, uint64_t ticket) {
  (void)ticket;
  return context;
}

static void forget(void* context, uint64_t ticket) { (void)context, (void)ticket; }

static int32_t allocate(void* context, uint64_t nbytes, void** out, flatbed_error* error) {
  (void)error;
  *out = aligned_alloc(256, (nbytes + 255) / 256 * 256);
  ++((late_device*)context)->allocated;
  return *out == NULL ? FLATBED_ERROR_RESOURCE_EXHAUSTED : 0;
}

static void release(void* context, void* memory, uint64_t nbytes) {
  (void)nbytes;
  --((late_device*)context)->allocated;
  free(memory);
}

static int32_t read_back(void* context, const void* from, void* out, uint64_t nbytes,
                         flatbed_error* error) {
  (void)context, (void)error;
  memcpy(out, from, nbytes);
  return 0;
}

// Staging memory of copies that could not be waited for is left to the device.
static void close_device(void* context) {
  late_device* const self = context;
  while (self->staged > 0) free(self->blocks[--self->staged]);
  ++self->closed;
}

static int32_t wait_for(void* context, uint64_t ticket, uint64_t most_ns, uint32_t* is_done,
                        flatbed_error* error) {
  late_device* const self = context;
  CHECK(most_ns != 0);
  if (self->message != NULL) snprintf(error->message, sizeof error->message, "%s", self->message);
  if (self->wait_answer != 0) return self->wait_answer;
  pthread_mutex_lock(&self->mutex);
  ++self->waits;
  pthread_mutex_unlock(&self->mutex);
  return done(context, ticket, is_done, error);
}

static int32_t numa_node(void* context) {
  (void)context;
  return 1 << 30;  // none that a machine has
}

static flatbed_device_ops make_ops(late_device* context) {
  flatbed_device_ops ops = FLATBED_INIT(flatbed_device_ops);
  memset(context, 0, sizeof *context);
  pthread_mutex_init(&context->mutex, NULL);
  ops.context = context;
  ops.name = flatbed_text("late:0");
  ops.check = check_memory;
  ops.stage = stage;
  ops.unstage = unstage;
  ops.copy = copy;
  ops.fence = fence;
  ops.done = done;
  ops.forget = forget;
  ops.native_event = native_event;
  ops.allocate = allocate;
  ops.release = release;
  ops.read_back = read_back;
  ops.close = close_device;
  return ops;
}

static int32_t on_ready(void* context, uint32_t group, const flatbed_ready_event* events,
                        uint64_t count) {
  (void)group;
  CHECK_NUMBER(count, 1);
  CHECK(events[0].device == *(flatbed_device**)context);
  CHECK(events[0].event != NULL);
  return 0;
}

static flatbed_transfer to_buffer(const flatbed_device* device, const flatbed_buffer* buffer) {
  flatbed_transfer transfer = FLATBED_INIT(flatbed_transfer);
  transfer.device = device;
  transfer.data = flatbed_buffer_data(buffer);
  transfer.capacity = flatbed_buffer_nbytes(buffer);
  return transfer;
}

// Handles are freed in the wrong order on purpose: everything is kept as long as it is needed.
static void loads_into_a_device_of_the_caller(void) {
  flatbed_error error;
  late_device late;
  const flatbed_device_ops ops = make_ops(&late);
  flatbed_device* device = NULL;
  flatbed_buffer* buffer = NULL;
  flatbed_plan* plan = NULL;
  flatbed_checkpoint* model = open_small_model();
  CHECK_OK(flatbed_device_custom(&ops, &device, &error));
  CHECK_TEXT(flatbed_device_name(device), "late:0");
  CHECK_OK(flatbed_buffer_new(device, 24, &buffer, &error));
  CHECK_OK(flatbed_plan_new(&plan, &error));
  const flatbed_transfer transfer = to_buffer(device, buffer);
  CHECK_OK(flatbed_plan_add(plan, model, flatbed_text("a.weight"), &transfer, &error));
  flatbed_checkpoint_free(model);
  flatbed_load_options options = FLATBED_INIT(flatbed_load_options);
  options.context = &device;
  options.ready = on_ready;
  options.device_timeout_ms = UINT64_MAX;
  CHECK_OK(flatbed_load(plan, &options, NULL, &error));
  flatbed_device_free(device);
  CHECK_OK(flatbed_load(plan, NULL, NULL, &error));
  flatbed_plan_free(plan);
  CHECK_NUMBER(late.closed, 0);
  float weight[2] = {0};
  CHECK_OK(flatbed_buffer_read(buffer, 16, weight, sizeof weight, &error));
  CHECK(weight[0] == 4 && weight[1] == 5);
  CHECK_ERROR(flatbed_buffer_read(buffer, 20, weight, sizeof weight, &error),
              FLATBED_ERROR_BUFFER_TOO_SMALL, "late:0");
  CHECK_ERROR(flatbed_buffer_read(buffer, UINT64_MAX, weight, 1, &error),
              FLATBED_ERROR_BUFFER_TOO_SMALL, "late:0");
  CHECK_INVALID(flatbed_buffer_read(buffer, 0, NULL, 1, &error), "'out'");
  CHECK_NUMBER(late.allocated, 1);
  flatbed_buffer_free(buffer);
  CHECK_NUMBER(late.allocated + late.staged, 0);
  CHECK_NUMBER(late.closed, 1);
}

static void reports_what_the_device_says(void) {
  flatbed_error error;
  late_device late;
  const flatbed_device_ops ops = make_ops(&late);
  float memory[6];
  flatbed_device* device = NULL;
  flatbed_plan* plan = NULL;
  flatbed_checkpoint* const model = open_small_model();
  CHECK_OK(flatbed_device_custom(&ops, &device, &error));
  CHECK_OK(flatbed_plan_new(&plan, &error));
  flatbed_transfer transfer = FLATBED_INIT(flatbed_transfer);
  transfer.device = device;
  transfer.data = memory;
  transfer.capacity = sizeof memory;
  CHECK_OK(flatbed_plan_add(plan, model, flatbed_text("a.weight"), &transfer, &error));
  late.stage_answer = -1;
  late.message = "out of pinned memory";
  CHECK_ERROR(flatbed_load(plan, NULL, NULL, &error), FLATBED_ERROR_DEVICE_ERROR,
              "late:0: out of pinned memory");
  late.stage_answer = 0;
  late.message = NULL;
  late.copy_answer = FLATBED_ERROR_DEVICE_UNAVAILABLE;
  CHECK_ERROR(flatbed_load(plan, NULL, NULL, &error), FLATBED_ERROR_DEVICE_UNAVAILABLE,
              "copy returned 180");
  CHECK_NUMBER(late.staged, 0);
  flatbed_plan_free(plan);
  flatbed_device_free(device);
  flatbed_checkpoint_free(model);
}

// A program that knows it tells where the device is and wakes those who wait for it.
static void waits_as_the_device_does(void) {
  flatbed_error error;
  late_device late;
  flatbed_device_ops ops = make_ops(&late);
  ops.wait = wait_for;
  ops.numa_node = numa_node;
  ops.link_bytes_per_second = 55000000000u;
  float memory[6] = {0};
  flatbed_device* device = NULL;
  flatbed_plan* plan = NULL;
  flatbed_checkpoint* const model = open_small_model();
  CHECK_OK(flatbed_device_custom(&ops, &device, &error));
  CHECK_OK(flatbed_plan_new(&plan, &error));
  flatbed_transfer transfer = FLATBED_INIT(flatbed_transfer);
  transfer.device = device;
  transfer.data = memory;
  transfer.capacity = sizeof memory;
  CHECK_OK(flatbed_plan_add(plan, model, flatbed_text("a.weight"), &transfer, &error));
  CHECK_OK(flatbed_load(plan, NULL, NULL, &error));
  CHECK(memory[5] == 5);
  CHECK(late.waits > 0);
  late.wait_answer = -1;
  late.message = "lost";
  CHECK_ERROR(flatbed_load(plan, NULL, NULL, &error), FLATBED_ERROR_DEVICE_ERROR, "late:0: lost");
  CHECK(late.staged > 0);
  flatbed_plan_free(plan);
  flatbed_device_free(device);
  CHECK_NUMBER(late.staged, 0);
  flatbed_checkpoint_free(model);
}

static void checks_the_functions(void) {
  flatbed_error error;
  late_device late;
  flatbed_device* device = NULL;
  flatbed_device_ops ops = make_ops(&late);
  ops.done = NULL;
  CHECK_INVALID(flatbed_device_custom(&ops, &device, &error), "'ops.done'");
  ops = make_ops(&late);
  ops.fence = NULL;
  CHECK_INVALID(flatbed_device_custom(&ops, &device, &error), "'ops.fence'");
  ops = make_ops(&late);
  ops.copy = NULL;
  CHECK_INVALID(flatbed_device_custom(&ops, &device, &error), "'ops.copy'");
  ops = make_ops(&late);
  ops.unstage = NULL;
  CHECK_INVALID(flatbed_device_custom(&ops, &device, &error), "'ops.unstage'");
  ops = make_ops(&late);
  ops.stage = NULL;
  CHECK_INVALID(flatbed_device_custom(&ops, &device, &error), "'ops.stage'");
  ops = make_ops(&late);
  ops.release = NULL;
  CHECK_INVALID(flatbed_device_custom(&ops, &device, &error), "all or none");
  ops = make_ops(&late);
  ops.is_host = 2;
  CHECK_INVALID(flatbed_device_custom(&ops, &device, &error), "'ops.is_host'");
  ops.name.data = NULL;
  CHECK_INVALID(flatbed_device_custom(&ops, &device, &error), "'ops.name'");
  CHECK_INVALID(flatbed_device_custom(NULL, &device, &error), "'ops'");
  CHECK_INVALID(flatbed_device_custom(&ops, NULL, &error), "'out'");
  CHECK_NUMBER(late.closed, 0);

  ops = make_ops(&late);  // the least that there must be
  ops.check = NULL;
  ops.forget = NULL;
  ops.native_event = NULL;
  ops.allocate = NULL;
  ops.release = NULL;
  ops.read_back = NULL;
  ops.close = NULL;
  CHECK_OK(flatbed_device_custom(&ops, &device, &error));
  flatbed_buffer* buffer = NULL;
  CHECK_INVALID(flatbed_buffer_new(device, 8, &buffer, &error), "late:0");
  flatbed_device_free(device);
}

// ---- the order of a load and the engine's own work ----------------------------------------------

// What the load has told the device, in the order in which it came.
typedef struct told {
  late_device late;  // first: the context of the other functions
  pthread_mutex_t mutex;
  char what[64];
  int32_t answer_after;
  int32_t answer_before;
} told;

static void note(told* self, const char* what) {
  pthread_mutex_lock(&self->mutex);
  if (strstr(self->what, what) == NULL) strcat(self->what, what);
  pthread_mutex_unlock(&self->mutex);
}

static int32_t enter_thread(void* context, flatbed_error* error) {
  (void)error;
  note(context, "enter ");
  return 0;
}

static int32_t order_after_engine(void* context, flatbed_error* error) {
  told* const self = context;
  note(self, "after ");
  snprintf(error->message, sizeof error->message, "the queue is gone");
  return self->answer_after;
}

static int32_t order_before_engine(void* context, uint64_t ticket, flatbed_error* error) {
  told* const self = context;
  (void)ticket, (void)error;
  note(self, "before ");
  return self->answer_before;
}

static int32_t is_ready(void* context, uint32_t group, const flatbed_ready_event* events,
                        uint64_t count) {
  (void)group, (void)events, (void)count;
  note(context, "ready ");
  return 0;
}

static void orders_loads_with_the_engine(void) {
  flatbed_error error;
  told told = {0};
  flatbed_device_ops ops = make_ops(&told.late);
  ops.enter_thread = enter_thread;
  ops.order_after_engine = order_after_engine;
  ops.order_before_engine = order_before_engine;
  pthread_mutex_init(&told.mutex, NULL);
  float memory[6];
  flatbed_device* device = NULL;
  flatbed_plan* plan = NULL;
  flatbed_checkpoint* const model = open_small_model();
  CHECK_OK(flatbed_device_custom(&ops, &device, &error));
  CHECK_OK(flatbed_plan_new(&plan, &error));
  flatbed_transfer transfer = FLATBED_INIT(flatbed_transfer);
  transfer.device = device;
  transfer.data = memory;
  transfer.capacity = sizeof memory;
  CHECK_OK(flatbed_plan_add(plan, model, flatbed_text("a.weight"), &transfer, &error));
  flatbed_load_options options = FLATBED_INIT(flatbed_load_options);
  options.context = &told;
  options.ready = is_ready;
  CHECK_OK(flatbed_load(plan, &options, NULL, &error));
  CHECK(strcmp(told.what, "enter after before ready ") == 0);
  told.answer_before = FLATBED_ERROR_STREAM_CAPTURING;
  CHECK_ERROR(flatbed_load(plan, &options, NULL, &error), FLATBED_ERROR_STREAM_CAPTURING,
              "order_before_engine returned 183");
  told.answer_after = -1;
  CHECK_ERROR(flatbed_load(plan, &options, NULL, &error), FLATBED_ERROR_DEVICE_ERROR,
              "late:0: the queue is gone");
  flatbed_plan_free(plan);
  flatbed_device_free(device);
  flatbed_checkpoint_free(model);
}

static uint32_t shares_memory(void* context, const void* data, uint64_t nbytes) {
  late_device* const self = context;
  self->asked_for_nbytes = nbytes;
  return data == self->shared ? 1 : 0;
}

// Memory that the processor writes itself is read into, and no copy is queued for it.
static void reads_into_memory_that_is_shared(void) {
  flatbed_error error;
  late_device late = {0};
  flatbed_device_ops ops = make_ops(&late);
  ops.host_can_write = shares_memory;
  pthread_mutex_init(&late.mutex, NULL);
  float shared[6] = {0};
  float copied[6] = {0};
  late.shared = shared;
  flatbed_device* device = NULL;
  flatbed_checkpoint* const model = open_small_model();
  CHECK_OK(flatbed_device_custom(&ops, &device, &error));
  for (int i = 0; i < 2; ++i) {
    flatbed_plan* plan = NULL;
    CHECK_OK(flatbed_plan_new(&plan, &error));
    flatbed_transfer transfer = FLATBED_INIT(flatbed_transfer);
    transfer.device = device;
    transfer.data = i == 0 ? shared : copied;
    transfer.capacity = sizeof shared;
    CHECK_OK(flatbed_plan_add(plan, model, flatbed_text("a.weight"), &transfer, &error));
    CHECK_NUMBER(late.asked_for_nbytes, sizeof shared);
    flatbed_load_report report = FLATBED_INIT(flatbed_load_report);
    CHECK_OK(flatbed_load(plan, NULL, &report, &error));
    CHECK_NUMBER(late.queued, i);
    CHECK_NUMBER(report.no_queue, FLATBED_NO_QUEUE_NONE);
    flatbed_plan_free(plan);
  }
  CHECK(memcmp(shared, copied, sizeof shared) == 0 && shared[1] != 0);
  flatbed_device_free(device);
  flatbed_checkpoint_free(model);
}

static void has_the_host(void) {
  flatbed_error error;
  flatbed_device* device = NULL;
  flatbed_buffer* buffer = NULL;
  flatbed_staging_pool* pool = NULL;
  CHECK_OK(flatbed_device_host(&device, &error));
  CHECK_TEXT(flatbed_device_name(device), "host");
  CHECK_OK(flatbed_buffer_new(device, 4, &buffer, &error));
  CHECK_NUMBER(flatbed_buffer_nbytes(buffer), 4);
  memcpy(flatbed_buffer_data(buffer), "abc", 4);
  char text[4];
  CHECK_OK(flatbed_buffer_read(buffer, 0, text, 4, &error));
  CHECK(strcmp(text, "abc") == 0);
  CHECK_OK(flatbed_staging_pool_new(device, 4 << 20, 1 << 20, &pool, &error));
  CHECK_NUMBER(flatbed_staging_pool_peak_nbytes(pool), 0);
  flatbed_device_free(device);

  // A load with that pool.
  flatbed_plan* plan = NULL;
  flatbed_checkpoint* const model = open_small_model();
  CHECK_OK(flatbed_plan_new(&plan, &error));
  float bias[2] = {0};
  flatbed_transfer transfer = FLATBED_INIT(flatbed_transfer);
  transfer.data = bias;
  transfer.capacity = sizeof bias;
  CHECK_OK(flatbed_plan_add(plan, model, flatbed_text("a.bias"), &transfer, &error));
  flatbed_load_options options = FLATBED_INIT(flatbed_load_options);
  options.pool = pool;
  CHECK_OK(flatbed_load(plan, &options, NULL, &error));
  CHECK(bias[1] == 7);
  flatbed_plan_free(plan);
  flatbed_checkpoint_free(model);
  flatbed_staging_pool_free(pool);
  flatbed_buffer_free(buffer);
}

static void checks_arguments(void) {
  flatbed_error error;
  flatbed_device* device = NULL;
  flatbed_buffer* buffer = NULL;
  flatbed_staging_pool* pool = NULL;
  CHECK_INVALID(flatbed_device_host(NULL, &error), "'out'");
  CHECK_OK(flatbed_device_host(&device, &error));
  CHECK_INVALID(flatbed_buffer_new(NULL, 1, &buffer, &error), "'device'");
  CHECK_INVALID(flatbed_buffer_new(device, 1, NULL, &error), "'out'");
  CHECK_INVALID(flatbed_buffer_read(NULL, 0, NULL, 0, &error), "'buffer'");
  CHECK_INVALID(flatbed_staging_pool_new(NULL, 0, 0, &pool, &error), "'device'");
  CHECK_INVALID(flatbed_staging_pool_new(device, 0, 0, NULL, &error), "'out'");
  CHECK_INVALID(flatbed_staging_pool_new(device, 0, 1, &pool, &error), "");
  CHECK_ERROR(flatbed_staging_pool_new(device, 1, 0, &pool, &error), FLATBED_ERROR_BUDGET_TOO_SMALL,
              "");
  CHECK(flatbed_buffer_data(NULL) == NULL);
  CHECK_NUMBER(flatbed_buffer_nbytes(NULL) + flatbed_staging_pool_peak_nbytes(NULL) +
                   flatbed_device_name(NULL).size,
               0);
  flatbed_device_free(device);
  flatbed_device_free(NULL);
  flatbed_buffer_free(NULL);
  flatbed_staging_pool_free(NULL);
}

void test_device(void) {
  loads_into_a_device_of_the_caller();
  reports_what_the_device_says();
  waits_as_the_device_does();
  checks_the_functions();
  orders_loads_with_the_engine();
  reads_into_memory_that_is_shared();
  has_the_host();
  checks_arguments();
}
