#include "tensor_stats.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <future>
#include <mutex>
#include <span>

#include "format_text.hpp"
#include "value_sums.hpp"

namespace flatbed::tool {
namespace {

constexpr std::uint64_t kMostParts = 1024;  // of a tensor
constexpr double kFreeExpansion = 1 << 30;
constexpr int kMostExpansion = 16;
constexpr std::size_t kPieceNbytes = std::size_t{1} << 20;  // stays in a core's cache

bool is_integral(Dtype dtype) {
  const std::string_view text = name(dtype);
  return text.starts_with('I') || text.starts_with('U') || dtype == Dtype::boolean;
}

// A run of bytes of a tensor that one thread reads.
struct Part {
  std::size_t tensor = 0;
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
};

// Tensors that are stored as they are can be read anywhere, by all threads. Others are read from
// their beginning.
std::vector<Part> make_parts(std::span<const TensorInfo> tensors) {
  std::vector<Part> parts;
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    if (!has_order(tensors[i].dtype)) continue;
    const std::uint64_t nbytes = tensors[i].nbytes;
    // What must be gathered or inflated is read in one part; the number of the others is bounded.
    const std::uint64_t step = tensors[i].stored == Stored::plain
                                   ? std::max<std::uint64_t>(kPieceNbytes, nbytes / kMostParts)
                                   : std::max<std::uint64_t>(nbytes, 1);
    for (std::uint64_t begin = 0; begin < nbytes; begin += std::min(step, nbytes - begin))
      parts.push_back({i, begin, begin + std::min(step, nbytes - begin)});
  }
  return parts;
}

// A few bytes may stand for a tensor of any size (stride 0), which would be read for days.
Result<void> check_read_nbytes(const Checkpoint& checkpoint) {
  double read = 0, stored = 0;
  for (const TensorInfo& tensor : checkpoint.tensors()) {
    if (has_order(tensor.dtype) && tensor.stored != Stored::plain)
      read += static_cast<double>(tensor.nbytes);
  }
  for (const FileInfo& file : checkpoint.files()) stored += static_cast<double>(file.nbytes);
  if (read <= kFreeExpansion || read <= kMostExpansion * stored) return {};
  return Error{ErrorCode::expansion_refused,
               fmt::format("--stats: the tensors expand to {} from {} stored; at most {} times the "
                           "stored size is read",
                           size_text(static_cast<std::uint64_t>(std::min(read, 1e19))),
                           size_text(static_cast<std::uint64_t>(stored)), kMostExpansion)};
}

class StatsRun {
 public:
  StatsRun(const Checkpoint& checkpoint, const StatsOptions& options)
      : checkpoint_(checkpoint),
        options_(options),
        parts_(make_parts(checkpoint.tensors())),
        seen_(parts_.size()) {
    for (const Part& part : parts_) progress_.bytes_total += part.end - part.begin;
  }

  Result<void> run() {
    std::vector<std::future<Result<void>>> running;
    for (unsigned i = 1; i < options_.threads; ++i)
      running.push_back(std::async(std::launch::async, [this] { return work(); }));
    Result<void> result = work();
    for (std::future<Result<void>>& worker : running) {
      Result<void> own = worker.get();
      if (result && !own) result = own;
    }
    return result;
  }

  // Of each tensor. Parts are added in their order, so the mean does not depend on the threads.
  [[nodiscard]] std::vector<ValueSums> seen() const {
    std::vector<ValueSums> sums(checkpoint_.tensors().size());
    for (std::size_t i = 0; i < parts_.size(); ++i) sums[parts_[i].tensor].add(seen_[i]);
    return sums;
  }

 private:
  Result<void> work() {
    std::vector<std::byte> piece(kPieceNbytes);
    for (std::size_t i = next_++; i < parts_.size(); i = next_++) {
      Result<void> done = read(parts_[i], seen_[i], piece);
      if (done) continue;
      next_ = parts_.size();  // the others stop too
      return done;
    }
    return {};
  }

  Result<void> read(const Part& part, ValueSums& own, std::span<std::byte> piece) {
    const TensorInfo& tensor = checkpoint_.tensors()[part.tensor];
    for (std::uint64_t at = part.begin; at < part.end;) {
      if (options_.cancel != nullptr && options_.cancel->load())
        return Error{ErrorCode::cancelled, "interrupted"};
      const std::span<std::byte> bytes = piece.first(
          static_cast<std::size_t>(std::min<std::uint64_t>(part.end - at, piece.size())));
      FLATBED_TRY(checkpoint_.read(tensor, at, bytes, Verify::no));
      add_values(tensor.dtype, bytes, own);
      at += bytes.size();
      FLATBED_TRY(report(bytes.size()));
    }
    return {};
  }

  Result<void> report(std::uint64_t nbytes) {
    if (!options_.progress) return {};
    const std::lock_guard lock(mutex_);
    progress_.bytes_done += nbytes;
    return options_.progress(progress_);
  }

  const Checkpoint& checkpoint_;
  const StatsOptions& options_;
  std::vector<Part> parts_;
  std::atomic<std::size_t> next_{0};
  std::vector<ValueSums> seen_;  // of each part, written by the thread that reads it
  std::mutex mutex_;             // guards what follows
  Progress progress_;
};

}  // namespace

Result<std::vector<std::optional<TensorStats>>> compute_stats(const Checkpoint& checkpoint,
                                                              const StatsOptions& options) {
  FLATBED_TRY(check_read_nbytes(checkpoint));
  StatsRun run(checkpoint, options);
  FLATBED_TRY(run.run());
  const std::vector<ValueSums> sums = run.seen();
  std::vector<std::optional<TensorStats>> out(checkpoint.tensors().size());
  for (std::size_t i = 0; i < out.size(); ++i) {
    const Dtype dtype = checkpoint.tensors()[i].dtype;
    if (!has_order(dtype)) continue;
    const ValueSums& seen = sums[i];
    TensorStats& stats = out[i].emplace();
    stats = {.finite = seen.finite,
             .min = seen.min,
             .max = seen.max,
             .mean = 0,
             .nans = seen.nans,
             .infinities = seen.infinities,
             .integral = is_integral(dtype)};
    if (seen.finite != 0)
      stats.mean = static_cast<double>(seen.sum / static_cast<long double>(seen.finite));
  }
  return out;
}

}  // namespace flatbed::tool
