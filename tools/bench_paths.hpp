// The ways from a file to memory that `flatbed bench` compares. BenchSubject owns the checkpoint
// and the memory that every path uses, which is allocated and touched once; its paths borrow from
// it. Not thread-safe.
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

// One run of one path. Only a load() fills in the file counts; for other paths they are 0.
struct BenchRun {
  double seconds = 0;
  std::uint32_t files_direct = 0;
  std::uint32_t files_buffered = 0;
};

struct BenchPath {
  std::string name;      // "load buffered, verified"
  unsigned threads = 1;  // 0: load() chooses
  bool verified = false;
  IoMode io = IoMode::buffered;
  bool is_load = false;  // calls load(), as an engine would
  std::function<Result<BenchRun>()> run;
};

class BenchSubject {
 public:
  [[nodiscard]] static Result<std::unique_ptr<BenchSubject>> open(const BenchOptions& options);
  BenchSubject(const BenchSubject&) = delete;
  BenchSubject& operator=(const BenchSubject&) = delete;
  ~BenchSubject() = default;

  // The automatic load comes first, so that it finds the page cache as the user left it.
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

  // The order matters: later members borrow from earlier ones.
  LoadDevices devices_;
  std::vector<LoadSource> sources_;
  LoadLayout layout_;
  // Shared by all loads, because page-locking takes longer than a small load.
  std::unique_ptr<StagingPool> pool_;
  LoadPlan plan_;
  std::optional<PreadLoop> pread_;  // set if memory holds the same bytes as the file
  std::vector<unsigned> thread_counts_;
  bool sealed_ = false;  // some tensors have digests that count
  bool ignore_seal_ = false;
};

}  // namespace flatbed::tool
