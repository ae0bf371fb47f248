// Series::verify(): every byte of every checkpoint.
#include <algorithm>
#include <utility>

#include "series/series_state.hpp"

namespace flatbed {

namespace {

Result<VerifyReport> verify_entry(const SeriesEntry& entry, const VerifyOptions& options) {
  FLATBED_ASSIGN(const Checkpoint checkpoint, Series::open_entry(entry));
  return verify(checkpoint, options);
}

}  // namespace

Result<SeriesVerify> Series::verify(const VerifyOptions& options) const {
  FLATBED_ASSIGN(SeriesListing listing, list());
  SeriesVerify verified{{}, std::move(listing.notes)};
  for (SeriesEntry& entry : listing.entries) {
    Result<VerifyReport> report = verify_entry(entry, options);
    if (!report && report.error().code == ErrorCode::cancelled) return std::move(report).error();
    verified.entries.push_back({std::move(entry), std::move(report)});
  }
  return verified;
}

bool SeriesVerify::ok() const {
  return notes.empty() && std::ranges::all_of(entries, &VerifiedEntry::ok);
}

}  // namespace flatbed
