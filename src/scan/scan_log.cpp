#include "scan/scan_log.hpp"

#include <algorithm>
#include <string_view>
#include <utility>

#include "base/str_cat.hpp"

namespace flatbed::pth {

void ScanLog::add(ScanFinding finding) {
  verdict_ = std::max(verdict_, finding.severity);
  if (!within_.empty())
    finding.record =
        finding.record.empty() ? within_.back() : str_cat(within_.back(), "/", finding.record);
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
  std::size_t& nbytes = nbytes_[static_cast<std::size_t>(finding.severity)];
  if (count == kMaxFindings || nbytes > kMaxFindingBytes) {
    complete_ = false;
    return;
  }
  ++count;
  nbytes += key.size();
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

void ScanLog::unknown(ScanKind kind, std::string record, std::string text) {
  add({.severity = ScanVerdict::unknown,
       .kind = kind,
       .record = std::move(record),
       .text = std::move(text)});
}

void ScanLog::enter(std::string_view record) {
  within_.push_back(within_.empty() ? std::string(record) : str_cat(within_.back(), "/", record));
}

void ScanLog::leave() { within_.pop_back(); }

}  // namespace flatbed::pth
