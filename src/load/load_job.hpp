// JobRunner: reads, checks and delivers jobs, one after the other. Past the page cache, several may
// be on their way. Each reading thread has one. Owns its buffers; borrows the rest. Not
// thread-safe.
//
// Bytes for host memory are read to their places and hashed there, as far as whole chunks stay
// together; the others are read elsewhere and copied. On some processors (past_cache.hpp) most of
// those that could be read to their places are copied too: out of the page cache where the system
// lets it (leased_pool.hpp), else out of a buffer that stays in the processor's cache.
//
//   file     |-- chunk 0 --|-- chunk 1 --|-- chunk 2 --|      of one part
//                   |             |             |
//                   |        leased pages, or the buffer
//                   |        hash and store past the cache, in one pass
//                   |             |             |
//   memory   |-- chunk 0 --|-- chunk 1 --|-- chunk 2 --|
//
// Bytes for a device are read into a slot, hashed there, and only then queued.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "io/large_allocator.hpp"
#include "io/leased_pool.hpp"
#include "load/load_ahead.hpp"
#include "load/load_file.hpp"
#include "load/load_progress.hpp"
#include "load/load_slots.hpp"
#include "load/load_units.hpp"
#include "load/row_gather.hpp"

namespace flatbed {

// The parts that all runners of a load share.
struct LoadWork {
  const LoadPlanState& plan;
  const Schedule& schedule;
  const LoadHooks& hooks;
  Verify verify;
  std::deque<LoadFile>& files;  // the schedule's
  LoadStop& stop;
  LoadGroups& groups;
  LoadSlots* slots;  // null if no job needs one
  Device& host;
  bool bounce = false;           // verified bytes reach host memory by way of a buffer in the cache
  LeasedPool* leased = nullptr;  // or out of the page cache, where that is possible
  bool check_on_arrival = false;  // of far files, by the thread that receives them
};

// The room of the buffer from which bytes are stored past the cache. Processors where that pays
// (past_cache.hpp) have at least twice as much second-level cache. Two chunks took 1.5 percent less
// time than one, in half as many calls of the kernel, on Zen 5.
inline constexpr std::uint64_t kBounceNbytes = 2 * safetensors::kChunkBytes;

class JobRunner {
 public:
  // `queue`: for reads past the page cache; null if there is none.
  explicit JobRunner(const LoadWork& work, ReadQueue* queue = nullptr) : work_(work) {
    if (queue != nullptr) ahead_.emplace(*queue);
  }

  // With a queue, jobs that are read past the page cache are only begun, and finished later.
  // Errors: those of the file, the digests and the device, of this job or of an earlier one.
  // Returns early without an error when the load stops.
  [[nodiscard]] Result<void> run(const Job& job);
  // Call after the last job: finishes those that were begun, or ends them when the load stops.
  [[nodiscard]] Result<void> finish();

  [[nodiscard]] StageTimes& times() noexcept { return times_; }
  [[nodiscard]] std::uint64_t bytes_verified() const noexcept { return bytes_verified_; }
  [[nodiscard]] std::uint64_t chunks_verified() const noexcept { return chunks_verified_; }
  [[nodiscard]] std::uint64_t chunks_reread() const noexcept { return chunks_reread_; }
  [[nodiscard]] std::uint64_t contents_read() const noexcept { return contents_read_; }
  // The casts that did not fit, by transfer.
  [[nodiscard]] const std::map<std::uint32_t, CastCounts>& casts() const noexcept { return casts_; }
  [[nodiscard]] std::uint64_t scratch_nbytes() const noexcept {
    return scratch_ ? work_.schedule.read_nbytes : 0;
  }

 private:
  enum class Rereads : bool { now, later };  // of bytes that do not match their digest

  Result<void> run_in_place(const Job& job);
  [[nodiscard]] Result<std::uint64_t> choose_segments(const Job& job, FileRange range);
  [[nodiscard]] Result<void> read_in_place(const Job& job, const FileRange& range);
  Result<void> check_in_place(const Job& job, std::uint64_t end, Rereads rereads);
  void add_host_copy(const Unit& unit, const std::byte* at);
  Result<void> copy_to_host();
  void read_ahead(const Job& job);
  [[nodiscard]] Result<std::optional<std::uint32_t>> take_slot();
  Result<void> run_staged(const Job& job);
  Result<void> read_staged(const Job& job, std::byte* at);
  [[nodiscard]] Result<void> read_piece(const Job& job, std::uint64_t from,
                                        std::span<std::byte> out, std::byte* at);
  Result<void> read_sparse(const Job& job, std::byte* at);
  [[nodiscard]] bool goes_ahead(const Job& job) const;
  Result<void> begin_ahead(const Job& job);
  Result<void> finish_oldest();
  Result<void> read_oldest(const LoadAhead::Flight& flight);
  Result<void> check_to(std::uint64_t end, const Job& job, std::byte* at, Rereads rereads);
  Result<bool> check_some(std::uint64_t end, const Job& job, std::byte* at, Rereads rereads);
  Result<void> run_contents(const Job& job);
  Result<void> run_contents_in_place(const Job& job);
  Result<void> read_contents(const Job& job, std::span<std::byte> out);

  [[nodiscard]] bool checks_on_arrival(const Job& job) const;
  template <typename Check>
  [[nodiscard]] Result<void> read_checking(LoadFile& file, std::uint64_t begin, Check check);
  Result<bool> check(const Unit& unit, std::span<std::byte> bytes, std::byte* copy_to,
                     Rereads rereads);
  [[nodiscard]] std::uint64_t digest_of(std::span<const std::byte> bytes, std::byte* copy_to) const;
  [[nodiscard]] std::byte* place_of(const Job& job, const Unit& unit) const;
  [[nodiscard]] Result<void> compare(const Unit& unit, std::span<const std::byte> bytes,
                                     std::byte* copy_to) const;
  Result<void> count_checked(const Unit& unit, Result<void> checked);
  [[nodiscard]] bool is_copied(const Job& job, const Unit& unit, std::uint64_t at) const;
  [[nodiscard]] std::optional<LeasedPool::Pages> lease_pages(const Job& job, std::uint64_t from);
  [[nodiscard]] Result<std::uint64_t> copy_pages(const Job& job, const Unit& unit,
                                                 const LeasedPool::Pages& pages);
  [[nodiscard]] bool bounces(const Job& job, const Unit& unit, std::uint64_t at) const;
  [[nodiscard]] Result<std::uint64_t> bounce(const Job& job, const Unit& first);
  Result<void> read_to_bounce(const Job& job, const Unit& first, std::span<std::byte> bytes);
  [[nodiscard]] std::byte* scratch_at(const Job& job, std::uint64_t at) const;
  Result<void> deliver(const Job& job, std::uint32_t slot, std::byte* at);
  Result<void> queue(std::vector<DeviceTicket>& tickets);
  void collect_pieces(const Job& job, std::byte* at);
  [[nodiscard]] std::uint64_t offset_of(const Job& job, const Transfer& transfer) const;
  [[nodiscard]] Error in_job(const Job& job, Error error) const;

  LoadWork work_;
  Units units_{work_.plan, work_.schedule, work_.verify == Verify::yes};  // of the current job
  std::uint64_t checked_to_ = 0;                                          // within that job
  bool mismatched_ = false;  // a unit is left for later
  std::optional<LoadAhead> ahead_;
  StageTimes times_ = {};
  std::uint64_t bytes_verified_ = 0;
  std::uint64_t chunks_verified_ = 0;
  std::uint64_t chunks_reread_ = 0;
  std::uint64_t contents_read_ = 0;
  std::map<std::uint32_t, CastCounts> casts_;
  std::optional<LeasedFile> leased_;            // none: not tried yet, or not to be had
  std::optional<std::uint32_t> leased_number_;  // of the file, once it was tried
  LargeBlock scratch_;  // of schedule.read_nbytes, for what belongs nowhere; made when needed
  LargeBlock bounce_;   // of kBounceNbytes, at any place in a page; made when needed
  std::vector<Unit> bounced_;           // what is in it
  std::vector<CopyPiece> host_copies_;  // from the slot or the scratch buffer
  std::vector<std::span<std::byte>> segments_;
  std::vector<std::vector<CopyPiece>> pieces_;  // for each device of the plan
  RowGather rows_;
};

}  // namespace flatbed
