// The course of a load of several ranks, as one of them goes through it:
//
//   describe the plan      -- exchange -->  one plan of all           or all refuse
//   see which files        -- exchange -->  who reads which job
//   compare who reads what -- exchange -->
//   load: read, send, receive, deliver      one that fails tells the others
//   say how it went        <-- wait for the others, and receive what is under way
#include "flatbed/load_together.hpp"

#include <algorithm>
#include <deque>
#include <memory>
#include <optional>
#include <utility>

#include "base/bytes.hpp"
#include "base/str_cat.hpp"
#include "load/load_peers.hpp"
#include "load/staging_pool.hpp"
#include "ranks/joint_inbox.hpp"
#include "ranks/joint_jobs.hpp"
#include "ranks/joint_plan.hpp"
#include "ranks/outbox.hpp"
#include "ranks/rank_link.hpp"
#include "ranks/shared_staging.hpp"
#include "ranks/wire.hpp"

namespace flatbed {

namespace {

constexpr std::uint32_t kMaxRanks = 4096;
constexpr std::uint64_t kPage = 4096;
constexpr unsigned kUsualThreads = 8;  // for the size of slots
// Of the transport, after which nobody is waited for any more.
constexpr int kMostFailures = 64;
constexpr double kNanosecond = 1e-9;

class JointLoad final : public LoadPeers {
 public:
  JointLoad(const LoadPlan& plan, Collective& collective, const JointOptions& options)
      : plan_(plan),
        options_(options),
        link_(collective,
              {.deadline = options.deadline, .alive = true, .cancel = options.load.cancel}),
        staging_(half_of(options.load)) {}

  Result<JointReport> run();

  [[nodiscard]] Schedule schedule() override { return jobs_->schedule; }
  Result<void> begin(const LoadWork& work) override;
  [[nodiscard]] unsigned deliverers() const noexcept override { return inbox_->threads(); }
  void deliver(unsigned /*number*/, StageTimes& times) override { inbox_->deliver(times); }
  void work() override;

 private:
  struct Flight {
    Outbox::Parcel parcel;
    std::optional<Collective::Ticket> ticket;  // none: it is lent
  };

  [[nodiscard]] static unsigned threads(const LoadOptions& options);
  [[nodiscard]] static StagingOptions half_of(const LoadOptions& options);
  [[nodiscard]] const LoadPlanState& own() const { return LoadPlanAccess::state(plan_); }

  Result<void> agree();
  [[nodiscard]] Result<std::vector<Bytes>> exchange(Bytes bytes);
  [[nodiscard]] Result<PlanDescription> describe_own();
  Result<void> agree_on_plan();
  Result<void> agree_on_sight();
  Result<void> agree_on_jobs();
  [[nodiscard]] std::span<std::byte> shared_with(std::uint32_t rank) const;
  void make_pool();

  [[nodiscard]] LoadOptions load_options();
  [[nodiscard]] Result<void> announce(const GroupReady& ready);

  Result<bool> step();
  Result<bool> drop();
  Result<bool> send();
  Result<bool> finish_sends();
  [[nodiscard]] Result<bool> is_done(const Flight& flight);
  void leave(Flight flight);
  void tell_end();
  void fail(Error error);
  void report_progress();

  Result<JointReport> conclude(Result<LoadReport> result);
  [[nodiscard]] bool is_over() const;
  [[nodiscard]] Bytes encode_report(const LoadReport& report) const;
  [[nodiscard]] Result<JointReport> make_report(LoadReport own) const;

  const LoadPlan& plan_;
  const JointOptions& options_;
  RankLink link_;
  StagingOptions staging_;  // of what is read
  std::vector<std::uint32_t> described_;
  JointPlan joint_;
  std::optional<JointView> view_;
  std::vector<Sight> sights_;
  std::optional<SharedStaging> shared_;
  std::unique_ptr<StagingPool> pool_;  // of shared_
  std::optional<Outbox> outbox_;
  std::vector<std::unique_ptr<PeerDevice>> peers_;
  std::optional<JointJobs> jobs_;
  std::optional<JointInbox> inbox_;
  LoadStop* stop_ = nullptr;  // of the load; null before it begins and after it has ended
  LoadGroups* groups_ = nullptr;
  std::deque<Flight> flights_;
  std::optional<Error> failure_;   // found by this thread
  bool all_know_ = false;          // whatever is wrong before the load
  std::uint64_t lent_ = 0;         // bytes of tensors
  std::uint64_t sent_across_ = 0;  // bytes of tensors, to other nodes
  bool hopeless_ = false;          // some of what is being sent will never be
  Patience patience_;
  std::uint64_t reported_ = 0;
  std::uint64_t progress_ = 0;
};

unsigned JointLoad::threads(const LoadOptions& options) {
  return options.threads != 0 ? options.threads : kUsualThreads;
}

StagingOptions JointLoad::half_of(const LoadOptions& options) {
  if (options.pool != nullptr) return {options.pool->nbytes(), options.pool->slot_nbytes()};
  const std::uint64_t half = options.staging_nbytes / 2;
  return {half, options.slot_nbytes != 0 ? options.slot_nbytes
                                         : fitting_slot_nbytes(half, threads(options))};
}

// The view is complete, and the load has not begun, if agree() returns no error.
Result<JointReport> JointLoad::run() {
  if (Result<void> agreed = agree(); !agreed) return conclude(std::move(agreed).error());
  Result<LoadReport> loaded = load_with_peers(view_->plan(), load_options(), *this);
  stop_ = nullptr;
  groups_ = nullptr;
  return conclude(std::move(loaded));
}

// ---- before anything is read --------------------------------------------------------------------

Result<void> JointLoad::agree() {
  FLATBED_TRY(agree_on_plan());
  FLATBED_TRY(agree_on_sight());
  return agree_on_jobs();
}

// What ranks find out from an exchange that is complete, they all find out, errors as well.
Result<std::vector<Bytes>> JointLoad::exchange(Bytes bytes) {
  all_know_ = false;
  FLATBED_ASSIGN(std::vector<Bytes> all, link_.gather(std::move(bytes)));
  all_know_ = true;
  return all;
}

Result<PlanDescription> JointLoad::describe_own() {
  FLATBED_TRY(check_staging(staging_));
  LoadOptions options = options_.load;
  options.staging_nbytes = staging_.staging_nbytes;
  options.slot_nbytes = staging_.slot_nbytes;
  FLATBED_ASSIGN(const LoadPlanReport checked, plan_.check(options));
  FLATBED_ASSIGN(PlanDescription description, describe(own(), described_));
  description.verify = options_.load.verify == Verify::yes;
  description.io = options_.load.io;
  description.slot_nbytes = staging_.slot_nbytes;
  description.bytes_wanted = checked.bytes_wanted;
  return description;
}

Result<void> JointLoad::agree_on_plan() {
  Result<PlanDescription> own = describe_own();
  PlanDescription description;
  if (own) {
    description = *std::move(own);
  } else {
    description.error = str_cat(name(own.error().code), ": ", own.error().message);
  }
  FLATBED_ASSIGN(const std::vector<Bytes> all, exchange(encode_description(description)));
  if (!own) return std::move(own).error();
  FLATBED_ASSIGN(joint_, join_plans(all));
  return {};
}

Result<void> JointLoad::agree_on_sight() {
  view_.emplace(joint_, own(), described_, link_.rank());
  Result<Sight> own = view_->look();
  Sight sight;
  if (own) {
    sight = *std::move(own);
  } else {
    sight.error = str_cat(name(own.error().code), ": ", own.error().message);
  }
  FLATBED_ASSIGN(const std::vector<Bytes> all, exchange(encode_sight(sight)));
  if (!own) return std::move(own).error();
  for (std::uint32_t rank = 0; rank < all.size(); ++rank) {
    Result<Sight> decoded = decode_sight(all[rank], joint_);
    if (!decoded) return with_context(str_cat("rank ", rank), std::move(decoded).error());
    if (!decoded->error.empty()) {
      return make_error(ErrorCode::collective_ended, "rank ", rank, " ended with ", decoded->error);
    }
    sights_.push_back(*std::move(decoded));
  }
  return {};
}

// That all ranks come to the same result is compared all the same.
Result<void> JointLoad::agree_on_jobs() {
  make_pool();
  outbox_.emplace(options_.load.staging_nbytes / 4,
                  pool_ ? shared_with(link_.rank()) : std::span<std::byte>());
  std::vector<Device*> devices;
  for (std::uint32_t rank = 0; rank < link_.size(); ++rank) {
    const bool shares = pool_ && !shared_with(rank).empty();
    if (rank != link_.rank())
      peers_.push_back(std::make_unique<PeerDevice>(*outbox_, rank, shares));
    devices.push_back(rank != link_.rank() ? peers_.back().get() : nullptr);
  }
  view_->make_plan(devices);
  JointRanks ranks{sights_, {}, link_.rank()};
  for (std::uint32_t rank = 0; rank < link_.size(); ++rank)
    ranks.node_of.push_back(link_.collective().node(rank));
  Result<JointJobs> jobs = share_jobs(joint_, *view_, std::move(ranks));
  WireWriter hash;
  hash.number(jobs ? jobs->hash : 0);
  FLATBED_ASSIGN(const std::vector<Bytes> all, exchange(hash.take()));
  if (!jobs) return std::move(jobs).error();
  for (std::uint32_t rank = 0; rank < all.size(); ++rank) {
    if (all[rank] == all[link_.rank()]) continue;
    return make_error(ErrorCode::collective_mismatch, "rank ", rank,
                      " divides the work in another way: expected the same version of flatbed");
  }
  jobs_.emplace(*std::move(jobs));
  inbox_.emplace(link_, *jobs_, options_.receive_in_place);
  return {};
}

// Empty if the rank is on another node.
std::span<std::byte> JointLoad::shared_with(std::uint32_t rank) const {
  Collective& ranks = link_.collective();
  return ranks.node(rank) == ranks.node(link_.rank()) ? ranks.shared_memory(rank)
                                                      : std::span<std::byte>();
}

// Of memory that others can read, if there is any. Devices copy from their own staging memory.
void JointLoad::make_pool() {
  if (options_.load.pool != nullptr || own().devices.size() > 1) return;
  const std::span<std::byte> memory = shared_with(link_.rank());
  const StagingOptions staging{std::min<std::uint64_t>(memory.size(), staging_.staging_nbytes),
                               joint_.slot_nbytes};
  // With fewer slots threads would wait for each other, and for the ranks that copy from them.
  if (staging.staging_nbytes / staging.slot_nbytes < std::uint64_t{2} * threads(options_.load))
    return;
  shared_.emplace(memory);
  Result<std::unique_ptr<StagingPool>> pool = StagingSlots::unstaged_pool(*shared_, staging);
  if (pool) pool_ = *std::move(pool);  // otherwise there is too little of it
}

// ---- while the load is under way ----------------------------------------------------------------

LoadOptions JointLoad::load_options() {
  LoadOptions options = options_.load;
  if (pool_) options.pool = pool_.get();
  options.staging_nbytes = staging_.staging_nbytes;
  options.slot_nbytes = joint_.slot_nbytes;
  options.device_timeout = std::max(options.device_timeout, 2 * limited(options_.deadline));
  if (options_.load.ready)
    options.ready = [this](const GroupReady& ready) { return announce(ready); };
  return options;
}

// The groups of the load are turns.
Result<void> JointLoad::announce(const GroupReady& ready) {
  const std::vector<std::uint32_t> order = own().group_order();
  const std::size_t first = joint_.in_turns ? ready.group : 0;
  const std::size_t last = joint_.in_turns ? first + 1 : order.size();
  for (std::size_t turn = first; turn < std::min(last, order.size()); ++turn) {
    FLATBED_TRY(options_.load.ready({own().groups[order[turn]].id, ready.events}));
  }
  return {};
}

Result<void> JointLoad::begin(const LoadWork& work) {
  stop_ = &work.stop;
  groups_ = &work.groups;
  // A rank that wants bytes twice gets them twice.
  const std::uint64_t nbytes = std::max(joint_.slot_nbytes, jobs_->largest_message);
  const std::uint64_t slot = (nbytes + kPage - 1) / kPage * kPage;
  const std::uint64_t most = std::max<std::uint64_t>(options_.load.staging_nbytes / 4 / slot, 2);
  const std::uint64_t slots = std::clamp<std::uint64_t>(jobs_->expected.size(), 2, most);
  return inbox_->begin(work, {slots * slot, slot},
                       std::max(options_.load.device_timeout, 2 * limited(options_.deadline)));
}

void JointLoad::work() {
  Result<bool> any = step();
  if (!any) fail(any.error());
  report_progress();
  patience_.after(std::move(any).value_or(false));
}

// Does what can be done now, and returns whether there was anything.
Result<bool> JointLoad::step() {
  if (groups_ != nullptr) progress_ = groups_->bytes_done();
  link_.set_progress(progress_);
  if (stop_ != nullptr && stop_->stopped()) tell_end();
  FLATBED_ASSIGN(const bool sent, send());
  FLATBED_ASSIGN(const bool finished, finish_sends());
  FLATBED_ASSIGN(const bool heard, link_.poll());
  const bool drops = stop_ == nullptr || stop_->stopped();
  FLATBED_ASSIGN(const bool received, inbox_ ? inbox_->receive(drops) : drop());
  return sent || finished || heard || received;
}

// What others send that do not know yet that this rank does not load.
Result<bool> JointLoad::drop() {
  if (const std::optional<RankLink::Lent> lent = link_.take_lent())
    FLATBED_TRY(link_.give_back(lent->from, lent->number));
  const std::optional<Incoming> message = link_.take_data();
  if (!message) return false;
  FLATBED_TRY(link_.begin_drop(*message));
  return true;
}

Result<bool> JointLoad::send() {
  if (!outbox_) return false;
  std::vector<Outbox::Parcel> parcels = link_.has_told() ? outbox_->close() : outbox_->take();
  for (Outbox::Parcel& parcel : parcels) {
    if (link_.has_told()) {  // nobody receives it any more
      outbox_->complete(parcel);
      continue;
    }
    std::optional<Collective::Ticket> ticket;
    if (parcel.places.empty()) {
      FLATBED_ASSIGN(ticket, link_.send_data(parcel.to, parcel.number, parcel.bytes));
    } else {
      FLATBED_TRY(link_.lend(parcel.to, parcel.number, std::move(parcel.places)));
    }
    flights_.push_back({std::move(parcel), ticket});
  }
  return !parcels.empty();
}

Result<bool> JointLoad::finish_sends() {
  bool any = false;
  bool waits = false;  // for a rank that answers
  for (std::size_t i = 0; i < flights_.size();) {
    Flight& flight = flights_[i];
    Result<bool> done = is_done(flight);
    if (done && !*done) {
      waits = waits || !link_.is_lost(flight.parcel.to);
      ++i;
      continue;
    }
    Flight ended = std::move(flight);
    flights_.erase(flights_.begin() + static_cast<std::ptrdiff_t>(i));
    any = true;
    if (!done) {  // the transport may still read it
      leave(std::move(ended));
      return std::move(done).error();
    }
    outbox_->complete(ended.parcel);
    const Collective& ranks = link_.collective();
    const bool crosses = ranks.node(ended.parcel.to) != ranks.node(link_.rank());
    sent_across_ += crosses ? ended.parcel.nbytes : 0;
    lent_ += ended.ticket ? 0 : ended.parcel.nbytes;
  }
  if (hopeless_ && !waits && outbox_) outbox_->give_up();
  return any;
}

Result<bool> JointLoad::is_done(const Flight& flight) {
  if (flight.ticket) return link_.collective().done(*flight.ticket);
  return link_.is_returned(flight.parcel.to, flight.parcel.number);
}

void JointLoad::leave(Flight flight) {
  if (!flight.parcel.packed) return;
  CollectiveAccess::leave(link_.collective(),
                          std::shared_ptr<std::byte>(std::move(flight.parcel.packed)));
}

// What was posted before the load stopped is still sent: others may be waiting for it.
void JointLoad::tell_end() {
  if (link_.has_told()) return;
  if (outbox_ && !hopeless_) {
    if (Result<bool> sent = send(); !sent) fail(std::move(sent).error());
  }
  const Result<void> stopped = stop_->result(progress_, jobs_->schedule.bytes_to_read);
  if (stopped) return;
  stop_->fail(stopped.error());  // what others say later is no reason any more
  if (Result<void> told = link_.tell_ended(stopped.error()); !told) fail(std::move(told).error());
}

// The first failure is the load's.
void JointLoad::fail(Error error) {
  const bool transport = error.code == ErrorCode::collective_failed;
  hopeless_ = hopeless_ || transport || error.code == ErrorCode::collective_timeout;
  if (!failure_) failure_ = error;
  if (stop_ != nullptr) stop_->fail(std::move(error));
  // Last, because threads that wait for messages then fail as well.
  if (transport && outbox_) outbox_->give_up();
}

void JointLoad::report_progress() {
  if (!options_.progress_of_all || stop_ == nullptr || stop_->stopped()) return;
  const std::uint64_t done = std::min(link_.progress_of_all(), jobs_->bytes_of_all);
  if (done == reported_) return;
  reported_ = done;
  if (Result<void> said = options_.progress_of_all({done, jobs_->bytes_of_all}); !said)
    fail(std::move(said).error());
}

// ---- afterwards ---------------------------------------------------------------------------------

// Stays until no other rank has anything more for this one, so that none is left waiting. A rank
// that fails after this one was done makes this one fail, too.
Result<JointReport> JointLoad::conclude(Result<LoadReport> result) {
  failure_.reset();
  if (!result) {
    failure_ = result.error();
    hopeless_ = hopeless_ || failure_->code == ErrorCode::collective_timeout;
  }
  const bool alike = all_know_ && !inbox_;
  const Result<void> told = alike    ? Result<void>()
                            : result ? link_.tell_finished(encode_report(*result))
                                     : link_.tell_ended(*failure_);
  if (!told) fail(told.error());
  patience_.reset();
  for (int failures = 0; !alike && failures < kMostFailures && !is_over();) {
    Result<bool> any = step();
    if (!any) fail(any.error());
    failures += !any && any.error().code == ErrorCode::collective_failed ? 1 : 0;
    patience_.after(std::move(any).value_or(false));
  }
  for (Flight& flight : flights_) {
    if (flight.ticket && !link_.collective().forget(*flight.ticket)) leave(std::move(flight));
  }
  if (inbox_) inbox_->end();
  if (!failure_) return make_report(*std::move(result));
  if (const std::uint64_t left = inbox_ ? inbox_->abandoned_nbytes() : 0; left != 0) {
    failure_->message += str_cat("; ", left,
                                 " bytes of staging memory to which messages of other ranks may "
                                 "still be written are left to them");
  }
  return *std::move(failure_);
}

bool JointLoad::is_over() const {
  const bool sending = std::ranges::any_of(
      flights_, [this](const Flight& flight) { return !link_.is_lost(flight.parcel.to); });
  return link_.all_ended() && !sending && (!inbox_ || !inbox_->is_receiving());
}

Bytes JointLoad::encode_report(const LoadReport& report) const {
  WireWriter out;
  out.number(report.bytes_wanted);
  out.number(report.bytes_read);
  out.number(outbox_->sent_nbytes());
  out.number(sent_across_);
  out.number(lent_);
  out.number(inbox_->received_nbytes());
  out.number(static_cast<std::uint64_t>(report.seconds / kNanosecond));
  out.number(static_cast<std::uint64_t>(inbox_->waited_seconds() / kNanosecond));
  return out.take();
}

Result<JointReport> JointLoad::make_report(LoadReport own) const {
  JointReport report;
  report.load = std::move(own);
  report.load.peak_staging_nbytes += inbox_->peak_nbytes() + outbox_->peak_packed_nbytes();
  const Bytes mine = encode_report(report.load);
  for (std::uint32_t rank = 0; rank < link_.size(); ++rank) {
    WireReader in(rank == link_.rank() ? mine : link_.report(rank));
    RankReport& each = report.ranks.emplace_back();
    each.bytes_wanted = in.number();
    each.bytes_read = in.number();
    each.bytes_sent = in.number();
    each.bytes_sent_across = in.number();
    each.bytes_lent = in.number();
    each.bytes_received = in.number();
    each.seconds = static_cast<double>(in.number()) * kNanosecond;
    each.waited_seconds = static_cast<double>(in.number()) * kNanosecond;
    if (in.at_end()) continue;
    return make_error(ErrorCode::collective_failed, "rank ", rank, ": a malformed report");
  }
  return report;
}

}  // namespace

Result<JointReport> load_together(const LoadPlan& plan, Collective& collective,
                                  const JointOptions& options) {
  if (collective.size() > kMaxRanks) {
    return make_error(ErrorCode::limit_exceeded, "too many ranks: found ", collective.size(),
                      ", expected at most ", kMaxRanks);
  }
  if (collective.size() > 1) return JointLoad(plan, collective, options).run();
  LoadOptions alone = options.load;
  if (options.progress_of_all) {
    alone.progress = [&options](const Progress& progress) -> Result<void> {
      if (options.load.progress) FLATBED_TRY(options.load.progress(progress));
      return options.progress_of_all(progress);
    };
  }
  JointReport report;
  FLATBED_ASSIGN(report.load, load(plan, alone));
  RankReport& rank = report.ranks.emplace_back();
  rank.bytes_wanted = report.load.bytes_wanted;
  rank.bytes_read = report.load.bytes_read;
  rank.seconds = report.load.seconds;
  return report;
}

}  // namespace flatbed
