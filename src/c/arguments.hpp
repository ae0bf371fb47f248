// What C callers pass, checked: handles, strings, paths, numbers of enums, structs with a size.
// Every error is invalid_argument and names the parameter. What is exported is for the components,
// which have C functions of their own.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "c/first_sizes.hpp"
#include "flatbed/dtype.hpp"
#include "flatbed/flatbed.h"
#include "flatbed/result.hpp"

namespace flatbed::c {

[[nodiscard]] FLATBED_EXPORT Error null_argument(std::string_view parameter);
[[nodiscard]] FLATBED_EXPORT Result<void> check_handle(const void* handle, std::uint64_t magic,
                                                       std::string_view type,
                                                       std::string_view parameter);

// Every handle begins with the magic number of its kind, which free_handle() takes away.
template <typename Handle>
[[nodiscard]] bool is_handle(const Handle* handle) noexcept {
  return handle != nullptr && handle->magic == std::remove_cv_t<Handle>::kMagic;
}

template <typename Handle>
[[nodiscard]] Result<void> check(const Handle* handle, std::string_view parameter) {
  return check_handle(handle, Handle::kMagic, Handle::kType, parameter);
}

// What cannot be a handle of this kind is left alone. Returns whether it was one.
template <typename Handle>
void free_handle(Handle* handle) noexcept {
  if (!is_handle(handle)) return;
  // Volatile: to a compiler nobody can read it after this.
  *static_cast<volatile std::uint64_t*>(&handle->magic) = 0;
  const std::unique_ptr<Handle> owner(handle);
}

// What a caller's pointer to a result must be, and what it holds until there is a result.
template <typename Value>
[[nodiscard]] Result<void> clear_out(Value** out) {
  if (out == nullptr) return null_argument("out");
  *out = nullptr;
  return {};
}

[[nodiscard]] FLATBED_EXPORT Result<std::string_view> read_string(flatbed_string text,
                                                                  std::string_view parameter);
[[nodiscard]] Result<std::vector<std::string>> read_strings(const flatbed_string* texts,
                                                            std::uint64_t count,
                                                            std::string_view parameter);
[[nodiscard]] Result<std::filesystem::path> read_path(const char* path, std::string_view parameter);
// A pointer that may be null if it leads to nothing.
[[nodiscard]] Result<void> check_bytes(const void* bytes, std::uint64_t nbytes,
                                       std::string_view parameter);

// A number below `count`, as an enum whose values are 0 to count - 1.
[[nodiscard]] FLATBED_EXPORT Result<void> check_number(std::uint32_t number, std::uint32_t count,
                                                       std::string_view parameter);
template <typename Enum>
[[nodiscard]] Result<Enum> read_enum(std::uint32_t number, std::uint32_t count,
                                     std::string_view parameter) {
  FLATBED_TRY(check_number(number, count, parameter));
  return static_cast<Enum>(number);
}
[[nodiscard]] inline Result<bool> read_flag(std::uint32_t number, std::string_view parameter) {
  FLATBED_TRY(check_number(number, 2, parameter));
  return number == 1;
}
[[nodiscard]] Result<Dtype> read_dtype(std::uint32_t dtype, std::string_view parameter);
[[nodiscard]] constexpr std::uint32_t dtype_number(Dtype dtype) noexcept {
  return static_cast<std::uint32_t>(dtype) + 1;  // 0 is FLATBED_DTYPE_NONE
}
[[nodiscard]] Error index_error(std::uint64_t index, std::uint64_t count,
                                std::string_view parameter);

[[nodiscard]] inline flatbed_string to_c(std::string_view text) noexcept {
  return {text.data(), text.size()};
}

// Whether the caller's size of a struct is one that some version of this header has.
[[nodiscard]] FLATBED_EXPORT Result<void> check_struct(const void* given, std::uint64_t first,
                                                       std::uint64_t known,
                                                       std::string_view parameter);

// What a later version may give a meaning is zero: a caller who sets it would not get what it
// means.
[[nodiscard]] FLATBED_EXPORT Result<void> check_reserved(std::uint32_t reserved,
                                                         std::string_view parameter);

// A caller's struct as this version has it: what an older caller does not have is zero.
template <typename Struct>
[[nodiscard]] Result<Struct> read_struct(const Struct* given, std::string_view parameter) {
  FLATBED_TRY(check_struct(given, kFirstSize<Struct>, sizeof(Struct), parameter));
  std::uint64_t size = 0;
  std::memcpy(&size, given, sizeof size);
  Struct read{};
  std::memcpy(&read, given, size < sizeof read ? size : sizeof read);
  if constexpr (requires { read.reserved; }) FLATBED_TRY(check_reserved(read.reserved, parameter));
  return read;
}

// The same for options, which a caller may leave out.
template <typename Struct>
[[nodiscard]] Result<Struct> read_options(const Struct* given) {
  if (given == nullptr) return Struct{};
  return read_struct(given, "options");
}

// For structs that are filled: as above, but what the caller has beyond ours is about to be zero.
[[nodiscard]] FLATBED_EXPORT Result<void> check_filled(const void* given, std::uint64_t first,
                                                       std::string_view parameter);
FLATBED_EXPORT void fill_bytes(const void* from, std::uint64_t nbytes, void* to) noexcept;

template <typename Struct>
[[nodiscard]] Result<void> check_report(const Struct* out, std::string_view parameter) {
  return check_filled(out, kFirstSize<Struct>, parameter);
}
// Up to the caller's size, which stays. `out` has passed check_report().
template <typename Struct>
void fill_report(const Struct& report, Struct* out) noexcept {
  fill_bytes(&report, sizeof report, out);
}

}  // namespace flatbed::c
