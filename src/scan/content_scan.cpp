#include "scan/content_scan.hpp"

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>

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

// A loader that takes the file for a pickle runs its first opcodes before it stops. So a file of
// another kind, or one that breaks after its first bytes, may still be a pickle.
void scan_beginning(const ByteSource& file, ScanLog& log) {
  ScanLog found(log.cancel(), log.file_nbytes());
  ScanBytes bytes(file, 0, file.size());
  PickleScan pickle(bytes, found, "", ScanIds::torch, ScanErrors::stop);
  static_cast<void>(pickle.run(0));
  bool any = false;
  for (ScanFinding& finding : found.take()) {
    if (finding.module.empty() && finding.kind != ScanKind::computed) continue;
    any = true;
    log.add(std::move(finding));
  }
  if (!any) return;
  log.count_pickle();
  log.unknown(ScanKind::hidden, "", "a pickle loader runs its first bytes before it stops");
}

// Unpacks up to `limit` bytes. Says in the log why that is not everything.
ByteBuffer unpack(Unpacker& unpacker, std::uint64_t limit, ScanLog& log) {
  ByteBuffer bytes;
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
    if (!count || *count == 0) break;
    filled += *count;
  }
  if (unpacker.trailing_nbytes() != 0)
    log.unknown(ScanKind::trailing, "",
                str_cat(unpacker.trailing_nbytes(), " bytes after the end of the compressed data"));
  bytes.resize(filled);
  return bytes;
}

std::string scan_packed(const ByteSource& file, Packing packing, ScanLog& log, unsigned depth) {
  const std::string what = str_cat(packing == Packing::xz ? "an " : "a ", name(packing), " file");
  if (depth >= kMaxScanDepth) {
    log.unknown(ScanKind::unseen, "", "files nested this deeply in others are not scanned");
    return what;
  }
  Result<Unpacker> unpacker = Unpacker::open(file, packing);
  if (!unpacker) {
    log.unknown(ScanKind::unseen, "", unpacker.error().message);
    return what;
  }
  const ByteBuffer bytes = unpack(*unpacker, std::min(log.unpackable(), log.work()), log);
  log.take_unpacked(bytes.size());
  static_cast<void>(log.take_work(bytes.size()));
  const MemorySource contents(bytes, std::string(file.label()));
  log.enter(str_cat("[", name(packing), "]"));
  const Result<std::string> inner = scan_content(contents, sniff(contents), log, depth + 1);
  log.leave();
  log.give_back(bytes.size());
  return inner ? str_cat(what, " that holds ", *inner) : what;
}

// Names the kind of a file without a pickle, from its beginning.
std::string scan_other(const ByteSource& file, const Result<Content>& content,
                       std::span<const std::byte> head, ScanLog& log) {
  if (const auto code = code_kind(file.label())) {
    log.unknown(ScanKind::code, "", str_cat(*code, ", which no scan judges"));
    return std::string(*code);
  }
  if (content && *content == Content::json) return scan_json(file, log);
  const auto header =
      content ? safetensors::read_header(file) : Result<safetensors::Header>(content.error());
  if (header) return "a safetensors file";
  if (const auto kind = harmless_kind(file, head)) {
    if (*kind == kTextKind && has_python_tag(file))
      log.unknown(ScanKind::code, "", "YAML that makes Python objects where it is loaded");
    return std::string(*kind);
  }
  if (!content) {
    log.unknown(ScanKind::unseen, "", header.error().message);
    return "unknown file type";
  }
  log.unknown(ScanKind::malformed, "",
              str_cat("an invalid safetensors file: ", header.error().message));
  return "a safetensors file";
}

// Everything but a zip by its first bytes.
std::string scan_by_head(const ByteSource& file, const Result<Content>& content,
                         std::span<const std::byte> head, ScanLog& log, unsigned depth) {
  if (is_npy(head)) {
    ScanBytes bytes(file, 0, file.size());
    return scan_npy(bytes, log, {});
  }
  const bool is_header = content && *content == Content::safetensors;
  if (const auto packing = find_packing(head); packing && !is_header)
    return scan_packed(file, *packing, log, depth);
  const bool tar = is_tar_block(head);
  std::string what;
  if (tar) what = scan_tar_file(file, log, depth);
  const bool pickle = (content && *content == Content::pickle) ||
                      looks_like_pickle(head, head.size() == file.size());
  if (pickle && tar) log.unknown(ScanKind::container, "", "a tar that is also a pickle");
  if (pickle) {
    what = scan_pickle_file(file, log);
  } else {
    scan_beginning(file, log);
  }
  return tar || pickle ? what : scan_other(file, content, head, log);
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
    log.unknown(ScanKind::unseen, "", "files nested this deeply in others are not scanned");
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
  // "x^" is more often a text.
  if (!packing || (*packing == Packing::zlib && head[1] == std::byte{'^'})) return {};
  return str_cat(*packing == Packing::xz ? "an " : "a ", name(*packing), " file");
}

}  // namespace flatbed::pth
