#include "ranks/plan_description.hpp"

#include <map>

#include "base/bytes.hpp"
#include "base/checked.hpp"
#include "base/str_cat.hpp"
#include "io/digest.hpp"
#include "load/load_schedule.hpp"
#include "load/staging_pool.hpp"
#include "ranks/wire.hpp"

namespace flatbed {

namespace {

constexpr std::string_view kMagic = "flatbed ranks";
constexpr std::uint64_t kMostFlags = 1;
// More than a plan has tensors.
constexpr std::uint64_t kMostTurns = std::uint64_t{1} << 24;

class Describer {
 public:
  explicit Describer(const LoadPlanState& plan) : plan_(plan) {}

  Result<PlanDescription> run(std::vector<std::uint32_t>& described);

 private:
  Result<std::uint32_t> file_of(const Transfer& transfer);
  Result<std::uint32_t> tensor_of(const Transfer& transfer);

  const LoadPlanState& plan_;
  PlanDescription out_;
  std::map<const ByteSource*, std::uint32_t> files_;
  std::map<std::pair<std::uint32_t, std::pair<std::uint64_t, std::uint64_t>>, std::uint32_t>
      tensors_;
};

Result<PlanDescription> Describer::run(std::vector<std::uint32_t>& described) {
  const std::vector<std::uint32_t> order = plan_.group_order();
  std::vector<std::uint32_t> turn_of_group(order.size());
  for (std::uint32_t turn = 0; turn < order.size(); ++turn) turn_of_group[order[turn]] = turn;
  out_.turns = static_cast<std::uint32_t>(order.size());
  for (std::uint32_t i = 0; i < plan_.transfers.size(); ++i) {
    const Transfer& transfer = plan_.transfers[i];
    out_.bytes_wanted += transfer.nbytes();
    if (transfer.runs == 0 || !lies_in_file(*transfer.tensor)) continue;
    FLATBED_ASSIGN(const std::uint32_t tensor, tensor_of(transfer));
    out_.transfers.push_back({tensor, turn_of_group[transfer.group], transfer.source,
                              transfer.run_nbytes, transfer.runs, transfer.run_pitch});
    described.push_back(i);
  }
  return std::move(out_);
}

Result<std::uint32_t> Describer::file_of(const Transfer& transfer) {
  const Checkpoint& checkpoint = plan_.checkpoints[transfer.checkpoint];
  const std::uint32_t file = transfer.tensor->where.file;
  const ByteSource& source = CheckpointAccess::source(checkpoint, file);
  const auto [entry, added] =
      files_.try_emplace(&source, static_cast<std::uint32_t>(out_.files.size()));
  if (!added) return entry->second;
  DescribedFile described;
  described.name = checkpoint.files()[file].path.filename().native();
  FLATBED_ASSIGN(described.identity, identify(checkpoint, file));
  described.preferred_nbytes = source.preferred_read_nbytes();
  out_.files.push_back(std::move(described));
  return entry->second;
}

Result<std::uint32_t> Describer::tensor_of(const Transfer& transfer) {
  FLATBED_ASSIGN(const std::uint32_t file, file_of(transfer));
  const TensorInfo& tensor = *transfer.tensor;
  const std::pair key(file, std::pair(tensor.where.offset, tensor.nbytes));
  const auto [entry, added] =
      tensors_.try_emplace(key, static_cast<std::uint32_t>(out_.tensors.size()));
  if (added)
    out_.tensors.push_back({file, tensor.where.offset, tensor.nbytes, hash_digests(tensor)});
  return entry->second;
}

Error malformed() {
  return Error{ErrorCode::collective_mismatch, "a malformed description of a plan"};
}

bool is_sound(const PlanDescription& description, const DescribedTensor& tensor) {
  return tensor.file < description.files.size() && tensor.nbytes != 0 &&
         in_bounds(tensor.offset, tensor.nbytes, description.files[tensor.file].identity.nbytes);
}

// Whether the runs lie in their tensor, one after the other.
bool is_sound(const PlanDescription& description, const DescribedTransfer& transfer) {
  if (transfer.tensor >= description.tensors.size() || transfer.turn >= description.turns)
    return false;
  const std::uint64_t nbytes = description.tensors[transfer.tensor].nbytes;
  if (transfer.runs == 0 || transfer.run_nbytes == 0) return false;
  if (transfer.run_pitch < transfer.run_nbytes) return false;
  const auto before_last = checked_mul(transfer.runs - 1, transfer.run_pitch);
  if (!before_last) return false;
  const auto extent = checked_add(*before_last, transfer.run_nbytes);
  return extent && in_bounds(transfer.source, *extent, nbytes);
}

}  // namespace

Result<FileIdentity> identify(const Checkpoint& checkpoint, std::uint32_t file) {
  const Container& container = CheckpointAccess::container(checkpoint, file);
  const FileInfo& info = checkpoint.files()[file];
  FLATBED_ASSIGN(const ByteBuffer header, container.read_raw_header());
  Xxh3Stream hash;
  hash.update(std::span<const std::byte>(header));
  hash.update(as_bytes(info.content));
  // Two models of one kind have one header. Without digests only their names tell them apart.
  if (header.empty() || info.content.empty()) hash.update(as_bytes(info.path.filename().native()));
  return FileIdentity{container.source().size(), hash.digest()};
}

std::uint64_t hash_digests(const TensorInfo& tensor) {
  if (tensor.digests.empty()) return 0;
  Xxh3Stream hash;
  for (std::size_t i = 0; i < tensor.digests.size(); ++i)
    hash.update(as_bytes(tensor.digests.hex(i)));
  return std::max<std::uint64_t>(hash.digest(), 1);
}

Result<PlanDescription> describe(const LoadPlanState& plan, std::vector<std::uint32_t>& described) {
  return Describer(plan).run(described);
}

Bytes encode_description(const PlanDescription& description) {
  WireWriter out;
  out.text(kMagic);
  out.number(kJointProtocol);
  out.text(description.error);
  out.number(description.verify ? 1 : 0);
  out.number(static_cast<std::uint64_t>(description.io));
  out.number(description.slot_nbytes);
  out.number(description.bytes_wanted);
  out.number(description.turns);
  out.number(description.files.size());
  for (const DescribedFile& file : description.files) {
    out.text(file.name);
    out.number(file.identity.nbytes);
    out.number(file.identity.hash);
    out.number(file.preferred_nbytes);
  }
  out.number(description.tensors.size());
  for (const DescribedTensor& tensor : description.tensors) {
    out.number(tensor.file);
    out.number(tensor.offset);
    out.number(tensor.nbytes);
    out.number(tensor.digests);
  }
  out.number(description.transfers.size());
  for (const DescribedTransfer& transfer : description.transfers) {
    out.number(transfer.tensor);
    out.number(transfer.turn);
    out.number(transfer.source);
    out.number(transfer.run_nbytes);
    out.number(transfer.runs);
    out.number(transfer.run_pitch);
  }
  return out.take();
}

Result<PlanDescription> decode_description(std::span<const std::byte> bytes) {
  WireReader in(bytes);
  if (in.text() != kMagic) return malformed();
  const std::uint64_t protocol = in.number();
  if (in.ok() && protocol != kJointProtocol) {
    return make_error(ErrorCode::collective_mismatch,
                      "another version of flatbed's protocol for ranks: found ", protocol,
                      ", expected ", kJointProtocol);
  }
  PlanDescription out;
  out.error = one_line(in.text());
  out.verify = in.number(kMostFlags) != 0;
  out.io = static_cast<IoMode>(in.number(static_cast<std::uint64_t>(IoMode::direct)));
  out.slot_nbytes = in.number();
  out.bytes_wanted = in.number(kMaxNumber);
  out.turns = static_cast<std::uint32_t>(in.number(kMostTurns));
  const StagingOptions staging{2 * out.slot_nbytes, out.slot_nbytes};
  if (out.error.empty() && !check_staging(staging)) return malformed();
  for (std::size_t left = in.count(4); left != 0 && in.ok(); --left) {
    DescribedFile& file = out.files.emplace_back();
    file.name = in.text();
    file.identity.nbytes = in.number();
    file.identity.hash = in.number();
    file.preferred_nbytes = in.number();
  }
  for (std::size_t left = in.count(4); left != 0 && in.ok(); --left) {
    DescribedTensor& tensor = out.tensors.emplace_back();
    tensor.file = static_cast<std::uint32_t>(in.number(~0U));
    tensor.offset = in.number();
    tensor.nbytes = in.number();
    tensor.digests = in.number();
    if (!is_sound(out, tensor)) return malformed();
  }
  for (std::size_t left = in.count(6); left != 0 && in.ok(); --left) {
    DescribedTransfer& transfer = out.transfers.emplace_back();
    transfer.tensor = static_cast<std::uint32_t>(in.number(~0U));
    transfer.turn = static_cast<std::uint32_t>(in.number(~0U));
    transfer.source = in.number();
    transfer.run_nbytes = in.number();
    transfer.runs = in.number();
    transfer.run_pitch = in.number();
    if (!is_sound(out, transfer)) return malformed();
  }
  if (!in.at_end()) return malformed();
  return out;
}

}  // namespace flatbed
