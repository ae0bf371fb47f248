// PlanDescription: what the ranks tell each other about their plans before they load together, as
// far as it lies plainly in files. It says which bytes a rank wants, and not where they go.
//
// Plain data; everything that another rank sent is checked by decode_description().
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "load/load_plan.hpp"
#include "ranks/rank_link.hpp"

namespace flatbed {

// A change of what ranks say or do needs a new number: ranks of two numbers refuse each other.
inline constexpr std::uint64_t kJointProtocol = 2;

struct FileIdentity {
  std::uint64_t nbytes = 0;
  // Of the header as far as the format has one, and of the content digest or, without one, of the
  // name.
  std::uint64_t hash = 0;
  auto operator<=>(const FileIdentity&) const = default;
};

struct DescribedFile {
  std::string name;  // without its folder
  FileIdentity identity;
  std::uint64_t preferred_nbytes = 0;  // of one read
};

struct DescribedTensor {
  std::uint32_t file = 0;  // index into the description's
  std::uint64_t offset = 0;
  std::uint64_t nbytes = 0;
  std::uint64_t digests = 0;  // a hash of them; 0: there are none
};

// See Transfer.
struct DescribedTransfer {
  std::uint32_t tensor = 0;  // index into the description's
  std::uint32_t turn = 0;    // of its group, in the order in which the rank's groups are loaded
  std::uint64_t source = 0;
  std::uint64_t run_nbytes = 0;
  std::uint64_t runs = 0;
  std::uint64_t run_pitch = 0;
};

struct PlanDescription {
  std::string error;  // why the rank cannot load; nothing else counts then
  bool verify = true;
  IoMode io = IoMode::automatic;
  std::uint64_t slot_nbytes = 0;
  std::uint64_t bytes_wanted = 0;  // also of what is not described
  std::uint32_t turns = 0;         // groups
  std::vector<DescribedFile> files;
  std::vector<DescribedTensor> tensors;
  std::vector<DescribedTransfer> transfers;
};

// Identifies a file of a checkpoint. Errors: those of reading its header.
[[nodiscard]] Result<FileIdentity> identify(const Checkpoint& checkpoint, std::uint32_t file);

// A hash of the tensor's digests; 0: there are none.
[[nodiscard]] std::uint64_t hash_digests(const TensorInfo& tensor);

// The part of a plan's description that is the plan's. `described`: the plan's transfer of each
// one that is described.
[[nodiscard]] Result<PlanDescription> describe(const LoadPlanState& plan,
                                               std::vector<std::uint32_t>& described);

[[nodiscard]] Bytes encode_description(const PlanDescription& description);
// Errors: collective_mismatch (another protocol, or malformed).
[[nodiscard]] Result<PlanDescription> decode_description(std::span<const std::byte> bytes);

}  // namespace flatbed
