#include "ranks/joint_plan.hpp"

#include <algorithm>
#include <map>
#include <set>
#include <tuple>

#include "base/str_cat.hpp"
#include "io/page_cache.hpp"
#include "ranks/wire.hpp"

namespace flatbed {

namespace {

constexpr double kWarm = 0.5;  // as for one rank, see load_schedule.cpp
// More than any source reads at once.
constexpr std::uint64_t kMostPreferred = 1 << 30;

// ---- one plan of all ------------------------------------------------------------------------

class Joiner {
 public:
  Result<JointPlan> run(const std::vector<Bytes>& descriptions);

 private:
  Result<void> add(std::uint32_t rank, const PlanDescription& plan);
  Result<void> check_options(std::uint32_t rank, const PlanDescription& plan);
  Result<std::uint32_t> file_of(std::uint32_t rank, const DescribedFile& file);
  Result<std::uint32_t> tensor_of(std::uint32_t rank, DescribedTensor tensor);
  void add_transfers(std::uint32_t rank, const PlanDescription& plan,
                     const std::vector<std::uint32_t>& tensors);

  JointPlan out_;
  std::map<FileIdentity, std::uint32_t> files_;
  // The rank that said the name first, and its files of that name, which may be in several folders.
  std::map<std::string, std::pair<std::uint32_t, std::set<FileIdentity>>> names_;
  std::map<std::tuple<std::uint32_t, std::uint64_t, std::uint64_t>, std::uint32_t> tensors_;
  std::vector<std::optional<std::uint32_t>> turns_;  // of tensors
};

Result<JointPlan> Joiner::run(const std::vector<Bytes>& descriptions) {
  std::vector<PlanDescription> plans;
  for (std::uint32_t rank = 0; rank < descriptions.size(); ++rank) {
    Result<PlanDescription> plan = decode_description(descriptions[rank]);
    if (!plan) return with_context(str_cat("rank ", rank), std::move(plan).error());
    plans.push_back(*std::move(plan));
  }
  for (std::uint32_t rank = 0; rank < plans.size(); ++rank) {
    if (plans[rank].error.empty()) continue;
    return make_error(ErrorCode::collective_ended, "rank ", rank, " ended with ",
                      plans[rank].error);
  }
  for (std::uint32_t rank = 0; rank < plans.size(); ++rank) {
    if (rank == 0) {
      out_.verify = plans[0].verify;
      out_.io = plans[0].io;
      out_.slot_nbytes = plans[0].slot_nbytes;
    }
    FLATBED_TRY(check_options(rank, plans[rank]));
    FLATBED_TRY(add(rank, plans[rank]));
  }
  if (!out_.in_turns) out_.turns = 1;
  for (std::size_t i = 0; i < turns_.size(); ++i)
    out_.tensors[i].turn = out_.in_turns ? turns_[i].value_or(0) : 0;
  return std::move(out_);
}

Result<void> Joiner::check_options(std::uint32_t rank, const PlanDescription& plan) {
  if (plan.verify != out_.verify || plan.io != out_.io) {
    return make_error(ErrorCode::collective_mismatch, "rank ", rank,
                      ": other options than rank 0: `verify` and `io` must be the same on all");
  }
  out_.slot_nbytes = std::min(out_.slot_nbytes, plan.slot_nbytes);
  return {};
}

Result<void> Joiner::add(std::uint32_t rank, const PlanDescription& plan) {
  out_.turns = std::max(out_.turns, plan.turns);
  out_.bytes_wanted.push_back(plan.bytes_wanted);
  std::vector<std::uint32_t> files;
  for (const DescribedFile& file : plan.files) {
    FLATBED_ASSIGN(const std::uint32_t number, file_of(rank, file));
    files.push_back(number);
  }
  std::vector<std::uint32_t> tensors;
  for (DescribedTensor tensor : plan.tensors) {
    tensor.file = files[tensor.file];
    FLATBED_ASSIGN(const std::uint32_t number, tensor_of(rank, tensor));
    tensors.push_back(number);
  }
  add_transfers(rank, plan, tensors);
  std::uint64_t nbytes = 0;
  for (const DescribedTransfer& each : plan.transfers) {
    const std::uint64_t more = each.runs * each.run_nbytes;  // at most a file's size
    if (more > kMaxNumber - nbytes) {
      return make_error(ErrorCode::limit_exceeded, "rank ", rank, " wants more than ", kMaxNumber,
                        " bytes");
    }
    nbytes += more;
  }
  return {};
}

Result<std::uint32_t> Joiner::file_of(std::uint32_t rank, const DescribedFile& file) {
  auto& [teller, identities] =
      names_.try_emplace(file.name, rank, std::set<FileIdentity>()).first->second;
  if (teller == rank) identities.insert(file.identity);
  if (!identities.contains(file.identity)) {
    const FileIdentity& known = *identities.begin();
    const std::string what =
        known.nbytes != file.identity.nbytes
            ? str_cat("found ", file.identity.nbytes, " bytes, expected ", known.nbytes)
            : std::string("found another header or other digests");
    return make_error(ErrorCode::collective_mismatch, "rank ", rank, ": ", quoted(file.name),
                      " is not the file of rank ", teller, ": ", what);
  }
  const auto [entry, added] =
      files_.try_emplace(file.identity, static_cast<std::uint32_t>(out_.files.size()));
  if (added) out_.files.push_back(file);
  std::uint64_t& preferred = out_.files[entry->second].preferred_nbytes;
  preferred = std::min(std::max(preferred, file.preferred_nbytes), kMostPreferred);
  return entry->second;
}

Result<std::uint32_t> Joiner::tensor_of(std::uint32_t rank, DescribedTensor tensor) {
  const std::tuple key(tensor.file, tensor.offset, tensor.nbytes);
  const auto [entry, added] =
      tensors_.try_emplace(key, static_cast<std::uint32_t>(out_.tensors.size()));
  if (added) {
    out_.tensors.push_back({tensor.file, tensor.offset, tensor.nbytes, tensor.digests, 0});
    turns_.emplace_back();
  }
  if (out_.tensors[entry->second].digests != tensor.digests) {
    return make_error(ErrorCode::collective_mismatch, "rank ", rank, ": ",
                      quoted(std::string_view(out_.files[tensor.file].name)),
                      ": other digests than those of an earlier rank, for the tensor at offset ",
                      tensor.offset);
  }
  return entry->second;
}

void Joiner::add_transfers(std::uint32_t rank, const PlanDescription& plan,
                           const std::vector<std::uint32_t>& tensors) {
  std::uint64_t begin = 0;
  for (std::uint32_t i = 0; i < plan.transfers.size(); ++i) {
    JointTransfer transfer{rank, i, begin, plan.transfers[i]};
    transfer.what.tensor = tensors[transfer.what.tensor];
    std::optional<std::uint32_t>& turn = turns_[transfer.what.tensor];
    if (turn && *turn != transfer.what.turn) out_.in_turns = false;
    turn = transfer.what.turn;
    begin += transfer.what.runs * transfer.what.run_nbytes;
    out_.transfers.push_back(transfer);
  }
}

// ---- files as all ranks see them ------------------------------------------------------------

// A file of this rank, or one that stands for a file that only others have. Both have the same size
// and read the same amounts on every rank.
class JointFile final : public ByteSource {
 public:
  JointFile(const ByteSource* source, const DescribedFile& file) : source_(source), file_(file) {}

  [[nodiscard]] std::string_view label() const noexcept override {
    return source_ != nullptr ? source_->label() : std::string_view(file_.name);
  }
  [[nodiscard]] std::uint64_t size() const noexcept override { return file_.identity.nbytes; }
  Result<void> read_at(std::uint64_t offset, std::span<std::byte> out) const override {
    return source_ != nullptr ? source_->read_at(offset, out) : Result<void>(missing());
  }
  Result<void> read_parts(std::uint64_t offset,
                          std::span<const std::span<std::byte>> parts) const override {
    return source_ != nullptr ? source_->read_parts(offset, parts) : Result<void>(missing());
  }
  Result<void> read_with_progress(std::uint64_t offset, std::span<const std::span<std::byte>> parts,
                                  const ReadProgress& progress) const override {
    return source_ != nullptr ? source_->read_with_progress(offset, parts, progress)
                              : Result<void>(missing());
  }
  Result<void> check_unchanged() const override {
    return source_ != nullptr ? source_->check_unchanged() : Result<void>();
  }
  [[nodiscard]] std::span<const std::byte> memory() const noexcept override {
    return source_ != nullptr ? source_->memory() : std::span<const std::byte>();
  }
  Result<DescriptorLease> descriptor() const override {
    return source_ != nullptr ? source_->descriptor() : DescriptorLease();
  }
  [[nodiscard]] std::size_t preferred_read_nbytes() const noexcept override {
    return static_cast<std::size_t>(file_.preferred_nbytes);
  }

 private:
  [[nodiscard]] Error missing() const {
    return make_error(ErrorCode::internal_error, quoted(file_.name),
                      ": a file that only other ranks have");
  }
  const ByteSource* source_;
  const DescribedFile& file_;
};

// Nothing says which of them another rank means.
Error alike(const DescribedFile& file) {
  return make_error(ErrorCode::collective_mismatch, quoted(file.name),
                    ": the plan has two files of this name, size and header that are not sealed: "
                    "load them one after the other, or open one file once");
}

}  // namespace

Result<JointPlan> join_plans(const std::vector<Bytes>& descriptions) {
  return Joiner().run(descriptions);
}

Bytes encode_sight(const Sight& sight) {
  WireWriter out;
  out.text(sight.error);
  for (const std::vector<bool>* const list : {&sight.tensors, &sight.cold}) {
    for (std::size_t i = 0; i < list->size(); i += 7) {
      std::uint64_t seven = 0;
      for (std::size_t bit = 0; bit < 7 && i + bit < list->size(); ++bit)
        seven |= static_cast<std::uint64_t>((*list)[i + bit]) << bit;
      out.number(seven);
    }
  }
  return out.take();
}

Result<Sight> decode_sight(std::span<const std::byte> bytes, const JointPlan& plan) {
  WireReader in(bytes);
  Sight sight;
  sight.error = one_line(in.text());
  if (!sight.error.empty()) return sight;
  sight.tensors.resize(plan.tensors.size());
  sight.cold.resize(plan.files.size());
  for (std::vector<bool>* const list : {&sight.tensors, &sight.cold}) {
    for (std::size_t i = 0; i < list->size(); i += 7) {
      const std::uint64_t seven = in.number(0x7f);
      for (std::size_t bit = 0; bit < 7 && i + bit < list->size(); ++bit)
        (*list)[i + bit] = (seven >> bit & 1) != 0;
    }
  }
  if (in.at_end()) return sight;
  return Error{ErrorCode::collective_mismatch, "a malformed list of tensors"};
}

// ---- one rank's view ----------------------------------------------------------------------------

JointView::JointView(const JointPlan& joint, const LoadPlanState& own,
                     const std::vector<std::uint32_t>& described, std::uint32_t rank)
    : joint_(joint),
      own_(own),
      described_(described),
      rank_(rank),
      seen_(joint.tensors.size()),
      sources_(joint.files.size()) {}

// Only files of the right size and name are looked into.
Result<std::optional<std::uint32_t>> JointView::find_file(const Checkpoint& checkpoint,
                                                          std::uint32_t file) {
  const ByteSource& source = CheckpointAccess::source(checkpoint, file);
  const std::string name = checkpoint.files()[file].path.filename().native();
  const bool may_be = std::ranges::any_of(joint_.files, [&](const DescribedFile& each) {
    return each.identity.nbytes == source.size() && each.name == name;
  });
  if (!may_be) return std::optional<std::uint32_t>();
  FLATBED_ASSIGN(const FileIdentity identity, identify(checkpoint, file));
  for (std::uint32_t i = 0; i < joint_.files.size(); ++i) {
    if (joint_.files[i].identity == identity) return std::optional(i);
  }
  return std::optional<std::uint32_t>();
}

Result<Sight> JointView::look() {
  std::map<std::tuple<std::uint32_t, std::uint64_t, std::uint64_t>, std::uint32_t> wanted;
  for (std::uint32_t i = 0; i < joint_.tensors.size(); ++i) {
    const JointTensor& tensor = joint_.tensors[i];
    wanted.emplace(std::tuple(tensor.file, tensor.offset, tensor.nbytes), i);
  }
  std::map<const ByteSource*, std::optional<std::uint32_t>> files;
  for (std::uint32_t number = 0; number < own_.checkpoints.size(); ++number) {
    const Checkpoint& checkpoint = own_.checkpoints[number];
    for (const TensorInfo& tensor : checkpoint.tensors()) {
      if (!lies_in_file(tensor)) continue;
      const ByteSource& source = CheckpointAccess::source(checkpoint, tensor.where.file);
      auto file = files.find(&source);
      if (file == files.end()) {
        FLATBED_ASSIGN(const std::optional<std::uint32_t> found,
                       find_file(checkpoint, tensor.where.file));
        file = files.emplace(&source, found).first;
        if (found && sources_[*found] == nullptr) sources_[*found] = &source;
        const bool is_sealed = !checkpoint.files()[tensor.where.file].content.empty();
        if (found && sources_[*found] != &source && !is_sealed) return alike(joint_.files[*found]);
      }
      if (!file->second) continue;
      const auto found = wanted.find(std::tuple(*file->second, tensor.where.offset, tensor.nbytes));
      if (found == wanted.end()) continue;
      if (joint_.tensors[found->second].digests == hash_digests(tensor))
        seen_[found->second] = {&tensor, number};
    }
  }
  Sight sight;
  for (const Seen& seen : seen_) sight.tensors.push_back(seen.tensor != nullptr);
  for (const ByteSource* const source : sources_) {
    const std::optional<double> cached =
        source != nullptr ? cached_fraction(*source, 0, source->size()) : std::nullopt;
    sight.cold.push_back(cached && *cached < kWarm);
  }
  return sight;
}

void JointView::make_plan(const std::vector<Device*>& peers) {
  for (std::uint32_t i = 0; i < joint_.files.size(); ++i)
    files_.push_back(std::make_unique<JointFile>(sources_[i], joint_.files[i]));
  constexpr std::string_view kSomeDigest = "0000000000000000";
  for (std::uint32_t i = 0; i < joint_.tensors.size(); ++i) {
    const JointTensor& tensor = joint_.tensors[i];
    if (seen_[i].tensor == nullptr) {
      TensorInfo& info = unseen_.emplace_back();
      info.nbytes = tensor.nbytes;
      info.where = {0, tensor.offset, tensor.nbytes};
      if (tensor.digests != 0) info.digests = DigestView(kSomeDigest);
    }
    tensors_.push_back(seen_[i].tensor != nullptr ? seen_[i].tensor : &unseen_.back());
  }
  plan_.checkpoints = own_.checkpoints;
  plan_.devices = own_.devices;
  plan_.first_peer = static_cast<std::uint32_t>(own_.devices.size());
  for (Device* const peer : peers) {
    if (peer != nullptr) plan_.devices.push_back(peer);
  }
  for (std::uint32_t turn = 0; turn < joint_.turns; ++turn)
    plan_.groups.push_back({turn, static_cast<std::int32_t>(turn)});
  for (const JointTransfer& transfer : joint_.transfers) {
    plan_.transfers.push_back(transfer.rank == rank_ ? transfer_of_mine(transfer)
                                                     : transfer_of_other(transfer));
  }
  // What this rank alone knows comes last, so that all others have the same numbers everywhere.
  std::vector<std::uint32_t> turn_of_group(own_.groups.size());
  const std::vector<std::uint32_t> order = own_.group_order();
  for (std::uint32_t turn = 0; turn < order.size(); ++turn) turn_of_group[order[turn]] = turn;
  for (const Transfer& transfer : own_.transfers) {
    if (transfer.runs == 0 || lies_in_file(*transfer.tensor)) continue;
    plan_.transfers.push_back(transfer);
    plan_.transfers.back().group = joint_.in_turns ? turn_of_group[transfer.group] : 0;
  }
}

Transfer JointView::transfer_of_mine(const JointTransfer& joint) const {
  Transfer transfer = own_.transfers[described_[joint.number]];
  transfer.file = files_[joint_.tensors[joint.what.tensor].file].get();
  transfer.group = joint_.tensors[joint.what.tensor].turn;
  return transfer;
}

Transfer JointView::transfer_of_other(const JointTransfer& joint) const {
  const JointTensor& tensor = joint_.tensors[joint.what.tensor];
  Transfer transfer;
  transfer.tensor = tensors_[joint.what.tensor];
  transfer.file = files_[tensor.file].get();
  transfer.checkpoint = seen_[joint.what.tensor].checkpoint;
  transfer.group = tensor.turn;
  transfer.device = plan_.first_peer + joint.rank - (joint.rank > rank_ ? 1 : 0);
  transfer.owner = transfer.device;
  transfer.to = reinterpret_cast<std::byte*>(kJointOrigin + joint.begin);
  transfer.source = joint.what.source;
  transfer.run_nbytes = joint.what.run_nbytes;
  transfer.runs = joint.what.runs;
  transfer.run_pitch = joint.what.run_pitch;
  transfer.row_nbytes = transfer.nbytes();
  return transfer;
}

}  // namespace flatbed
