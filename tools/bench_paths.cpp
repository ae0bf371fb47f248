#include "bench_paths.hpp"

#include <algorithm>
#include <chrono>
#include <thread>

#include "flatbed/verify.hpp"
#include "interrupt.hpp"
#include "open_input.hpp"
#include "seal_text.hpp"

namespace flatbed::tool {
namespace {

constexpr unsigned kMostThreads = 8;  // upper end of the default list

std::vector<unsigned> default_threads() {
  const unsigned cores = std::clamp(std::thread::hardware_concurrency(), 2U, kMostThreads);
  std::vector<unsigned> counts;
  for (unsigned threads = 1; threads <= cores; threads *= 2) counts.push_back(threads);
  return counts;
}

Result<void> stop_if_interrupted() {
  if (interrupted()) return Error{ErrorCode::cancelled, "interrupted"};
  return {};
}

// Runs `work` and returns how long it took.
template <typename Work>
Result<BenchRun> timed(Work&& work) {
  const auto begin = std::chrono::steady_clock::now();
  FLATBED_TRY(work());
  BenchRun run;
  run.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  return run;
}

bool all_stored(const Checkpoint& checkpoint, std::initializer_list<Stored> ways) {
  return std::ranges::all_of(checkpoint.tensors(), [&](const TensorInfo& tensor) {
    return std::ranges::find(ways, tensor.stored) != ways.end();
  });
}

}  // namespace

Result<std::unique_ptr<BenchSubject>> BenchSubject::open(const BenchOptions& options) {
  std::unique_ptr<BenchSubject> subject(new BenchSubject);
  FLATBED_TRY(check_is_local(options.path, "bench"));
  LoadCommandOptions load_options;
  load_options.ignore_seal = options.ignore_seal;
  if (options.ignore_seal) load_options.verify = Verify::no;
  load_options.paths = {options.path};
  load_options.device = options.device;
  FLATBED_ASSIGN(subject->sources_, open_sources(load_options));
  FLATBED_ASSIGN(subject->layout_, lay_out(subject->sources_, load_options));
  if (subject->nbytes() == 0) {
    return Error{ErrorCode::invalid_argument, "nothing to measure: the tensors hold no bytes"};
  }
  FLATBED_TRY(allocate(subject->layout_, subject->devices_));
  FLATBED_ASSIGN(subject->pool_, StagingPool::create(*subject->layout_.shares[0].device));
  FLATBED_ASSIGN(subject->plan_, make_load_plan(subject->sources_, subject->layout_));
  const Checkpoint& checkpoint = subject->checkpoint();
  if (options.device.is_host() && all_stored(checkpoint, {Stored::plain})) {
    FLATBED_ASSIGN(PreadLoop loop, PreadLoop::open(checkpoint));
    subject->pread_.emplace(std::move(loop));
    for (const Placement& place : subject->layout_.placements) {
      subject->pread_->add(checkpoint.tensors()[place.tensor], subject->layout_.data(place));
    }
  }
  subject->thread_counts_ = options.threads.empty() ? default_threads() : options.threads;
  subject->ignore_seal_ = options.ignore_seal;
  subject->sealed_ = !options.ignore_seal &&
                     std::ranges::any_of(checkpoint.tensors(), [](const TensorInfo& tensor) {
                       return !tensor.digests.empty();
                     });
  return subject;
}

std::vector<BenchPath> BenchSubject::paths() {
  const Verify best = sealed_ ? Verify::yes : Verify::no;
  std::vector<BenchPath> paths{load_path("load automatic", IoMode::automatic, best, 0)};
  for (const unsigned threads : thread_counts_) {
    for (const IoMode io : {IoMode::buffered, IoMode::direct}) {
      const std::string name = io == IoMode::direct ? "load direct" : "load buffered";
      if (sealed_) paths.push_back(load_path(name, io, Verify::yes, threads));
      paths.push_back(load_path(name, io, Verify::no, threads));
    }
  }
  add_reads(paths);
  add_touch(paths);
  if (!sealed_) return paths;
  for (const unsigned threads : thread_counts_) {
    VerifyOptions options;
    options.threads = threads;
    options.cancel = &interrupted();
    const auto run = [this, options] {
      return timed([&]() -> Result<void> {
        FLATBED_TRY(verify(checkpoint(), options));
        return {};
      });
    };
    paths.push_back({"verify()", threads, true, IoMode::buffered, false, run});
  }
  return paths;
}

BenchPath BenchSubject::load_path(const std::string& name, IoMode io, Verify verify,
                                  unsigned threads) {
  LoadOptions options;
  options.io = io;
  options.verify = verify;
  options.threads = threads;
  options.pool = pool_.get();
  options.cancel = &interrupted();
  const auto run = [this, options]() -> Result<BenchRun> {
    LoadReport report;
    FLATBED_ASSIGN(BenchRun done, timed([&]() -> Result<void> {
                     FLATBED_ASSIGN(report, load(plan_, options));
                     return {};
                   }));
    done.files_direct = report.files_direct;
    done.files_buffered = report.files_buffered;
    return done;
  };
  const bool verified = verify == Verify::yes;
  return {verified ? name + ", verified" : name, threads, verified, io, true, run};
}

// Adds the ways that only work for host memory.
void BenchSubject::add_reads(std::vector<BenchPath>& paths) {
  if (!layout_.shares[0].name.is_host()) return;
  if (pread_) {
    for (const unsigned threads : thread_counts_) {
      const auto run = [this, threads] { return timed([&] { return pread_->run(threads); }); };
      paths.push_back({"bare pread()", threads, false, IoMode::buffered, false, run});
    }
  }
  for (const Verify verify : {Verify::yes, Verify::no}) {
    if (verify == Verify::yes && !sealed_) continue;
    const auto run = [this, verify] { return read_all(verify); };
    const bool verified = verify == Verify::yes;
    paths.push_back(
        {verified ? "read(), verified" : "read()", 1, verified, IoMode::buffered, false, run});
  }
}

void BenchSubject::add_touch(std::vector<BenchPath>& paths) {
  if (!all_stored(checkpoint(), {Stored::plain, Stored::held})) return;
  paths.push_back(
      {"view() and touch", 1, false, IoMode::buffered, false, [this] { return touch_views(); }});
}

Result<BenchRun> BenchSubject::read_all(Verify verify) const {
  return timed([&]() -> Result<void> {
    for (const Placement& place : layout_.placements) {
      FLATBED_TRY(stop_if_interrupted());
      const TensorInfo& tensor = checkpoint().tensors()[place.tensor];
      FLATBED_TRY(checkpoint().read(tensor, 0, {layout_.data(place), place.nbytes}, verify));
    }
    return {};
  });
}

// Opens the checkpoint again, because pages that another run mapped would already be in place.
Result<BenchRun> BenchSubject::touch_views() const {
  constexpr std::size_t kCacheLine = 64;
  FLATBED_ASSIGN(const Checkpoint fresh,
                 Checkpoint::open(sources_[0].path, open_options(ignore_seal_)));
  std::uint64_t sum = 0;
  FLATBED_ASSIGN(const BenchRun done, timed([&]() -> Result<void> {
                   for (const TensorInfo& tensor : fresh.tensors()) {
                     FLATBED_TRY(stop_if_interrupted());
                     FLATBED_ASSIGN(const TensorView view, fresh.view(tensor));
                     for (std::size_t i = 0; i < view.bytes.size(); i += kCacheLine) {
                       sum += static_cast<std::uint64_t>(view.bytes[i]);
                     }
                   }
                   return {};
                 }));
  // Without a use of the sum, the compiler could remove the loop.
  static_cast<void>(*static_cast<volatile std::uint64_t*>(&sum));
  return done;
}

}  // namespace flatbed::tool
