#include "io/reread.hpp"

#include <algorithm>
#include <cstring>

#include "base/str_cat.hpp"

namespace flatbed {

Result<void> RereadSource::read_at(std::uint64_t offset, std::span<std::byte> out) const {
  while (!out.empty()) {
    if (offset < begin_ || offset - begin_ >= nbytes_) {
      if (ahead_.cancel != nullptr && *ahead_.cancel)
        return make_error(ErrorCode::cancelled, "interrupted while bytes were read again");
      const bool ahead = out.size() < ahead_.nbytes && offset < ahead_.end;
      if (!ahead) return source_.reread_at(offset, out);
      FLATBED_TRY(fill(offset));
    }
    const auto skip = static_cast<std::size_t>(offset - begin_);
    const std::size_t nbytes = std::min(nbytes_ - skip, out.size());
    std::memcpy(out.data(), block_.get() + skip, nbytes);
    out = out.subspan(nbytes);
    offset += nbytes;
  }
  return {};
}

Result<void> RereadSource::fill(std::uint64_t offset) const {
  if (!block_) block_ = try_allocate_large(ahead_.nbytes);
  if (!block_)
    return make_error(ErrorCode::resource_exhausted, "out of memory for ", ahead_.nbytes, " bytes");
  nbytes_ = 0;
  const auto nbytes =
      static_cast<std::size_t>(std::min<std::uint64_t>(ahead_.nbytes, ahead_.end - offset));
  FLATBED_TRY(source_.reread_at(offset, {block_.get(), nbytes}));
  begin_ = offset;
  nbytes_ = nbytes;
  return {};
}

}  // namespace flatbed
