// A user of the C interface of the package: opens what it is given and prints how many tensors
// there are. Used by projects beside this file; argument: a checkpoint.
#include <inttypes.h>
#include <stdio.h>

#include "flatbed/flatbed.h"

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  flatbed_error error;
  flatbed_checkpoint* checkpoint = NULL;
  if (flatbed_open(argv[1], NULL, &checkpoint, &error) != 0) {
    fprintf(stderr, "%s\n", error.message);
    return 1;
  }
  printf("%" PRIu64 " tensors\n", flatbed_tensor_count(checkpoint));
  flatbed_checkpoint_free(checkpoint);
  return 0;
}
