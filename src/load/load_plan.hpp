// The contents of a LoadPlan: transfers, each of which takes a slice of one tensor to one
// destination.
//
// A slice along dimension d of a tensor is `runs` runs of bytes of the tensor, `run_pitch` apart.
// Joined, they are the slice in C order, its contents. The contents go to the destination in rows
// of `row_nbytes`, `row_pitch` apart; a packed destination is one row.
//
//   tensor       ....RRRRRRRR........RRRRRRRR........RRRRRRRR....      3 runs
//                    ^ source        |<- run_pitch ->|
//   destination  rrrr..rrrr..rrrr..rrrr..rrrr..rrrr                    6 rows
//                ^ to  |<--->| row_pitch
//
// A run is always a whole number of rows, or the destination is packed. Plain data. A State is
// const and thread-safe once the plan no longer changes.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "checkpoint/checkpoint_access.hpp"
#include "flatbed/load.hpp"

namespace flatbed {

inline constexpr std::uint32_t kNoItem = ~std::uint32_t{0};

struct Transfer {
  const TensorInfo* tensor = nullptr;  // of a checkpoint that the plan shares
  const ByteSource* file = nullptr;    // that it is read from; null: the checkpoint's
  std::uint32_t checkpoint = 0;        // index into the plan's
  std::uint32_t group = 0;             // index into the plan's
  std::uint32_t owner = 0;             // of the destination; index into the plan's devices
  std::uint32_t device = 0;            // that copies to it; 0: the processor writes it
  std::uint32_t part_of = kNoItem;     // index into the plan's joined ones
  std::byte* to = nullptr;
  std::uint64_t source = 0;  // offset of the first run in the tensor
  std::uint64_t run_nbytes = 0;
  std::uint64_t runs = 0;  // 0: nothing is loaded
  std::uint64_t run_pitch = 0;
  std::uint64_t row_nbytes = 0;
  std::uint64_t row_pitch = 0;

  [[nodiscard]] std::uint64_t nbytes() const noexcept { return runs * run_nbytes; }
  // The offset after the last byte of the last run, in the tensor.
  [[nodiscard]] std::uint64_t source_end() const noexcept {
    return runs == 0 ? source : source + (runs - 1) * run_pitch + run_nbytes;
  }
  // Between two runs.
  [[nodiscard]] std::uint64_t hole_nbytes() const noexcept {
    return runs < 2 ? 0 : run_pitch - run_nbytes;
  }
  [[nodiscard]] bool packed() const noexcept { return row_nbytes == nbytes(); }
  [[nodiscard]] std::uint64_t rows() const noexcept {
    return row_nbytes == 0 ? 0 : nbytes() / row_nbytes;
  }
  // From the first byte written to after the last.
  [[nodiscard]] std::uint64_t extent() const noexcept {
    return runs == 0 ? 0 : (rows() - 1) * row_pitch + row_nbytes;
  }
  // The first byte of the tensor from `at` on that is needed; source_end() or more if none is.
  [[nodiscard]] std::uint64_t needed_from(std::uint64_t at) const noexcept {
    if (at <= source) return source;
    const std::uint64_t in_run = (at - source) % run_pitch;
    return in_run < run_nbytes ? at : at - in_run + run_pitch;
  }
  // Where the run ends that has the byte `at` of the tensor.
  [[nodiscard]] std::uint64_t run_end(std::uint64_t at) const noexcept {
    return at - (at - source) % run_pitch + run_nbytes;
  }
  // After the last byte of the tensor before `at` that is needed, of which there is one.
  [[nodiscard]] std::uint64_t needed_before(std::uint64_t at) const noexcept {
    return std::min(at, run_end(at - 1));
  }
  // How many of the contents' bytes come before byte `at` of the tensor.
  [[nodiscard]] std::uint64_t contents_before(std::uint64_t at) const noexcept {
    if (at <= source || runs == 0) return 0;
    if (at >= source_end()) return nbytes();
    return (at - source) / run_pitch * run_nbytes + std::min((at - source) % run_pitch, run_nbytes);
  }
  // The place of byte `at` of the contents.
  [[nodiscard]] std::byte* place(std::uint64_t at) const noexcept {
    return to + at / row_nbytes * row_pitch + at % row_nbytes;
  }
  // The place of bytes [begin, end) of the tensor, if they are needed and stay together; otherwise
  // null.
  [[nodiscard]] std::byte* place_together(std::uint64_t begin, std::uint64_t end) const noexcept;
  // Appends to `pieces` the copies that take the needed ones of the tensor's bytes [begin, end),
  // which are at `from`, to their places.
  void append_pieces(std::uint64_t begin, std::uint64_t end, const std::byte* from,
                     std::vector<CopyPiece>& pieces) const;
  // The same for `nbytes` of the contents from byte `at` on, which lie together at `from`.
  void append_contents(std::uint64_t at, std::uint64_t nbytes, const std::byte* from,
                       std::vector<CopyPiece>& pieces) const;
};

struct LoadPlan::State {
  // Whether the processor writes any memory of the device itself.
  [[nodiscard]] bool writes_directly(std::uint32_t device) const {
    return device != 0 && std::ranges::any_of(transfers, [&](const Transfer& transfer) {
             return transfer.owner == device && transfer.device == 0;
           });
  }
  // Whether anything is copied to a device.
  [[nodiscard]] bool copies() const {
    return std::ranges::any_of(transfers, [](const Transfer& each) { return each.device != 0; });
  }
  // All devices but the host.
  [[nodiscard]] std::span<Device* const> others() const { return std::span(devices).subspan(1); }
  // Those of them that memory is on.
  [[nodiscard]] std::span<Device* const> real_devices() const {
    return others().first(std::min<std::size_t>(others().size(), first_peer - 1));
  }

  std::vector<Checkpoint> checkpoints;
  std::vector<Device*> devices{nullptr};  // [0] stands for the host, whichever object was named
  std::uint32_t first_peer = ~0U;         // index of the first device that is another rank
  std::vector<Group> groups;              // in the order of their first use
  std::unordered_map<std::uint32_t, std::uint32_t> group_of_id;
  std::size_t items = 0;  // calls of add(), each of which made one transfer or more
  std::vector<Transfer> transfers;
  std::vector<std::string> joined;  // names of tensors that are loaded as what they are joined of
  // For LoadItem::as: views of a checkpoint, by its identity, with all that can be cast to a dtype.
  std::map<std::pair<const void*, Dtype>, Checkpoint> casts;

  // For slices by shard_slice() of joined tensors: views, by the checkpoint's identity.
  std::map<std::pair<const void*, RankCut>, Checkpoint> rank_views;

  [[nodiscard]] Result<Checkpoint> rank_view(const Checkpoint& checkpoint, const Slice& slice);
  // The checkpoint in which the tensor has that dtype. Errors: those of Checkpoint::cast().
  [[nodiscard]] Result<Checkpoint> cast_view(const Checkpoint& checkpoint, const TensorInfo& tensor,
                                             Dtype as);
  [[nodiscard]] std::uint32_t checkpoint_index(const Checkpoint& checkpoint);
  [[nodiscard]] std::uint32_t device_index(Device* device);
  [[nodiscard]] Result<std::uint32_t> group_index(const Group& group);
  // The groups' indices in the order in which they are loaded.
  [[nodiscard]] std::vector<std::uint32_t> group_order() const;
};

// The parts of a plan that other units of the library may use.
struct LoadPlanAccess {
  using State = LoadPlan::State;
  [[nodiscard]] static const State& state(const LoadPlan& plan) { return *plan.state_; }
};
using LoadPlanState = LoadPlanAccess::State;

// load_check.cpp: checks that devices can write their destinations, and that no two share a byte.
[[nodiscard]] Result<void> check_destinations(const LoadPlanState& plan);

// The path of the file that the transfer's tensor is in, or its label.
[[nodiscard]] const std::string& path_of(const LoadPlanState& plan, const Transfer& transfer);
// Name a transfer in messages: "tensor 'w'", or "tensor 'qkv' (its part 'q')"; and with its file.
[[nodiscard]] std::string tensor_text(const LoadPlanState& plan, const Transfer& transfer);
[[nodiscard]] std::string transfer_text(const LoadPlanState& plan, const Transfer& transfer);

}  // namespace flatbed
