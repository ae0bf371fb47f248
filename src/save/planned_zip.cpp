#include "save/planned_zip.hpp"

#include <algorithm>
#include <optional>
#include <utility>

#include "base/checked.hpp"
#include "base/str_cat.hpp"
#include "io/digest.hpp"
#include "io/name_index.hpp"
#include "save/save_source.hpp"

namespace flatbed {

namespace {

using safetensors::kChunkBytes;

Result<std::vector<pth::StoredTensor>> describe_items(const SavePlan& plan) {
  std::vector<pth::StoredTensor> tensors;
  tensors.reserve(plan.items.size());
  for (const SaveItem& item : plan.items) {
    FLATBED_ASSIGN(const std::uint64_t nbytes, item_nbytes(item));
    tensors.push_back({item.dtype, item.shape, nbytes});
  }
  return tensors;
}

// The whole of an item, checked.
Result<std::string> item_contents(const SaveItem& item, std::uint64_t nbytes,
                                  const SaveOptions& options) {
  std::string bytes(static_cast<std::size_t>(nbytes), '\0');
  const std::span<std::byte> out = std::as_writable_bytes(std::span(bytes));
  ReadTally ignored;
  FLATBED_TRY(read_item(item, 0, out, {options.verify, ignored}));
  const bool verified = is_verified(item, options);
  for (std::size_t at = 0; verified && at < out.size(); at += kChunkBytes) {
    const std::size_t size = std::min<std::size_t>(kChunkBytes, out.size() - at);
    FLATBED_TRY(check_item_chunk(item, at / kChunkBytes, xxh3(out.subspan(at, size))));
  }
  return bytes;
}

// The structure for a plan without one.
Result<ValueTree> dict_of_names(const SavePlan& plan) {
  ValueTree tree;
  const NodeId root = tree.add_dict();
  NameIndex index(plan.items.size());
  const auto name_of = [&](std::uint32_t n) -> std::string_view { return plan.items[n].name; };
  for (std::uint32_t i = 0; i < plan.items.size(); ++i) {
    if (index.insert(name_of(i), i, name_of))
      return make_error(ErrorCode::duplicate_name, "tensor ", quoted(name_of(i)),
                        ": the name appears twice");
    tree.set_item(root, tree.add_string(name_of(i)), tree.add_tensor(i, {}));
  }
  for (const Alias& alias : plan.aliases) {
    const std::optional<std::uint32_t> target = index.find(alias.target, name_of);
    if (!target)
      return make_error(ErrorCode::invalid_argument, "alias ", quoted(alias.name), ": its target ",
                        quoted(alias.target), " is not a tensor of the plan");
    tree.set_item(root, tree.add_string(alias.name), tree.add_tensor(*target, {}));
  }
  tree.set_root(root);
  return tree;
}

// `written` gets a mark for each item whose contents the pickle holds.
Result<pth::TorchPickle> make_pickle(const SavePlan& plan, const SaveTorchOptions& options,
                                     std::vector<bool>& written) {
  FLATBED_ASSIGN(const std::vector<pth::StoredTensor> tensors, describe_items(plan));
  const pth::PickleOptions pickling{
      options.unsafe_objects, options.keep_device, [&](std::uint32_t item) {
        written[item] = true;
        return item_contents(plan.items[item], tensors[item].nbytes, options.file);
      }};
  if (plan.tree.root().id() != kNoNode) return write_pickle(plan.tree, tensors, pickling);
  FLATBED_ASSIGN(const ValueTree tree, dict_of_names(plan));
  return write_pickle(tree, tensors, pickling);
}

Result<pth::ZipLayout> make_layout(const SavePlan& plan, const pth::TorchPickle& pickle) {
  std::vector<pth::NewZipEntry> entries;
  entries.reserve(pickle.storages.size() + PlannedZip::kFirstData + 1);
  entries.push_back({"archive/data.pkl", pickle.bytes.size()});
  entries.push_back({"archive/byteorder", PlannedZip::kByteOrder.size()});
  std::optional<std::uint64_t> sum = 0;
  for (std::size_t key = 0; key < pickle.storages.size(); ++key) {
    FLATBED_ASSIGN(const std::uint64_t nbytes, item_nbytes(plan.items[pickle.storages[key]]));
    entries.push_back({str_cat("archive/data/", key), nbytes});
    sum = sum ? checked_add(*sum, nbytes) : sum;
  }
  // Headers take less than the other half.
  if (!sum || *sum > INT64_MAX / 2)
    return make_error(ErrorCode::limit_exceeded,
                      "the tensors have more bytes than a file can hold");
  entries.push_back({"archive/version", PlannedZip::kVersion.size()});
  return pth::ZipLayout(std::move(entries));
}

}  // namespace

Result<PlannedZip> plan_zip(const SavePlan& plan, const SaveTorchOptions& options,
                            std::vector<bool>& written) {
  FLATBED_TRY(check_tensor_numbers(plan));
  FLATBED_ASSIGN(pth::TorchPickle pickle, make_pickle(plan, options, written));
  FLATBED_ASSIGN(pth::ZipLayout layout, make_layout(plan, pickle));
  return PlannedZip{std::move(pickle), std::move(layout)};
}

}  // namespace flatbed
