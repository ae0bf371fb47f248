// Any bytes under the scan of pickles.
#include "flatbed/scan.hpp"
#include "fuzz/check.hpp"
#include "fuzz/targets.hpp"

namespace flatbed::fuzz {

void scan(std::string_view bytes) {
  const Result<ScanReport> report = flatbed::scan(source_of(bytes));
  if (!report) return check_error(report.error());
  require(report->files.size() == 1, "a file is one file");
  for (const ScanFinding& finding : report->findings)
    require(finding.severity <= report->verdict, "the verdict is the worst of all findings");
}

}  // namespace flatbed::fuzz
