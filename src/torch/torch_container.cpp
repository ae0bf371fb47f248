#include "torch/torch_container.hpp"

#include <utility>

#include "base/str_cat.hpp"
#include "torch/shared_views.hpp"
#include "torch/torch_pickle.hpp"
#include "torch/torch_tar.hpp"
#include "value/tensor_names.hpp"

namespace flatbed::pth {

namespace {

// What is no storage and is larger, beside pickles, are the code and what users add.
constexpr std::uint64_t kSmallRecordNbytes = 1 << 20;

std::string uninitialized_note(const TensorNames& names) {
  std::string text = str_cat(
      names.uninitialized_count,
      names.uninitialized_count == 1 ? " parameter or buffer has" : " parameters or buffers have",
      " no values, as the lazy module did not run before it was saved: ");
  for (std::size_t i = 0; i < names.uninitialized.size(); ++i)
    text += str_cat(i == 0 ? "" : ", ", quoted(names.uninitialized[i]));
  return names.uninitialized_count == names.uninitialized.size() ? text : str_cat(text, ", ...");
}

}  // namespace

Result<std::unique_ptr<Container>> TorchContainer::open_zip(
    std::shared_ptr<const ByteSource> source, const ContainerOptions& options) {
  Result<TorchFile> torch = read_torch_zip(*source);
  return make(std::move(source), std::move(torch), options);
}

Result<std::unique_ptr<Container>> TorchContainer::open_tar(
    std::shared_ptr<const ByteSource> source, const ContainerOptions& options) {
  Result<TorchFile> torch = read_torch_tar(*source);
  return make(std::move(source), std::move(torch), options);
}

Result<std::unique_ptr<Container>> TorchContainer::open_pickle(
    std::shared_ptr<const ByteSource> source, const ContainerOptions& options) {
  Result<TorchFile> torch = read_torch_pickle(*source);
  return make(std::move(source), std::move(torch), options);
}

Result<std::unique_ptr<Container>> TorchContainer::make(std::shared_ptr<const ByteSource> source,
                                                        Result<TorchFile> torch,
                                                        const ContainerOptions& options) {
  if (!torch) return std::move(torch).error();
  auto opened = std::make_unique<TorchContainer>(std::move(source), *std::move(torch));
  FLATBED_TRY(opened->describe_all());
  if (options.check_seal == CheckSeal::required)
    return make_error(ErrorCode::not_sealed, "a PyTorch file carries no seal: convert it first");
  return std::unique_ptr<Container>(std::move(opened));
}

Result<void> TorchContainer::describe_all() {
  FLATBED_ASSIGN(TensorNames names, name_tensors(torch_.tree, torch_.tensors.size()));
  std::vector<std::uint32_t> numbers(torch_.tensors.size());
  names_ = std::move(names.names);
  order_ = std::move(names.order);
  ContainerContents& out = contents();
  out.index = std::move(names.index);
  out.aliases = std::move(names.aliases);
  out.tensors.reserve(names_.size());
  for (std::uint32_t i = 0; i < names_.size(); ++i) {
    TensorInfo info = describe(torch_.tensors[order_[i]]);
    info.name = names_[i];
    info.index = i;
    numbers[order_[i]] = i;
    out.tensors.push_back(info);
  }
  torch_.tree.renumber_tensors(numbers);
  out.tree.emplace(std::move(torch_.tree));
  out.storages = static_cast<std::uint32_t>(torch_.storages.size() + torch_.held.size());
  out.notes = torch_.notes;
  if (auto note = shared_views_note(torch_, order_, names_)) out.notes.push_back(*std::move(note));
  if (names.uninitialized_count != 0) out.notes.push_back(uninitialized_note(names));
  return {};
}

TensorInfo TorchContainer::describe(const TorchTensor& tensor) const {
  TensorInfo info;
  info.dtype = tensor.dtype;
  info.nbytes = tensor.nbytes;
  info.shape = std::span(torch_.dims)
                   .subspan(tensor.dims + std::size_t{tensor.rank} * 2, tensor.stored_rank);
  if (tensor.storage == kNoStorage) {
    info.stored = Stored::held;
    info.storage = static_cast<std::uint32_t>(torch_.storages.size()) + tensor.held;
    return info;
  }
  const TorchStorage& storage = torch_.storages[tensor.storage];
  info.storage = tensor.storage;
  const bool views = !tensor.contiguous || tensor.conjugate || tensor.negate;
  if (storage.held != kNotHeld) {
    info.stored = views ? Stored::strided : Stored::held;
    return info;
  }
  info.where = {0, storage.stored_offset, storage.stored_nbytes};
  if (storage.deflated) {
    info.stored = Stored::deflated;
  } else if (views) {
    info.stored = Stored::strided;
  } else if (storage.swap_unit > 1) {
    info.stored = Stored::byteswapped;
  } else {
    // Where a tensor without elements would begin was never checked.
    const std::uint64_t skip = tensor.nbytes == 0 ? 0 : tensor.offset * tensor.element_nbytes;
    info.where = {0, storage.stored_offset + skip, tensor.nbytes};
  }
  return info;
}

Layout TorchContainer::layout() const noexcept {
  switch (torch_.layout) {
    case TorchLayout::legacy:
      return Layout::torch_legacy;
    case TorchLayout::tar:
      return Layout::torch_tar;
    case TorchLayout::pickle:
      return Layout::torch_pickle;
    case TorchLayout::script:
      return Layout::torch_script;
    case TorchLayout::zip:
      break;
  }
  return Layout::torch_zip;
}

ContainerRecords TorchContainer::records() const {
  ContainerRecords records;
  records.state_crcs = torch_.zip.state_crcs();
  records.list.reserve(torch_.zip.entries.size());
  for (const ZipEntry& entry : torch_.zip.entries) {
    records.list.push_back({entry.name, entry.data_offset, entry.stored_nbytes, entry.nbytes,
                            entry.crc, entry.deflated, false});
  }
  std::vector<bool> is_storage(records.list.size());
  for (const TorchStorage& storage : torch_.storages) {
    if (storage.record != kNoRecord) is_storage[storage.record] = true;
  }
  for (std::size_t i = 0; i < records.list.size(); ++i) {
    ContainerRecord& record = records.list[i];
    const bool small = record.nbytes <= kSmallRecordNbytes;
    record.storage = is_storage[i];
    record.structure = !is_storage[i] && (small || record.name.ends_with(".pkl"));
  }
  return records;
}

std::optional<TensorRecord> TorchContainer::record_of(std::uint32_t number) const {
  const TorchTensor& from = tensor(number);
  if (from.storage == kNoStorage || from.nbytes == 0) return std::nullopt;
  const TorchStorage& storage = torch_.storages[from.storage];
  if (storage.record == kNoRecord) return std::nullopt;
  const bool whole = from.contiguous && !from.conjugate && !from.negate && storage.swap_unit <= 1 &&
                     from.offset == 0 && from.nbytes == storage.nbytes;
  return TensorRecord{storage.record, whole, torch_.zip.entries[storage.record].crc};
}

std::optional<std::uint64_t> TorchContainer::storage_offset(std::uint32_t number) const {
  const TorchTensor& from = tensor(number);
  const bool shown = from.storage != kNoStorage && from.nbytes != 0;
  if (!shown || from.conjugate || from.negate) return std::nullopt;
  return from.offset * from.element_nbytes;
}

}  // namespace flatbed::pth
