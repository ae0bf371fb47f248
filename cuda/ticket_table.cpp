#include "ticket_table.hpp"

#include <utility>

namespace flatbed::cuda {
namespace {

constexpr std::uint32_t index_of(Ticket ticket) { return static_cast<std::uint32_t>(ticket); }
constexpr std::uint32_t generation_of(Ticket ticket) {
  return static_cast<std::uint32_t>(ticket >> 32);
}

}  // namespace

TicketTable::Slot TicketTable::take() {
  const std::lock_guard lock(mutex_);
  if (first_unused_ == kNone) {
    entries_.emplace_back();
    return {static_cast<std::uint32_t>(entries_.size() - 1), nullptr};
  }
  const std::uint32_t index = first_unused_;
  first_unused_ = std::exchange(entries_[index].next_unused, kNone);
  return {index, entries_[index].event.get()};
}

void TicketTable::set_event(std::uint32_t index, Event event) noexcept {
  const std::lock_guard lock(mutex_);
  entries_[index].event = std::move(event);
}

void TicketTable::put_back(std::uint32_t index) noexcept {
  const std::lock_guard lock(mutex_);
  add_unused(index);
}

Ticket TicketTable::begin(std::uint32_t index, Sign sign) noexcept {
  const std::lock_guard lock(mutex_);
  Entry& entry = entries_[index];
  entry.live = true;
  entry.sign = sign;
  return std::uint64_t{entry.generation} << 32 | index;
}

std::optional<cudaEvent_t> TicketTable::find(Ticket ticket) const noexcept {
  const std::lock_guard lock(mutex_);
  if (!names_live_entry(ticket)) return std::nullopt;
  const Entry& entry = entries_[index_of(ticket)];
  return entry.sign == Sign::event ? entry.event.get() : nullptr;
}

void TicketTable::end(Ticket ticket, Reuse reuse) noexcept {
  const std::lock_guard lock(mutex_);
  if (!names_live_entry(ticket)) return;
  Entry& entry = entries_[index_of(ticket)];
  entry.live = false;
  ++entry.generation;
  if (reuse == Reuse::yes) add_unused(index_of(ticket));
}

bool TicketTable::names_live_entry(Ticket ticket) const noexcept {
  const std::uint32_t index = index_of(ticket);
  return index < entries_.size() && entries_[index].live &&
         entries_[index].generation == generation_of(ticket);
}

void TicketTable::add_unused(std::uint32_t index) noexcept {
  entries_[index].next_unused = std::exchange(first_unused_, index);
}

}  // namespace flatbed::cuda
