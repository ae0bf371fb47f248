// The structs of DLPack 1.1 and the legacy one, as a consumer knows them.
#pragma once

#include <stdint.h>

typedef struct DLTensor {
  void* data;
  int32_t device_type;
  int32_t device_id;
  int32_t ndim;
  uint8_t code;
  uint8_t bits;
  uint16_t lanes;
  int64_t* shape;
  int64_t* strides;
  uint64_t byte_offset;
} DLTensor;

struct DLManagedTensor {
  DLTensor tensor;
  void* manager;
  void (*deleter)(struct DLManagedTensor* self);
};

struct DLManagedTensorVersioned {
  uint32_t major;
  uint32_t minor;
  void* manager;
  void (*deleter)(struct DLManagedTensorVersioned* self);
  uint64_t flags;
  DLTensor tensor;
};

// What a consumer does at the end. NULL for an export that failed.
static inline void end_export(struct DLManagedTensorVersioned* managed) {
  if (managed != NULL) managed->deleter(managed);
}
