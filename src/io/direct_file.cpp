#include "io/direct_file.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <utility>

#include "base/str_cat.hpp"
#include "io/reopen.hpp"
#include "io/system_error.hpp"

namespace flatbed {

namespace {

constexpr std::size_t kMaxBytesPerCall = std::size_t{1} << 30;  // a multiple of every alignment
constexpr std::size_t kDefaultAlignment = 4096;
constexpr std::size_t kMinAlignment = 512;

// Returns 0 if the file cannot be read directly, although it could be opened.
std::size_t alignment_of(int descriptor) noexcept {
#ifdef STATX_DIOALIGN
  struct statx status = {};
  if (::statx(descriptor, "", AT_EMPTY_PATH, STATX_DIOALIGN, &status) == 0 &&
      (status.stx_mask & STATX_DIOALIGN) != 0) {
    if (status.stx_dio_mem_align == 0 || status.stx_dio_offset_align == 0) return 0;
    const std::size_t wanted = std::max(status.stx_dio_mem_align, status.stx_dio_offset_align);
    const bool usable = std::has_single_bit(wanted) && wanted <= kMaxBytesPerCall;
    return usable ? std::max(wanted, kMinAlignment) : 0;
  }
#else
  static_cast<void>(descriptor);
#endif
  return kDefaultAlignment;
}

}  // namespace

std::optional<DirectFile> DirectFile::open(const ByteSource& source) {
  Descriptor descriptor = reopen(source, O_DIRECT);
  if (descriptor.get() < 0) return std::nullopt;
  const std::size_t alignment = alignment_of(descriptor.get());
  if (alignment == 0) return std::nullopt;
  return DirectFile(quoted(source.label()), std::move(descriptor), alignment);
}

DirectFile::DirectFile(std::string place, Descriptor descriptor, std::size_t alignment)
    : place_(std::move(place)), descriptor_(std::move(descriptor)), alignment_(alignment) {}

Result<std::size_t> DirectFile::read_at(std::uint64_t offset, std::span<std::byte> out) const {
  std::size_t done = 0;
  while (done < out.size()) {
    const std::size_t wanted = std::min(out.size() - done, kMaxBytesPerCall);
    const std::uint64_t at = offset + done;
    const ssize_t got =
        ::pread(descriptor_.get(), out.data() + done, wanted, static_cast<off_t>(at));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && (errno == EINVAL || errno == EOPNOTSUPP)) {
      return make_error(ErrorCode::unsupported_filesystem, place_,
                        ": the system refuses a direct read of ", wanted, " bytes at offset ", at,
                        ", although the file's alignment is ", alignment_);
    }
    if (got < 0) {
      return read_error(errno, str_cat(place_, ": cannot read ", wanted, " bytes at offset ", at));
    }
    done += static_cast<std::size_t>(got);
    // At the end of the file, or at a place from which no aligned read can continue.
    if (got == 0 || static_cast<std::size_t>(got) % alignment_ != 0) break;
  }
  return done;
}

}  // namespace flatbed
