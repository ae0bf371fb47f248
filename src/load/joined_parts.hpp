// Transfers of joined tensors, taken apart: each tensor that one is joined of is loaded as what it
// is, bytes of a file, which several threads read in the order of the file and straight to their
// places.
//
//   joined along the first dimension      along the last one
//   q  ->  qqqqqq                         gate  ->  gggg....gggg....gggg....    rows with a pitch
//   k  ->  ......kk                       up    ->  ....uuuu....uuuu....uuuu
//
// Stateless, thread-safe.
#pragma once

#include <vector>

#include "checkpoint/checkpoint_access.hpp"
#include "load/load_plan.hpp"

namespace flatbed {

struct JoinedPart {
  Checkpoint checkpoint;
  Transfer transfer;  // as the whole one, except for the tensor and what follows from it
};

// `whole` loads the range of its tensor, and at least one byte. Empty if the tensor is not joined
// of tensors in files, or not along that dimension (any, if the range is everything), or if the
// destination of a part would not be rows of one pitch: then it is loaded by its contents.
[[nodiscard]] std::vector<JoinedPart> joined_parts(const Checkpoint& checkpoint,
                                                   const Transfer& whole, const DimRange& range);

}  // namespace flatbed
