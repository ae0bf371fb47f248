#include "load/staging_pool.hpp"

#include <algorithm>
#include <mutex>
#include <new>
#include <utility>
#include <vector>

#include "base/str_cat.hpp"

namespace flatbed {

namespace {

// Two chunks, because one may begin anywhere in the slot.
constexpr std::uint64_t kMinSlot = 512 << 10;
constexpr std::uint64_t kMaxSlot = 1 << 30;
constexpr std::uint64_t kUsualSlot = 8 << 20;
constexpr std::uint64_t kHugePage = 2 << 20;
constexpr std::uint64_t kSlotUnit = 4096;
constexpr std::uint64_t kMinSlots = 2;
constexpr std::uint64_t kMaxNbytes = std::uint64_t{1} << 46;  // more than any machine's memory

}  // namespace

struct StagingPool::State {
  State(Device& owner, const StagingOptions& options)
      : device(owner),
        slot_nbytes(options.slot_nbytes),
        slots(static_cast<std::uint32_t>(options.staging_nbytes / options.slot_nbytes)) {}

  [[nodiscard]] std::size_t nbytes() const { return static_cast<std::size_t>(slot_nbytes) * slots; }

  Device& device;
  const std::uint64_t slot_nbytes;
  const std::uint32_t slots;
  std::byte* memory = nullptr;

  mutable std::mutex mutex;         // guards what follows
  std::vector<std::uint32_t> idle;  // the last one returned is the first one taken
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

Result<std::unique_ptr<StagingPool>> StagingPool::create(Device& device,
                                                         const StagingOptions& options) {
  FLATBED_TRY(check_staging(options));
  auto state = std::make_unique<State>(device, options);
  state->idle.reserve(state->slots);
  for (std::uint32_t slot = state->slots; slot-- > 0;) state->idle.push_back(slot);
  std::unique_ptr<StagingPool> pool(new (std::nothrow) StagingPool(std::move(state)));
  if (!pool) return make_error(ErrorCode::resource_exhausted, "no memory for a staging pool");
  FLATBED_ASSIGN(pool->state_->memory, device.stage(pool->state_->nbytes()));
  return pool;
}

StagingPool::StagingPool(std::unique_ptr<State> state) : state_(std::move(state)) {}

StagingPool::~StagingPool() {
  // A device may still be reading abandoned slots, so they are leaked.
  if (state_->memory == nullptr || abandoned_nbytes() != 0) return;
  state_->device.unstage(state_->memory, state_->nbytes());
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

std::optional<std::uint32_t> StagingSlots::try_take() const {
  StagingPool::State& state = *pool_->state_;
  const std::lock_guard lock(state.mutex);
  if (state.idle.empty()) return std::nullopt;
  const std::uint32_t slot = state.idle.back();
  state.idle.pop_back();
  state.peak = std::max(state.peak, ++state.taken);
  return slot;
}

void StagingSlots::give_back(std::uint32_t slot) const {
  StagingPool::State& state = *pool_->state_;
  const std::lock_guard lock(state.mutex);
  --state.taken;
  state.idle.push_back(slot);
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
  return state.memory + slot * state.slot_nbytes;
}

}  // namespace flatbed
