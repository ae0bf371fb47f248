// load(): loads tensors, or slices of them, into the caller's host or GPU memory, and verifies
// every byte against its digest on the way.
//
//   LoadPlan plan;
//   FLATBED_TRY(plan.add(model, "w", {.data = memory, .capacity = nbytes}));
//   FLATBED_ASSIGN(const LoadReport report, load(plan));
//
// A plan states which bytes go where. It is checked completely (names, shapes, dtypes, capacities,
// overlaps and budgets) before the first byte is read. Then several threads read the files in
// order. Each chunk is hashed while it is in the processor's cache, and copied on only after that:
// bytes that are queued to a device have been verified.
//
// When load() returns, with a report or an error, nothing is under way any more: no thread, no
// copy, no staging memory in use. After an error the contents of the destinations are unspecified.
//
// A LoadPlan is not thread-safe while it changes. Afterwards it may be loaded from several threads
// at once, if the destinations allow it. It shares the checkpoints that it names, and borrows the
// devices.
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

#include "flatbed/cast.hpp"
#include "flatbed/checkpoint.hpp"
#include "flatbed/device.hpp"
#include "flatbed/export.hpp"
#include "flatbed/progress.hpp"
#include "flatbed/result.hpp"

namespace flatbed {

// Elements [begin, end) of one dimension, and all elements of the others. The default is the whole
// tensor.
struct Slice {
  static constexpr std::uint64_t kEnd = ~std::uint64_t{0};
  std::size_t dim = 0;
  std::uint64_t begin = 0;
  std::uint64_t end = kEnd;  // kEnd: to the last
  // Set by shard_slice(); 0: by nobody. Where the tensor is joined along `dim`, they say which
  // elements are loaded, and [begin, end) is only their number.
  std::uint64_t rank = 0;
  std::uint64_t count = 0;
};

// Part `rank` of `count` nearly equal parts of a dimension, as in tensor parallelism: the sizes
// differ by at most one. Along a dimension that the tensor is joined along (KeyMap::cat()), it is
// that part of each of the tensors that it is joined of, one after the other: what cutting q, k and
// v and then joining them gives. Elements [begin, end) of the joined tensor are others, so pass the
// slice on as it is. Each of the joined tensors must divide evenly. Errors: slice_invalid.
[[nodiscard]] FLATBED_EXPORT Result<Slice> shard_slice(const TensorInfo& tensor, std::size_t dim,
                                                       std::uint64_t rank, std::uint64_t count);

// The bytes that arrive of a slice. Errors: slice_invalid.
[[nodiscard]] FLATBED_EXPORT Result<std::uint64_t> slice_nbytes(const TensorInfo& tensor,
                                                                const Slice& slice);

// The destination of a tensor. Host memory must be writable, which is not checked in advance. (A
// read straight into memory that is not writable fails with destination_invalid; a copy into it
// ends the process.) The bytes arrive in C order and little endian, either packed or, with a pitch,
// with each row of the last dimension `row_pitch` bytes after the previous one.
struct Destination {
  Device* device = nullptr;     // null: the host's memory
  void* data = nullptr;         // of any type; its address a multiple of the element's size
  std::uint64_t capacity = 0;   // size in bytes that the load may use
  std::uint64_t row_pitch = 0;  // 0: packed; else a multiple of the element's size
};

// Tensors that become ready together. Groups with a lower `priority` come first; groups of the same
// priority are in the order of their ids.
struct Group {
  std::uint32_t id = 0;
  std::int32_t priority = 0;
};

struct LoadItem {
  Slice slice = {};
  Group group = {};
  // The caller's expectation. If it is wrong, add() returns an error.
  std::optional<Dtype> dtype = {};
  std::optional<ShapeView> shape = {};  // of the loaded tensor, after slicing
  // Cast the tensor to this dtype on the way (cast.hpp). Capacity and alignment are then those of
  // this dtype; `dtype` above still is that of the checkpoint.
  std::optional<Dtype> as = {};
};

// How files are read: through the page cache, or with O_DIRECT. `automatic` decides for each file
// by whether it is in the page cache. If a file system does not support O_DIRECT, its files are
// read through the page cache. There, bytes for host memory may be read in place, under a lease of
// the kernel's (fcntl(2), F_SETLEASE) that is held for the milliseconds of a job: whoever opens the
// file to write, or truncates it, waits as long.
enum class IoMode : std::uint8_t { automatic, buffered, direct };

// Announces that a group's tensors are verified, and in host memory or queued to their device.
// Valid during the callback that receives it.
struct GroupReady {
  std::uint32_t group = 0;
  struct Event {
    Device* device = nullptr;
    // For CUDA: a cudaEvent_t that completes when the group has arrived. Let streams wait for it
    // (cudaStreamWaitEvent) before the callback returns; it is invalid afterwards.
    void* event = nullptr;
  };
  // One for each device of the group that is not the host. Memory that a device shares with the
  // host has arrived, and needs none.
  std::span<const Event> events;
};

struct LoadOptions {
  Verify verify = Verify::yes;
  IoMode io = IoMode::automatic;
  // Number of threads that read and hash. 0 chooses: one per core, but at least 2 and at most 8,
  // or as many as the devices' links need (Device::link_bytes_per_second()) at 4 GB/s each, up to
  // 32; and at least 8 if a file is read with O_DIRECT where the system has no io_uring, or comes
  // from a source that prefers reads of 1 MiB or more, because those wait for the disk or the
  // network. Where all devices are on one NUMA node of the host, only its cores count, and the
  // threads and the load's own staging memory stay there, unless the caller's thread may not run on
  // all of them.
  unsigned threads = 0;
  // Staging memory: `pool`, or else a pool of the load's own, of staging_nbytes, which is made only
  // where one is needed.
  StagingPool* pool = nullptr;
  std::uint64_t staging_nbytes = 64 << 20;
  std::uint64_t slot_nbytes = 0;  // 0: a fitting part of staging_nbytes, at most 8 MiB
  // How long a device may take for queued work before the load fails (device_timeout).
  std::chrono::milliseconds device_timeout{60'000};
  // Both are called on the thread that called load(), with no lock held, and may set `cancel`. They
  // must not throw. `ready` is called once for each group, in order of priority.
  ProgressCallback progress = {};
  std::function<Result<void>(const GroupReady&)> ready = {};
  // May be set from any thread: load() stops, waits for work under way, and returns cancelled.
  const std::atomic<bool>* cancel = nullptr;
};

// The work that a plan will do.
struct LoadPlanReport {
  std::uint64_t bytes_wanted = 0;  // that arrive
  // More than bytes_wanted if a slice cuts chunks that are verified, or where reading the little
  // between two rows is faster than a new read; less if several items want the same bytes. A tensor
  // that is computed counts with the bytes that arrive of it.
  std::uint64_t bytes_to_read = 0;
  std::uint64_t reads = 0;  // pieces of files; each is read by one thread
  // Staging memory, at most; 0: all is read straight into place. Each reading thread may hold
  // another 1 MiB for what does not stay together, 516 KiB that chunks pass through on processors
  // which gain by it, and 256 KiB for casts (2 MiB of what is computed itself; 16 MiB if the tensor
  // is strided, or joined along another than the first dimension); and as much as a slot where it
  // brings narrow rows of several slices of a tensor to devices.
  std::uint64_t peak_staging_nbytes = 0;
  std::uint32_t groups = 0;
  std::vector<std::filesystem::path> files;  // in the order of their first use
};

// What a load waited for most. read: the disk or the page cache; slots: staging memory, all of it
// held by readers or other loads; link: copies to the device.
enum class Stage : std::uint8_t { read, hash, submit, slots, link };
[[nodiscard]] FLATBED_EXPORT std::string_view name(Stage stage) noexcept;  // "read"; static storage

// Why threads that wait read files past the page cache, and not io_uring. none: io_uring does, or
// nothing is read so; not_built: flatbed was built without liburing; not_in_kernel: Linux before
// 5.6, or configured without it; forbidden: by a seccomp filter or kernel.io_uring_disabled;
// no_memory: for a ring, also where a limit on descriptors or locked memory is reached.
enum class NoQueue : std::uint8_t { none, not_built, not_in_kernel, forbidden, no_memory };
[[nodiscard]] FLATBED_EXPORT std::string_view name(NoQueue why) noexcept;  // static storage

struct LoadReport {
  std::uint64_t bytes_wanted = 0;
  std::uint64_t bytes_read = 0;
  std::uint64_t bytes_verified = 0;  // hashed, and equal to their digests
  std::uint64_t chunks_verified = 0;
  // Chunks that were read once more because they, or the CRC of their record, did not match, from
  // sources where bytes may be damaged on the way (ByteSource::max_rereads()).
  std::uint64_t chunks_reread = 0;
  CastReport casts;  // of the values that were read, which for slices may be more than arrive
  std::uint64_t peak_staging_nbytes = 0;
  std::uint32_t files_direct = 0;    // read with O_DIRECT
  std::uint32_t files_buffered = 0;  // read through the page cache
  bool queued = false;               // files_direct by io_uring; otherwise by threads that wait
  NoQueue no_queue = NoQueue::none;  // why they wait
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

  // Adds a tensor or a slice of it. One tensor may be added more than once. Errors, after which the
  // plan is unchanged: tensor_not_found, slice_invalid, load_mismatch (another dtype or shape),
  // destination_invalid (null, misaligned), buffer_too_small, invalid_argument (also a tensor that
  // cannot be cast).
  [[nodiscard]] Result<void> add(const Checkpoint& checkpoint, std::string_view name,
                                 const Destination& to, const LoadItem& item = {});
  [[nodiscard]] std::size_t size() const noexcept;

  // Checks everything that can be checked before a byte is read. Errors: destination_overlap,
  // destination_invalid (not memory of its device), budget_too_small, invalid_argument.
  [[nodiscard]] Result<LoadPlanReport> check(const LoadOptions& options = {}) const;

 private:
  friend struct LoadPlanAccess;
  struct FLATBED_HIDDEN State;
  std::unique_ptr<State> state_;
};

// Blocking. Errors: those of check(); the system's (1-9); chunk_corrupt, chunk_rewritten;
// zip_deflate_malformed, zip_crc_mismatch (records of a zip); the device's (180-189); cancelled;
// those of the callbacks. The first error stops everything and is returned.
[[nodiscard]] FLATBED_EXPORT Result<LoadReport> load(const LoadPlan& plan,
                                                     const LoadOptions& options = {});

}  // namespace flatbed
