#include "load/staging_pool.hpp"

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <new>
#include <thread>
#include <utility>
#include <vector>

#include "base/str_cat.hpp"
#include "io/numa.hpp"
#include "io/thread_pool.hpp"

namespace flatbed {

namespace {

// Two chunks, because one may begin anywhere in the slot.
constexpr std::uint64_t kMinSlot = 512 << 10;
constexpr std::uint64_t kMaxSlot = 1 << 30;
constexpr std::uint64_t kUsualSlot = 8 << 20;
constexpr std::uint64_t kHugePage = 2 << 20;
// Of what is made at once: less would not fill a huge page.
constexpr std::uint64_t kLeastBlock = kHugePage;
constexpr unsigned kMostStagers = 8;
constexpr std::uint64_t kSlotUnit = 4096;
constexpr std::uint64_t kMinSlots = 2;
constexpr std::uint64_t kMaxNbytes = std::uint64_t{1} << 46;  // more than any machine's memory

}  // namespace

struct StagingPool::State {
  State(Device& owner, const StagingOptions& options)
      : device(owner),
        slot_nbytes(options.slot_nbytes),
        slots(static_cast<std::uint32_t>(options.staging_nbytes / options.slot_nbytes)),
        slots_of_block(
            static_cast<std::uint32_t>(std::max<std::uint64_t>(kLeastBlock / slot_nbytes, 1))),
        blocks((slots + slots_of_block - 1) / slots_of_block) {
    idle.reserve(slots);
  }

  [[nodiscard]] std::size_t nbytes() const { return static_cast<std::size_t>(slot_nbytes) * slots; }
  // The slots of a block are [first, end).
  [[nodiscard]] std::uint32_t first(std::size_t block) const {
    return static_cast<std::uint32_t>(block) * slots_of_block;
  }
  [[nodiscard]] std::uint32_t end(std::size_t block) const {
    return std::min(first(block) + slots_of_block, slots);
  }
  [[nodiscard]] std::size_t block_nbytes(std::size_t block) const {
    return static_cast<std::size_t>(slot_nbytes) * (end(block) - first(block));
  }

  Device& device;
  const std::uint64_t slot_nbytes;
  const std::uint32_t slots;
  const std::uint32_t slots_of_block;

  std::condition_variable given_back;  // wakes one who waits for a slot
  mutable std::mutex mutex;            // guards what follows
  std::vector<std::byte*> blocks;      // null: not made, or not yet
  std::size_t begun = 0;               // blocks that somebody makes or has made
  std::vector<std::uint32_t> idle;     // the last one returned is the first one taken
  std::uint32_t taken = 0;
  std::uint32_t peak = 0;
  std::uint32_t abandoned = 0;
};

Result<void> check_staging(const StagingOptions& options) {
  if (options.slot_nbytes % kSlotUnit != 0 || options.slot_nbytes < kMinSlot ||
      options.slot_nbytes > kMaxSlot) {
    return make_error(ErrorCode::invalid_argument, "wrong slot size: found ", options.slot_nbytes,
                      " bytes, expected a multiple of ", kSlotUnit, " from ", kMinSlot, " to ",
                      kMaxSlot);
  }
  if (options.staging_nbytes / options.slot_nbytes < kMinSlots) {
    return make_error(ErrorCode::budget_too_small, "the staging memory is too small: found ",
                      options.staging_nbytes, " bytes, expected at least ", kMinSlots, " slots of ",
                      options.slot_nbytes, " bytes");
  }
  if (options.staging_nbytes > kMaxNbytes) {
    return make_error(ErrorCode::invalid_argument, "the staging memory is too large: found ",
                      options.staging_nbytes, " bytes, the limit is ", kMaxNbytes);
  }
  return {};
}

std::uint64_t fitting_slot_nbytes(std::uint64_t staging_nbytes, unsigned threads) noexcept {
  const std::uint64_t share = staging_nbytes / (2 * std::uint64_t{std::max(threads, 1U)});
  const std::uint64_t unit = share >= kHugePage ? kHugePage : kSlotUnit;
  return std::clamp(share - share % unit, kMinSlot, kUsualSlot);
}

namespace {

Result<void> stage_rest(const StagingSlots& slots) {
  while (true) {
    FLATBED_ASSIGN(const bool more, slots.stage_more());
    if (!more) return {};
  }
}

// By several threads, none of them the caller's, which would not stay on the device's node.
Result<void> stage_all(StagingPool& pool) {
  const StagingSlots slots(pool);
  const std::uint64_t blocks = pool.nbytes() / std::max(pool.slot_nbytes(), kLeastBlock);
  const unsigned cores = std::clamp(std::thread::hardware_concurrency(), 1U, kMostStagers);
  const auto threads = static_cast<unsigned>(std::clamp<std::uint64_t>(blocks, 1, cores));
  const Processors processors = processors_to_stay_on(pool.device().numa_node(), 1);
  std::vector<Result<void>> results(threads);
  ThreadCrew crew;
  const unsigned started = crew.start(threads, 0, [&](unsigned number) {
    if (!processors.empty()) stay_on(processors);
    results[number] = stage_rest(slots);
  });
  crew.join();
  for (Result<void>& result : results) FLATBED_TRY(std::move(result));
  return started == 0 ? stage_rest(slots) : Result<void>();
}

}  // namespace

Result<std::unique_ptr<StagingPool>> StagingPool::create(Device& device,
                                                         const StagingOptions& options) {
  FLATBED_ASSIGN(std::unique_ptr<StagingPool> pool, StagingSlots::unstaged_pool(device, options));
  FLATBED_TRY(stage_all(*pool));
  return pool;
}

StagingPool::StagingPool(std::unique_ptr<State> state) : state_(std::move(state)) {}

StagingPool::~StagingPool() {
  // A device may still be reading abandoned slots, so they are leaked.
  if (abandoned_nbytes() != 0) return;
  for (std::size_t block = 0; block < state_->blocks.size(); ++block) {
    std::byte* const memory = state_->blocks[block];
    if (memory != nullptr) state_->device.unstage(memory, state_->block_nbytes(block));
  }
}

Device& StagingPool::device() const noexcept { return state_->device; }
std::uint64_t StagingPool::nbytes() const noexcept { return state_->nbytes(); }
std::uint64_t StagingPool::slot_nbytes() const noexcept { return state_->slot_nbytes; }

std::uint64_t StagingPool::peak_nbytes() const noexcept {
  const std::lock_guard lock(state_->mutex);
  return state_->peak * state_->slot_nbytes;
}

std::uint64_t StagingPool::abandoned_nbytes() const noexcept {
  const std::lock_guard lock(state_->mutex);
  return state_->abandoned * state_->slot_nbytes;
}

Result<std::unique_ptr<StagingPool>> StagingSlots::unstaged_pool(Device& device,
                                                                 const StagingOptions& options) {
  FLATBED_TRY(check_staging(options));
  auto state = std::make_unique<StagingPool::State>(device, options);
  std::unique_ptr<StagingPool> pool(new (std::nothrow) StagingPool(std::move(state)));
  if (!pool) return make_error(ErrorCode::resource_exhausted, "no memory for a staging pool");
  return pool;
}

Result<bool> StagingSlots::stage_more() const {
  StagingPool::State& state = *pool_->state_;
  std::size_t block = 0;
  {
    const std::lock_guard lock(state.mutex);
    if (state.begun == state.blocks.size()) return false;
    block = state.begun++;
  }
  Result<std::byte*> memory = state.device.stage(state.block_nbytes(block));
  const std::lock_guard lock(state.mutex);
  if (!memory) {
    state.begun = state.blocks.size();
    return std::move(memory).error();
  }
  state.blocks[block] = *memory;
  for (std::uint32_t slot = state.end(block); slot-- > state.first(block);)
    state.idle.push_back(slot);
  state.given_back.notify_all();
  return true;
}

std::optional<std::uint32_t> StagingSlots::try_take() const {
  StagingPool::State& state = *pool_->state_;
  const std::lock_guard lock(state.mutex);
  if (state.idle.empty()) return std::nullopt;
  const std::uint32_t slot = state.idle.back();
  state.idle.pop_back();
  state.peak = std::max(state.peak, ++state.taken);
  return slot;
}

void StagingSlots::wait(std::chrono::nanoseconds most) const {
  StagingPool::State& state = *pool_->state_;
  std::unique_lock lock(state.mutex);
  state.given_back.wait_for(lock, most, [&state] { return !state.idle.empty(); });
}

void StagingSlots::give_back(std::uint32_t slot) const {
  StagingPool::State& state = *pool_->state_;
  const std::lock_guard lock(state.mutex);
  --state.taken;
  state.idle.push_back(slot);
  state.given_back.notify_one();
}

void StagingSlots::abandon(std::uint32_t /*slot*/) const {
  StagingPool::State& state = *pool_->state_;
  const std::lock_guard lock(state.mutex);
  ++state.abandoned;
}

bool StagingSlots::all_abandoned() const {
  StagingPool::State& state = *pool_->state_;
  const std::lock_guard lock(state.mutex);
  return state.abandoned == state.slots;
}

std::byte* StagingSlots::data(std::uint32_t slot) const {
  const StagingPool::State& state = *pool_->state_;
  const std::uint32_t in_block = slot % state.slots_of_block;
  return state.blocks[slot / state.slots_of_block] + in_block * state.slot_nbytes;
}

}  // namespace flatbed
