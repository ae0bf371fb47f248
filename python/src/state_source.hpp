// StateSource: objects that Python holds, as the stream that torch.save would write of them. The
// pickles are in one buffer, and the storages stay where they are:
//
//   head                               the pickles of a legacy stream
//   for each storage:  u64 count       its number of elements
//                      bytes           of its memory
//
// So whatever a checkpoint file can hold is read from memory by the same reader, and the tensors
// are neither copied nor written to be saved. Borrows the memory of the storages. Thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "flatbed/byte_source.hpp"

namespace flatbed::python {

struct StateStorage {
  std::uint64_t count = 0;
  std::span<const std::byte> bytes;
};

class StateSource final : public ByteSource {
 public:
  StateSource(std::string label, std::string head, const std::vector<StateStorage>& storages);

  [[nodiscard]] std::string_view label() const noexcept override { return label_; }
  [[nodiscard]] std::uint64_t size() const noexcept override { return nbytes_; }
  [[nodiscard]] Result<void> read_at(std::uint64_t offset, std::span<std::byte> out) const override;

  // The memory of this range; empty if it is not in one piece.
  [[nodiscard]] std::span<const std::byte> find(std::uint64_t offset, std::uint64_t nbytes) const;

 private:
  struct Part {
    std::uint64_t begin = 0;  // in the stream
    std::span<const std::byte> bytes;
  };
  void add(std::span<const std::byte> bytes);
  [[nodiscard]] std::size_t part_at(std::uint64_t offset) const;

  std::string label_;
  std::string head_;
  std::vector<std::byte> counts_;
  std::vector<Part> parts_;
  std::uint64_t nbytes_ = 0;
};

}  // namespace flatbed::python
