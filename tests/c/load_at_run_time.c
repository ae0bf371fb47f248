// A program that knows flatbed only by its header: finds the library at run time, as plugins do.
// Usage: flatbed_c_dlopen LIBRARY CHECKPOINT
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

#include "flatbed/flatbed.h"

typedef int32_t (*open_function)(const char*, const flatbed_open_options*, flatbed_checkpoint**,
                                 flatbed_error*);
typedef uint64_t (*count_function)(const flatbed_checkpoint*);
typedef void (*free_function)(flatbed_checkpoint*);

// ISO C has no cast from an object pointer to a function pointer.
static void find(void* library, const char* name, void* function) {
  void* const address = dlsym(library, name);
  if (address == NULL) fprintf(stderr, "%s is not there\n", name);
  memcpy(function, &address, sizeof address);
}

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  void* const library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
  if (library == NULL) {
    fprintf(stderr, "%s\n", dlerror());
    return 1;
  }
  open_function open_checkpoint = NULL;
  count_function count_tensors = NULL;
  free_function free_checkpoint = NULL;
  find(library, "flatbed_open", &open_checkpoint);
  find(library, "flatbed_tensor_count", &count_tensors);
  find(library, "flatbed_checkpoint_free", &free_checkpoint);
  if (open_checkpoint == NULL || count_tensors == NULL || free_checkpoint == NULL) return 1;

  flatbed_error error;
  flatbed_checkpoint* model = NULL;
  if (open_checkpoint(argv[2], NULL, &model, &error) != 0) {
    fprintf(stderr, "%s\n", error.message);
    return 1;
  }
  const uint64_t count = count_tensors(model);
  free_checkpoint(model);
  return count > 0 ? 0 : 1;
}
