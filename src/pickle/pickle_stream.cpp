#include "pickle/pickle_stream.hpp"

#include <algorithm>
#include <optional>

#include "base/checked.hpp"
#include "base/str_cat.hpp"
#include "pickle/pickle_reader.hpp"

namespace flatbed::pth {

namespace {

constexpr std::uint64_t kFirstWindow = 64 * 1024;
constexpr std::uint64_t kSmallWindow = 16 * 1024;  // for a number between storages

// The bytes up to and including STOP, or nullopt if it lies beyond the window. Frames do not change
// where a pickle stops, so they are left to the interpreter.
Result<std::optional<std::size_t>> find_stop(std::span<const std::byte> bytes, bool complete) {
  PickleReader reader(bytes);
  for (;;) {
    Result<void> next = reader.next();
    if (!next && next.error().code == ErrorCode::pickle_truncated && !complete)
      return std::optional<std::size_t>();
    if (!next) return with_context(reader.place(), std::move(next).error());
    if (reader.op() == Op::stop || reader.group() == OpGroup::unknown ||
        reader.group() == OpGroup::refused)
      return std::optional(bytes.size() - reader.remaining());
  }
}

Error truncated(std::uint64_t wanted, std::uint64_t left) {
  return make_error(ErrorCode::legacy_truncated, "cut off: found ", left, " of ",
                    counted(wanted, "byte"));
}

}  // namespace

Result<std::span<const std::byte>> PickleStream::peek(std::uint64_t nbytes, std::uint64_t ahead) {
  const auto wanted = static_cast<std::size_t>(std::min(nbytes, remaining()));
  if (file_ == nullptr) return bytes_.subspan(static_cast<std::size_t>(position_), wanted);
  const std::uint64_t window_end = window_begin_ + window_.size();
  const bool inside = position_ >= window_begin_ && position_ <= window_end;
  // Moves the bytes that are already here to the front.
  std::size_t kept = 0;
  if (inside) {
    kept = static_cast<std::size_t>(window_end - position_);
    if (kept >= wanted)
      return std::span<const std::byte>(window_).subspan(
          static_cast<std::size_t>(position_ - window_begin_), wanted);
    std::copy(window_.end() - static_cast<std::ptrdiff_t>(kept), window_.end(), window_.begin());
  }
  window_.resize(static_cast<std::size_t>(std::min(std::max(nbytes, ahead), remaining())));
  window_begin_ = position_;
  if (auto read = file_->read_at(begin_ + position_ + kept, std::span(window_).subspan(kept));
      !read) {
    window_.clear();
    return std::move(read).error();
  }
  return std::span<const std::byte>(window_).first(wanted);
}

Result<std::span<const std::byte>> PickleStream::next_pickle() {
  for (std::uint64_t wanted = kFirstWindow;; wanted *= 2) {
    wanted = std::min(wanted, kMaxStreamPickle);
    FLATBED_ASSIGN(const std::span<const std::byte> bytes, peek(wanted, wanted));
    const bool complete = bytes.size() == remaining();
    FLATBED_ASSIGN(const std::optional<std::size_t> end, find_stop(bytes, complete));
    if (end) {
      position_ += *end;
      pickled_nbytes_ += *end;
      return bytes.first(*end);
    }
    if (wanted == kMaxStreamPickle)
      return make_error(ErrorCode::pickle_limit, "the pickle is too long: the limit is ",
                        kMaxStreamPickle, " bytes");
  }
}

Result<std::span<const std::byte>> PickleStream::next_bytes(std::size_t nbytes) {
  if (nbytes > remaining()) return truncated(nbytes, remaining());
  FLATBED_ASSIGN(const std::span<const std::byte> bytes, peek(nbytes, kSmallWindow));
  position_ += nbytes;
  return bytes.first(nbytes);
}

Result<void> PickleStream::skip(std::uint64_t nbytes) {
  if (nbytes > remaining()) return truncated(nbytes, remaining());
  position_ += nbytes;
  return {};
}

}  // namespace flatbed::pth
