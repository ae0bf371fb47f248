#include "flatbed/save_set.hpp"

#include <algorithm>
#include <numeric>
#include <optional>
#include <utility>
#include <vector>

#include "base/bytes.hpp"
#include "base/str_cat.hpp"
#include "io/atomic_folder.hpp"
#include "io/set_files.hpp"
#include "save/save_data.hpp"
#include "save/save_in_series.hpp"
#include "save/save_source.hpp"
#include "save/set_parts.hpp"
#include "save/write_file.hpp"

namespace flatbed {

namespace {

class SetWriter {
 public:
  SetWriter(const SavePlan& plan, const SetParts& parts, const SaveSetOptions& options)
      : plan_(plan), parts_(parts), options_(options) {}

  // Finds out what can be known before a byte is written.
  Result<void> prepare();
  Result<void> write(const AtomicFolder& folder);
  Result<void> plan_headers();
  SaveSetReport& report() noexcept { return report_; }

 private:
  Result<void> write_shard(const AtomicFolder& folder, std::size_t shard);
  Result<void> write_index(const AtomicFolder& folder);
  Result<void> commit_last();
  void note_durability(SaveReport file);

  const SavePlan& plan_;
  const SetParts& parts_;
  const SaveSetOptions& options_;
  std::optional<FilePermissions> permissions_;
  std::vector<std::uint32_t> items_;  // the numbers of all items
  std::optional<SourceRecords> records_;
  CastSums casts_;
  std::optional<AtomicFile> last_;  // written and not committed
  std::uint64_t bytes_before_ = 0;
  SaveSetReport report_;
};

Result<void> SetWriter::prepare() {
  FLATBED_ASSIGN(permissions_, source_permissions(plan_));
  items_.resize(plan_.items.size());
  std::iota(items_.begin(), items_.end(), 0U);
  FLATBED_ASSIGN(records_, SourceRecords::of(plan_, items_, options_.file));
  for (const PlannedShard& shard : parts_.shards())
    report_.shards.push_back({shard.file_name, shard.items.size(), 0, {}});
  return {};
}

// For a dry run.
Result<void> SetWriter::plan_headers() {
  for (std::size_t i = 0; i < parts_.shards().size(); ++i) {
    const SavePlan part = parts_.plan_of(i);
    FLATBED_ASSIGN(const PlannedHeader planned, parts_.header(part, i));
    report_.files.nbytes += planned.header.file_nbytes;
    report_.files.header_nbytes =
        std::max<std::uint64_t>(report_.files.header_nbytes, planned.header.bytes.size());
  }
  return {};
}

Result<void> SetWriter::write(const AtomicFolder& folder) {
  if (!permissions_) permissions_ = folder.old_permissions();  // the plan reads only memory
  for (std::size_t i = 0; i < parts_.shards().size(); ++i) FLATBED_TRY(write_shard(folder, i));
  FLATBED_TRY(commit_last());
  FLATBED_ASSIGN(report_.files.crc, records_->finish(options_.file));
  report_.files.casts = report_casts(plan_, items_, casts_);
  if (parts_.shards().size() > 1) return write_index(folder);
  report_.files.content = report_.shards[0].content;
  return {};
}

Result<void> SetWriter::write_shard(const AtomicFolder& folder, std::size_t shard) {
  const PlannedShard& planned_shard = parts_.shards()[shard];
  const SavePlan part = parts_.plan_of(shard);
  FLATBED_ASSIGN(PlannedHeader planned, parts_.header(part, shard));
  safetensors::NewHeader& header = planned.header;
  const SaveOptions options = parts_.file_options(bytes_before_);
  SavedShard& saved = report_.shards[shard];
  const std::filesystem::path path = folder.path() / planned_shard.file_name;
  const NewFile target{path, permissions_, true, folder.target() / planned_shard.file_name};
  FLATBED_ASSIGN(AtomicFile file, create_file(target, options, header.file_nbytes));
  FLATBED_TRY(
      write_part({part, planned_shard.items, *records_, casts_}, options, header, write_to(file)));
  if (options.seal) saved.content = seal_header(header, planned.tensors, planned.metadata);
  FLATBED_TRY(file.write_at(0, as_bytes(header.bytes)));
  saved.nbytes = header.file_nbytes;
  report_.files.nbytes += header.file_nbytes;
  report_.files.header_nbytes =
      std::max<std::uint64_t>(report_.files.header_nbytes, header.bytes.size());
  bytes_before_ += planned_shard.nbytes;
  FLATBED_TRY(commit_last());
  last_.emplace(std::move(file));
  return {};
}

// A shard is synced after the next one was written, when little is left of it to wait for.
Result<void> SetWriter::commit_last() {
  if (!last_) return {};
  SaveReport file;
  FLATBED_TRY(commit_file(*last_, file));
  last_.reset();
  note_durability(std::move(file));
  return {};
}

Result<void> SetWriter::write_index(const AtomicFolder& folder) {
  std::vector<std::string> contents;
  for (const SavedShard& shard : report_.shards) {
    if (options_.file.seal) contents.push_back(shard.content);
  }
  FLATBED_ASSIGN(const std::string text, parts_.index(contents));
  SaveReport file;
  file.nbytes = text.size();
  const std::filesystem::path path = folder.path() / kSetIndexName;
  const NewFile target{path, permissions_, true, folder.target() / kSetIndexName};
  FLATBED_TRY(write_file(target, parts_.file_options(bytes_before_), file,
                         [&](AtomicFile& out) { return out.write_at(0, as_bytes(text)); }));
  report_.files.nbytes += text.size();
  note_durability(std::move(file));
  return {};
}

void SetWriter::note_durability(SaveReport file) {
  if (file.durability == Durability::committed) return;
  report_.files.durability = file.durability;
  report_.files.durability_note = std::move(file.durability_note);
}

void note_commit(FolderReport committed, SaveSetReport& report) {
  if (!committed.commit.durable()) {
    report.files.durability = Durability::durability_unknown;
    report.files.durability_note = std::move(committed.commit.note);
  }
  if (committed.old.empty()) return;
  report.notes.push_back(
      str_cat("the old set could not be removed and is now ", quoted(committed.old.native())));
}

}  // namespace

Result<SaveSetReport> save_set(const std::filesystem::path& folder, const SavePlan& plan,
                               const SaveSetOptions& options) {
  return save_set_in_series(folder, plan, options, {});
}

Result<SaveSetReport> save_set_in_series(const std::filesystem::path& folder, const SavePlan& plan,
                                         const SaveSetOptions& options, std::string_view series) {
  FLATBED_ASSIGN(SetParts parts, SetParts::of(plan, options));
  parts.set_series(series);
  SetWriter writer(plan, parts, options);
  FLATBED_TRY(writer.prepare());
  FLATBED_ASSIGN(AtomicFolder out, AtomicFolder::create(folder, {options.replace, options.file.sync,
                                                                 parts.nbytes()}));
  if (options.file.dry_run) {
    FLATBED_TRY(writer.plan_headers());
    return std::move(writer.report());
  }
  FLATBED_TRY(writer.write(out));
  FLATBED_ASSIGN(FolderReport committed, out.commit());
  note_commit(std::move(committed), writer.report());
  return std::move(writer.report());
}

}  // namespace flatbed
