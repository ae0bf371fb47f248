#include "flatbed/load.hpp"

#include <algorithm>
#include <array>
#include <deque>
#include <optional>
#include <thread>
#include <utility>

#include "base/str_cat.hpp"
#include "checkpoint/cast_sums.hpp"
#include "checkpoint/checkpoint_access.hpp"
#include "io/far_source.hpp"
#include "io/numa.hpp"
#include "io/past_cache.hpp"
#include "io/thread_pool.hpp"
#include "load/load_hooks.hpp"
#include "load/load_job.hpp"
#include "load/load_peers.hpp"
#include "load/load_plan.hpp"
#include "load/load_progress.hpp"
#include "load/load_schedule.hpp"
#include "load/load_slots.hpp"
#include "load/readers.hpp"
#include "load/staging_pool.hpp"

namespace flatbed {

namespace {

constexpr std::chrono::milliseconds kReportInterval{20};  // between two checks of the progress
constexpr std::chrono::milliseconds kIdle{1000};
// Between two calls of the caller's progress callback.
constexpr std::uint64_t kReportNbytes = 8 << 20;

constexpr const char* kSysfs = "/sys";

enum class Disk { cached, direct };

bool waits_for_network(const Schedule& schedule) {
  return std::ranges::any_of(schedule.files,
                             [](const ScheduledFile& file) { return is_far(*file.file); });
}

bool has_far_files(const LoadPlanState& plan) {
  return std::ranges::any_of(plan.checkpoints, [](const Checkpoint& checkpoint) {
    std::uint32_t file = 0;
    return std::ranges::any_of(checkpoint.files(), [&](const FileInfo&) {
      return is_far(CheckpointAccess::source(checkpoint, file++));
    });
  });
}

// What load() and LoadPlan::check() are asked.
struct Asked {
  const LoadPlanState& plan;
  const LoadOptions& options;
  const std::filesystem::path& sysfs;
};

// `direct`: threads wait for the disk, because nothing queues their reads; or for a network.
unsigned thread_count(const Asked& asked, Disk disk) {
  const auto& [plan, options, sysfs] = asked;
  if (options.threads != 0) return std::min(options.threads, kMaxThreads);
  const auto near = static_cast<unsigned>(processors_to_stay_on(numa_node(plan), 1, sysfs).size());
  return usual_readers({.cores = near != 0 ? near : std::thread::hardware_concurrency(),
                        .link_bytes_per_second = link_bytes_per_second(plan),
                        .direct = disk == Disk::direct});
}

StagingOptions staging_options(const Asked& asked) {
  const LoadOptions& options = asked.options;
  if (options.pool != nullptr) return {options.pool->nbytes(), options.pool->slot_nbytes()};
  // Of far files a slot each is enough: a request of half the size costs as much time.
  const unsigned most = thread_count(asked, Disk::direct);
  const unsigned threads = has_far_files(asked.plan) ? most / 2 : most;
  const std::uint64_t slot = options.slot_nbytes != 0
                                 ? options.slot_nbytes
                                 : fitting_slot_nbytes(options.staging_nbytes, threads);
  return {options.staging_nbytes, slot};
}

// The pool that the load would create: no more slots than there are jobs for them.
StagingOptions own_staging(const Asked& asked, const Schedule& schedule) {
  const StagingOptions most = staging_options(asked);
  const std::uint64_t slots =
      std::clamp<std::uint64_t>(schedule.slot_jobs, 2, most.staging_nbytes / most.slot_nbytes);
  return {slots * most.slot_nbytes, most.slot_nbytes};
}

Error no_threads() { return Error{ErrorCode::resource_exhausted, "no thread could be started"}; }

// The schedule of a checked plan.
Result<Schedule> checked_schedule(const Asked& asked) {
  const auto& [plan, options, sysfs] = asked;
  const StagingOptions staging = staging_options(asked);
  FLATBED_TRY(check_staging(staging));
  FLATBED_TRY(check_destinations(plan));
  Schedule schedule =
      make_schedule(plan, {options.verify == Verify::yes, options.io, staging.slot_nbytes});
  if (options.pool != nullptr && options.pool->device().is_host() && plan.copies()) {
    return make_error(ErrorCode::invalid_argument, "the staging pool is of the host, and ",
                      plan.devices[1]->name(), " copies from its own staging memory only");
  }
  return schedule;
}

// By the code of the error that came in place of a queue.
NoQueue why_none(ErrorCode code) {
  if (!built_with_read_queue()) return NoQueue::not_built;
  if (code == ErrorCode::permission_denied) return NoQueue::forbidden;
  return code == ErrorCode::resource_exhausted ? NoQueue::no_memory : NoQueue::not_in_kernel;
}

// One load. The thread that called load() creates it, waits and makes the callbacks; the reading
// threads do the rest.
class Load {
 public:
  // `peers`: null for a load of one process.
  Load(const LoadPlanState& plan, const LoadOptions& options, const LoadHooks& hooks,
       LoadPeers* peers = nullptr)
      : plan_(plan), options_(options), hooks_(hooks), peers_(peers), stop_(options.cancel) {}

  Result<LoadReport> run();

 private:
  Result<void> prepare();
  [[nodiscard]] unsigned wanted_threads() const;
  [[nodiscard]] bool checks_on_arrival() const;
  Result<void> make_pool();
  void open_queues();
  Result<void> wait_for_engine(Device& device);
  [[nodiscard]] LoadWork work();
  // What each thread does: the first ones deliver what other ranks have read.
  void work_as(unsigned number);
  void settle_on(ThreadCrew& settler);
  void deliver(unsigned number);
  void read(unsigned number);
  [[nodiscard]] Result<void> enter_devices();
  void read_jobs(JobRunner& runner);
  void add_up(JobRunner& runner);
  void call_back();
  void wait(std::chrono::milliseconds patience);
  [[nodiscard]] Result<void> announce(const GroupReady& ready);
  void report_progress();
  void stop_on_error(Result<void> result);
  [[nodiscard]] Result<void> judge();
  [[nodiscard]] LoadReport make_report() const;
  [[nodiscard]] bool leases() const { return hooks_.lease.value_or(bounces_) && !hooks_.read; }
  // Whether a file is read with O_DIRECT.
  [[nodiscard]] bool has_direct() const { return std::ranges::any_of(files_, &LoadFile::direct); }

  const LoadPlanState& plan_;
  const LoadOptions& options_;
  const LoadHooks& hooks_;
  LoadPeers* peers_;
  const Asked asked_{plan_, options_, hooks_.sysfs};
  LoadStop stop_;
  std::uint64_t begin_ns_ = 0;
  Schedule schedule_;
  std::unique_ptr<Device> host_ = host_device();
  std::unique_ptr<StagingPool> own_pool_;
  StagingPool* pool_ = nullptr;         // own_pool_, the caller's, or none
  std::uint64_t abandoned_before_ = 0;  // bytes of the pool abandoned by earlier loads
  std::shared_ptr<DirectPool> direct_files_ = std::make_shared<DirectPool>(kMaxDirectFiles);
  std::deque<LoadFile> files_;
  std::vector<std::unique_ptr<ReadQueue>> queues_;  // of the first threads
  NoQueue no_queue_ = NoQueue::none;
  std::optional<LoadGroups> groups_;
  std::optional<LoadSlots> slots_;
  std::atomic<std::size_t> next_job_ = 0;
  std::atomic<unsigned> readers_ = 0;  // readers that have not ended
  bool bounces_ = hooks_.bounce.value_or(bounce_pays());
  LeasedPool leased_{hooks_.lease ? LeaseUse::whenever_possible : LeaseUse::while_it_pays};
  Processors processors_;  // that the readers stay on; empty: any
  unsigned threads_ = 0;
  std::uint64_t reported_ = 0;
  std::mutex mutex_;  // guards report_ and times_
  LoadReport report_;
  StageTimes times_ = {};
  CastSums casts_;  // by transfer
};

Result<LoadReport> Load::run() {
  begin_ns_ = hooks_.now_ns();
  FLATBED_TRY(prepare());
  {
    ThreadCrew crew, settler;
    const unsigned deliverers = peers_ != nullptr ? peers_->deliverers() : 0;
    const unsigned wanted = wanted_threads() + deliverers;
    processors_ = processors_to_stay_on(numa_node(plan_), wanted, hooks_.sysfs);
    readers_ = wanted;
    threads_ = crew.start(wanted, 0, [this](unsigned number) { work_as(number); });
    // Threads that were not started count as ended.
    if (threads_ == 0) {
      return no_threads();
    }
    if (threads_ <= deliverers) stop_.fail(no_threads());
    // The readers that ran have ended, none of them as the last.
    if (threads_ < wanted && (readers_ -= wanted - threads_) == 0) settle_on(settler);
    call_back();
  }
  groups_->forget_events();
  FLATBED_TRY(judge());
  return make_report();
}

// This thread is the engine's, and has to go on.
void Load::settle_on(ThreadCrew& settler) {
  const unsigned started = settler.start(1, 0, [this](unsigned) {
    StageTimes times = {};
    if (slots_) slots_->settle(times);
    groups_->readers_done();
  });
  if (started != 0) return;
  if (slots_) slots_->abandon_doubtful();
  groups_->readers_done();
}

Result<void> Load::prepare() {
  if (peers_ != nullptr) {
    schedule_ = peers_->schedule();
  } else {
    FLATBED_ASSIGN(schedule_, checked_schedule(asked_));
  }
  for (std::uint32_t i = 0; i < schedule_.files.size(); ++i) {
    files_.emplace_back(*schedule_.files[i].file,
                        LoadFile::Options{&hooks_, i, schedule_.files[i].direct, direct_files_});
  }
  open_queues();
  groups_.emplace(plan_, schedule_, options_.ready != nullptr);
  if (schedule_.slot_jobs != 0) FLATBED_TRY(make_pool());
  if (pool_ != nullptr) {
    slots_.emplace(*pool_,
                   LoadSlots::Options{hooks_, stop_, plan_, schedule_, options_.device_timeout});
  }
  for (std::uint32_t i = 1; i < plan_.devices.size(); ++i) {
    FLATBED_TRY(plan_.devices[i]->order_after_engine());
    if (plan_.writes_directly(i)) FLATBED_TRY(wait_for_engine(*plan_.devices[i]));
  }
  return peers_ != nullptr ? peers_->begin(work()) : Result<void>();
}

LoadWork Load::work() {
  return {plan_,
          schedule_,
          hooks_,
          options_.verify,
          files_,
          stop_,
          *groups_,
          slots_ ? &*slots_ : nullptr,
          *host_,
          bounces_,
          leases() ? &leased_ : nullptr,
          checks_on_arrival()};
}

// Where processors are fewer than readers, as on small machines, what counts is how much work it is
// to hash, and that is least before the bytes have left the cache. Elsewhere the readers have
// processors of their own, and the thread that receives has no time for it.
bool Load::checks_on_arrival() const {
  return hooks_.check_on_arrival.value_or(std::thread::hardware_concurrency() < wanted_threads());
}

// What the engine has queued may use memory that the processor is about to write, and no stream
// orders the two.
Result<void> Load::wait_for_engine(Device& device) {
  return run_on_own_thread([&]() -> Result<void> {
    FLATBED_TRY(device.enter_thread());
    FLATBED_ASSIGN(const Ticket fence, device.fence());
    const std::chrono::nanoseconds begin(hooks_.now_ns());
    while (true) {
      FLATBED_ASSIGN(const bool done, hooks_.wait ? hooks_.wait(device, fence, kReportInterval)
                                                  : device.wait(fence, kReportInterval));
      if (done) return {};
      // The longest timeouts are too many nanoseconds to be counted.
      const auto waited = std::chrono::floor<std::chrono::milliseconds>(
          std::chrono::nanoseconds(hooks_.now_ns()) - begin);
      if (stop_.stopped() || waited >= options_.device_timeout) break;
    }
    device.forget(fence);
    if (stop_.stopped()) return stop_.result(0, schedule_.bytes_to_read);
    return make_error(ErrorCode::device_timeout, device.name(),
                      ": the engine's work was not complete after ",
                      options_.device_timeout.count(), " ms");
  });
}

unsigned Load::wanted_threads() const {
  const bool waits = (has_direct() && queues_.empty()) || waits_for_network(schedule_);
  const unsigned most = thread_count(asked_, waits ? Disk::direct : Disk::cached);
  return static_cast<unsigned>(std::clamp<std::size_t>(schedule_.jobs.size(), 1, most));
}

// The first device that is not the host. All others of its kind can copy from its staging memory.
Result<void> Load::make_pool() {
  pool_ = options_.pool;
  if (pool_ != nullptr) {
    abandoned_before_ = pool_->abandoned_nbytes();
    return {};
  }
  Device& device = plan_.real_devices().empty() ? *host_ : *plan_.real_devices().front();
  FLATBED_ASSIGN(own_pool_, StagingSlots::unstaged_pool(device, own_staging(asked_, schedule_)));
  pool_ = own_pool_.get();
  return {};
}

// One for each thread. The first says whether the system has them; where a later one is not to be
// had, its thread waits for its reads.
void Load::open_queues() {
  if (!hooks_.queue || !has_direct()) return;
  const std::size_t most =
      std::min<std::size_t>(thread_count(asked_, Disk::cached), schedule_.jobs.size());
  while (queues_.size() < most) {
    Result<std::unique_ptr<ReadQueue>> queue = hooks_.queue();
    if (!queue && queues_.empty()) no_queue_ = why_none(queue.error().code);
    if (!queue) break;
    queues_.push_back(*std::move(queue));
  }
}

void Load::work_as(unsigned number) {
  const unsigned deliverers = peers_ != nullptr ? peers_->deliverers() : 0;
  if (!processors_.empty()) stay_on(processors_);
  if (hooks_.enter) hooks_.enter();
  number < deliverers ? deliver(number) : read(number - deliverers);
}

void Load::deliver(unsigned number) {
  StageTimes times = {};
  if (Result<void> entered = enter_devices(); entered) {
    peers_->deliver(number, times);
  } else {
    stop_.fail(std::move(entered).error());
  }
  const bool last = --readers_ == 0;
  if (last && slots_) slots_->settle(times);
  {
    const std::lock_guard lock(mutex_);
    for (std::size_t i = 0; i < times_.size(); ++i) times_[i] += times[i];
  }
  if (hooks_.leave) hooks_.leave();
  if (last) groups_->readers_done();
}

void Load::read(unsigned number) {
  JobRunner runner(work(), number < queues_.size() ? queues_[number].get() : nullptr);
  // A thread that cannot ask the devices leaves all of it to the others.
  if (Result<void> entered = enter_devices(); entered) {
    read_jobs(runner);
    if (slots_) slots_->finish(runner.times());
  } else {
    stop_.fail(std::move(entered).error());
  }
  const bool last = --readers_ == 0;
  if (last && slots_) slots_->settle(runner.times());
  add_up(runner);
  if (hooks_.leave) hooks_.leave();
  if (last) groups_->readers_done();
}

Result<void> Load::enter_devices() {
  for (Device* const device : plan_.others()) {
    FLATBED_TRY(device->enter_thread());
  }
  return {};
}

void Load::read_jobs(JobRunner& runner) {
  while (!stop_.stopped()) {
    const std::size_t number = next_job_++;
    if (number >= schedule_.jobs.size()) break;
    if (Result<void> done = runner.run(schedule_.jobs[number]); !done)
      stop_.fail(std::move(done).error());
  }
  // After an error the load stops, and the second time the rest is only ended.
  for (int i = 0; i < 2; ++i) {
    if (Result<void> done = runner.finish(); !done) stop_.fail(std::move(done).error());
  }
}

void Load::add_up(JobRunner& runner) {
  const std::lock_guard lock(mutex_);
  for (std::size_t i = 0; i < times_.size(); ++i) times_[i] += runner.times()[i];
  report_.bytes_verified += runner.bytes_verified();
  report_.chunks_verified += runner.chunks_verified();
  report_.chunks_reread += runner.chunks_reread();
  report_.bytes_read += runner.contents_read();
  for (const auto& [transfer, counts] : runner.casts()) casts_.add(transfer, counts);
  report_.peak_staging_nbytes += runner.scratch_nbytes();
}

// Runs until the readers have ended: reports progress, and groups in their order.
void Load::call_back() {
  const auto patience = options_.progress ? kReportInterval : kIdle;
  while (!groups_->finished()) {
    wait(patience);
    if (const std::optional<GroupReady> ready = groups_->ready_group()) {
      if (options_.ready && !stop_.stopped()) stop_on_error(announce(*ready));
      groups_->next_group();
    }
    if (!stop_.stopped()) report_progress();
  }
}

void Load::wait(std::chrono::milliseconds patience) {
  peers_ != nullptr ? peers_->work() : groups_->wait(patience);
}

Result<void> Load::announce(const GroupReady& ready) {
  FLATBED_TRY(groups_->order_before_engine());
  return options_.ready(ready);
}

void Load::report_progress() {
  const std::uint64_t done = groups_->bytes_done();
  const bool all = done == schedule_.bytes_to_read;
  if (!options_.progress || done == reported_ || (!all && done - reported_ < kReportNbytes)) return;
  reported_ = done;
  stop_on_error(options_.progress({done, schedule_.bytes_to_read}));
}

// Of a callback.
void Load::stop_on_error(Result<void> result) {
  if (!result) stop_.fail(std::move(result).error());
}

// The result, once nothing is under way.
Result<void> Load::judge() {
  Result<void> result = stop_.result(groups_->bytes_done(), schedule_.bytes_to_read);
  for (std::size_t i = 0; i < schedule_.files.size() && result; ++i) {
    result = schedule_.files[i].file->check_unchanged();
  }
  const std::uint64_t abandoned =
      pool_ == nullptr ? 0 : pool_->abandoned_nbytes() - abandoned_before_;
  if (result || abandoned == 0) return result;
  Error error = std::move(result).error();
  error.message += str_cat("; ", abandoned,
                           " bytes of staging memory that a device may still read are left to it");
  return error;
}

LoadReport Load::make_report() const {
  LoadReport report = report_;
  const auto cast = std::ranges::count_if(
      plan_.transfers, [](const Transfer& transfer) { return transfer.tensor->cast; });
  report.casts = casts_.report(static_cast<std::uint64_t>(cast), [this](std::uint32_t transfer) {
    const TensorInfo& tensor = *plan_.transfers[transfer].tensor;
    return CastOverflow{std::string(tensor.name), tensor.dtype, {}};
  });
  report.bytes_wanted = schedule_.bytes_wanted;
  for (const LoadFile& file : files_) {
    report.bytes_read += file.bytes_read();
    ++(file.direct() ? report.files_direct : report.files_buffered);
  }
  report.queued = report.files_direct != 0 && !queues_.empty();
  if (report.files_direct != 0) report.no_queue = no_queue_;
  if (pool_ != nullptr) report.peak_staging_nbytes += pool_->peak_nbytes();
  report.threads = threads_;
  std::array<double, 5> seconds = {};
  for (std::size_t i = 0; i < times_.size(); ++i)
    seconds[i] = static_cast<double>(times_[i]) * 1e-9;
  report.read_seconds = seconds[0];
  report.hash_seconds = seconds[1];
  report.submit_seconds = seconds[2];
  report.slots_seconds = seconds[3];
  report.link_seconds = seconds[4];
  report.bottleneck = static_cast<Stage>(std::ranges::max_element(seconds) - seconds.begin());
  report.seconds = static_cast<double>(hooks_.now_ns() - begin_ns_) * 1e-9;
  return report;
}

// The default hooks: real time and real files.
LoadHooks system_hooks() {
  LoadHooks hooks;
  hooks.now_ns = [] {
    const auto now = std::chrono::steady_clock::now().time_since_epoch();
    return static_cast<std::uint64_t>(std::chrono::nanoseconds(now).count());
  };
  hooks.queue = [] { return open_read_queue(); };
  return hooks;
}

}  // namespace

std::string_view name(Stage stage) noexcept {
  constexpr std::array<std::string_view, 5> kNames{"read", "hash", "submit", "slots", "link"};
  return kNames[static_cast<std::size_t>(stage)];
}

std::string_view name(NoQueue why) noexcept {
  constexpr std::array<std::string_view, 5> kNames{"none", "not_built", "not_in_kernel",
                                                   "forbidden", "no_memory"};
  return kNames[static_cast<std::size_t>(why)];
}

Result<LoadPlanReport> LoadPlan::check(const LoadOptions& options) const {
  const std::filesystem::path sysfs = kSysfs;
  const Asked asked{*state_, options, sysfs};
  FLATBED_ASSIGN(const Schedule schedule, checked_schedule(asked));
  LoadPlanReport report;
  report.bytes_wanted = schedule.bytes_wanted;
  report.bytes_to_read = schedule.bytes_to_read;
  report.reads = schedule.jobs.size();
  report.groups = static_cast<std::uint32_t>(schedule.groups.size());
  if (schedule.slot_jobs != 0) {
    report.peak_staging_nbytes = own_staging(asked, schedule).staging_nbytes;
  }
  for (const ScheduledFile& file : schedule.files) report.files.push_back(file.file->label());
  return report;
}

Result<LoadReport> load_with_peers(const LoadPlanState& plan, const LoadOptions& options,
                                   LoadPeers& peers) {
  const LoadHooks hooks = system_hooks();
  return Load(plan, options, hooks, &peers).run();
}

Result<LoadReport> load_with_hooks(const LoadPlan& plan, const LoadOptions& options,
                                   const LoadHooks& hooks) {
  return Load(LoadPlanAccess::state(plan), options, hooks).run();
}

Result<LoadReport> load(const LoadPlan& plan, const LoadOptions& options) {
  return load_with_hooks(plan, options, system_hooks());
}

}  // namespace flatbed
