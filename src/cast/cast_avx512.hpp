// The kernels of CastPath::avx512. Thread-safe.
#pragma once

#include "cast/cast_kernel.hpp"

namespace flatbed {

// Whether this processor has AVX-512 F and BW, and the system saves their registers.
[[nodiscard]] bool has_avx512() noexcept;
// Null if there is none for these dtypes. Call it only if has_avx512().
[[nodiscard]] CastKernel avx512_kernel(Dtype from, Dtype to, CastStores stores) noexcept;

}  // namespace flatbed
