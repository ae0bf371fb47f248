#include "scan/content_scan.hpp"

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>
#include <vector>

#include "archive/unpack.hpp"
#include "base/bytes.hpp"
#include "base/str_cat.hpp"
#include "io/memory_source.hpp"
#include "safetensors/header.hpp"
#include "scan/index_scan.hpp"
#include "scan/npy_scan.hpp"
#include "scan/plain_kinds.hpp"
#include "scan/stream_scan.hpp"
#include "scan/zip_listing.hpp"
#include "scan/zip_scan.hpp"

namespace flatbed::pth {

namespace {

using namespace std::string_view_literals;

constexpr std::size_t kHead = 4096;
constexpr std::size_t kFirstUnpack = 256 * 1024;
constexpr std::string_view kZipMagic = "PK\x03\x04"sv;

// What a pickle loader does with a file's first bytes before it stops.
struct Beginning {
  std::vector<ScanFinding> findings = {};
  bool runs = false;  // it reaches a call, the file's end, or what the scan cannot follow
};

Beginning read_beginning(const ByteSource& file, const ScanLog& log) {
  ScanLog found(log.cancel(), log.file_nbytes());
  ScanBytes bytes(file, 0, file.size());
  RecordScan scan;
  scan.errors = ScanErrors::stop;
  Beginning beginning;
  beginning.runs = scan_record(bytes, found, scan).end == file.size();
  for (ScanFinding& finding : found.take()) {
    // The others say what is odd about a pickle that imports nothing.
    if (finding.module.empty() && finding.kind != ScanKind::computed &&
        finding.kind != ScanKind::unseen && finding.severity != ScanVerdict::dangerous)
      continue;
    beginning.runs = true;
    beginning.findings.push_back(std::move(finding));
  }
  return beginning;
}

// A loader that takes the file for a pickle runs its first opcodes before it stops. So a file of
// another kind, or one that breaks after its first bytes, may still be a pickle.
void log_beginning(Beginning beginning, ScanLog& log) {
  if (beginning.findings.empty()) return;
  for (ScanFinding& finding : beginning.findings) log.add(std::move(finding));
  log.count_pickle();
  log.unknown(ScanKind::hidden, "", "a pickle loader runs its first bytes before it stops");
}

struct Unpacked {
  ByteBuffer bytes = {};
  bool failed = false;  // damaged or cut off
};

// Unpacks up to `limit` bytes. Says in the log why that is not everything.
Unpacked unpack(Unpacker& unpacker, std::uint64_t limit, ScanLog& log) {
  Unpacked result;
  ByteBuffer& bytes = result.bytes;
  std::size_t filled = 0;
  while (!log.cancelled()) {
    if (filled == limit) {
      log.unknown(ScanKind::unseen, "",
                  str_cat("it unpacks to more than the ", limit, " bytes that are looked at"));
      break;
    }
    if (filled == bytes.size())
      bytes.resize(static_cast<std::size_t>(
          std::min<std::uint64_t>(limit, std::max(bytes.size() * 2, kFirstUnpack))));
    const Result<std::size_t> count = unpacker.read(std::span(bytes).subspan(filled));
    if (!count) log.unknown(ScanKind::unseen, "", count.error().message);
    result.failed = !count;
    if (!count || *count == 0) break;
    filled += *count;
  }
  if (unpacker.trailing_nbytes() != 0)
    log.unknown(ScanKind::trailing, "",
                str_cat(counted(unpacker.trailing_nbytes(), "byte"),
                        " after the end of the compressed data"));
  bytes.resize(filled);
  return result;
}

void log_too_deep(ScanLog& log) {
  log.unknown(ScanKind::unseen, "",
              str_cat("files nested more than ", kMaxScanDepth, " levels deep are not scanned"));
}

std::string packed_kind(Packing packing) {
  const std::string_view word = name(packing);
  return str_cat(word.starts_with('x') || word.starts_with('l') ? "an " : "a ", word, " file");
}

std::string scan_packed(const ByteSource& file, Packing packing, ScanLog& log, unsigned depth) {
  const std::string what = packed_kind(packing);
  if (depth >= kMaxScanDepth) {
    log_too_deep(log);
    return what;
  }
  Result<Unpacker> unpacker = Unpacker::open(file, packing);
  if (!unpacker) {
    log.unknown(ScanKind::unseen, "", unpacker.error().message);
    return what;
  }
  const Unpacked unpacked = unpack(*unpacker, std::min(log.unpackable(), log.work()), log);
  const ByteBuffer& bytes = unpacked.bytes;
  if (unpacked.failed && bytes.empty()) return what;
  log.take_unpacked(bytes.size());
  static_cast<void>(log.take_work(bytes.size()));
  const MemorySource contents(bytes, std::string(file.label()));
  log.enter(str_cat("[", name(packing), "]"));
  const Result<std::string> inner = scan_content(contents, sniff(contents), log, depth + 1);
  log.leave();
  log.give_back(bytes.size());
  return inner ? str_cat(what, " that holds ", *inner) : what;
}

// A file of another kind may be compressed data at the same time: a text of letters alone a zlib
// stream, the header of a safetensors file a gzip file. joblib goes by the first bytes, and unpacks
// and unpickles it. What does not unpack to a pickle that does something is no finding.
void scan_as_packed_too(const ByteSource& file, Packing packing, ScanLog& log) {
  ScanLog ignored(log.cancel());
  Result<Unpacker> unpacker = Unpacker::open(file, packing);
  if (!unpacker) return log.unknown(ScanKind::unseen, "", unpacker.error().message);
  const std::uint64_t limit = std::min(log.unpackable(), log.work());
  const ByteBuffer bytes = unpack(*unpacker, limit, ignored).bytes;
  static_cast<void>(log.take_work(bytes.size()));
  // Data of another kind does not unpack that far by chance.
  if (bytes.size() == limit)
    log.unknown(ScanKind::unseen, "",
                str_cat("it unpacks to more than the ", limit, " bytes that are looked at"));
  const MemorySource contents(bytes, std::string(file.label()));
  log.enter(str_cat("[", name(packing), "]"));
  log_beginning(read_beginning(contents, log), log);
  log.leave();
}

// Names the kind of a file without a pickle, from its beginning.
std::string scan_other(const ByteSource& file, const Result<Content>& content,
                       std::span<const std::byte> head, ScanLog& log, unsigned depth) {
  if (const auto code = code_kind(file.label())) {
    log.unknown(ScanKind::code, "", str_cat(*code, ", which is not analyzed"));
    return std::string(*code);
  }
  if (content && *content == Content::json) return scan_json(file, log, depth);
  const auto header =
      content ? safetensors::read_header(file) : Result<safetensors::Header>(content.error());
  if (header) return "a safetensors file";
  if (const auto kind = harmless_kind(file, head)) {
    if (*kind == kTextKind && has_python_tag(file))
      log.unknown(ScanKind::code, "", std::string(kPythonYaml));
    if (as_text(head).starts_with("x^")) scan_as_packed_too(file, Packing::zlib, log);
    return std::string(*kind);
  }
  if (!content) {
    log.unknown(ScanKind::unseen, "", header.error().message);
    return "a file of unknown type";
  }
  log.unknown(ScanKind::malformed, "",
              str_cat("an invalid safetensors file: ", header.error().message));
  return "a safetensors file";
}

// Scans a pickle, or the beginning of something else as one. Returns the kind of pickle; empty if
// the file is none. A text may begin like a pickle of protocols 0 or 1. It counts as one only if an
// unpickler would do something before it fails.
std::string scan_as_pickle(const ByteSource& file, const Result<Content>& content,
                           std::span<const std::byte> head, ScanLog& log) {
  const bool likely = (content && *content == Content::pickle) ||
                      looks_like_pickle(head, head.size() == file.size());
  if (likely && head[0] == std::byte{0x80}) return scan_pickle_file(file, log);
  Beginning beginning = read_beginning(file, log);
  if (likely && beginning.runs) return scan_pickle_file(file, log);
  log_beginning(std::move(beginning), log);
  return {};
}

// Everything but a zip by its first bytes. torch.load takes a tar by its checksum alone.
std::string scan_by_head(const ByteSource& file, const Result<Content>& content,
                         std::span<const std::byte> head, ScanLog& log, unsigned depth) {
  const std::string tar = is_tar_block(head) ? scan_tar_file(file, log, depth) : std::string();
  std::string what = scan_as_pickle(file, content, head, log);
  const bool is_header = content && *content == Content::safetensors;
  const auto packing = find_packing(head);
  if (is_npy(head)) {
    ScanBytes bytes(file, 0, file.size());
    what = scan_npy(bytes, log, {});
  } else if (packing && what.empty() && !is_header) {
    what = scan_packed(file, *packing, log, depth);
  } else if (packing) {
    scan_as_packed_too(file, *packing, log);
  }
  if (!tar.empty() && !what.empty())
    log.unknown(ScanKind::container, "", str_cat("a tar that is also ", what));
  if (!what.empty()) return what;
  return tar.empty() ? scan_other(file, content, head, log, depth) : tar;
}

}  // namespace

Result<std::string> scan_content(const ByteSource& file, const Result<Content>& content,
                                 ScanLog& log, unsigned depth) {
  std::array<std::byte, kHead> buffer;
  const auto size = static_cast<std::size_t>(std::min<std::uint64_t>(file.size(), kHead));
  const std::span<const std::byte> head = std::span(buffer).first(size);
  FLATBED_TRY(file.read_at(0, std::span(buffer).first(size)));
  // A failure to read is an error, not an unknown format.
  if (!content && static_cast<int>(content.error().code) < 10) return content.error();
  // torch.load decides between zip and other formats by these bytes alone.
  if (as_text(head).starts_with(kZipMagic)) return scan_zip_file(file, log, depth);
  std::string what = scan_by_head(file, content, head, log, depth);
  if (ends_like_zip(file)) {
    log.unknown(ScanKind::container, "", "it ends like a zip but begins like something else");
    FLATBED_ASSIGN(const std::string zip, scan_zip_file(file, log, depth));
    what = str_cat(what, " that is ", zip, " as well");
  }
  return what;
}

void scan_inner_file(const ByteSource& file, std::string_view record, ScanLog& log,
                     unsigned depth) {
  log.enter(record);
  if (depth >= kMaxScanDepth) {
    log_too_deep(log);
  } else {
    const Result<std::string> what = scan_content(file, sniff(file), log, depth + 1);
    if (what) {
      log.unknown(ScanKind::hidden, "", str_cat("a file in the archive: ", *what));
    } else {
      log.unknown(ScanKind::unseen, "", what.error().message);
    }
  }
  log.leave();
}

std::string inner_file_kind(std::span<const std::byte> head) {
  if (as_text(head).starts_with(kZipMagic)) return "a zip";
  if (is_tar_block(head)) return "a tar";
  const auto packing = find_packing(head);
  return packing ? packed_kind(*packing) : std::string();
}

}  // namespace flatbed::pth
