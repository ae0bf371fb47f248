#include "tensor_stats.hpp"

#include <algorithm>
#include <future>
#include <mutex>
#include <span>

#include "value_sums.hpp"

namespace flatbed::tool {
namespace {

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
    const std::uint64_t step =
        tensors[i].stored == Stored::plain ? kPieceNbytes : std::max<std::uint64_t>(nbytes, 1);
    for (std::uint64_t begin = 0; begin < nbytes; begin += std::min(step, nbytes - begin))
      parts.push_back({i, begin, begin + std::min(step, nbytes - begin)});
  }
  return parts;
}

class StatsRun {
 public:
  StatsRun(const Checkpoint& checkpoint, const StatsOptions& options)
      : checkpoint_(checkpoint),
        options_(options),
        parts_(make_parts(checkpoint.tensors())),
        seen_(checkpoint.tensors().size()) {
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

  [[nodiscard]] const std::vector<ValueSums>& seen() const { return seen_; }

 private:
  Result<void> work() {
    std::vector<std::byte> piece(kPieceNbytes);
    for (std::size_t i = next_++; i < parts_.size(); i = next_++) {
      Result<void> done = read(parts_[i], piece);
      if (done) continue;
      next_ = parts_.size();  // the others stop too
      return done;
    }
    return {};
  }

  Result<void> read(const Part& part, std::span<std::byte> piece) {
    const TensorInfo& tensor = checkpoint_.tensors()[part.tensor];
    ValueSums own;
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
    const std::lock_guard lock(mutex_);
    seen_[part.tensor].add(own);
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
  std::mutex mutex_;  // guards what follows
  Progress progress_;
  std::vector<ValueSums> seen_;
};

}  // namespace

Result<std::vector<std::optional<TensorStats>>> compute_stats(const Checkpoint& checkpoint,
                                                              const StatsOptions& options) {
  StatsRun run(checkpoint, options);
  FLATBED_TRY(run.run());
  std::vector<std::optional<TensorStats>> out(checkpoint.tensors().size());
  for (std::size_t i = 0; i < out.size(); ++i) {
    const Dtype dtype = checkpoint.tensors()[i].dtype;
    if (!has_order(dtype)) continue;
    const ValueSums& seen = run.seen()[i];
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
