// The kernels of CastPath::avx2. Thread-safe.
#pragma once

#include "cast/cast_kernel.hpp"

namespace flatbed {

// Whether this processor has AVX2 and F16C, and the system saves their registers.
[[nodiscard]] bool has_avx2() noexcept;
// Null if there is none for these dtypes. Call it only if has_avx2().
[[nodiscard]] CastKernel avx2_kernel(Dtype from, Dtype to, CastStores stores) noexcept;

}  // namespace flatbed
