// diff(): what distinguishes two checkpoints: names, dtypes, shapes, bytes, and the structure
// around the tensors. Any layouts, sets and selections can be compared with each other.
//
//   FLATBED_ASSIGN(const DiffReport report, diff(before, after));
//   for (const TensorDifference& difference : report.tensors) show(difference.name);
//
// Tensors are paired by name; an alias counts as a tensor of its name. Where both files are sealed,
// their digests are compared and no tensor data is read: verify() says whether data and digests
// agree. Where one is, only the other one's data is read. Metadata is not compared.
//
// May be called from several threads at once.
#pragma once

#include <atomic>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "flatbed/checkpoint.hpp"
#include "flatbed/export.hpp"
#include "flatbed/progress.hpp"
#include "flatbed/result.hpp"
#include "flatbed/tensor.hpp"
#include "flatbed/value.hpp"

namespace flatbed {

struct DiffOptions {
  // Also say how far values differ. Reads both sides of every tensor that may differ.
  bool values = false;
  unsigned threads = 2;  // that read; 1 to 16
  // Called from the calling thread. An error stops diff(), which returns it.
  ProgressCallback progress = {};
  // Borrowed. May be set from any thread: diff() stops and returns cancelled.
  const std::atomic<bool>* cancel = nullptr;
};

enum class TensorChange : std::uint8_t {
  removed,  // only the first checkpoint has it
  added,    // only the second one has it
  dtype,    // the shapes are equal
  shape,    // the dtypes may differ too
  bytes,    // dtypes and shapes are equal
};
[[nodiscard]] FLATBED_EXPORT std::string_view name(TensorChange change) noexcept;  // static storage

// How far apart the values of a tensor are. Floats of up to 32 bits are compared as F32, all else
// as F64, in which integers beyond 2^53 are rounded.
struct ValueDifference {
  double max_abs = 0;           // the largest |a - b|
  double max_rel = 0;           // the largest |a - b| / max(|a|, |b|); 1 where that is infinite
  double mean_abs = 0;          // of |a - b|, over all elements that are no NaN on either side
  std::uint64_t different = 0;  // elements; a NaN differs from every number, but not from a NaN
  std::uint64_t nans_a = 0;
  std::uint64_t nans_b = 0;
  std::optional<std::uint64_t> worst;  // the first element with max_abs, counted in C order
};

// A tensor that is not the same in both. Names and shapes borrow from the checkpoints.
struct TensorDifference {
  std::string_view name;
  TensorChange change = TensorChange::bytes;
  std::optional<TensorInfo> a;  // in the first checkpoint
  std::optional<TensorInfo> b;  // in the second one
  // `bytes` only: chunks of 262,144 bytes of the contents that differ, and the first of them.
  std::uint64_t chunks = 0;
  std::uint64_t first_chunk = 0;
  // With DiffOptions::values, for the changes `bytes` and `dtype`, and dtypes that are numbers: not
  // complex ones, F8_E8M0, and floats of 4 and 6 bits.
  std::optional<ValueDifference> values;
};

// A place in the trees whose values differ. Borrows from the checkpoints.
struct TreeDifference {
  // Dotted, as for Value::at(), and `callable` and `arguments` of an object; "" is the root.
  std::string path;
  std::optional<Value> a;  // nullopt: only the second tree has the place
  std::optional<Value> b;  // nullopt: only the first one has it
};

struct DiffReport {
  std::vector<TensorDifference> tensors;  // in the first checkpoint's order; what was added is last
  std::uint64_t equal_tensors = 0;        // names whose tensors are equal
  // False if one of the two records no structure; then nothing below says anything.
  bool trees_compared = false;
  // In the first tree's order: the first 10,000, or those whose paths take 64 MiB.
  std::vector<TreeDifference> tree;
  bool tree_complete = true;     // false: there are more
  std::uint64_t bytes_read = 0;  // of tensor data
  [[nodiscard]] bool same() const noexcept { return tensors.empty() && tree.empty(); }
};

// Compares the checkpoints. Blocking; memory is bounded: 1 MiB per thread, 48 MiB more on each side
// that has strided or compressed tensors, and what the report holds. The report is valid while
// copies of both checkpoints exist. Errors: those of read() and tree(), file_changed, cancelled;
// shard_tensor_missing for a set that lacks a tensor of its index; limit_exceeded for structures
// that refer to the same containers from millions of places.
[[nodiscard]] FLATBED_EXPORT Result<DiffReport> diff(const Checkpoint& a, const Checkpoint& b,
                                                     const DiffOptions& options = {});

}  // namespace flatbed
