// Schedule: a plan as a list of jobs, each one piece of one file that one thread reads. Pure: reads
// nothing. Const and thread-safe once made.
//
// Wanted bytes are widened to whole chunks where digests are to be checked, sorted by group and
// place, and joined where little lies between them. What comes out is cut into jobs, never inside a
// chunk that is to be checked:
//
//   wants   |--- w ---|   |-- x --|-------- x, second destination --------|        |-- y --|
//   spans   |------------------------- one ------------------------------|        |-two---|
//   jobs    |--------- 0 ---------|----------- 1 ----------|------ 2 -----|        |-- 3 --|
//
// A part is what one job holds of one want. Tensors that do not lie plainly in their file (strided,
// compressed) get jobs that count in their contents, not in a file.
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
// What is read and thrown away rather than begin a new read.
inline constexpr std::uint64_t kMaxHoleNbytes = 32 << 10;
// Of O_DIRECT reads, and of slots. Files that need more are read through the page cache.
inline constexpr std::uint64_t kDirectAlignment = 4096;

enum class JobKind : std::uint8_t {
  in_place,  // a file's bytes, each straight to its place in host memory as far as possible
  staged,    // a file's bytes, by way of a slot
  contents,  // Checkpoint::read(): one tensor, by way of a slot
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
  bool overlapping = false;  // some byte belongs to two parts
};

struct Part {
  std::uint64_t begin = 0;  // in the file, or in the contents, within the job
  std::uint64_t end = 0;
  std::uint32_t transfer = 0;  // index into the plan's
};

struct ScheduledFile {
  const ByteSource* file = nullptr;
  bool direct = false;                      // read past the page cache
  std::uint64_t begin = 0;                  // of the first byte that is read
  std::uint64_t end = 0;                    // behind the last
  std::uint64_t nbytes = 0;                 // that are read
  std::uint64_t span_count = 0;             // places that are read from
  std::uint64_t read_nbytes = kReadNbytes;  // of one read that is not direct
};

struct Schedule {
  std::vector<ScheduledFile> files;
  std::vector<Job> jobs;
  std::vector<Part> parts;
  std::vector<std::uint32_t> groups;         // the plan's, in the order in which they are loaded
  std::vector<std::uint32_t> jobs_of_group;  // per group of the plan
  std::uint64_t bytes_wanted = 0;
  std::uint64_t bytes_to_read = 0;
  std::uint64_t slot_jobs = 0;              // that go by way of a slot
  std::uint64_t read_nbytes = kReadNbytes;  // the most of any file
};

// How much room jobs have.
struct ScheduleOptions {
  bool verify = true;
  IoMode io = IoMode::automatic;
  std::uint64_t slot_nbytes = 8 << 20;
};

// Asks for the share of each file that is in the page cache where io is automatic; reads nothing.
[[nodiscard]] Schedule make_schedule(const LoadPlanState& plan, const ScheduleOptions& options);

// What a job is about, for messages: "a.safetensors: tensor 'w' and others: from offset 4096".
[[nodiscard]] std::string job_text(const LoadPlanState& plan, const Schedule& schedule,
                                   const Job& job);

// Whether the tensor's bytes are looked for in its file. Others are read by Checkpoint::read().
[[nodiscard]] inline bool lies_in_file(const TensorInfo& tensor) noexcept {
  return tensor.stored == Stored::plain;
}

}  // namespace flatbed
