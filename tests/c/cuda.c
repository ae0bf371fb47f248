// flatbed_cuda.h: where there is a GPU, or the fake CUDA runtime in its place, a load to it;
// elsewhere the error. Usage: flatbed_c_cuda_tests (cuda | no-cuda): what is expected; otherwise
// both are right.
#include "check.h"
#include "flatbed/flatbed_cuda.h"

static int32_t on_device(void* context, int32_t ordinal, flatbed_string name,
                         uint64_t memory_nbytes, int32_t compute_major, int32_t compute_minor) {
  int* const devices = context;
  CHECK(ordinal == *devices && name.size > 0 && memory_nbytes > 0);
  CHECK(compute_major > 0 && compute_minor >= 0);
  ++*devices;
  return 0;
}

static int32_t on_info(void* context, const flatbed_cuda_device_info* info) {
  int* const devices = context;
  CHECK(info->struct_size == sizeof *info && info->ordinal == *devices && info->name.size > 0);
  CHECK(info->memory_nbytes >= info->free_nbytes && info->pci_bus_id.size >= 12);
  CHECK(info->compute_major > 0 && info->compute_minor >= 0 && info->numa_node >= -1);
  ++*devices;
  return 0;
}

static int32_t has_free_memory(void* context, const flatbed_cuda_device_info* info) {
  (void)context;
  CHECK(info->free_nbytes > 0);
  return -1;
}

static int32_t stop(void* context, int32_t ordinal, flatbed_string name, uint64_t memory_nbytes,
                    int32_t compute_major, int32_t compute_minor) {
  (void)context, (void)ordinal, (void)name, (void)memory_nbytes;
  (void)compute_major, (void)compute_minor;
  return -1;
}

static int32_t on_ready(void* context, uint32_t group, const flatbed_ready_event* events,
                        uint64_t count) {
  (void)group;
  CHECK(count == 1 && events[0].event != NULL && events[0].device == context);
  return 0;
}

static void loads_to_the_gpu(const flatbed_cuda_options* options_of_gpu) {
  flatbed_error error;
  flatbed_device* gpu = NULL;
  flatbed_buffer* buffer = NULL;
  flatbed_plan* plan = NULL;
  flatbed_checkpoint* const model = open_small_model();
  CHECK_OK(options_of_gpu == NULL ? flatbed_device_cuda(0, NULL, &gpu, &error)
                                  : flatbed_device_cuda_with(0, options_of_gpu, &gpu, &error));
  CHECK_TEXT(flatbed_device_name(gpu), "cuda:0");
  CHECK_OK(flatbed_buffer_new(gpu, 24, &buffer, &error));
  CHECK_OK(flatbed_plan_new(&plan, &error));
  flatbed_transfer transfer = FLATBED_INIT(flatbed_transfer);
  transfer.device = gpu;
  transfer.data = flatbed_buffer_data(buffer);
  transfer.capacity = flatbed_buffer_nbytes(buffer);
  CHECK_OK(flatbed_plan_add(plan, model, flatbed_text("a.weight"), &transfer, &error));
  flatbed_load_options options = FLATBED_INIT(flatbed_load_options);
  options.context = gpu;
  options.ready = on_ready;
  CHECK_OK(flatbed_load(plan, &options, NULL, &error));
  flatbed_device_free(gpu);
  flatbed_checkpoint_free(model);
  flatbed_plan_free(plan);
  float values[6] = {0};
  CHECK_OK(flatbed_buffer_read(buffer, 0, values, sizeof values, &error));
  CHECK(values[0] == 0 && values[5] == 5);
  flatbed_buffer_free(buffer);
  CHECK_ERROR(flatbed_cuda_devices(stop, NULL, &error), FLATBED_ERROR_CANCELLED, "device");
  CHECK_ERROR(flatbed_device_cuda(99, NULL, &gpu, &error), FLATBED_ERROR_DEVICE_UNAVAILABLE, "99");
}

static void names_streams(void) {
  flatbed_error error;
  flatbed_device* gpu = NULL;
  flatbed_cuda_options options = FLATBED_INIT(flatbed_cuda_options);
  options.stream.kind = FLATBED_CUDA_STREAM_CREATED;
  CHECK_INVALID(flatbed_device_cuda_with(0, &options, &gpu, &error), "options.stream");
  options.stream.kind = FLATBED_CUDA_STREAM_LEGACY;
  options.stream.handle = &options;
  CHECK_INVALID(flatbed_device_cuda_with(0, &options, &gpu, &error), "options.stream");
  options.stream = (flatbed_cuda_stream){4, 0, NULL};
  CHECK_INVALID(flatbed_device_cuda_with(0, &options, &gpu, &error), "the kind 4");
  options.stream = (flatbed_cuda_stream){FLATBED_CUDA_STREAM_NONE, 0, NULL};
  options.order_after.reserved = 1;
  CHECK_INVALID(flatbed_device_cuda_with(0, &options, &gpu, &error), "options.order_after");
  options.order_after.reserved = 0;
  options.order_before.handle = &options;
  CHECK_INVALID(flatbed_device_cuda_with(0, &options, &gpu, &error), "options.order_before");
  CHECK_INVALID(flatbed_device_cuda_with(0, NULL, NULL, &error), "'out'");
  CHECK(gpu == NULL);
}

int main(int argc, char** argv) {
  flatbed_error error;
  flatbed_device* gpu = NULL;
  int devices = 0;
  const int32_t code = flatbed_cuda_devices(on_device, &devices, &error);
  CHECK((code == 0) == (devices > 0));
  CHECK(code == 0 || code == FLATBED_ERROR_DEVICE_UNAVAILABLE);
  if (argc == 2) CHECK((code == 0) == (strcmp(argv[1], "cuda") == 0));
  CHECK_INVALID(flatbed_cuda_devices(NULL, NULL, &error), "'device'");
  CHECK_INVALID(flatbed_cuda_device_infos(0, NULL, NULL, &error), "'device'");
  CHECK_INVALID(flatbed_cuda_device_infos(2, on_info, NULL, &error), "'ask_free'");
  int infos = 0;
  CHECK(flatbed_cuda_device_infos(0, on_info, &infos, &error) == code && infos == devices);
  CHECK_INVALID(flatbed_device_cuda(0, NULL, NULL, &error), "'out'");
  names_streams();
  if (code == 0) {
    flatbed_cuda_options options = FLATBED_INIT(flatbed_cuda_options);
    CHECK_ERROR(flatbed_cuda_device_infos(1, has_free_memory, NULL, &error),
                FLATBED_ERROR_CANCELLED, "device");
    loads_to_the_gpu(NULL);
    loads_to_the_gpu(&options);
    options.order_after.kind = FLATBED_CUDA_STREAM_LEGACY;
    options.order_before.kind = FLATBED_CUDA_STREAM_PER_THREAD;
    loads_to_the_gpu(&options);
    options.stream.kind = FLATBED_CUDA_STREAM_LEGACY;
    CHECK_INVALID(flatbed_device_cuda_with(0, &options, &gpu, &error), "default stream");
  } else {
    CHECK_ERROR(flatbed_device_cuda(0, NULL, &gpu, &error), FLATBED_ERROR_DEVICE_UNAVAILABLE, "");
    CHECK(gpu == NULL);
  }
  return failed_checks() == 0 ? 0 : 1;
}
