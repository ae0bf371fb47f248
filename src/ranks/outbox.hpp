// Outbox: what the reading threads have for other ranks, until the thread that may call the
// Collective sends it. PeerDevice: another rank as a device that a load copies to.
//
// Bytes that lie together in a slot are sent from there. Others are packed first, into memory of
// the outbox, which is bounded: who finds no room waits for a message to be sent. A message, once
// it is in the outbox, depends on nothing else of this rank, so that every wait ends.
//
// Bytes in memory that the other rank shares are not sent: the message says where they lie, and it
// is complete when the other rank has copied them.
//
// The outbox is thread-safe; take(), complete() and what follows them are for the sending thread.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "flatbed/device.hpp"
#include "io/large_allocator.hpp"
#include "load/load_progress.hpp"

namespace flatbed {

class Outbox {
 public:
  struct Parcel {
    Ticket ticket = 0;
    std::uint32_t to = 0;
    std::uint64_t number = 0;
    std::uint64_t nbytes = 0;
    std::span<const std::byte> bytes;
    LargeBlock packed;              // where the bytes are, if they do not lie in a slot
    std::vector<std::byte> places;  // instead of bytes: where they lie in shared memory
  };
  struct Address {
    std::uint32_t to = 0;
    std::uint64_t number = 0;
    bool shares = false;  // the rank can read the shared memory
  };

  // `shared`: memory of this rank that others can read.
  Outbox(std::uint64_t packed_nbytes, std::span<const std::byte> shared)
      : most_packed_(packed_nbytes), shared_(shared) {}

  // For other ranks' devices. Errors: cancelled, once the outbox is closed; resource_exhausted.
  [[nodiscard]] Result<Ticket> post(const Address& address, std::span<const CopyPiece> pieces);
  // Whether it was sent, after waiting for about so long at most. Errors: collective_failed, if it
  // never will be.
  [[nodiscard]] Result<bool> wait(Ticket ticket, std::chrono::nanoseconds most);
  void forget(Ticket ticket) noexcept;
  // A ticket for everything that was posted to the rank so far.
  [[nodiscard]] Ticket fence(std::uint32_t to);

  // All that was posted since the last call.
  [[nodiscard]] std::vector<Parcel> take();
  void complete(const Parcel& parcel);
  // Nothing more may be posted. Returns what is left to send.
  [[nodiscard]] std::vector<Parcel> close();
  // Nothing that was not completed will ever be sent.
  void give_up();

  [[nodiscard]] std::uint64_t sent_nbytes() const;
  [[nodiscard]] std::uint64_t peak_packed_nbytes() const;

 private:
  struct Waiting {
    std::uint32_t to = 0;
    bool fence = false;
  };
  [[nodiscard]] Result<LargeBlock> pack(std::span<const CopyPiece> pieces, std::uint64_t nbytes);
  [[nodiscard]] bool is_done(Ticket ticket, const Waiting& waiting) const;

  std::uint64_t most_packed_;
  std::span<const std::byte> shared_;
  mutable std::mutex mutex_;  // guards what follows
  std::condition_variable changed_;
  std::deque<Parcel> queue_;
  std::map<std::uint32_t, std::set<Ticket>> unsent_;  // parcels, by the rank that they go to
  std::map<Ticket, Waiting> waiting_;                 // tickets that have not ended
  std::uint64_t packed_ = 0;
  std::uint64_t peak_packed_ = 0;
  std::uint64_t sent_ = 0;
  Ticket last_ = 0;
  bool closed_ = false;
  bool given_up_ = false;
};

class PeerDevice final : public Device {
 public:
  PeerDevice(Outbox& outbox, std::uint32_t rank, bool shares);

  [[nodiscard]] std::string_view name() const noexcept override { return name_; }
  [[nodiscard]] bool is_host() const noexcept override { return false; }
  Result<void> check(const std::byte* /*data*/, std::uint64_t /*nbytes*/) override { return {}; }
  Result<std::byte*> stage(std::uint64_t nbytes) override { return host_->stage(nbytes); }
  void unstage(std::byte* memory, std::uint64_t nbytes) noexcept override {
    host_->unstage(memory, nbytes);
  }
  Result<Ticket> copy(std::span<const CopyPiece> pieces) override;
  Result<Ticket> fence() override { return outbox_.fence(rank_); }
  Result<bool> done(Ticket ticket) override { return outbox_.wait(ticket, {}); }
  Result<bool> wait(Ticket ticket, std::chrono::nanoseconds most) override {
    return outbox_.wait(ticket, most);
  }
  void forget(Ticket ticket) noexcept override { outbox_.forget(ticket); }
  [[nodiscard]] void* native_event(Ticket /*ticket*/) noexcept override { return nullptr; }

 private:
  Outbox& outbox_;
  std::uint32_t rank_;
  bool shares_;
  std::string name_;
  std::unique_ptr<Device> host_ = host_device();
};

}  // namespace flatbed
