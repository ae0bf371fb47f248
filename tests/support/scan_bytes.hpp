// Scans bytes that a test builds, and queries the findings.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <string_view>

#include "flatbed/scan.hpp"
#include "support/temp_dir.hpp"

namespace flatbed::test {

// The result of scan() for a file with these bytes.
inline ScanReport scan_bytes(std::string_view bytes) {
  const TempDir folder;
  write_file(folder / "model.pth", bytes);
  Result<ScanReport> report = scan(folder / "model.pth");
  EXPECT_TRUE(report.has_value()) << (report ? "" : report.error().message);
  return report ? *std::move(report) : ScanReport{};
}

inline ScanVerdict verdict_of(std::string_view bytes) { return scan_bytes(bytes).verdict; }

// The first finding of a kind, about "module.name" if that is given; null if there is none.
inline const ScanFinding* find(const ScanReport& report, ScanKind kind,
                               std::string_view name = "") {
  const auto found = std::ranges::find_if(report.findings, [&](const ScanFinding& finding) {
    return finding.kind == kind &&
           (name.empty() || finding.module + "." + finding.qualname == name);
  });
  return found == report.findings.end() ? nullptr : &*found;
}

// Whether a finding of the kind contains these words.
inline bool says(const ScanReport& report, ScanKind kind, std::string_view words) {
  return std::ranges::any_of(report.findings, [&](const ScanFinding& finding) {
    return finding.kind == kind && finding.text.find(words) != std::string::npos;
  });
}

// All findings that are not plain, for messages.
inline std::string show(const ScanReport& report) {
  std::string text;
  for (const ScanFinding& finding : report.findings) {
    if (finding.severity == ScanVerdict::plain) continue;
    text += std::string(name(finding.severity)) + " " + std::string(name(finding.kind)) + " " +
            finding.module + "." + finding.qualname + " " + finding.record + " " + finding.text +
            "\n";
  }
  return text;
}

}  // namespace flatbed::test
