// The ways from a file to memory that `flatbed bench` compares. BenchSubject owns the checkpoint
// and the memory that every path uses, allocated and touched once; its paths borrow from it.
// For one thread at a time.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "bench_pread.hpp"
#include "commands.hpp"
#include "flatbed/load.hpp"
#include "load_devices.hpp"
#include "load_layout.hpp"
#include "load_sources.hpp"

namespace flatbed::tool {

// One way, gone once. The files are those of a load(); other ways leave them 0.
struct BenchRun {
  double seconds = 0;
  std::uint32_t files_direct = 0;
  std::uint32_t files_buffered = 0;
};

struct BenchPath {
  std::string name;      // "load buffered, verified"
  unsigned threads = 1;  // 0: as load() chooses
  bool verified = false;
  IoMode io = IoMode::buffered;
  bool is_load = false;  // a load(), that is what an engine would do
  std::function<Result<BenchRun>()> run;
};

class BenchSubject {
 public:
  [[nodiscard]] static Result<std::unique_ptr<BenchSubject>> open(const BenchOptions& options);
  BenchSubject(const BenchSubject&) = delete;
  BenchSubject& operator=(const BenchSubject&) = delete;
  ~BenchSubject() = default;

  // The automatic load first, so that it meets the file as it lies.
  [[nodiscard]] std::vector<BenchPath> paths();

  [[nodiscard]] const Checkpoint& checkpoint() const { return sources_[0].checkpoint; }
  [[nodiscard]] std::uint64_t nbytes() const { return layout_.nbytes(); }

 private:
  BenchSubject() = default;
  BenchPath load_path(const std::string& name, IoMode io, Verify verify, unsigned threads);
  void add_reads(std::vector<BenchPath>& paths);
  void add_touch(std::vector<BenchPath>& paths);
  [[nodiscard]] Result<BenchRun> read_all(Verify verify) const;
  [[nodiscard]] Result<BenchRun> touch_views() const;

  // In this order: what comes later borrows from what comes before.
  LoadDevices devices_;
  std::vector<LoadSource> sources_;
  LoadLayout layout_;
  std::unique_ptr<StagingPool> pool_;  // of all loads: page-locking takes longer than a small load
  LoadPlan plan_;
  std::optional<PreadLoop> pread_;  // where the bytes lie in the file as they do in memory
  std::vector<unsigned> thread_counts_;
  bool sealed_ = false;  // there are digests to verify
};

}  // namespace flatbed::tool
