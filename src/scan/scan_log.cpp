#include "scan/scan_log.hpp"

#include <algorithm>
#include <string_view>
#include <utility>

#include "base/str_cat.hpp"

namespace flatbed::pth {

void ScanLog::add(ScanFinding finding) {
  verdict_ = std::max(verdict_, finding.severity);
  std::string key;
  for (const std::string* part :
       {&finding.record, &finding.module, &finding.qualname, &finding.text})
    key += str_cat(part->size(), ":", *part);
  key += str_cat(static_cast<unsigned>(finding.kind), ".", static_cast<unsigned>(finding.severity));
  const auto key_of = [this](std::uint32_t i) { return std::string_view(keys_[i]); };
  if (const auto there = index_.find(key, key_of)) {
    findings_[*there].count += finding.count;
    return;
  }
  std::size_t& count = counts_[static_cast<std::size_t>(finding.severity)];
  if (count == kMaxFindings) {
    complete_ = false;
    return;
  }
  ++count;
  keys_.push_back(std::move(key));
  index_.insert(keys_.back(), static_cast<std::uint32_t>(findings_.size()), key_of);
  findings_.push_back(std::move(finding));
}

void ScanLog::container(std::string record, std::uint64_t offset, std::string text) {
  add({.severity = ScanVerdict::unknown,
       .kind = ScanKind::container,
       .record = std::move(record),
       .offset = offset,
       .text = std::move(text)});
}

}  // namespace flatbed::pth
