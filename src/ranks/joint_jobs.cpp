#include "ranks/joint_jobs.hpp"

#include <algorithm>
#include <array>
#include <utility>

#include "base/str_cat.hpp"
#include "io/digest.hpp"

namespace flatbed {

namespace {

// Deals out jobs, each to one of the ranks that can read all of it: to one that wants some of it,
// as long as that has not got its share, and otherwise to the one that has got least.
class Sharer {
 public:
  Sharer(const JointPlan& joint, const JointView& view, const std::vector<Sight>& sights,
         std::uint32_t rank)
      : joint_(joint), view_(view), sights_(sights), rank_(rank), load_(sights.size()) {}

  Result<JointJobs> run();

 private:
  [[nodiscard]] Schedule whole_schedule() const;
  [[nodiscard]] Result<std::uint32_t> reader_of(const Job& job);
  [[nodiscard]] bool can_read(std::uint32_t rank, const Job& job) const;
  [[nodiscard]] bool wants(std::uint32_t rank, const Job& job) const;
  [[nodiscard]] std::span<const Part> parts_of(const Job& job) const {
    return std::span(whole_.parts).subspan(job.first_part, job.parts);
  }
  void add_mine(const Job& job);
  void add_expected(const Job& job, std::uint32_t reader);
  void count_messages(const Job& job, std::uint32_t reader);
  void hash(std::uint64_t value);

  const JointPlan& joint_;
  const JointView& view_;
  const std::vector<Sight>& sights_;
  std::uint32_t rank_;
  Schedule whole_;
  std::vector<std::uint64_t> load_;  // bytes of each rank so far
  std::uint64_t fair_ = 0;           // share of each
  Xxh3Stream hash_;
  JointJobs out_;
};

bool is_of_file(const Job& job) { return job.kind == JobKind::staged; }

Schedule Sharer::whole_schedule() const {
  const auto is_cold = [this](const ByteSource& file) {
    for (std::uint32_t i = 0; i < joint_.files.size(); ++i) {
      if (&view_.file(i) != &file) continue;
      return std::ranges::any_of(sights_, [i](const Sight& sight) { return sight.cold[i]; });
    }
    return false;
  };
  return make_schedule(view_.plan(), {.verify = joint_.verify,
                                      .io = joint_.io,
                                      .slot_nbytes = joint_.slot_nbytes,
                                      .joint = true,
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
  mine.bytes_wanted = joint_.bytes_wanted[rank_];
  std::uint64_t total = 0;
  for (const Job& job : whole_.jobs) total += is_of_file(job) ? job.read_nbytes : 0;
  fair_ = total / sights_.size();
  for (const Job& job : whole_.jobs) {
    if (!is_of_file(job)) {
      add_mine(job);
      continue;
    }
    FLATBED_ASSIGN(const std::uint32_t reader, reader_of(job));
    load_[reader] += job.read_nbytes;
    for (const std::uint64_t each :
         {std::uint64_t{job.file}, job.begin, job.nbytes, job.read_nbytes, std::uint64_t{reader}})
      hash(each);
    reader == rank_ ? add_mine(job) : add_expected(job, reader);
    count_messages(job, reader);
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
    return sights_[rank].tensors[view_.joint(part.transfer)->what.tensor];
  });
}

bool Sharer::wants(std::uint32_t rank, const Job& job) const {
  return std::ranges::any_of(
      parts_of(job), [&](const Part& part) { return view_.joint(part.transfer)->rank == rank; });
}

Result<std::uint32_t> Sharer::reader_of(const Job& job) {
  std::optional<std::uint32_t> one_that_wants;
  std::optional<std::uint32_t> any;
  for (std::uint32_t rank = 0; rank < load_.size(); ++rank) {
    if (!can_read(rank, job)) continue;
    if (!any || load_[rank] < load_[*any]) any = rank;
    if (!wants(rank, job)) continue;
    if (!one_that_wants || load_[rank] < load_[*one_that_wants]) one_that_wants = rank;
  }
  if (one_that_wants && load_[*one_that_wants] < fair_ + job.read_nbytes / 2)
    return *one_that_wants;
  if (any) return *any;
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
    if (joint.rank != rank_) continue;
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
  out_.numbers.emplace(*number, static_cast<std::uint32_t>(out_.expected.size()));
  out_.expected.push_back(expected);
}

void Sharer::count_messages(const Job& job, std::uint32_t reader) {
  for (const Part& part : parts_of(job)) {
    if (view_.joint(part.transfer)->rank == reader) continue;
    const ContentRange range = contents_of(part, view_.plan().transfers[part.transfer]);
    out_.bytes_of_all += range.end - range.begin;
  }
}

}  // namespace

Result<JointJobs> share_jobs(const JointPlan& joint, const JointView& view,
                             const std::vector<Sight>& sights, std::uint32_t rank) {
  return Sharer(joint, view, sights, rank).run();
}

}  // namespace flatbed
