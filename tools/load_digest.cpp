#include "load_digest.hpp"

// The x86 header chooses SSE2, AVX2 or AVX-512 at run time; the plain header is fixed at compile
// time.
#if defined(__x86_64__)
#include <xxh_x86dispatch.h>
#else
#include <xxhash.h>
#endif

#include <algorithm>
#include <memory>
#include <span>
#include <vector>

#include "interrupt.hpp"

namespace flatbed::tool {
namespace {

constexpr std::uint64_t kPieceNbytes = std::uint64_t{8} << 20;

struct FreeState {
  void operator()(XXH3_state_t* state) const noexcept { XXH3_freeState(state); }
};

}  // namespace

Result<std::uint64_t> digest_on_device(Device& device, const std::byte* data,
                                       std::uint64_t nbytes) {
  const std::unique_ptr<XXH3_state_t, FreeState> state(XXH3_createState());
  if (state == nullptr) return Error{ErrorCode::resource_exhausted, "out of memory for a digest"};
  XXH3_64bits_reset(state.get());
  std::vector<std::byte> piece(device.is_host() ? 0 : std::min(nbytes, kPieceNbytes));
  for (std::uint64_t offset = 0; offset < nbytes;) {
    if (interrupted())
      return Error{ErrorCode::cancelled, "interrupted after the load, while computing --digests"};
    const std::uint64_t size = std::min(nbytes - offset, kPieceNbytes);
    if (device.is_host()) {
      XXH3_64bits_update(state.get(), data + offset, size);
    } else {
      FLATBED_TRY(device.memory()->read_back(data + offset, std::span(piece).first(size)));
      XXH3_64bits_update(state.get(), piece.data(), size);
    }
    offset += size;
  }
  return XXH3_64bits_digest(state.get());
}

}  // namespace flatbed::tool
