#include "save/value_lanes.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace flatbed {

namespace {

constexpr std::size_t kLanes = 16;  // independent sums
static_assert(kValueBlock % kLanes == 0);

// Loops of fixed length, which is what compilers need to use vector units.
template <typename Real>
LaneSums<Real> sum_lanes(const std::byte* a, const std::byte* b) {
  std::array<Real, kLanes> most{}, most_rel{};
  std::array<double, kLanes> sums{};
  std::array<std::uint32_t, kLanes> different{};
  for (std::size_t i = 0; i < kValueBlock; i += kLanes) {
    std::array<Real, kLanes> x, y;
    std::memcpy(x.data(), a + i * sizeof(Real), sizeof x);
    std::memcpy(y.data(), b + i * sizeof(Real), sizeof y);
    for (std::size_t lane = 0; lane < kLanes; ++lane) {
      const Real distance = std::abs(x[lane] - y[lane]);
      const Real size_x = std::abs(x[lane]), size_y = std::abs(y[lane]);
      const Real larger = size_x > size_y ? size_x : size_y;
      const Real rel = distance / (larger > 0 ? larger : Real{1});
      most[lane] = distance > most[lane] ? distance : most[lane];
      most_rel[lane] = rel > most_rel[lane] ? rel : most_rel[lane];
      sums[lane] += static_cast<double>(distance);
      different[lane] += x[lane] != y[lane] ? 1 : 0;
    }
  }
  LaneSums<Real> all{.most = *std::ranges::max_element(most),
                     .most_rel = *std::ranges::max_element(most_rel)};
  for (std::size_t lane = 0; lane < kLanes; ++lane) {
    all.sum += sums[lane];
    all.different += different[lane];
  }
  return all;
}

}  // namespace

LaneSums<float> sum_floats(const std::byte* a, const std::byte* b) {
  return sum_lanes<float>(a, b);
}
LaneSums<double> sum_doubles(const std::byte* a, const std::byte* b) {
  return sum_lanes<double>(a, b);
}

#if defined(__x86_64__)

// Compiled for these instructions whatever the rest of the library is compiled for.
__attribute__((target("avx2"))) LaneSums<float> sum_floats_avx2(const std::byte* a,
                                                                 const std::byte* b) {
  constexpr std::size_t kVector = 8;
  const auto* const x_at = reinterpret_cast<const float*>(a);  // read by unaligned loads alone
  const auto* const y_at = reinterpret_cast<const float*>(b);
  const __m256 magnitude = _mm256_castsi256_ps(_mm256_set1_epi32(0x7FFF'FFFF));
  __m256 most = _mm256_setzero_ps(), most_rel = _mm256_setzero_ps();
  __m256d sum_low = _mm256_setzero_pd(), sum_high = _mm256_setzero_pd();
  __m256i different = _mm256_setzero_si256();
  for (std::size_t i = 0; i < kValueBlock; i += kVector) {
    const __m256 x = _mm256_loadu_ps(x_at + i), y = _mm256_loadu_ps(y_at + i);
    const __m256 distance = _mm256_and_ps(_mm256_sub_ps(x, y), magnitude);
    const __m256 larger = _mm256_max_ps(_mm256_and_ps(x, magnitude), _mm256_and_ps(y, magnitude));
    most = _mm256_max_ps(most, distance);
    // 0 / 0 is NaN, of which the second operand is the larger.
    most_rel = _mm256_max_ps(_mm256_div_ps(distance, larger), most_rel);
    sum_low = _mm256_add_pd(sum_low, _mm256_cvtps_pd(_mm256_castps256_ps128(distance)));
    sum_high = _mm256_add_pd(sum_high, _mm256_cvtps_pd(_mm256_extractf128_ps(distance, 1)));
    // A lane of the comparison is 0 or -1.
    different = _mm256_sub_epi32(different,
                                 _mm256_castps_si256(_mm256_cmp_ps(x, y, _CMP_NEQ_UQ)));
  }
  std::array<float, kVector> mosts, rels;
  std::array<std::uint32_t, kVector> counts;
  std::array<double, kVector / 2> sums;
  _mm256_storeu_ps(mosts.data(), most);
  _mm256_storeu_ps(rels.data(), most_rel);
  _mm256_storeu_pd(sums.data(), _mm256_add_pd(sum_low, sum_high));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(counts.data()), different);
  LaneSums<float> all{.most = *std::ranges::max_element(mosts),
                      .most_rel = *std::ranges::max_element(rels)};
  for (const double sum : sums) all.sum += sum;
  for (const std::uint32_t count : counts) all.different += count;
  return all;
}

#else

LaneSums<float> sum_floats_avx2(const std::byte* a, const std::byte* b) { return sum_floats(a, b); }

#endif

}  // namespace flatbed
