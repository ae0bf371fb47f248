#include "save/planned_header.hpp"

#include <algorithm>
#include <optional>
#include <utility>

#include "base/str_cat.hpp"
#include "io/name_index.hpp"
#include "save/save_source.hpp"
#include "value/tree_json.hpp"

namespace flatbed {

namespace {

using safetensors::HeaderLayout;
using safetensors::MetadataPair;
using safetensors::SealTensor;

safetensors::HeaderOptions header_options(const SaveOptions& options) {
  const bool reference = options.layout == FileLayout::safetensors;
  return {options.seal, options.allow_large_header,
          reference ? HeaderLayout::reference : HeaderLayout::flatbed, options.empty_metadata};
}

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

Result<std::vector<MetadataPair>> collect_metadata(const SavePlan& plan,
                                                   const PlannedHeader::Texts& texts) {
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
  if (!texts.series.empty()) pairs.emplace_back(safetensors::kSeriesKey, texts.series);
  if (!texts.tree.empty()) pairs.emplace_back("flatbed.tree", texts.tree);
  return pairs;
}

}  // namespace

// Without a seal, a flatbed.* key would make the file broken (S6, row 3), so none is written.
Result<PlannedHeader::Texts> plan_texts(const SavePlan& whole, const SaveOptions& options) {
  PlannedHeader::Texts texts;
  if (!options.seal) return texts;
  FLATBED_TRY(check_aliases(whole));
  if (!whole.aliases.empty()) texts.aliases = encode_aliases(whole.aliases);
  if (whole.tree.root().id() == kNoNode) return texts;
  FLATBED_TRY(check_tensor_numbers(whole));
  std::vector<std::string> names;
  names.reserve(whole.items.size());
  for (const SaveItem& item : whole.items) names.push_back(item.name);
  // The header is at least as long as the text, so a text that is too long for it is not built.
  const std::size_t most = safetensors::max_header_nbytes(header_options(options));
  FLATBED_ASSIGN(texts.tree, encode_tree(whole.tree, names, most));
  return texts;
}

Result<PlannedHeader> plan_header(const SavePlan& plan, const SaveOptions& options) {
  FLATBED_ASSIGN(PlannedHeader::Texts texts, plan_texts(plan, options));
  return plan_header(plan, std::move(texts), options);
}

Result<PlannedHeader> plan_header(const SavePlan& plan, PlannedHeader::Texts texts,
                                  const SaveOptions& options) {
  PlannedHeader planned;
  FLATBED_ASSIGN(planned.tensors, describe_items(plan));
  planned.texts = std::make_unique<PlannedHeader::Texts>(std::move(texts));
  FLATBED_ASSIGN(planned.metadata, collect_metadata(plan, *planned.texts));
  FLATBED_ASSIGN(planned.header,
                 build_header(planned.tensors, planned.metadata, header_options(options)));
  return planned;
}

}  // namespace flatbed
