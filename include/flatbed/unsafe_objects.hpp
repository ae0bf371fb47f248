// UnsafeObjects: what a writer of PyTorch files does with objects that torch.load refuses. Plain
// data.
#pragma once

#include <cstdint>

#include "flatbed/export.hpp"

namespace flatbed {

// What becomes of objects that torch.load(weights_only=True) refuses.
enum class UnsafeObjects : std::uint8_t {
  refuse,  // an error that names the object and its place
  // numpy arrays become tensors, numpy scalars Python's, paths str, namespaces and subclasses of
  // dict dict, frozenset set, deque list; other objects are refused
  convert,
  keep,  // written as they are: the file then loads with weights_only=False only
};

}  // namespace flatbed
