#include "flatbed/save_set.hpp"

#include <algorithm>
#include <atomic>
#include <numeric>
#include <optional>
#include <utility>
#include <vector>

#include "base/bytes.hpp"
#include "base/str_cat.hpp"
#include "io/set_files.hpp"
#include "save/local_sink.hpp"
#include "save/save_data.hpp"
#include "save/save_in_series.hpp"
#include "save/save_source.hpp"
#include "save/set_parts.hpp"

namespace flatbed {

namespace {

class SetWriter {
 public:
  SetWriter(const SavePlan& plan, const SetParts& parts, const SaveSetOptions& options)
      : plan_(plan), parts_(parts), options_(options) {}
  SetWriter(const SetWriter&) = delete;

  // Finds out what can be known before a byte is written.
  Result<void> prepare();
  // Fills the folder and commits it, unless it is a dry run.
  Result<void> run(SinkFolder& folder);
  SaveSetReport& report() noexcept { return report_; }

 private:
  Result<void> plan_headers();
  Result<void> write(SinkFolder& folder);
  Result<void> write_shard(SinkFolder& folder, std::size_t shard);
  Result<void> write_index(SinkFolder& folder);
  Result<void> commit_last();

  const SavePlan& plan_;
  const SetParts& parts_;
  const SaveSetOptions& options_;
  std::vector<std::uint32_t> items_;  // the numbers of all items
  std::optional<SourceRecords> records_;
  CastSums casts_;
  std::atomic<std::uint64_t> rereads_ = 0;
  std::unique_ptr<ByteSink> last_;  // written and not committed
  std::uint64_t bytes_before_ = 0;
  SaveSetReport report_;
};

Result<void> SetWriter::prepare() {
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

Result<void> SetWriter::run(SinkFolder& folder) {
  FLATBED_TRY(folder.begin(parts_.nbytes()));
  if (options_.file.dry_run) return plan_headers();
  FLATBED_TRY(write(folder));
  return folder.commit();
}

Result<void> SetWriter::write(SinkFolder& folder) {
  for (std::size_t i = 0; i < parts_.shards().size(); ++i) FLATBED_TRY(write_shard(folder, i));
  FLATBED_TRY(commit_last());
  FLATBED_ASSIGN(report_.files.crc, records_->finish(options_.file, rereads_));
  report_.files.chunks_reread = rereads_;
  report_.files.casts = report_casts(plan_, items_, casts_);
  if (parts_.shards().size() > 1) return write_index(folder);
  report_.files.content = report_.shards[0].content;
  return {};
}

Result<void> SetWriter::write_shard(SinkFolder& folder, std::size_t shard) {
  const PlannedShard& planned_shard = parts_.shards()[shard];
  const SavePlan part = parts_.plan_of(shard);
  FLATBED_ASSIGN(PlannedHeader planned, parts_.header(part, shard));
  safetensors::NewHeader& header = planned.header;
  const SaveOptions options = parts_.file_options(bytes_before_);
  SavedShard& saved = report_.shards[shard];
  FLATBED_ASSIGN(std::unique_ptr<ByteSink> file, folder.create(planned_shard.file_name));
  FLATBED_TRY(file->begin({header.file_nbytes, header.bytes.size()}));
  FLATBED_TRY(write_part({part, planned_shard.items, *records_, casts_, rereads_}, options, header,
                         write_to(*file)));
  if (options.seal) saved.content = seal_header(header, planned.tensors, planned.metadata);
  FLATBED_TRY(file->write_at(0, as_bytes(header.bytes)));
  saved.nbytes = header.file_nbytes;
  report_.files.nbytes += header.file_nbytes;
  report_.files.header_nbytes =
      std::max<std::uint64_t>(report_.files.header_nbytes, header.bytes.size());
  bytes_before_ += planned_shard.nbytes;
  FLATBED_TRY(commit_last());
  last_ = std::move(file);
  return {};
}

// A shard is committed after the next one was written, when little is left of it to wait for.
Result<void> SetWriter::commit_last() {
  if (!last_) return {};
  FLATBED_TRY(last_->commit());
  last_.reset();
  return {};
}

Result<void> SetWriter::write_index(SinkFolder& folder) {
  std::vector<std::string> contents;
  for (const SavedShard& shard : report_.shards) {
    if (options_.file.seal) contents.push_back(shard.content);
  }
  FLATBED_ASSIGN(const std::string text, parts_.index(contents));
  FLATBED_ASSIGN(std::unique_ptr<ByteSink> file, folder.create(kSetIndexName));
  FLATBED_TRY(file->begin({text.size(), 0}));
  FLATBED_TRY(file->write_at(0, as_bytes(text)));
  FLATBED_TRY(file->commit());
  report_.files.nbytes += text.size();
  return {};
}

}  // namespace

Result<SaveSetReport> save_set(SinkFolder& folder, const SavePlan& plan,
                               const SaveSetOptions& options) {
  FLATBED_ASSIGN(const SetParts parts, SetParts::of(plan, options));
  SetWriter writer(plan, parts, options);
  FLATBED_TRY(writer.prepare());
  FLATBED_TRY(writer.run(folder));
  return std::move(writer.report());
}

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
  LocalFolder local(folder, options, writer.report());
  FLATBED_ASSIGN(const std::optional<FilePermissions> permissions, source_permissions(plan));
  local.set_permissions(permissions);
  FLATBED_TRY(writer.run(local));
  return std::move(writer.report());
}

}  // namespace flatbed
