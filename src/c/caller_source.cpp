#include "c/caller_source.hpp"

#include "c/callbacks.hpp"

namespace flatbed::c {

Result<std::shared_ptr<CallerSource>> CallerSource::make(const flatbed_reader* given) {
  FLATBED_ASSIGN(const flatbed_reader reader, read_struct(given, "reader"));
  FLATBED_ASSIGN(const std::string_view label, read_string(reader.label, "reader.label"));
  if (reader.read == nullptr) return null_argument("reader.read");
  return std::make_shared<CallerSource>(reader, std::string(label));
}

Result<void> CallerSource::read_at(std::uint64_t offset, std::span<std::byte> out) const {
  flatbed_error said{};
  const std::int32_t code = reader_.read(reader_.context, offset, out.data(), out.size(), &said);
  return callback_result(code, "the caller's reader", ErrorCode::io_error, &said);
}

Result<void> CallerSource::check_unchanged() const {
  if (reader_.check_unchanged == nullptr) return {};
  flatbed_error said{};
  const std::int32_t code = reader_.check_unchanged(reader_.context, &said);
  return callback_result(code, "the caller's check_unchanged", ErrorCode::file_changed, &said);
}

std::size_t CallerSource::preferred_read_nbytes() const noexcept {
  return reader_.preferred_read_nbytes != 0 ? reader_.preferred_read_nbytes
                                            : ByteSource::preferred_read_nbytes();
}

}  // namespace flatbed::c
