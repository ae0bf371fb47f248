#include "crc_text.hpp"

#include <fmt/format.h>

#include "format_text.hpp"

namespace flatbed::tool {

namespace {

constexpr std::size_t kMaxMismatchNotes = 8;
constexpr std::size_t kMaxNameColumns = 200;

}  // namespace

std::string mismatch_text(const CrcMismatch& mismatch) {
  return fmt::format("{}: CRC-32 does not match: found 0x{:08x}, expected 0x{:08x}",
                     quoted_text(mismatch.record, kMaxNameColumns), mismatch.found,
                     mismatch.stated);
}

std::vector<std::string> crc_warnings(const CrcReport& report) {
  std::vector<std::string> notes;
  for (const CrcMismatch& mismatch : report.mismatches) {
    if (notes.size() == kMaxMismatchNotes) break;
    notes.push_back("record " + mismatch_text(mismatch));
  }
  if (report.mismatched > notes.size()) {
    notes.push_back(fmt::format("CRC mismatch in {}",
                                count_text(report.mismatched - notes.size(), "more record")));
  }
  return notes;
}

std::vector<std::string> crc_notes(const CrcReport& report) {
  std::vector<std::string> notes;
  if (report.unstated != 0) {
    notes.push_back(fmt::format(
        "{} 0 as CRC, which means none, and cannot be checked",
        count_text(report.unstated, "storage") + (report.unstated == 1 ? " states" : " state")));
  }
  if (report.read_in_part != 0) {
    notes.push_back(fmt::format("no CRC checked for {}: only a small part was read",
                                count_text(report.read_in_part, "large record")));
  }
  for (const std::filesystem::path& path : report.without) {
    notes.push_back(fmt::format("{}: the zip states no CRCs, so its records cannot be checked",
                                path_text(path.filename())));
  }
  return notes;
}

void write_crc_json(const CrcReport& report, JsonWriter& json) {
  json.begin_object().key("checked").number(report.checked);
  json.key("read_in_part").number(report.read_in_part).key("mismatched").number(report.mismatched);
  json.key("mismatches").begin_array();
  for (const CrcMismatch& mismatch : report.mismatches) {
    json.begin_object().path("file", mismatch.file).named("record", mismatch.record);
    json.key("stated").text(fmt::format("{:08x}", mismatch.stated));
    json.key("found").text(fmt::format("{:08x}", mismatch.found)).end_object();
  }
  json.end_array().key("unstated").number(report.unstated);
  json.paths("without", std::span(report.without)).end_object();
}

}  // namespace flatbed::tool
