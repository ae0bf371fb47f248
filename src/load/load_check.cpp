// Checks the destinations of a plan against each other and against their devices.
#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "base/str_cat.hpp"
#include "io/thread_pool.hpp"
#include "load/load_plan.hpp"

namespace flatbed {

namespace {

// The rows that are written in a destination, ascending.
struct Rows {
  std::uintptr_t begin = 0;
  std::uint64_t nbytes = 0;  // of each
  std::uint64_t pitch = 0;
  std::uint64_t count = 0;

  [[nodiscard]] std::uintptr_t row(std::uint64_t index) const { return begin + index * pitch; }
  [[nodiscard]] std::uintptr_t end() const { return row(count - 1) + nbytes; }
};

Rows rows_of(const Transfer& transfer) {
  return {reinterpret_cast<std::uintptr_t>(transfer.to), transfer.row_nbytes, transfer.row_pitch,
          transfer.rows()};
}

// Whether two destinations with overlapping extents share a byte. Columns of one matrix do not.
bool share_bytes(const Rows& a, const Rows& b) {
  if (a.pitch == b.pitch && a.count > 1) {
    const std::uint64_t apart = b.begin > a.begin
                                    ? (b.begin - a.begin) % a.pitch
                                    : (a.pitch - (a.begin - b.begin) % a.pitch) % a.pitch;
    return apart < a.nbytes || apart + b.nbytes > a.pitch;
  }
  std::uint64_t i = 0;
  std::uint64_t j = 0;
  while (i < a.count && j < b.count) {
    const bool a_first = a.row(i) + a.nbytes <= b.row(j);
    const bool b_first = b.row(j) + b.nbytes <= a.row(i);
    if (!a_first && !b_first) return true;
    a_first ? ++i : ++j;
  }
  return false;
}

// All memory is in one address space: CUDA devices and the host share it (unified addressing).
Result<void> check_overlaps(const LoadPlanState& plan) {
  std::vector<std::uint32_t> order;
  for (std::uint32_t i = 0; i < plan.transfers.size(); ++i) {
    if (plan.transfers[i].runs != 0) order.push_back(i);
  }
  std::ranges::sort(order, {}, [&](std::uint32_t i) { return plan.transfers[i].to; });
  // Those whose extents reach past the current address of the sweep.
  std::vector<std::uint32_t> open;
  for (const std::uint32_t i : order) {
    const Rows rows = rows_of(plan.transfers[i]);
    std::erase_if(open, [&](std::uint32_t other) {
      return rows_of(plan.transfers[other]).end() <= rows.begin;
    });
    for (const std::uint32_t other : open) {
      if (!share_bytes(rows_of(plan.transfers[other]), rows)) continue;
      return make_error(ErrorCode::destination_overlap,
                        transfer_text(plan, plan.transfers[std::max(i, other)]),
                        ": the destination shares bytes with that of ",
                        tensor_text(plan, plan.transfers[std::min(i, other)]));
    }
    open.push_back(i);
  }
  return {};
}

// Whether the devices recognize the memory as their own.
Result<void> check_owners(const LoadPlanState& plan) {
  for (Device* const device : plan.others()) {
    FLATBED_TRY(device->enter_thread());
  }
  for (const Transfer& transfer : plan.transfers) {
    if (transfer.owner == 0 || transfer.runs == 0) continue;
    Result<void> checked = plan.devices[transfer.owner]->check(transfer.to, transfer.extent());
    if (!checked) return with_context(transfer_text(plan, transfer), std::move(checked).error());
  }
  return {};
}

}  // namespace

Result<void> check_destinations(const LoadPlanState& plan) {
  FLATBED_TRY(check_overlaps(plan));
  if (plan.devices.size() == 1) return {};
  return run_on_own_thread([&] { return check_owners(plan); });
}

}  // namespace flatbed
