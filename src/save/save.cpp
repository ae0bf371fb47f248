#include "flatbed/save.hpp"

#include <cstring>
#include <utility>

#include "base/bytes.hpp"
#include "base/str_cat.hpp"
#include "save/local_sink.hpp"
#include "save/planned_header.hpp"
#include "save/save_data.hpp"
#include "save/save_in_series.hpp"
#include "save/save_source.hpp"

namespace flatbed {

namespace {

SaveReport report_of(const safetensors::NewHeader& header) {
  SaveReport report;
  report.nbytes = header.file_nbytes;
  report.header_nbytes = header.bytes.size();
  return report;
}

// The data and then the header: written last, so that what a killed process leaves never looks like
// a whole file.
Result<void> write_contents(const SavePlan& plan, const SaveOptions& options,
                            PlannedHeader& planned, const DataTarget& target, SaveReport& report) {
  safetensors::NewHeader& header = planned.header;
  FLATBED_ASSIGN(DataReport found, write_data(plan, options, header, target));
  report.crc = std::move(found.crc);
  report.casts = std::move(found.casts);
  report.chunks_reread = found.chunks_reread;
  if (options.seal) report.content = seal_header(header, planned.tensors, planned.metadata);
  return target.write(0, as_bytes(header.bytes));
}

Result<void> write_to_sink(ByteSink& sink, const SavePlan& plan, const SaveOptions& options,
                           PlannedHeader& planned, SaveReport& report) {
  FLATBED_TRY(sink.begin({report.nbytes, planned.header.bytes.size()}));
  // What was begun is not committed, so a dry run ends here as the run would.
  if (options.dry_run) return {};
  FLATBED_TRY(write_contents(plan, options, planned, write_to(sink), report));
  return sink.commit();
}

}  // namespace

Result<SaveReport> save(ByteSink& sink, const SavePlan& plan, const SaveOptions& options) {
  FLATBED_ASSIGN(PlannedHeader planned, plan_header(plan, options));
  SaveReport report = report_of(planned.header);
  FLATBED_TRY(write_to_sink(sink, plan, options, planned, report));
  return report;
}

Result<SaveReport> save(const std::filesystem::path& path, const SavePlan& plan,
                        const SaveOptions& options) {
  return save_in_series(path, plan, options, {});
}

Result<SaveReport> save_in_series(const std::filesystem::path& path, const SavePlan& plan,
                                  const SaveOptions& options, std::string_view series) {
  FLATBED_ASSIGN(PlannedHeader::Texts texts, plan_texts(plan, options));
  texts.series = series;
  FLATBED_ASSIGN(PlannedHeader planned, plan_header(plan, std::move(texts), options));
  SaveReport report = report_of(planned.header);
  FLATBED_ASSIGN(const std::optional<FilePermissions> permissions, source_permissions(plan));
  LocalSink sink({path, permissions}, options, report);
  FLATBED_TRY(write_to_sink(sink, plan, options, planned, report));
  return report;
}

Result<SaveReport> save_memory(const SavePlan& plan, const AllocateFile& allocate,
                               const SaveOptions& options) {
  FLATBED_ASSIGN(PlannedHeader planned, plan_header(plan, options));
  SaveReport report = report_of(planned.header);
  report.durability = Durability::durability_unknown;
  report.durability_note = "the file is in memory";
  if (options.dry_run) return report;
  FLATBED_ASSIGN(const std::span<std::byte> file, allocate(report.nbytes));
  if (file.size() != report.nbytes) {
    return make_error(ErrorCode::buffer_too_small, "the memory for the file has ", file.size(),
                      " bytes, expected ", report.nbytes);
  }
  const WriteBytes write = [file](std::uint64_t offset, std::span<const std::byte> bytes) {
    std::memcpy(file.data() + offset, bytes.data(), bytes.size());
    return Result<void>();
  };
  FLATBED_TRY(write_contents(plan, options, planned, {write, false}, report));
  return report;
}

}  // namespace flatbed
