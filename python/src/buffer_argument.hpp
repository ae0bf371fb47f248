// BufferArgument: the bytes of an argument with the buffer protocol (bytes, bytearray, numpy...).
//
// Holds the buffer until its destructor, which may run on any thread, with the GIL or without.
#pragma once

#include <nanobind/nanobind.h>

#include <cstddef>
#include <cstdint>
#include <span>

namespace flatbed::python {

namespace nb = nanobind;

enum class BufferUse : std::uint8_t { read, write };

class BufferArgument {
 public:
  // Throws TypeError if `object` has no buffer, and BufferError if it is not contiguous in C order,
  // or to be written and read-only. The messages begin with `what`.
  BufferArgument(const nb::handle& object, BufferUse use, const char* what);
  BufferArgument(const BufferArgument&) = delete;
  BufferArgument& operator=(const BufferArgument&) = delete;
  ~BufferArgument();

  [[nodiscard]] std::span<std::byte> bytes() const noexcept {
    return {static_cast<std::byte*>(buffer_.buf), static_cast<std::size_t>(buffer_.len)};
  }

 private:
  Py_buffer buffer_{};
};

}  // namespace flatbed::python
