#include "c/arguments.hpp"

#include <algorithm>

#include "base/str_cat.hpp"

namespace flatbed::c {

namespace {

// No struct comes near it. A size that was never set is usually larger, and is then not believed.
constexpr std::uint64_t kMaxStructSize = 4096;

template <typename... Parts>
Error argument_error(std::string_view parameter, const Parts&... parts) {
  return make_error(ErrorCode::invalid_argument, "argument '", parameter, "': ", parts...);
}

Result<std::uint64_t> read_size(const void* given, std::uint64_t first,
                                std::string_view parameter) {
  if (given == nullptr) return null_argument(parameter);
  std::uint64_t size = 0;
  std::memcpy(&size, given, sizeof size);
  if (size < first || size > kMaxStructSize) {
    return argument_error(parameter, "struct_size: found ", size, ", expected ", first,
                          " or more: declare the struct with FLATBED_INIT");
  }
  return size;
}

}  // namespace

Error null_argument(std::string_view parameter) { return argument_error(parameter, "found NULL"); }

Result<void> check_handle(const void* handle, std::uint64_t magic, std::string_view type,
                          std::string_view parameter) {
  if (handle == nullptr) return null_argument(parameter);
  std::uint64_t found = 0;
  std::memcpy(&found, handle, sizeof found);
  if (found == magic) return {};
  return argument_error(parameter, "found a pointer to something else, expected a ", type);
}

Result<std::string_view> read_string(flatbed_string text, std::string_view parameter) {
  FLATBED_TRY(check_bytes(text.data, text.size, parameter));
  return std::string_view(text.data, text.size);
}

Result<std::vector<std::string>> read_strings(const flatbed_string* texts, std::uint64_t count,
                                              std::string_view parameter) {
  FLATBED_TRY(check_bytes(texts, count, parameter));
  std::vector<std::string> read;
  for (const flatbed_string& text : std::span(texts, count)) {
    FLATBED_ASSIGN(const std::string_view view, read_string(text, parameter));
    read.emplace_back(view);
  }
  return read;
}

Result<std::filesystem::path> read_path(const char* path, std::string_view parameter) {
  if (path == nullptr) return null_argument(parameter);
  return std::filesystem::path(path);
}

Result<void> check_bytes(const void* bytes, std::uint64_t nbytes, std::string_view parameter) {
  if (bytes == nullptr && nbytes != 0) {
    return argument_error(parameter, "found NULL with a size of ", nbytes);
  }
  return {};
}

Result<void> check_number(std::uint32_t number, std::uint32_t count, std::string_view parameter) {
  if (number < count) return {};
  return argument_error(parameter, "found ", number, ", expected 0 to ", count - 1);
}

Result<Dtype> read_dtype(std::uint32_t dtype, std::string_view parameter) {
  if (dtype >= 1 && dtype <= kDtypes.size()) return static_cast<Dtype>(dtype - 1);
  return argument_error(parameter, "found ", dtype, ", expected one of FLATBED_DTYPE_*");
}

Error index_error(std::uint64_t index, std::uint64_t count, std::string_view parameter) {
  return argument_error(parameter, "found ", index, ", expected less than ", count);
}

Result<void> check_struct(const void* given, std::uint64_t first, std::uint64_t known,
                          std::string_view parameter) {
  FLATBED_ASSIGN(const std::uint64_t size, read_size(given, first, parameter));
  if (size <= known) return {};
  const std::span bytes(static_cast<const std::byte*>(given), size);
  if (std::ranges::all_of(bytes.subspan(known),
                          [](std::byte byte) { return byte == std::byte{}; })) {
    return {};
  }
  return argument_error(parameter, "found members after the first ", known,
                        " bytes that this version of flatbed does not have");
}

Result<void> check_reserved(std::uint32_t reserved, std::string_view parameter) {
  if (reserved == 0) return {};
  return argument_error(parameter, "reserved: found ", reserved, ", expected 0");
}

Result<void> check_filled(const void* given, std::uint64_t first, std::string_view parameter) {
  FLATBED_TRY(read_size(given, first, parameter));
  return {};
}

void fill_bytes(const void* from, std::uint64_t nbytes, void* to) noexcept {
  std::uint64_t size = 0;
  std::memcpy(&size, to, sizeof size);
  const std::uint64_t shared = std::min(size, nbytes);
  auto* const bytes = static_cast<std::byte*>(to);
  std::memcpy(bytes + sizeof size, static_cast<const std::byte*>(from) + sizeof size,
              shared - sizeof size);
  std::fill(bytes + shared, bytes + size, std::byte{});
}

}  // namespace flatbed::c
