#include "ranks/outbox.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/str_cat.hpp"
#include "ranks/joint_plan.hpp"
#include "ranks/lent_places.hpp"

namespace flatbed {

namespace {

// Two short messages cost as much as copying this many bytes.
constexpr std::size_t kLeastLent = 16 << 10;
// A list of places that is longer, of many small pieces, is no shorter than a message.
constexpr std::size_t kMostPlaces = 32 << 10;
constexpr std::chrono::seconds kLook{1};  // at most; whoever makes room wakes who waits

std::uint64_t nbytes_of(std::span<const CopyPiece> pieces) {
  std::uint64_t nbytes = 0;
  for (const CopyPiece& piece : pieces) nbytes += piece.rows * piece.nbytes;
  return nbytes;
}

// Whether the bytes of all pieces lie one after the other.
bool lie_together(std::span<const CopyPiece> pieces) {
  const std::byte* end = pieces.front().from;
  for (const CopyPiece& piece : pieces) {
    if (piece.from != end || (piece.rows > 1 && piece.from_pitch != piece.nbytes)) return false;
    end += piece.rows * piece.nbytes;
  }
  return true;
}

Error closed() { return Error{ErrorCode::cancelled, "nothing more is sent to the rank"}; }

}  // namespace

Result<Ticket> Outbox::post(const Address& address, std::span<const CopyPiece> pieces) {
  Parcel parcel;
  parcel.to = address.to;
  parcel.number = address.number;
  parcel.nbytes = nbytes_of(pieces);
  const auto nbytes = static_cast<std::size_t>(parcel.nbytes);
  if (address.shares && nbytes >= kLeastLent && lie_in(pieces, shared_))
    parcel.places = encode_places(pieces, shared_);
  if (parcel.places.size() > kMostPlaces) parcel.places.clear();
  if (!parcel.places.empty()) {
    // Nothing is sent but them.
  } else if (lie_together(pieces)) {
    parcel.bytes = {pieces.front().from, nbytes};
  } else {
    FLATBED_ASSIGN(parcel.packed, pack(pieces, nbytes));
    parcel.bytes = {parcel.packed.get(), nbytes};
  }
  const std::lock_guard lock(mutex_);
  if (parcel.packed && closed_) packed_ -= nbytes;
  if (closed_) return closed();
  parcel.ticket = ++last_;
  unsent_[parcel.to].insert(parcel.ticket);
  waiting_[parcel.ticket] = {parcel.to, false};
  const Ticket ticket = parcel.ticket;
  queue_.push_back(std::move(parcel));
  return ticket;
}

// A message that is larger than all room goes alone.
Result<LargeBlock> Outbox::pack(std::span<const CopyPiece> pieces, std::uint64_t nbytes) {
  {
    std::unique_lock lock(mutex_);
    const auto has_room = [&] {
      return closed_ || packed_ == 0 || packed_ + nbytes <= most_packed_;
    };
    while (!changed_.wait_for(lock, kLook, has_room)) {
    }
    if (closed_) return closed();
    packed_ += nbytes;
    peak_packed_ = std::max(peak_packed_, packed_);
  }
  LargeBlock block = try_allocate_large(static_cast<std::size_t>(nbytes));
  if (!block) {
    const std::lock_guard lock(mutex_);
    packed_ -= nbytes;
    return make_error(ErrorCode::resource_exhausted, "no memory for a message of ", nbytes,
                      " bytes");
  }
  std::byte* to = block.get();
  for (const CopyPiece& piece : pieces) {
    for (std::uint64_t row = 0; row < piece.rows; ++row) {
      std::memcpy(to, piece.from + row * piece.from_pitch, static_cast<std::size_t>(piece.nbytes));
      to += piece.nbytes;
    }
  }
  return block;
}

bool Outbox::is_done(Ticket ticket, const Waiting& waiting) const {
  const auto unsent = unsent_.find(waiting.to);
  if (unsent == unsent_.end() || unsent->second.empty()) return true;
  return waiting.fence ? *unsent->second.begin() > ticket : !unsent->second.contains(ticket);
}

Result<bool> Outbox::wait(Ticket ticket, std::chrono::nanoseconds most) {
  std::unique_lock lock(mutex_);
  const auto found = waiting_.find(ticket);
  if (found == waiting_.end()) return true;
  const Waiting waiting = found->second;
  const bool done =
      changed_.wait_for(lock, most, [&] { return given_up_ || is_done(ticket, waiting); });
  if (!done) return false;
  waiting_.erase(ticket);
  if (is_done(ticket, waiting)) return true;
  return make_error(ErrorCode::collective_failed, "rank ", waiting.to,
                    ": a message that was begun will not be sent");
}

void Outbox::forget(Ticket ticket) noexcept {
  const std::lock_guard lock(mutex_);
  waiting_.erase(ticket);
}

Ticket Outbox::fence(std::uint32_t to) {
  const std::lock_guard lock(mutex_);
  waiting_[++last_] = {to, true};
  return last_;
}

std::vector<Outbox::Parcel> Outbox::take() {
  const std::lock_guard lock(mutex_);
  std::vector<Parcel> parcels(std::make_move_iterator(queue_.begin()),
                              std::make_move_iterator(queue_.end()));
  queue_.clear();
  return parcels;
}

void Outbox::complete(const Parcel& parcel) {
  const std::lock_guard lock(mutex_);
  unsent_[parcel.to].erase(parcel.ticket);
  if (parcel.packed) packed_ -= parcel.nbytes;
  sent_ += parcel.nbytes;
  changed_.notify_all();
}

std::vector<Outbox::Parcel> Outbox::close() {
  {
    const std::lock_guard lock(mutex_);
    closed_ = true;
    changed_.notify_all();
  }
  return take();
}

void Outbox::give_up() {
  const std::lock_guard lock(mutex_);
  closed_ = true;
  given_up_ = true;
  changed_.notify_all();
}

std::uint64_t Outbox::sent_nbytes() const {
  const std::lock_guard lock(mutex_);
  return sent_;
}

std::uint64_t Outbox::peak_packed_nbytes() const {
  const std::lock_guard lock(mutex_);
  return peak_packed_;
}

PeerDevice::PeerDevice(Outbox& outbox, std::uint32_t rank, bool shares)
    : outbox_(outbox), rank_(rank), shares_(shares), name_(str_cat("rank ", rank)) {}

Result<Ticket> PeerDevice::copy(std::span<const CopyPiece> pieces) {
  const auto place = reinterpret_cast<std::uintptr_t>(pieces.front().to);
  return outbox_.post({rank_, place - kJointOrigin, shares_}, pieces);
}

}  // namespace flatbed
