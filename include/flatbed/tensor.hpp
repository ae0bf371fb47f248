// TensorInfo: what a checkpoint knows about one tensor without reading its bytes. TensorView: the
// tensor's bytes in place.
//
// Both borrow from the Checkpoint that returned them and are valid while any copy of it exists.
// Plain data, copyable.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "flatbed/dtype.hpp"

namespace flatbed {

// The sizes of the dimensions, in elements; rank 0 is a scalar. Borrows.
using ShapeView = std::span<const std::uint64_t>;

// How a tensor's bytes are stored in its file. Only `plain` and `held` bytes can be viewed in
// place; Checkpoint::read() reads all.
enum class Stored : std::uint8_t {
  plain,    // contiguous, little endian: the extent is the tensor
  strided,  // a view with strides into a storage, or one whose values must be conjugated or negated
  byteswapped,  // big endian in the file
  deflated,     // inside a compressed zip entry
  held,  // in the checkpoint's own memory (a long `bytes` object of a pickle); `where` is unused
  // Made of stored bytes when it is read: by Checkpoint::cast(), or joined or split by rename().
  computed,
};

// A range of bytes of one of the checkpoint's files.
struct Extent {
  std::uint32_t file = 0;  // index into Checkpoint::files()
  std::uint64_t offset = 0;
  std::uint64_t nbytes = 0;
};

// The digests of a tensor's 262,144-byte chunks (XXH3-64), 16 lower-case hex digits each. Empty if
// the file is not sealed, or the tensor is computed: then read() checks what it is computed of.
class DigestView {
 public:
  DigestView() = default;
  explicit DigestView(std::string_view hex) : hex_(hex) {}
  [[nodiscard]] std::size_t size() const noexcept { return hex_.size() / 16; }
  [[nodiscard]] bool empty() const noexcept { return hex_.empty(); }
  [[nodiscard]] std::string_view hex(std::size_t chunk) const {
    return hex_.substr(chunk * 16, 16);
  }

 private:
  std::string_view hex_;
};

// That a tensor is joined of others along a dimension (KeyMap::cat()), and their sizes there.
// Borrows.
struct JoinedDim {
  std::size_t dim = 0;
  ShapeView sizes;
};

struct TensorInfo {
  // Any UTF-8, possibly empty or with NUL. Check it before use as a path or a C string.
  std::string_view name;
  ShapeView shape;
  std::uint64_t nbytes = 0;  // of the contiguous contents that read() returns
  // If plain: the tensor; otherwise the stored bytes of its storage, or of the first tensor that it
  // is computed of.
  Extent where;
  DigestView digests;
  std::span<const JoinedDim> joined;  // the dimensions that it is joined along; usually none
  std::uint32_t index = 0;            // of this tensor in Checkpoint::tensors()
  // Tensors with the same number share stored bytes. That of a computed tensor is the number of the
  // first tensor that it is computed of.
  std::uint32_t storage = 0;
  Dtype dtype = Dtype::u8;
  Stored stored = Stored::plain;
  bool cast = false;  // values have another dtype than the stored ones, by Checkpoint::cast()

  // The sizes of the tensors that it is joined of along this dimension; empty if it is not.
  [[nodiscard]] ShapeView joined_along(std::size_t along) const noexcept {
    for (const JoinedDim& one : joined) {
      if (one.dim == along) return one.sizes;
    }
    return {};
  }
};

// Another name of a tensor.
struct Alias {
  std::string name;
  std::string target;  // the tensor's own name
};

// A tensor's bytes in place: in a mapping, or in the checkpoint's own memory.
struct TensorView {
  TensorInfo info;
  std::span<const std::byte> bytes;

  // The largest power of two that divides the address, at most 4096. In files that flatbed did not
  // write it may be 1: copy such elements instead of casting the pointer.
  [[nodiscard]] std::size_t alignment() const noexcept {
    const auto address = reinterpret_cast<std::uintptr_t>(bytes.data());
    const std::size_t lowest = address & (~address + 1);
    return address == 0 || lowest > 4096 ? 4096 : lowest;
  }
};

}  // namespace flatbed
