#include "flatbed/save.hpp"

#include <utility>

#include "base/bytes.hpp"
#include "save/planned_header.hpp"
#include "save/save_data.hpp"
#include "save/save_in_series.hpp"
#include "save/save_source.hpp"
#include "save/write_file.hpp"

namespace flatbed {

Result<SaveReport> save(const std::filesystem::path& path, const SavePlan& plan,
                        const SaveOptions& options) {
  return save_in_series(path, plan, options, {});
}

Result<SaveReport> save_in_series(const std::filesystem::path& path, const SavePlan& plan,
                                  const SaveOptions& options, std::string_view series) {
  FLATBED_ASSIGN(PlannedHeader::Texts texts, plan_texts(plan, options));
  texts.series = series;
  FLATBED_ASSIGN(PlannedHeader planned, plan_header(plan, std::move(texts), options));
  safetensors::NewHeader& header = planned.header;
  SaveReport report;
  report.nbytes = header.file_nbytes;
  report.header_nbytes = header.bytes.size();
  FLATBED_ASSIGN(const std::optional<FilePermissions> permissions, source_permissions(plan));
  const auto write = [&](AtomicFile& file) -> Result<void> {
    FLATBED_ASSIGN(DataReport found, write_data(plan, options, header, file));
    report.crc = std::move(found.crc);
    report.casts = std::move(found.casts);
    if (options.seal) report.content = seal_header(header, planned.tensors, planned.metadata);
    // Written last, so that what a killed process leaves never looks like a whole file.
    return file.write_at(0, as_bytes(header.bytes));
  };
  FLATBED_TRY(write_file({path, permissions}, options, report, write));
  return report;
}

}  // namespace flatbed
