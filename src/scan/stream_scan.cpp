#include "scan/stream_scan.hpp"

#include <algorithm>
#include <utility>
#include <vector>

#include "base/bytes.hpp"
#include "base/str_cat.hpp"
#include "pickle/pickle_literal.hpp"
#include "torch/legacy_stream.hpp"
#include "torch/torch_pickle.hpp"

namespace flatbed::pth {

namespace {

constexpr std::uint64_t kLookAhead = 4096;
constexpr int kLegacyPickles = 5;
constexpr std::uint64_t kFreeLegacyBytes = 4 << 20;

void unknown(ScanLog& log, const RecordScan& scan, ScanKind kind, std::uint64_t offset,
             std::string text) {
  log.add({.severity = ScanVerdict::unknown,
           .kind = kind,
           .record = scan.record,
           .offset = offset,
           .text = std::move(text)});
}

// The bytes passed to a call, as they are when it runs; empty if a text is not a form of bytes.
std::string nested_bytes(const ScanBytes& bytes, const NestedBytes& nested) {
  const std::string_view raw = as_text(bytes.have()).substr(nested.text.offset, nested.text.nbytes);
  std::string text(raw);
  if (nested.text.op == Op::string) text = parse_quoted(raw).value_or(std::string());
  if (nested.text.op == Op::unicode) text = parse_raw_unicode(raw).value_or(std::string());
  std::string latin1;
  if (nested.latin1) return to_latin1(text, latin1) ? latin1 : std::string();
  return text;
}

void scan_nested(const std::string& contents, ScanLog& log, const RecordScan& outer) {
  RecordScan scan;
  scan.record = outer.record.empty() ? "[bytes]" : outer.record + " [bytes]";
  scan.depth = outer.depth + 1;
  scan.errors = outer.errors;
  const bool archive = contents.starts_with("PK") || is_tar_block(as_bytes(contents));
  if (scan.depth > kMaxScanDepth || archive || contents.empty())
    return unknown(log, scan, ScanKind::unseen, 0,
                   archive ? "an archive in the bytes of a pickle is not scanned"
                           : str_cat("pickles nested more than ", kMaxScanDepth,
                                     " levels deep in the bytes of pickles are not scanned"));
  ScanBytes bytes(as_bytes(contents));
  static_cast<void>(scan_record(bytes, log, scan));
}

// Whether a pickle begins at `at`, even if it is cut off.
bool goes_on(ScanBytes& bytes, std::uint64_t at) {
  while (bytes.have().size() < std::min(at + kLookAhead, bytes.size()) &&
         bytes.fetch(at + kLookAhead)) {
  }
  const std::span<const std::byte> have = bytes.have();
  if (have.size() <= at) return false;
  return looks_like_pickle(have.subspan(static_cast<std::size_t>(at)), false);
}

}  // namespace

RecordEnd scan_record(ScanBytes& bytes, ScanLog& log, const RecordScan& scan) {
  RecordEnd result;
  result.end = scan.begin;
  ScanErrors errors = scan.errors;
  for (int number = 0;; ++number) {
    PickleScan pickle(bytes, log, scan.record, scan.ids, errors);
    const std::uint64_t begin = result.end;
    const std::optional<std::uint64_t> end = pickle.run(begin);
    std::vector<NestedBytes> nested = pickle.nested();
    for (const NestedBytes& part : nested) scan_nested(nested_bytes(bytes, part), log, scan);
    if (number == 0) result.storages = pickle.storages();
    if (!end || log.cancelled()) return result;
    result.end = *end;
    if (number == 0)
      result.legacy =
          scan.begin == 0 && is_legacy_magic(bytes.have().first(static_cast<std::size_t>(*end)));
    result.whole = !result.legacy || number + 1 == kLegacyPickles;
    if (result.legacy && result.whole) return result;
    if (result.legacy) continue;
    if (*end == bytes.size()) return result;
    const bool more = goes_on(bytes, *end);
    if (number == 0 || (!more && errors == ScanErrors::go_on))
      unknown(log, scan, ScanKind::trailing, *end,
              more ? "another pickle follows the first"
                   : str_cat(counted(bytes.size() - *end, "byte"), " after the end of the pickle"));
    // A loader that is called again runs even that up to the first error.
    if (!more) errors = ScanErrors::stop;
  }
}

std::string scan_pickle_file(const ByteSource& file, ScanLog& log) {
  ScanBytes bytes(file, 0, file.size());
  const RecordScan scan;
  const RecordEnd found = scan_record(bytes, log, scan);
  if (!found.legacy) return "a pickle";
  const std::string what = "a legacy file of torch.save";
  if (!found.whole || log.cancelled()) return what;
  // The storages: raw numbers, if they match the pickles. Reading takes many bytes of memory for
  // each of the pickles'.
  if (found.end > kFreeLegacyBytes && found.end > log.file_nbytes()) {
    unknown(log, scan, ScanKind::unseen, found.end,
            "the pickles are too large for this file's size, so what follows them is not scanned");
    return what;
  }
  const Result<TorchFile> torch = read_torch_pickle(file);
  if (!torch) {
    unknown(log, scan, ScanKind::unseen, found.end,
            str_cat("the data after the pickles does not match them: ", torch.error().message));
    return what;
  }
  std::uint64_t end = found.end;
  for (const TorchStorage& storage : torch->storages) {
    if (storage.held == kNotHeld)
      end = std::max(end, storage.stored_offset + storage.stored_nbytes);
  }
  if (file.size() > end)
    unknown(log, scan, ScanKind::trailing, end,
            str_cat(file.size() - end, " bytes after the last storage"));
  return what;
}

}  // namespace flatbed::pth
