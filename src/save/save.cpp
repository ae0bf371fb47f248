#include "flatbed/save.hpp"

#include <algorithm>
#include <optional>
#include <utility>

#include "base/bytes.hpp"
#include "base/str_cat.hpp"
#include "io/name_index.hpp"
#include "safetensors/header_write.hpp"
#include "save/save_data.hpp"
#include "save/save_source.hpp"
#include "save/write_file.hpp"
#include "value/tree_json.hpp"

namespace flatbed {

namespace {

using safetensors::MetadataPair;
using safetensors::NewHeader;
using safetensors::SealTensor;

// The items as the header needs them, once their bytes fit their shapes.
Result<std::vector<SealTensor>> describe_items(const SavePlan& plan) {
  std::vector<SealTensor> tensors;
  tensors.reserve(plan.items.size());
  for (const SaveItem& item : plan.items) {
    FLATBED_ASSIGN(const std::uint64_t nbytes, item_nbytes(item));
    tensors.push_back({item.name, item.dtype, item.shape, nbytes});
  }
  return tensors;
}

// A2: aliases must be new names and lead to tensors.
Result<void> check_aliases(const SavePlan& plan) {
  if (plan.aliases.empty()) return {};
  const auto items = static_cast<std::uint32_t>(plan.items.size());
  const auto name_of = [&](std::uint32_t n) -> std::string_view {
    return n < items ? plan.items[n].name : plan.aliases[n - items].name;
  };
  NameIndex index(plan.items.size() + plan.aliases.size());
  for (std::uint32_t i = 0; i < items; ++i) index.insert(name_of(i), i, name_of);
  for (std::uint32_t i = 0; i < plan.aliases.size(); ++i) {
    const Alias& alias = plan.aliases[i];
    const std::optional<std::uint32_t> target = index.find(alias.target, name_of);
    if (!target || *target >= items) {
      return make_error(ErrorCode::invalid_argument, "alias ", quoted(alias.name), ": its target ",
                        quoted(alias.target), " is not a tensor of the plan");
    }
    if (index.insert(alias.name, items + i, name_of)) {
      return make_error(ErrorCode::name_collision, "alias ", quoted(alias.name),
                        ": the name appears twice");
    }
  }
  return {};
}

// The values of the flatbed.* keys that the plan requires; empty for a key that is not written.
struct FlatbedTexts {
  std::string tree;
  std::string aliases;
};

// Without a seal, a flatbed.* key would make the file broken (S6, row 3), so none is written.
Result<FlatbedTexts> encode_texts(const SavePlan& plan, const SaveOptions& options) {
  FlatbedTexts texts;
  if (!options.seal) return texts;
  FLATBED_TRY(check_aliases(plan));
  if (!plan.aliases.empty()) texts.aliases = encode_aliases(plan.aliases);
  if (plan.tree.root().id() == kNoNode) return texts;
  std::vector<std::string> names;
  names.reserve(plan.items.size());
  for (const SaveItem& item : plan.items) names.push_back(item.name);
  FLATBED_ASSIGN(texts.tree, encode_tree(plan.tree, names));
  return texts;
}

Result<std::vector<MetadataPair>> collect_metadata(const SavePlan& plan,
                                                   const FlatbedTexts& texts) {
  std::vector<MetadataPair> pairs(plan.metadata.begin(), plan.metadata.end());
  std::ranges::sort(pairs, {}, &MetadataPair::first);
  for (std::size_t i = 0; i < pairs.size(); ++i) {
    if (safetensors::is_seal_key(pairs[i].first)) {
      return make_error(ErrorCode::invalid_argument, "metadata ", quoted(pairs[i].first),
                        ": keys with this prefix are reserved for flatbed");
    }
    if (i > 0 && pairs[i].first == pairs[i - 1].first) {
      return make_error(ErrorCode::invalid_argument, "metadata ", quoted(pairs[i].first),
                        ": the key appears twice");
    }
  }
  if (!texts.aliases.empty()) pairs.emplace_back("flatbed.aliases", texts.aliases);
  if (!texts.tree.empty()) pairs.emplace_back("flatbed.tree", texts.tree);
  return pairs;
}

}  // namespace

Result<SaveReport> save(const std::filesystem::path& path, const SavePlan& plan,
                        const SaveOptions& options) {
  FLATBED_ASSIGN(const std::vector<SealTensor> tensors, describe_items(plan));
  FLATBED_ASSIGN(const FlatbedTexts texts, encode_texts(plan, options));
  FLATBED_ASSIGN(const std::vector<MetadataPair> metadata, collect_metadata(plan, texts));
  FLATBED_ASSIGN(NewHeader header,
                 build_header(tensors, metadata, {options.seal, options.allow_large_header}));
  SaveReport report;
  report.nbytes = header.file_nbytes;
  report.header_nbytes = header.bytes.size();
  if (options.dry_run) return report;

  FLATBED_ASSIGN(const std::optional<FilePermissions> permissions, source_permissions(plan));
  const auto write = [&](AtomicFile& file) -> Result<void> {
    FLATBED_ASSIGN(report.crc, write_data(plan, options, header, file));
    if (options.seal) report.content = seal_header(header, tensors, metadata);
    // Written last, so that what a killed process leaves never looks like a whole file.
    return file.write_at(0, as_bytes(header.bytes));
  };
  FLATBED_TRY(write_file({path, permissions}, options, report, write));
  return report;
}

}  // namespace flatbed
