#include "ranks/joint_jobs.hpp"

#include <algorithm>
#include <map>
#include <tuple>
#include <utility>

#include "base/str_cat.hpp"
#include "io/digest.hpp"

namespace flatbed {

namespace {

// A reader counts as equal to the best one if it sends at most 1 % more.
constexpr std::uint64_t kCloseShare = 100;
// A rank may read a sixteenth more than its share: chunks do not end where rows do.
constexpr std::uint64_t kMoreShare = 16;

// Deals out jobs, each to one of the ranks that can read all of it and have not got their share: to
// one from which few bytes cross to other nodes; among those, to one that wants much of it, so that
// little is sent at all; then to the one that has got least.
class Sharer {
 public:
  Sharer(const JointPlan& joint, const JointView& view, JointRanks ranks)
      : joint_(joint),
        view_(view),
        ranks_(std::move(ranks)),
        load_(ranks_.sights.size()),
        wanted_(load_.size()),
        wanted_on_(load_.size()) {
    // Numbers of nodes may be any: from here on they count from 0.
    std::map<std::uint32_t, std::uint32_t> nodes;
    for (std::uint32_t& node : ranks_.node_of)
      node = nodes.try_emplace(node, static_cast<std::uint32_t>(nodes.size())).first->second;
    for (const JointTransfer& transfer : joint_.transfers) rank_of_.push_back(transfer.rank);
  }

  Result<JointJobs> run();

 private:
  [[nodiscard]] Schedule whole_schedule() const;
  [[nodiscard]] Result<std::uint32_t> reader_of(const Job& job);
  [[nodiscard]] bool can_read(std::uint32_t rank, const Job& job) const;
  void find_wanted(const Job& job);
  // Of the job, from a reader to other nodes.
  [[nodiscard]] std::uint64_t crossing(std::uint32_t reader) const {
    return wanted_by_all_ - wanted_on_[ranks_.node_of[reader]];
  }
  [[nodiscard]] bool is_full(std::uint32_t rank, const Job& job) const {
    return load_[rank] >= fair_ + fair_ / kMoreShare + job.read_nbytes / 2;
  }
  [[nodiscard]] std::span<const Part> parts_of(const Job& job) const {
    return std::span(whole_.parts).subspan(job.first_part, job.parts);
  }
  void add_mine(const Job& job);
  void add_expected(const Job& job, std::uint32_t reader);
  void hash(std::uint64_t value);

  const JointPlan& joint_;
  const JointView& view_;
  JointRanks ranks_;
  std::vector<std::uint32_t> rank_of_;  // by transfer
  Schedule whole_;
  std::vector<std::uint64_t> load_;  // bytes of each rank so far
  // Bytes wanted of the job that is being dealt out.
  std::vector<std::uint64_t> wanted_;     // by rank
  std::vector<std::uint64_t> wanted_on_;  // by node
  std::uint64_t wanted_by_all_ = 0;
  std::uint64_t fair_ = 0;  // share of each
  Xxh3Stream hash_;
  JointJobs out_;
};

bool is_of_file(const Job& job) { return job.kind == JobKind::staged; }

Schedule Sharer::whole_schedule() const {
  const auto is_cold = [this](const ByteSource& file) {
    for (std::uint32_t i = 0; i < joint_.files.size(); ++i) {
      if (&view_.file(i) != &file) continue;
      return std::ranges::any_of(ranks_.sights, [i](const Sight& sight) { return sight.cold[i]; });
    }
    return false;
  };
  return make_schedule(view_.plan(), {.verify = joint_.verify,
                                      .io = joint_.io,
                                      .slot_nbytes = joint_.slot_nbytes,
                                      .rank_of = &rank_of_,
                                      .is_cold = is_cold});
}

Result<JointJobs> Sharer::run() {
  whole_ = whole_schedule();
  Schedule& mine = out_.schedule;
  mine.files = whole_.files;
  mine.parts = whole_.parts;
  mine.groups = whole_.groups;
  mine.jobs_of_group.resize(whole_.jobs_of_group.size());
  mine.read_nbytes = whole_.read_nbytes;
  mine.bytes_wanted = joint_.bytes_wanted[ranks_.rank];
  std::uint64_t total = 0;
  for (const Job& job : whole_.jobs) total += is_of_file(job) ? job.read_nbytes : 0;
  fair_ = total / load_.size();
  for (const Job& job : whole_.jobs) {
    if (!is_of_file(job)) {
      add_mine(job);
      continue;
    }
    find_wanted(job);
    FLATBED_ASSIGN(const std::uint32_t reader, reader_of(job));
    load_[reader] += job.read_nbytes;
    for (const std::uint64_t each :
         {std::uint64_t{job.file}, job.begin, job.nbytes, job.read_nbytes, std::uint64_t{reader}})
      hash(each);
    reader == ranks_.rank ? add_mine(job) : add_expected(job, reader);
    out_.bytes_of_all += wanted_by_all_ - wanted_[reader];
  }
  mine.bytes_to_read += out_.bytes_to_receive;
  out_.bytes_of_all += total;
  out_.bytes_to_read = load_;
  out_.hash = hash_.digest();
  return std::move(out_);
}

void Sharer::hash(std::uint64_t value) {
  hash_.update(std::as_bytes(std::span<const std::uint64_t, 1>(&value, 1)));
}

bool Sharer::can_read(std::uint32_t rank, const Job& job) const {
  return std::ranges::all_of(parts_of(job), [&](const Part& part) {
    return ranks_.sights[rank].tensors[view_.joint(part.transfer)->what.tensor];
  });
}

void Sharer::find_wanted(const Job& job) {
  std::ranges::fill(wanted_, 0);
  std::ranges::fill(wanted_on_, 0);
  wanted_by_all_ = 0;
  for (const Part& part : parts_of(job)) {
    const std::uint32_t rank = view_.joint(part.transfer)->rank;
    const ContentRange range = contents_of(part, view_.plan().transfers[part.transfer]);
    const std::uint64_t nbytes = range.end - range.begin;
    wanted_[rank] += nbytes;
    wanted_on_[ranks_.node_of[rank]] += nbytes;
    wanted_by_all_ += nbytes;
  }
}

// Ranks that are about as good take turns, so that all of them read from the beginning.
Result<std::uint32_t> Sharer::reader_of(const Job& job) {
  std::uint64_t most = 0;                 // that a rank wants, of those able to read the job
  std::uint64_t fewest = wanted_by_all_;  // that cross
  for (std::uint32_t rank = 0; rank < load_.size(); ++rank) {
    if (!can_read(rank, job) || is_full(rank, job)) continue;
    most = std::max(most, wanted_[rank]);
    fewest = std::min(fewest, crossing(rank));
  }
  std::optional<std::uint32_t> found;
  std::tuple<bool, bool, bool, std::uint64_t> least;
  for (std::uint32_t rank = 0; rank < load_.size(); ++rank) {
    if (!can_read(rank, job)) continue;
    const bool full = is_full(rank, job);
    const std::tuple costs(full, !full && crossing(rank) > fewest + most / 4,
                           !full && wanted_[rank] + (wanted_by_all_ - most) / kCloseShare < most,
                           load_[rank]);
    if (found && costs >= least) continue;
    found = rank;
    least = costs;
  }
  if (found) return *found;
  return make_error(
      ErrorCode::collective_mismatch,
      quoted(std::string_view(
          joint_.files[joint_.tensors[view_.joint(parts_of(job)[0].transfer)->what.tensor].file]
              .name)),
      ": no rank can read all of bytes [", job.begin, ",", job.begin + job.nbytes,
      "), which several want: open the same tensors of the file on all ranks");
}

void Sharer::add_mine(const Job& job) {
  Schedule& mine = out_.schedule;
  mine.jobs.push_back(job);
  ++mine.jobs_of_group[job.group];
  mine.bytes_to_read += job.read_nbytes;
  const bool by_slot = job.kind == JobKind::staged || job.kind == JobKind::contents;
  mine.slot_jobs += by_slot ? 1 : 0;
}

void Sharer::add_expected(const Job& job, std::uint32_t reader) {
  ExpectedMessage expected;
  expected.job = job;
  expected.from = reader;
  expected.job.first_part = static_cast<std::uint32_t>(out_.schedule.parts.size());
  std::optional<std::uint64_t> number;
  for (const Part& part : parts_of(job)) {
    const JointTransfer& joint = *view_.joint(part.transfer);
    if (joint.rank != ranks_.rank) continue;
    const ContentRange range = contents_of(part, view_.plan().transfers[part.transfer]);
    if (range.begin == range.end) continue;
    if (!number) number = joint.begin + range.begin;
    expected.nbytes += range.end - range.begin;
    out_.schedule.parts.push_back(part);
  }
  expected.job.parts =
      static_cast<std::uint32_t>(out_.schedule.parts.size()) - expected.job.first_part;
  if (!number) return;
  out_.bytes_to_receive += expected.nbytes;
  out_.largest_message = std::max(out_.largest_message, expected.nbytes);
  ++out_.schedule.jobs_of_group[job.group];
  expected.number = *number;
  out_.numbers.emplace(*number, static_cast<std::uint32_t>(out_.expected.size()));
  out_.expected.push_back(expected);
}

}  // namespace

Result<JointJobs> share_jobs(const JointPlan& joint, const JointView& view, JointRanks ranks) {
  return Sharer(joint, view, std::move(ranks)).run();
}

}  // namespace flatbed
