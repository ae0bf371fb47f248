// TorchContainer: a PyTorch file of any layout, its tensors named after their places in the tree
// (spec N1 to N3). Thread-safe once open.
#pragma once

#include <memory>
#include <vector>

#include "io/container.hpp"
#include "io/text_list.hpp"
#include "torch/torch_file.hpp"
#include "torch/torch_reader.hpp"

namespace flatbed::pth {

class TorchContainer final : public Container {
 public:
  // One for each way in which such a file begins. Errors: those of read_torch_zip(),
  // read_torch_tar() and read_torch_pickle(); not_sealed where options.check_seal requires a seal;
  // limit_exceeded (names).
  [[nodiscard]] static Result<std::unique_ptr<Container>> open_zip(
      std::shared_ptr<const ByteSource> source, const ContainerOptions& options);
  [[nodiscard]] static Result<std::unique_ptr<Container>> open_tar(
      std::shared_ptr<const ByteSource> source, const ContainerOptions& options);
  [[nodiscard]] static Result<std::unique_ptr<Container>> open_pickle(
      std::shared_ptr<const ByteSource> source, const ContainerOptions& options);

  TorchContainer(std::shared_ptr<const ByteSource> source, TorchFile torch)
      : Container(std::move(source)), torch_(std::move(torch)), reader_(this->source(), torch_) {}

  [[nodiscard]] Layout layout() const noexcept override;
  [[nodiscard]] Result<void> read(std::uint32_t number, std::uint64_t offset,
                                  std::span<std::byte> out) const override {
    return reader_.read(tensor(number), offset, out);
  }
  [[nodiscard]] Result<void> reread(std::uint32_t number, std::uint64_t offset,
                                    std::span<std::byte> out) const override {
    return reader_.read(tensor(number), offset, out, ReadsOfSource::again);
  }
  [[nodiscard]] std::span<const std::byte> held(std::uint32_t number) const override {
    return held_bytes(torch_, tensor(number));
  }
  [[nodiscard]] ContainerRecords records() const override;
  [[nodiscard]] std::optional<TensorRecord> record_of(std::uint32_t number) const override;
  // Where the tensor begins in its storage, in bytes; nullopt if it has no storage or no elements,
  // or if its values are not the stored ones.
  [[nodiscard]] std::optional<std::uint64_t> storage_offset(std::uint32_t number) const;

 private:
  static Result<std::unique_ptr<Container>> make(std::shared_ptr<const ByteSource> source,
                                                 Result<TorchFile> torch,
                                                 const ContainerOptions& options);
  [[nodiscard]] Result<void> describe_all();
  [[nodiscard]] TensorInfo describe(const TorchTensor& tensor) const;
  [[nodiscard]] const TorchTensor& tensor(std::uint32_t number) const {
    return torch_.tensors[order_[number]];
  }

  TorchFile torch_;  // its tree is that of contents()
  mutable TorchReader reader_;
  TextList names_;                    // owns the tensors' names
  std::vector<std::uint32_t> order_;  // per tensor of contents(), its number in torch_.tensors
};

}  // namespace flatbed::pth
