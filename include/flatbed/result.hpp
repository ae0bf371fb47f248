// Result<T>: a value or an Error. Works the same with and without exceptions.
//
//   auto opened = flatbed::Checkpoint::open(path);
//   if (!opened) return fail(opened.error());                    // also with -fno-exceptions
//   auto checkpoint = flatbed::Checkpoint::open(path).value();   // throws flatbed::Exception
//
// The members are the part of std::expected that flatbed uses, so that a later C++ can replace the
// class by an alias.
#pragma once

#include <cassert>
#include <utility>
#include <variant>

#include "flatbed/error.hpp"

namespace flatbed {

template <typename T>
class [[nodiscard]] Result {
 public:
  using value_type = T;

  Result(T value)
      : state_(std::in_place_index<0>, std::move(value)) {}  // NOLINT: implicit on purpose
  Result(Error error)
      : state_(std::in_place_index<1>, std::move(error)) {}  // NOLINT: implicit on purpose

  [[nodiscard]] bool has_value() const noexcept { return state_.index() == 0; }
  explicit operator bool() const noexcept { return has_value(); }

  // Always checked: calls raise() if there is no value.
  T& value() & { return check(), *std::get_if<0>(&state_); }
  const T& value() const& { return check(), *std::get_if<0>(&state_); }
  T&& value() && { return check(), std::move(*std::get_if<0>(&state_)); }

  // Unchecked in release builds, like std::expected.
  T& operator*() & { return assert(has_value()), *std::get_if<0>(&state_); }
  const T& operator*() const& { return assert(has_value()), *std::get_if<0>(&state_); }
  T&& operator*() && { return assert(has_value()), std::move(*std::get_if<0>(&state_)); }
  T* operator->() { return assert(has_value()), std::get_if<0>(&state_); }
  const T* operator->() const { return assert(has_value()), std::get_if<0>(&state_); }

  [[nodiscard]] const Error& error() const& {
    return assert(!has_value()), *std::get_if<1>(&state_);
  }
  [[nodiscard]] Error&& error() && {
    return assert(!has_value()), std::move(*std::get_if<1>(&state_));
  }

  template <typename U>
  [[nodiscard]] T value_or(U&& other) && {
    return has_value() ? std::move(*std::get_if<0>(&state_))
                       : static_cast<T>(std::forward<U>(other));
  }

 private:
  void check() const {
    if (!has_value()) raise(*std::get_if<1>(&state_));
  }

  std::variant<T, Error> state_;
};

template <>
class [[nodiscard]] Result<void> {
 public:
  using value_type = void;

  Result() = default;
  Result(Error error)
      : state_(std::in_place_index<1>, std::move(error)) {}  // NOLINT: implicit on purpose

  [[nodiscard]] bool has_value() const noexcept { return state_.index() == 0; }
  explicit operator bool() const noexcept { return has_value(); }
  void value() const {
    if (!has_value()) raise(*std::get_if<1>(&state_));
  }
  [[nodiscard]] const Error& error() const& {
    return assert(!has_value()), *std::get_if<1>(&state_);
  }
  [[nodiscard]] Error&& error() && {
    return assert(!has_value()), std::move(*std::get_if<1>(&state_));
  }

 private:
  std::variant<std::monostate, Error> state_;
};

}  // namespace flatbed

#define FLATBED_CONCAT_INNER(a, b) a##b
#define FLATBED_CONCAT(a, b) FLATBED_CONCAT_INNER(a, b)

// Returns the error of `expression` from the enclosing function, which returns some Result.
#define FLATBED_TRY(...)                                                     \
  do {                                                                       \
    if (auto flatbed_result = (__VA_ARGS__); !flatbed_result) [[unlikely]] { \
      return std::move(flatbed_result).error();                              \
    }                                                                        \
  } while (false)

// FLATBED_ASSIGN(const Header header, parse_header(bytes)); declares or assigns the value, or
// returns the error.
#define FLATBED_ASSIGN(declaration, ...)                                 \
  auto FLATBED_CONCAT(flatbed_result_, __LINE__) = (__VA_ARGS__);        \
  if (!FLATBED_CONCAT(flatbed_result_, __LINE__)) [[unlikely]] {         \
    return std::move(FLATBED_CONCAT(flatbed_result_, __LINE__)).error(); \
  }                                                                      \
  declaration = *std::move(FLATBED_CONCAT(flatbed_result_, __LINE__))
