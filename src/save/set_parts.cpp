#include "save/set_parts.hpp"

#include <algorithm>
#include <optional>
#include <string_view>
#include <utility>

#include "base/checked.hpp"
#include "base/json_write.hpp"
#include "base/str_cat.hpp"
#include "checkpoint/set_index.hpp"
#include "io/name_index.hpp"
#include "io/set_files.hpp"
#include "save/save_source.hpp"

namespace flatbed {

namespace {

// Cuts what add() is given, in order.
class ShardCutter {
 public:
  explicit ShardCutter(std::uint64_t max_nbytes) : max_nbytes_(max_nbytes) {}

  void add(std::uint32_t item, std::uint64_t nbytes) {
    if (nbytes > max_nbytes_) {
      shards_.push_back({{}, {item}, nbytes});
      return;
    }
    if (nbytes > max_nbytes_ - open_.nbytes) close();
    open_.items.push_back(item);
    open_.nbytes += nbytes;
  }

  std::vector<PlannedShard> finish() {
    if (!open_.items.empty() || shards_.empty()) close();
    return std::move(shards_);
  }

  [[nodiscard]] std::size_t count() const noexcept { return shards_.size() + 1; }

 private:
  void close() { shards_.push_back(std::exchange(open_, {})); }

  std::uint64_t max_nbytes_;
  std::vector<PlannedShard> shards_;
  PlannedShard open_;  // its nbytes are at most max_nbytes_
};

// Those of one file are checked with its header, those of different files here.
Result<void> check_names(const SavePlan& plan) {
  NameIndex names(plan.items.size());
  const auto name_of = [&](std::uint32_t i) -> std::string_view { return plan.items[i].name; };
  for (std::uint32_t i = 0; i < plan.items.size(); ++i) {
    if (!names.insert(plan.items[i].name, i, name_of)) continue;
    return make_error(ErrorCode::name_collision, "tensor ", quoted(plan.items[i].name),
                      ": the name appears twice");
  }
  return {};
}

std::uint64_t elements_of(const SaveItem& item) {
  std::uint64_t elements = 1;  // no overflow: the size in bits was checked
  for (const std::uint64_t dimension : item.shape) elements *= dimension;
  return elements;
}

Error index_too_large() {
  return make_error(ErrorCode::limit_exceeded, "the index is too large: its names need more than ",
                    kMaxIndex, " bytes, the limit");
}

void append_member(std::string& out, std::string_view key) {
  append_json_string(out, key);
  out += ": ";
}

}  // namespace

Result<std::vector<PlannedShard>> plan_shards(const SavePlan& plan,
                                              std::uint64_t max_shard_nbytes) {
  if (max_shard_nbytes == 0)
    return make_error(ErrorCode::invalid_argument, "the size of a shard is 0 bytes");
  ShardCutter cutter(max_shard_nbytes);
  for (std::uint32_t i = 0; i < plan.items.size(); ++i) {
    FLATBED_ASSIGN(const std::uint64_t nbytes, item_nbytes(plan.items[i]));
    cutter.add(i, nbytes);
    if (cutter.count() <= kMaxShards + 1) continue;
    return make_error(ErrorCode::limit_exceeded, "shards of ", size_text(max_shard_nbytes),
                      " would be more than ", kMaxShards, "; choose a larger size");
  }
  std::vector<PlannedShard> shards = cutter.finish();
  const auto count = static_cast<std::uint32_t>(shards.size());
  if (count > kMaxShards) {
    return make_error(ErrorCode::limit_exceeded, "shards of ", size_text(max_shard_nbytes),
                      " would be ", count, ", the limit is ", kMaxShards, "; choose a larger size");
  }
  for (std::uint32_t i = 0; i < count; ++i)
    shards[i].file_name = count == 1 ? std::string(kSetFileName) : shard_file_name(i + 1, count);
  return shards;
}

Result<SetParts> SetParts::of(const SavePlan& plan, const SaveSetOptions& options) {
  SetParts parts(plan, options);
  FLATBED_ASSIGN(parts.shards_, plan_shards(plan, options.max_shard_nbytes));
  FLATBED_TRY(check_names(plan));
  FLATBED_ASSIGN(parts.texts_, plan_texts(plan, options.file));
  for (const PlannedShard& shard : parts.shards_) {
    const std::optional<std::uint64_t> sum = checked_add(parts.nbytes_, shard.nbytes);
    if (!sum)
      return make_error(ErrorCode::limit_exceeded,
                        "the tensors have more bytes than a set can hold");
    parts.nbytes_ = *sum;
  }
  FLATBED_TRY(parts.check_index());
  return parts;
}

// The index is written last, so a set for which it would be too large is refused here.
Result<void> SetParts::check_index() const {
  if (shards_.size() == 1) return {};
  const std::vector<std::string> contents(options_->file.seal ? shards_.size() : 0, hex16(0));
  FLATBED_TRY(index(contents));
  return {};
}

SavePlan SetParts::plan_of(std::size_t shard) const {
  SavePlan plan;
  plan.items.reserve(shards_[shard].items.size());
  for (const std::uint32_t item : shards_[shard].items) plan.items.push_back(plan_->items[item]);
  // The metadata of the first file are the set's. Widely used loaders need "format" in each.
  for (const auto& pair : plan_->metadata) {
    if (shard == 0 || pair.first == "format") plan.metadata.push_back(pair);
  }
  return plan;
}

Result<PlannedHeader> SetParts::header(const SavePlan& plan, std::size_t shard) const {
  return plan_header(plan, shard == 0 ? texts_ : PlannedHeader::Texts{}, options_->file);
}

SaveOptions SetParts::file_options(std::uint64_t bytes_before) const {
  SaveOptions options = options_->file;
  options.replace = false;
  options.dry_run = false;
  if (!options.progress) return options;
  options.progress = [caller = &options_->file.progress, bytes_before,
                      total = nbytes_](const Progress& progress) {
    return (*caller)({bytes_before + progress.bytes_done, total});
  };
  return options;
}

// In the form of the Hub's own: an indentation of two spaces, and the tensors shard by shard.
Result<std::string> SetParts::index(std::span<const std::string> contents) const {
  std::uint64_t elements = 0;
  std::size_t nbytes = 4096;
  for (const SaveItem& item : plan_->items) {
    elements += elements_of(item);
    nbytes += item.name.size() + 64;
  }
  std::string out;
  out.reserve(std::min<std::size_t>(nbytes + contents.size() * 16, kMaxIndex));
  out += "{\n  \"metadata\": {\n    ";
  if (!contents.empty() && contents.size() <= kMaxSealedShards) {
    append_member(out, "flatbed.shards");
    out += "\"1/";
    for (const std::string& content : contents) out += content;
    out += "\",\n    ";
  }
  append_member(out, "total_parameters");
  out += str_cat(elements, ",\n    ");
  append_member(out, "total_size");
  out += str_cat(nbytes_, "\n  },\n  \"weight_map\": {");
  std::string_view separator = "\n    ";
  for (const PlannedShard& shard : shards_) {
    for (const std::uint32_t item : shard.items) {
      out += std::exchange(separator, ",\n    ");
      append_member(out, plan_->items[item].name);
      append_json_string(out, shard.file_name);
      if (out.size() > kMaxIndex) return index_too_large();
    }
  }
  out += "\n  }\n}\n";
  if (out.size() > kMaxIndex) return index_too_large();
  return out;
}

}  // namespace flatbed
