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
// A hole costs the time to read it, a new read that of a call or of a request to the disk. So holes
// are read up to this size, by how the file is read:
//
//   through the page cache, warm     4 KiB   a 64th of what the source prefers to read at once, if
//                                            that is more: far sources take long to answer
//   through the page cache, cold    16 KiB
//   past it, with O_DIRECT          32 KiB
//
// Columns of a matrix are many runs with holes. With larger holes than these, and not checked, they
// are one want, and make a span sparse, in whose jobs each run is read to its place. Other
// processes that load other columns need the holes, so sparse spans come through the page cache
// unless O_DIRECT is asked for; from a cold file, the kernel is told of a job's reads beforehand.
// Where the wants of a span need nearly all of it, such as the columns of all ranks, it is read as
// a whole:
//
//   rank 0  |r0|........|r0|........|r0|            sparse: reads |--|        |--|        |--|
//   rank 0  |r0|........|r0|........|r0|
//   rank 1  ...|r1|........|r1|........|r1|
//   rank 2  ......|r2|........|r2|........|r2|
//   rank 3  .........|r3|........|r3|........|r3|   not sparse: one read, each byte once
//
// The jobs of several ranks, each of which is read by one of them, also end where other ranks want
// what follows: rank_borders.hpp.
//
// A part is the share of one job in one want. Tensors that are not stored plainly in their file
// (strided, compressed) or are computed (cast) get jobs with offsets in their contents, not in a
// file. Of columns of those that are cast, large holes are not read either.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "flatbed/byte_source.hpp"
#include "load/load_plan.hpp"
#include "safetensors/seal.hpp"

namespace flatbed {

// The least room of a job through the page cache. A source that prefers more gets larger jobs, up
// to a slot. Where the page cache is read in place (io/leased_file.hpp), jobs of 2 MiB took 5
// percent less time than those of 1 MiB, and larger ones no less.
inline constexpr std::uint64_t kReadNbytes = 2 << 20;
// What is read at once before it is hashed, through the page cache: whole chunks, which are then
// still in the second-level cache, together with the pages that they were copied from. Of pieces of
// 64 KiB to 8 MiB none were faster, on Intel (9.7 GB/s, 1 MiB: 8.0) and on AMD (8.9, 1 MiB: 8.4);
// bench/results/2026-11-29-pieces.txt.
inline constexpr std::uint64_t kPieceNbytes = safetensors::kChunkBytes;
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
  std::uint64_t read_nbytes = 0;  // less if the job is sparse
  std::uint32_t file = 0;         // index into Schedule::files
  std::uint32_t group = 0;        // index into the plan's groups
  std::uint32_t first_part = 0;
  std::uint32_t parts = 0;
  JobKind kind = JobKind::in_place;
  bool overlapping = false;  // two parts share a byte
  bool sparse = false;       // holes are not read: load_units.hpp
  bool direct = false;       // read with O_DIRECT
};

struct Part {
  std::uint64_t begin = 0;  // in the file, or in the contents, within the job
  std::uint64_t end = 0;
  std::uint32_t transfer = 0;  // index into the plan's
};

struct ScheduledFile {
  const ByteSource* file = nullptr;
  bool cold = false;                          // known not to be in the page cache
  bool direct = false;                        // read with O_DIRECT, except sparse jobs
  bool checked = false;                       // chunks of it are compared with their digests
  std::uint64_t begin = 0;                    // of the first byte that is read
  std::uint64_t end = 0;                      // after the last one
  std::uint64_t nbytes = 0;                   // number of bytes read, without sparse spans
  std::uint64_t span_count = 0;               // number of places that they are read from
  std::uint64_t read_nbytes = kReadNbytes;    // the room of a job that is not direct
  std::uint64_t piece_nbytes = kPieceNbytes;  // of one read that is not direct and is checked
  std::uint64_t max_hole_nbytes = 0;          // that is read and discarded
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
  // A load of several ranks: whose transfer each of the plan's first ones is, of all that are read
  // from files. Jobs of files are the same on each rank, whatever is in its page cache and wherever
  // its memory is, and go by way of slots.
  const std::vector<std::uint32_t>* rank_of = nullptr;
  // Replaces the question whether a file is in the page cache.
  std::function<bool(const ByteSource& file)> is_cold = {};
};

// Asks which share of each file is in the page cache if io is automatic. Reads nothing.
[[nodiscard]] Schedule make_schedule(const LoadPlanState& plan, const ScheduleOptions& options);

// The most that is read and discarded to avoid a new read, as drawn above.
[[nodiscard]] std::uint64_t hole_limit(const ScheduledFile& file, IoMode io) noexcept;

// Names the job in its error: "a.safetensors: tensor 'w' and others: file offset 4096: ...".
[[nodiscard]] Error in_job(const LoadPlanState& plan, const Schedule& schedule, const Job& job,
                           Error error);

// Whether the tensor's bytes are read from its file. Others are read by Checkpoint::read().
[[nodiscard]] inline bool lies_in_file(const TensorInfo& tensor) noexcept {
  return tensor.stored == Stored::plain;
}

}  // namespace flatbed
