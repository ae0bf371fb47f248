#include "io/guarded_source.hpp"

#include <utility>

#include "base/str_cat.hpp"
#include "io/source_range.hpp"

namespace flatbed {

Result<std::shared_ptr<const ByteSource>> GuardedSource::wrap(
    std::shared_ptr<const ByteSource> source) {
  if (!source) return make_error(ErrorCode::invalid_argument, "the source is null");
  auto guarded = std::make_shared<GuardedSource>(std::move(source));
  if (!guarded->memory_.empty() && guarded->memory_.size() != guarded->size_) {
    return make_error(ErrorCode::invalid_argument, quoted(guarded->label()),
                      ": the memory does not match its size: found ", guarded->memory_.size(),
                      " bytes, expected ", guarded->size_);
  }
  return std::shared_ptr<const ByteSource>(std::move(guarded));
}

Result<void> GuardedSource::read_at(std::uint64_t offset, std::span<std::byte> out) const {
  FLATBED_TRY(check_range(*this, offset, out.size()));
  if (Result<void> read = source_->read_at(offset, out); !read)
    return named(std::move(read).error());
  return {};
}

Result<void> GuardedSource::read_parts(std::uint64_t offset,
                                       std::span<const std::span<std::byte>> parts) const {
  FLATBED_TRY(check_range(*this, offset, nbytes_of(parts)));
  if (Result<void> read = source_->read_parts(offset, parts); !read)
    return named(std::move(read).error());
  return {};
}

Result<void> GuardedSource::read_with_progress(std::uint64_t offset,
                                               std::span<const std::span<std::byte>> parts,
                                               const ReadProgress& progress) const {
  const std::uint64_t wanted = nbytes_of(parts);
  FLATBED_TRY(check_range(*this, offset, wanted));
  std::uint64_t reported = 0;
  Result<void> passed;
  const auto pass_on = [&](std::uint64_t nbytes) -> Result<void> {
    if (!passed || nbytes <= reported) return passed;
    if (nbytes > wanted) {
      passed = make_error(ErrorCode::invalid_argument, quoted(label_),
                          ": the source reports bytes that it was not asked for: found ", nbytes,
                          " bytes, expected at most ", wanted);
      return passed;
    }
    reported = nbytes;
    passed = progress(nbytes);
    return passed;
  };
  Result<void> read = source_->read_with_progress(offset, parts, pass_on);
  if (!passed) return passed;
  if (!read) return named(std::move(read).error());
  return reported == wanted ? Result<void>() : progress(wanted);
}

Result<void> GuardedSource::reread_at(std::uint64_t offset, std::span<std::byte> out) const {
  FLATBED_TRY(check_range(*this, offset, out.size()));
  if (Result<void> read = source_->reread_at(offset, out); !read)
    return named(std::move(read).error());
  return {};
}

Result<void> GuardedSource::check_unchanged() const {
  const std::uint64_t size = source_->size();
  if (size != size_) {
    return make_error(ErrorCode::file_changed, quoted(label_),
                      ": the size changed since it was opened: found ", size, " bytes, expected ",
                      size_);
  }
  if (Result<void> same = source_->check_unchanged(); !same) return named(std::move(same).error());
  return {};
}

Result<DescriptorLease> GuardedSource::descriptor() const {
  Result<DescriptorLease> lease = source_->descriptor();
  if (!lease) return named(std::move(lease).error());
  return lease;
}

Error GuardedSource::named(Error error) const {
  return with_context(quoted(label_), std::move(error));
}

}  // namespace flatbed
