// load(): tensors, or slices of them, into the caller's own memory, host or GPU, every byte checked
// against its digest on the way.
//
//   LoadPlan plan;
//   FLATBED_TRY(plan.add(model, "w", {.data = memory, .capacity = nbytes}));
//   FLATBED_ASSIGN(const LoadReport report, load(plan));
//
// A plan says which bytes go where. It is checked completely, names, shapes, dtypes, capacities,
// overlaps and budgets, before the first byte is read. Then files are read in order by several
// threads, each chunk is hashed while it is in the processor's cache, and only then copied on:
// what is queued to a device has been verified.
//
// When load() returns, whether with a report or an error, nothing is under way any more: no thread,
// no copy, no staging memory in use. After an error the contents of the destinations are
// unspecified.
//
// A LoadPlan is for one thread at a time; a plan that no longer changes may be loaded from several
// threads at once, where the destinations allow it. It shares the checkpoints that it names, and
// borrows the devices.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "flatbed/checkpoint.hpp"
#include "flatbed/device.hpp"
#include "flatbed/export.hpp"
#include "flatbed/progress.hpp"
#include "flatbed/result.hpp"

namespace flatbed {

// Elements [begin, end) of one dimension, and everything of the others. The default is the whole
// tensor.
struct Slice {
  static constexpr std::uint64_t kEnd = ~std::uint64_t{0};
  std::size_t dim = 0;
  std::uint64_t begin = 0;
  std::uint64_t end = kEnd;  // kEnd: to the last
};

// Part `rank` of `count` about equal parts of a dimension, as tensor parallelism cuts it: the sizes
// differ by at most one. Errors: slice_invalid.
[[nodiscard]] FLATBED_EXPORT Result<Slice> shard_slice(const TensorInfo& tensor, std::size_t dim,
                                                       std::uint64_t rank, std::uint64_t count);

// The bytes that arrive of a slice. Errors: slice_invalid.
[[nodiscard]] FLATBED_EXPORT Result<std::uint64_t> slice_nbytes(const TensorInfo& tensor,
                                                                const Slice& slice);

// Where a tensor goes. Memory of the host must be writable: that is not checked beforehand. (A read
// straight into memory that is not says destination_invalid; a copy into it ends the process.)
// The bytes arrive in C order, little endian, packed or, with a pitch, each
// row of the last dimension `row_pitch` bytes behind the one before.
struct Destination {
  Device* device = nullptr;     // null: the host's memory
  void* data = nullptr;         // of any type; its address a multiple of the element's size
  std::uint64_t capacity = 0;   // bytes from `data` on that the load may use
  std::uint64_t row_pitch = 0;  // 0: packed; else a multiple of the element's size
};

// Tensors that become ready together. Groups of a lower `priority` come first, and those of one
// priority in the order of their ids.
struct Group {
  std::uint32_t id = 0;
  std::int32_t priority = 0;
};

struct LoadItem {
  Slice slice = {};
  Group group = {};
  // What the caller believes; a mistake is an error of add().
  std::optional<Dtype> dtype = {};
  std::optional<ShapeView> shape = {};  // of what arrives: after slicing
};

// How files are read: through the page cache, or past it (O_DIRECT). `automatic` asks for each file
// whether it is in the page cache. Where a file system has no O_DIRECT, its files are read through
// the page cache.
enum class IoMode : std::uint8_t { automatic, buffered, direct };

// A group's tensors are verified, and in host memory, or queued to their device. Valid during the
// callback that is given it.
struct GroupReady {
  std::uint32_t group = 0;
  struct Event {
    Device* device = nullptr;
    // CUDA: a cudaEvent_t that completes when the group has arrived. Let streams wait for it
    // (cudaStreamWaitEvent) before the callback returns; it is not valid any longer.
    void* event = nullptr;
  };
  std::span<const Event> events;  // one for each device of the group that is not the host
};

struct LoadOptions {
  Verify verify = Verify::yes;
  IoMode io = IoMode::automatic;
  // That read and hash. 0: 8 where a file is read past the page cache, else as many as cores, at
  // least 2, at most 8.
  unsigned threads = 0;
  // Staging memory: `pool`, or else a pool of the load's own, of staging_nbytes, which is made only
  // where one is needed.
  StagingPool* pool = nullptr;
  std::uint64_t staging_nbytes = 64 << 20;
  std::uint64_t slot_nbytes = 0;  // 0: a fitting part of staging_nbytes, at most 8 MiB
  // How long a device may take for what was queued to it before the load is given up
  // (device_timeout).
  std::chrono::milliseconds device_timeout{60'000};
  // Both are called from the thread that called load(), with no lock held, and may set `cancel`. An
  // error stops the load, which waits for what is under way and returns that error; neither is
  // called again. They must not throw. `ready` is called once for each group, in order of priority.
  ProgressCallback progress = {};
  std::function<Result<void>(const GroupReady&)> ready = {};
  // Set from anywhere: load() stops, waits for what is under way, says cancelled.
  const std::atomic<bool>* cancel = nullptr;
};

// What a plan will do.
struct LoadPlanReport {
  std::uint64_t bytes_wanted = 0;   // that arrive
  std::uint64_t bytes_to_read = 0;  // of files; more where a slice cuts chunks that are verified
  std::uint64_t reads = 0;          // pieces of files, each read by one thread
  // Staging memory, at most; 0: all is read straight into place. Beside it each reading thread may
  // hold 1 MiB for what does not stay together.
  std::uint64_t peak_staging_nbytes = 0;
  std::uint32_t groups = 0;
  std::vector<std::filesystem::path> files;  // in the order of their first use
};

// What a load waited for most. read: the disk or the page cache; slots: staging memory, all of it
// held by readers or other loads; link: copies to the device.
enum class Stage : std::uint8_t { read, hash, submit, slots, link };
[[nodiscard]] FLATBED_EXPORT std::string_view name(Stage stage) noexcept;  // "read"; static storage

struct LoadReport {
  std::uint64_t bytes_wanted = 0;
  std::uint64_t bytes_read = 0;
  std::uint64_t bytes_verified = 0;  // hashed, and equal to their digests
  std::uint64_t chunks_verified = 0;
  std::uint64_t peak_staging_nbytes = 0;
  std::uint32_t files_direct = 0;    // read past the page cache
  std::uint32_t files_buffered = 0;  // read through it
  unsigned threads = 0;              // that read
  double seconds = 0;                // of the whole load
  // Seconds of all reading threads together, by what they did or waited for.
  double read_seconds = 0;
  double hash_seconds = 0;
  double submit_seconds = 0;
  double slots_seconds = 0;
  double link_seconds = 0;
  Stage bottleneck = Stage::read;  // the largest of them
};

class FLATBED_EXPORT LoadPlan {
 public:
  LoadPlan();
  LoadPlan(LoadPlan&& other) noexcept;
  LoadPlan& operator=(LoadPlan&& other) noexcept;
  ~LoadPlan();

  // Adds a tensor, or a slice of it. One tensor may be added more than once. Errors (the plan stays
  // as it was): tensor_not_found, slice_invalid, load_mismatch (another dtype or shape),
  // destination_invalid (null, misaligned), buffer_too_small, invalid_argument.
  [[nodiscard]] Result<void> add(const Checkpoint& checkpoint, std::string_view name,
                                 const Destination& to, const LoadItem& item = {});
  [[nodiscard]] std::size_t size() const noexcept;

  // Everything that can be refused before a byte is read. Errors: destination_overlap,
  // destination_invalid (not memory of its device), budget_too_small, invalid_argument.
  [[nodiscard]] Result<LoadPlanReport> check(const LoadOptions& options = {}) const;

 private:
  friend struct LoadPlanAccess;
  struct FLATBED_HIDDEN State;
  std::unique_ptr<State> state_;
};

// Blocking. Errors: those of check(); the system's (1-9); chunk_corrupt, chunk_rewritten; the
// device's (180-189); cancelled; those of the callbacks. The first error stops everything and is
// returned.
[[nodiscard]] FLATBED_EXPORT Result<LoadReport> load(const LoadPlan& plan,
                                                     const LoadOptions& options = {});

}  // namespace flatbed
