// JointPlan: the plans of all ranks as one. Every rank makes the same files, tensors and transfers
// of the same descriptions, in the same order. Plain data; const after it was made.
//
// JointView: how one rank sees it: which of the tensors it can read, and the plan that it loads by,
// in which the other ranks are devices. What goes to another rank has places in an address space of
// that rank, where its transfers lie one after the other; nothing is ever written there. The first
// of these addresses is the number of a message of data.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "flatbed/byte_source.hpp"
#include "load/load_schedule.hpp"
#include "ranks/plan_description.hpp"

namespace flatbed {

struct JointTensor {
  std::uint32_t file = 0;
  std::uint64_t offset = 0;
  std::uint64_t nbytes = 0;
  std::uint64_t digests = 0;
  std::uint32_t turn = 0;
};

struct JointTransfer {
  std::uint32_t rank = 0;
  std::uint32_t number = 0;  // in the rank's description
  std::uint64_t begin = 0;   // in the address space of the rank
  DescribedTransfer what;    // whose tensor is the joint plan's
};

struct JointPlan {
  bool verify = true;
  IoMode io = IoMode::automatic;
  std::uint64_t slot_nbytes = 0;  // the smallest of all ranks
  bool in_turns = true;           // false: ranks load a tensor in different groups
  std::uint32_t turns = 1;
  std::vector<DescribedFile> files;
  std::vector<JointTensor> tensors;
  std::vector<JointTransfer> transfers;
  std::vector<std::uint64_t> bytes_wanted;  // by rank
};

// Errors: collective_mismatch, which names a rank; limit_exceeded. The same on all ranks.
[[nodiscard]] Result<JointPlan> join_plans(const std::vector<Bytes>& descriptions);

// What a rank says about the tensors of a joint plan.
struct Sight {
  std::string error;
  std::vector<bool> tensors;  // it can read them
  std::vector<bool> cold;     // files that are not in its page cache, of those that it can read
};
[[nodiscard]] Bytes encode_sight(const Sight& sight);
// Errors: collective_mismatch.
[[nodiscard]] Result<Sight> decode_sight(std::span<const std::byte> bytes, const JointPlan& plan);

class JointView {
 public:
  // `own`: the plan of this rank. `described`: its transfer for each in its description.
  JointView(const JointPlan& joint, const LoadPlanState& own,
            const std::vector<std::uint32_t>& described, std::uint32_t rank);

  // Looks which tensors this rank can read. Errors: those of reading headers.
  [[nodiscard]] Result<Sight> look();

  // Makes the plan to load by. `peers`: a device for each other rank, null for this one.
  void make_plan(const std::vector<Device*>& peers);
  [[nodiscard]] const LoadPlanState& plan() const noexcept { return plan_; }
  [[nodiscard]] const ByteSource& file(std::uint32_t number) const { return *files_[number]; }

  // The joint plan's transfer of one of the plan's; null for those that no other rank knows.
  [[nodiscard]] const JointTransfer* joint(std::uint32_t transfer) const {
    return transfer < joint_.transfers.size() ? &joint_.transfers[transfer] : nullptr;
  }

 private:
  struct Seen {
    const TensorInfo* tensor = nullptr;
    std::uint32_t checkpoint = 0;
  };
  [[nodiscard]] Result<std::optional<std::uint32_t>> find_file(const Checkpoint& checkpoint,
                                                               std::uint32_t file);
  [[nodiscard]] Transfer transfer_of_mine(const JointTransfer& joint) const;
  [[nodiscard]] Transfer transfer_of_other(const JointTransfer& joint) const;

  const JointPlan& joint_;
  const LoadPlanState& own_;
  const std::vector<std::uint32_t>& described_;
  std::uint32_t rank_;
  std::vector<Seen> seen_;                          // by tensor of the joint plan
  std::vector<const ByteSource*> sources_;          // by file of the joint plan; null: not seen
  std::vector<std::unique_ptr<ByteSource>> files_;  // by file of the joint plan
  std::deque<TensorInfo> unseen_;                   // stand for tensors that others read
  std::vector<const TensorInfo*> tensors_;          // by tensor of the joint plan
  LoadPlanState plan_;
};

// Where the transfers of every rank begin; not null, so that addresses may be compared with it.
inline constexpr std::uint64_t kJointOrigin = std::uint64_t{1} << 20;

}  // namespace flatbed
