// Compares casts, by every path, with PyTorch's own headers, which are what its tensors are cast
// with under ATEN_CPU_CAPABILITY=default: all codes of 8 and 16 bits, every border between two
// values of the new dtype, and random F32. F64 is left out: PyTorch rounds it twice.
//
//   flatbed_cast_oracle [RANDOM_VALUES]
#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Float8_e4m3fn.h>
#include <torch/headeronly/util/Float8_e4m3fnuz.h>
#include <torch/headeronly/util/Float8_e5m2.h>
#include <torch/headeronly/util/Float8_e5m2fnuz.h>
#include <torch/headeronly/util/Half.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>

#include "cast/cast_kernel.hpp"

namespace {

using flatbed::CastPath;
using flatbed::CastStores;
using flatbed::Dtype;

template <typename T>
float value_of(std::uint32_t code) {
  T value;
  std::memcpy(&value, &code, sizeof value);
  return static_cast<float>(value);
}

template <typename T>
std::uint32_t code_of(float value) {
  const T converted = static_cast<T>(value);
  std::uint32_t code = 0;
  std::memcpy(&code, &converted, sizeof converted);
  return code;
}

struct TorchRow {
  Dtype dtype;
  float (*value_of)(std::uint32_t code);
  std::uint32_t (*code_of)(float value);
  [[nodiscard]] std::size_t nbytes() const { return bits(dtype) / 8; }
};
template <typename T>
constexpr TorchRow row(Dtype dtype) {
  return {dtype, value_of<T>, code_of<T>};
}
constexpr std::array kRows{
    row<float>(Dtype::f32),
    row<c10::Half>(Dtype::f16),
    row<c10::BFloat16>(Dtype::bf16),
    row<c10::Float8_e4m3fn>(Dtype::f8_e4m3),
    row<c10::Float8_e5m2>(Dtype::f8_e5m2),
    row<c10::Float8_e4m3fnuz>(Dtype::f8_e4m3fnuz),
    row<c10::Float8_e5m2fnuz>(Dtype::f8_e5m2fnuz),
};

struct Totals {
  std::uint64_t compared = 0;
  std::uint64_t nans = 0;  // of the source: only that they stay NaN is compared
  std::uint64_t different = 0;
};

void append(std::string& bytes, const TorchRow& row, std::uint32_t code) {
  bytes.append(reinterpret_cast<const char*>(&code), row.nbytes());
}

std::uint32_t load(const std::string& bytes, const TorchRow& row, std::size_t element) {
  std::uint32_t code = 0;
  std::memcpy(&code, bytes.data() + element * row.nbytes(), row.nbytes());
  return code;
}

void judge(const TorchRow& from, const TorchRow& to, const std::string& in, const std::string& out,
           Totals& totals) {
  for (std::size_t i = 0; i < in.size() / from.nbytes(); ++i) {
    const std::uint32_t source = load(in, from, i);
    const std::uint32_t found = load(out, to, i);
    const float value = from.value_of(source);
    ++totals.compared;
    bool same = false;
    if (std::isnan(value)) {
      ++totals.nans;
      same = std::isnan(to.value_of(found));
    } else {
      same = found == to.code_of(value);
    }
    if (same) continue;
    if (++totals.different > 20) continue;
    std::printf("%s %x (%g) to %s: found %x, torch has %x\n", name(from.dtype).data(), source,
                static_cast<double>(value), name(to.dtype).data(), found, to.code_of(value));
  }
}

void compare(const TorchRow& from, const TorchRow& to, const std::string& in, Totals& totals) {
  const std::size_t count = in.size() / from.nbytes();
  std::string out(count * to.nbytes(), '\0');
  for (const CastPath path : flatbed::cast_paths()) {
    for (const CastStores stores : {CastStores::usual, CastStores::streaming}) {
      flatbed::CastCounts counts;
      cast_kernel(from.dtype, to.dtype, {path, stores})(
          reinterpret_cast<const std::byte*>(in.data()), reinterpret_cast<std::byte*>(out.data()),
          count, counts);
      judge(from, to, in, out, totals);
    }
  }
}

// Every value of `to`, the middle between it and the next one, and what is up to two steps beside.
std::string borders(const TorchRow& to) {
  std::string bytes;
  const auto add = [&](float value) {
    const auto code = std::bit_cast<std::uint32_t>(value);
    for (std::uint32_t step = 0; step < 5; ++step) append(bytes, kRows[0], code + step - 2);
  };
  for (std::uint32_t code = 0; code < std::uint32_t{1} << bits(to.dtype); ++code) {
    const float value = to.value_of(code);
    add(value);
    add(value / 2 + to.value_of(code + 1) / 2);
    add(value + value / 16);  // beyond the largest value
  }
  return bytes;
}

void compare_random(const TorchRow& to, std::uint64_t count, Totals& totals) {
  std::mt19937_64 random(1);
  while (count != 0) {
    const std::uint64_t part = std::min<std::uint64_t>(count, 1 << 20);
    std::string bytes;
    for (std::uint64_t i = 0; i < part; ++i)
      append(bytes, kRows[0], static_cast<std::uint32_t>(random()));
    compare(kRows[0], to, bytes, totals);
    count -= part;
  }
}

}  // namespace

int main(int argc, char** argv) {
  const auto count =
      argc > 1 ? static_cast<std::uint64_t>(std::atoll(argv[1])) : std::uint64_t{1'000'000};
  Totals totals;
  for (const TorchRow& from : kRows) {
    for (const TorchRow& to : kRows) {
      if (from.dtype == to.dtype) continue;
      if (bits(from.dtype) == 32) {
        compare(from, to, borders(to), totals);
        compare_random(to, count, totals);
        continue;
      }
      std::string all;
      for (std::uint32_t code = 0; code < std::uint32_t{1} << bits(from.dtype); ++code)
        append(all, from, code);
      compare(from, to, all, totals);
    }
  }
  std::printf("%llu casts compared with torch's, %llu of NaN, %llu different\n",
              static_cast<unsigned long long>(totals.compared),
              static_cast<unsigned long long>(totals.nans),
              static_cast<unsigned long long>(totals.different));
  return totals.different == 0 ? 0 : 1;
}
