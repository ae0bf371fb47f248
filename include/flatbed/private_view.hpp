// PrivateView: a tensor's bytes as memory of the caller's own, which may be written. What is
// written is never seen by the file, by the checkpoint or by another view.
//
//   FLATBED_ASSIGN(const TensorInfo weight, checkpoint.tensor("fc.weight"));
//   FLATBED_ASSIGN(const PrivateView view, PrivateView::make(checkpoint, weight));
//   use(view.bytes());
//
// For frameworks that take memory over and write through it, such as torch.from_dlpack(). The bytes
// of a plain tensor are a mapping of their own (copy on write): nothing is read until it is
// touched, and only pages that are written take memory. Like Checkpoint::view(), such bytes are not
// verified, and a file that another process truncates is a SIGBUS. All other tensors are read and
// verified.
//
// Shares the ownership of its memory with its copies, not with the checkpoint, which may be gone
// first. Copies may be used on several threads.
//
// PrivateViews does the same for many tensors of a checkpoint, in one mapping for each file: the
// system limits the number of a process's mappings.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <utility>

#include "flatbed/checkpoint.hpp"
#include "flatbed/export.hpp"
#include "flatbed/result.hpp"
#include "flatbed/tensor.hpp"

namespace flatbed {

class FLATBED_EXPORT PrivateView {
 public:
  // Errors: those of mapping and of Checkpoint::read(); resource_exhausted.
  [[nodiscard]] static Result<PrivateView> make(const Checkpoint& checkpoint,
                                                const TensorInfo& tensor);

  // In C order, little endian; aligned to the size of an element, and copies to 64 bytes.
  [[nodiscard]] std::span<std::byte> bytes() const noexcept { return bytes_; }
  [[nodiscard]] bool is_mapping() const noexcept { return mapped_; }  // false: they were read

 private:
  friend class PrivateViews;
  PrivateView(std::shared_ptr<void> owner, std::span<std::byte> bytes, bool mapped)
      : owner_(std::move(owner)), bytes_(bytes), mapped_(mapped) {}

  std::shared_ptr<void> owner_;
  std::span<std::byte> bytes_;
  bool mapped_;
};

// Its copies share the mappings, which a view also owns. Thread-safe.
class FLATBED_EXPORT PrivateViews {
 public:
  explicit PrivateViews(Checkpoint checkpoint);

  // As PrivateView::make(), with one difference: views of one tensor are the same memory, unless it
  // had to be read. `verify`: whether bytes that are read are checked, and whether a sealed file
  // that has changed since it was opened is file_changed. Maps a file on the first view.
  [[nodiscard]] Result<PrivateView> view(const TensorInfo& tensor,
                                         Verify verify = Verify::yes) const;

 private:
  struct FLATBED_HIDDEN State;
  std::shared_ptr<State> state_;
};

}  // namespace flatbed
