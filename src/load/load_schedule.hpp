// Schedule: a plan as a list of jobs, each one piece of one file that one thread reads. Making it
// reads nothing. Const and thread-safe afterwards.
//
// The needed bytes are widened to whole chunks if digests are checked, sorted by group and place,
// and joined if little lies between them. The result is cut into jobs, never inside a chunk that is
// checked:
//
//   wants   |--- w ---|   |-- x --|-------- x, second destination --------|        |-- y --|
//   spans   |------------------------- one ------------------------------|        |-two---|
//   jobs    |--------- 0 ---------|----------- 1 ----------|------ 2 -----|        |-- 3 --|
//
// A part is the share of one job in one want. Tensors that are not stored plainly in their file
// (strided, compressed) get jobs with offsets in their contents, not in a file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "flatbed/byte_source.hpp"
#include "load/load_plan.hpp"
#include "safetensors/seal.hpp"

namespace flatbed {

// The least size of one read through the page cache: the bytes are hashed while they are in the
// processor's second-level cache. A source that prefers more is read in larger pieces, up to a
// slot.
inline constexpr std::uint64_t kReadNbytes = 1 << 20;
// The most that is read and discarded to avoid a new read.
inline constexpr std::uint64_t kMaxHoleNbytes = 32 << 10;
// The alignment of O_DIRECT reads and of slots. Files that need more are read through the page
// cache.
inline constexpr std::uint64_t kDirectAlignment = 4096;

enum class JobKind : std::uint8_t {
  in_place,  // a file's bytes, read straight to their places in host memory if possible
  staged,    // a file's bytes, through a slot
  contents,  // Checkpoint::read(): one tensor, through a slot
  contents_in_place,
};

struct Job {
  std::uint64_t begin = 0;  // in the file, or in the tensor's contents
  std::uint64_t nbytes = 0;
  std::uint32_t file = 0;   // index into Schedule::files
  std::uint32_t group = 0;  // index into the plan's groups
  std::uint32_t first_part = 0;
  std::uint32_t parts = 0;
  JobKind kind = JobKind::in_place;
  bool overlapping = false;  // two parts share a byte
};

struct Part {
  std::uint64_t begin = 0;  // in the file, or in the contents, within the job
  std::uint64_t end = 0;
  std::uint32_t transfer = 0;  // index into the plan's
};

struct ScheduledFile {
  const ByteSource* file = nullptr;
  bool direct = false;                      // read with O_DIRECT
  std::uint64_t begin = 0;                  // of the first byte that is read
  std::uint64_t end = 0;                    // after the last one
  std::uint64_t nbytes = 0;                 // number of bytes read
  std::uint64_t span_count = 0;             // number of places read from
  std::uint64_t read_nbytes = kReadNbytes;  // of one read that is not direct
};

struct Schedule {
  std::vector<ScheduledFile> files;
  std::vector<Job> jobs;
  std::vector<Part> parts;
  std::vector<std::uint32_t> groups;         // the plan's, in the order in which they are loaded
  std::vector<std::uint32_t> jobs_of_group;  // for each group of the plan
  std::uint64_t bytes_wanted = 0;
  std::uint64_t bytes_to_read = 0;
  std::uint64_t slot_jobs = 0;              // jobs that use a slot
  std::uint64_t read_nbytes = kReadNbytes;  // the most of any file
};

// The room that jobs have.
struct ScheduleOptions {
  bool verify = true;
  IoMode io = IoMode::automatic;
  std::uint64_t slot_nbytes = 8 << 20;
};

// Asks which share of each file is in the page cache if io is automatic. Reads nothing.
[[nodiscard]] Schedule make_schedule(const LoadPlanState& plan, const ScheduleOptions& options);

// Names the job in its error: "a.safetensors: tensor 'w' and others: file offset 4096: ...".
[[nodiscard]] Error in_job(const LoadPlanState& plan, const Schedule& schedule, const Job& job,
                           Error error);

// Whether the tensor's bytes are read from its file. Others are read by Checkpoint::read().
[[nodiscard]] inline bool lies_in_file(const TensorInfo& tensor) noexcept {
  return tensor.stored == Stored::plain;
}

}  // namespace flatbed
