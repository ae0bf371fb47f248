// The shared object: one C function, over a static flatbed.
#include "flatbed/flatbed.hpp"

// The number of tensors in a checkpoint; -1: it cannot be opened.
extern "C" __attribute__((visibility("default"))) int count_tensors(const char* path) {
  const auto checkpoint = flatbed::Checkpoint::open(path);
  return checkpoint ? static_cast<int>(checkpoint->tensors().size()) : -1;
}
