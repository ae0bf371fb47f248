#include "tensor_stats.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <future>
#include <limits>
#include <mutex>
#include <span>
#include <type_traits>

#include "float_values.hpp"

namespace flatbed::tool {
namespace {

constexpr std::size_t kPieceNbytes = std::size_t{1} << 20;  // stays in a core's cache
constexpr std::size_t kBlock = 2048;                        // values that are summed at a time
constexpr std::size_t kLanes = 16;                          // independent sums, for vector units

// What has been seen of one tensor.
struct Seen {
  std::uint64_t finite = 0, nans = 0, infinities = 0;
  long double min = std::numeric_limits<long double>::infinity();
  long double max = -std::numeric_limits<long double>::infinity();
  long double sum = 0;

  void add(const Seen& other) {
    finite += other.finite;
    nans += other.nans;
    infinities += other.infinities;
    min = std::min(min, other.min);
    max = std::max(max, other.max);
    sum += other.sum;
  }

  void add_value(long double value, std::uint64_t times) {
    if (times == 0) return;
    if (std::isnan(value)) {
      nans += times;
    } else if (std::isinf(value)) {
      infinities += times;
    } else {
      finite += times;
      min = std::min(min, value);
      max = std::max(max, value);
      sum += value * static_cast<long double>(times);
    }
  }
};

// In what a block is summed: exact for integers of up to 32 bits.
template <typename T>
using BlockSum = std::conditional_t<std::is_integral_v<T> && sizeof(T) <= 4, std::int64_t, double>;

template <typename T>
void add_block(std::span<const T> values, Seen& seen) {
  std::array<T, kLanes> low, high;
  std::array<BlockSum<T>, kLanes> sums{};
  low.fill(values[0]);
  high.fill(values[0]);
  const std::size_t whole = values.size() / kLanes * kLanes;
  for (std::size_t i = 0; i < whole; i += kLanes) {
    for (std::size_t lane = 0; lane < kLanes; ++lane) {
      const T value = values[i + lane];
      low[lane] = value < low[lane] ? value : low[lane];
      high[lane] = value > high[lane] ? value : high[lane];
      sums[lane] += static_cast<BlockSum<T>>(value);
    }
  }
  BlockSum<T> sum = 0;
  for (const BlockSum<T> lane : sums) sum += lane;
  for (const T value : values.subspan(whole)) sum += static_cast<BlockSum<T>>(value);
  // One NaN or infinity makes the sum one too. Then the values are looked at one by one.
  if constexpr (std::is_floating_point_v<T>) {
    if (!std::isfinite(sum)) {
      for (const T value : values) seen.add_value(static_cast<long double>(value), 1);
      return;
    }
  }
  T least = *std::ranges::min_element(low), most = *std::ranges::max_element(high);
  for (const T value : values.subspan(whole)) {
    least = std::min(least, value);
    most = std::max(most, value);
  }
  seen.finite += values.size();
  seen.min = std::min(seen.min, static_cast<long double>(least));
  seen.max = std::max(seen.max, static_cast<long double>(most));
  seen.sum += static_cast<long double>(sum);
}

// Copies blocks of stored values into `T`s, which may need more bytes, and adds them.
template <typename Stored, typename T, typename Convert>
void add_converted(std::span<const std::byte> bytes, Seen& seen, Convert convert) {
  std::array<Stored, kBlock> raw;
  std::array<T, kBlock> values;
  while (!bytes.empty()) {
    const std::size_t count = std::min(kBlock, bytes.size() / sizeof(Stored));
    if (count == 0) return;  // bytes are a multiple of the element's size
    std::memcpy(raw.data(), bytes.data(), count * sizeof(Stored));
    for (std::size_t i = 0; i < count; ++i) values[i] = convert(raw[i]);
    add_block(std::span<const T>(values.data(), count), seen);
    bytes = bytes.subspan(count * sizeof(Stored));
  }
}

template <typename T>
void add_values(std::span<const std::byte> bytes, Seen& seen) {
  add_converted<T, T>(bytes, seen, [](T value) { return value; });
}

using Counts = std::array<std::uint64_t, 256>;

Counts count_codes(std::span<const std::byte> bytes) {
  std::array<Counts, 4> counts{};  // so that equal neighbours do not wait for each other
  std::size_t i = 0;
  for (; i + 4 <= bytes.size(); i += 4) {
    for (std::size_t lane = 0; lane < 4; ++lane)
      ++counts[lane][static_cast<unsigned char>(bytes[i + lane])];
  }
  for (; i < bytes.size(); ++i) ++counts[0][static_cast<unsigned char>(bytes[i])];
  for (std::size_t code = 0; code < 256; ++code)
    counts[0][code] += counts[1][code] + counts[2][code] + counts[3][code];
  return counts[0];
}

void add_small(Dtype dtype, std::span<const std::byte> bytes, Seen& seen) {
  const Counts counts = count_codes(bytes);
  for (unsigned code = 0; code < 256; ++code) {
    if (dtype == Dtype::f4) {  // two in a byte
      seen.add_value(static_cast<long double>(small_value(dtype, code & 15)), counts[code]);
      seen.add_value(static_cast<long double>(small_value(dtype, code >> 4)), counts[code]);
    } else {
      seen.add_value(static_cast<long double>(small_value(dtype, code)), counts[code]);
    }
  }
}

using Add = void (*)(Dtype dtype, std::span<const std::byte> bytes, Seen& seen);

template <typename T>
void add_as(Dtype, std::span<const std::byte> bytes, Seen& seen) {
  add_values<T>(bytes, seen);
}

struct AddRow {
  Dtype dtype;
  Add add;  // null: a dtype without an order, or one that does not end at bytes
};
constexpr std::array kAdds{
    AddRow{Dtype::boolean, add_as<std::uint8_t>},
    AddRow{Dtype::f4, add_small},
    AddRow{Dtype::f6_e2m3, nullptr},
    AddRow{Dtype::f6_e3m2, nullptr},
    AddRow{Dtype::u8, add_as<std::uint8_t>},
    AddRow{Dtype::i8, add_as<std::int8_t>},
    AddRow{Dtype::f8_e5m2, add_small},
    AddRow{Dtype::f8_e4m3, add_small},
    AddRow{Dtype::f8_e8m0, add_small},
    AddRow{Dtype::f8_e4m3fnuz, add_small},
    AddRow{Dtype::f8_e5m2fnuz, add_small},
    AddRow{Dtype::i16, add_as<std::int16_t>},
    AddRow{Dtype::u16, add_as<std::uint16_t>},
    AddRow{Dtype::f16,
           [](Dtype, std::span<const std::byte> bytes, Seen& seen) {
             add_converted<std::uint16_t, float>(bytes, seen, half_value);
           }},
    AddRow{Dtype::bf16,
           [](Dtype, std::span<const std::byte> bytes, Seen& seen) {
             add_converted<std::uint16_t, float>(bytes, seen, bfloat_value);
           }},
    AddRow{Dtype::i32, add_as<std::int32_t>},
    AddRow{Dtype::u32, add_as<std::uint32_t>},
    AddRow{Dtype::f32, add_as<float>},
    AddRow{Dtype::c64, nullptr},
    AddRow{Dtype::f64, add_as<double>},
    AddRow{Dtype::i64, add_as<std::int64_t>},
    AddRow{Dtype::u64, add_as<std::uint64_t>},
};
static_assert(kAdds.size() == kDtypes.size());

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
    if (kAdds[static_cast<std::size_t>(tensors[i].dtype)].add == nullptr) continue;
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

  [[nodiscard]] const std::vector<Seen>& seen() const { return seen_; }

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
    const AddRow& row = kAdds[static_cast<std::size_t>(tensor.dtype)];
    Seen own;
    for (std::uint64_t at = part.begin; at < part.end;) {
      if (options_.cancel != nullptr && options_.cancel->load())
        return Error{ErrorCode::cancelled, "interrupted"};
      const std::span<std::byte> bytes = piece.first(
          static_cast<std::size_t>(std::min<std::uint64_t>(part.end - at, piece.size())));
      FLATBED_TRY(checkpoint_.read(tensor, at, bytes, Verify::no));
      row.add(tensor.dtype, bytes, own);
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
  std::vector<Seen> seen_;
};

}  // namespace

Result<std::vector<std::optional<TensorStats>>> compute_stats(const Checkpoint& checkpoint,
                                                              const StatsOptions& options) {
  StatsRun run(checkpoint, options);
  FLATBED_TRY(run.run());
  std::vector<std::optional<TensorStats>> out(checkpoint.tensors().size());
  for (std::size_t i = 0; i < out.size(); ++i) {
    const Dtype dtype = checkpoint.tensors()[i].dtype;
    if (kAdds[static_cast<std::size_t>(dtype)].add == nullptr) continue;
    const Seen& seen = run.seen()[i];
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
