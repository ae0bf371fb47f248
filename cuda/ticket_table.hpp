// TicketTable: maps tickets to events, and keeps unused events for later tickets. Owns the events.
// It calls CUDA only to destroy them, in its destructor. Thread-safe; no lock is held for longer
// than a few instructions.
// A ticket is the generation of a slot (high 32 bits) and its index (low 32 bits). The generation
// changes when the ticket ends, so a stale ticket is recognized.
#pragma once

#include <cstdint>
#include <mutex>
#include <optional>
#include <vector>

#include "cuda_handle.hpp"
#include "flatbed/device.hpp"

namespace flatbed::cuda {

class TicketTable {
 public:
  // A slot for one ticket, with the event of an earlier ticket or null.
  struct Slot {
    std::uint32_t index = 0;
    cudaEvent_t event = nullptr;
  };
  // How to tell that a ticket is done: by its event, or by an empty stream.
  enum class Sign : std::uint8_t { event, stream };
  // What happens to the event of a ticket that ends. A spent event is kept unused until the end,
  // because another thread may be querying it.
  enum class Reuse : std::uint8_t { yes, no };

  // A slot belongs to the caller until begin() or put_back().
  [[nodiscard]] Slot take();
  void set_event(std::uint32_t index, Event event) noexcept;
  void put_back(std::uint32_t index) noexcept;
  [[nodiscard]] Ticket begin(std::uint32_t index, Sign sign) noexcept;

  // The event of a ticket, null if it ends with its stream; nullopt if the ticket has ended or
  // never existed.
  [[nodiscard]] std::optional<cudaEvent_t> find(Ticket ticket) const noexcept;
  // Ends a ticket. Does nothing if it has ended already.
  void end(Ticket ticket, Reuse reuse) noexcept;

 private:
  static constexpr std::uint32_t kNone = ~std::uint32_t{0};

  struct Entry {
    Event event;
    std::uint32_t generation = 1;
    std::uint32_t next_unused = kNone;  // in the list that begins with first_unused_
    bool live = false;                  // its ticket has begun and not ended
    Sign sign = Sign::event;
  };

  [[nodiscard]] bool names_live_entry(Ticket ticket) const noexcept;
  void add_unused(std::uint32_t index) noexcept;

  mutable std::mutex mutex_;
  std::vector<Entry> entries_;
  std::uint32_t first_unused_ = kNone;
};

}  // namespace flatbed::cuda
