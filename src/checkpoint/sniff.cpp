#include "checkpoint/sniff.hpp"

#include <algorithm>
#include <array>
#include <string_view>

#include "base/bytes.hpp"
#include "base/str_cat.hpp"
#include "pickle/pickle_reader.hpp"
#include "safetensors/header.hpp"
#include "safetensors/safetensors_container.hpp"
#include "torch/torch_container.hpp"

namespace flatbed {

namespace {

using namespace std::string_view_literals;

struct Magic {
  std::size_t offset;
  std::string_view bytes;
  ErrorCode code;
  std::string_view what;
};

constexpr ErrorCode kFormat = ErrorCode::unsupported_format;
constexpr ErrorCode kLayout = ErrorCode::unsupported_layout;

constexpr std::array kMagics{
    Magic{0, "version https://git-lfs"sv, kFormat,
          "a git-lfs pointer, not the file itself: fetch it with `git lfs pull`"},
    Magic{0, "<!DOCTYPE"sv, kFormat, "an HTML page: probably a failed download"},
    Magic{0, "<!doctype"sv, kFormat, "an HTML page: probably a failed download"},
    Magic{0, "<html"sv, kFormat, "an HTML page: probably a failed download"},
    Magic{0, "<HTML"sv, kFormat, "an HTML page: probably a failed download"},
    Magic{0, "<?xml"sv, kFormat, "an XML document: possibly a failed download"},
    Magic{0, "GGUF"sv, kFormat, "a GGUF file"},
    Magic{0, "\x89HDF"sv, kFormat, "an HDF5 file (Keras, older TensorFlow)"},
    Magic{0, "\x93NUMPY"sv, kFormat, "a NumPy array file (.npy)"},
    Magic{0, "PYTORCH1"sv, kLayout,
          "a PyTorch preview archive, which no released version of PyTorch reads"},
    Magic{
        4, "PTMF"sv, kLayout,
        "a TorchScript mobile file (flatbuffer); in Python, "
        "torch.save(torch.jit.load(path).state_dict(), other) makes a file that flatbed can read"},
    Magic{0, "PK\x05\x06"sv, kFormat, "an empty zip archive"},
    Magic{0, "\x1f\x8b"sv, kFormat, "a gzip file: unpack it first"},
    Magic{0, "\x28\xb5\x2f\xfd"sv, kFormat, "a zstd file: unpack it first"},
    Magic{0, "\xfd\x37zXZ"sv, kFormat, "an xz file: unpack it first"},
    Magic{0, "BZh"sv, kFormat, "a bzip2 file: unpack it first"},
    Magic{0, "7z\xbc\xaf"sv, kFormat, "a 7z archive: unpack it first"},
    Magic{0, "%PDF"sv, kFormat, "a PDF document"},
};

bool matches(const Magic& magic, std::string_view head) {
  return head.size() >= magic.offset && head.substr(magic.offset).starts_with(magic.bytes);
}

// PROTO 0..5: a pickle of torch or of another program.
bool is_pickle(std::string_view head) {
  return head.size() >= 3 && head[0] == '\x80' && static_cast<unsigned char>(head[1]) <= 5 &&
         head[2] != 0;
}

// Protocols 0 and 1 have no mark at the beginning. They are recognized by valid opcodes in the
// whole head, the first of which makes a value, and a STOP at the end of the head or of the file.
Result<bool> is_old_pickle(const ByteSource& file, std::string_view head) {
  constexpr std::string_view kFirst = "()]}cFGIJKLMNSTUVX";
  if (head.empty() || kFirst.find(head[0]) == kFirst.npos) return false;
  pth::PickleReader reader(as_bytes(head));
  for (;;) {
    const Result<void> next = reader.next();
    if (!next && next.error().code != ErrorCode::pickle_truncated) return false;
    if (!next) break;
    if (reader.op() == pth::Op::stop) return true;
    if (reader.group() == pth::OpGroup::unknown || reader.group() == pth::OpGroup::refused)
      return false;
  }
  std::byte last{};
  FLATBED_TRY(file.read_at(file.size() - 1, {&last, 1}));
  return head.size() < file.size() && last == std::byte{'.'};
}

bool is_space(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

// A JSON text, possibly after a byte order mark. It must not be a safetensors length field, whose
// upper bytes are zero.
bool is_json(std::string_view head) {
  if (head.substr(0, 8).find('\0') != head.npos) return false;
  if (head.starts_with("\xEF\xBB\xBF")) head.remove_prefix(3);
  const auto first = std::find_if_not(head.begin(), head.end(), is_space);
  return first != head.end() && (*first == '{' || *first == '[');
}

// The length field and the first byte of a header. Any length is allowed, even if its bytes are a
// magic number of the table: \x1f\x8b is 35,615.
bool is_header(std::string_view head) {
  return head.size() > 8 && load_le64(as_bytes(head).data()) <= safetensors::kMaxHeader &&
         (head[8] == '{' || is_space(head[8]));
}

// Nothing like a broken safetensors file: the length field is absurd and no JSON follows it.
bool is_junk(std::string_view head) {
  if (head.size() < 9) return false;
  const std::uint64_t length = load_le64(as_bytes(head).data());
  return length > safetensors::kMaxHeader && head[8] != '{' && head[8] != '\xEF' &&
         !is_space(head[8]);
}

bool is_zero(std::string_view bytes) { return bytes.find_first_not_of('\0') == bytes.npos; }

// The first bytes are zero. Looks at the middle and the end, too.
Result<bool> is_all_zeros(const ByteSource& file) {
  std::array<std::byte, 512> buffer;
  const std::uint64_t last = file.size() - std::min<std::uint64_t>(file.size(), buffer.size());
  const auto size = static_cast<std::size_t>(file.size() - last);
  for (const std::uint64_t offset : {last / 2, last}) {
    FLATBED_TRY(file.read_at(offset, std::span(buffer).first(size)));
    if (!is_zero(as_text(std::span(buffer).first(size)))) return false;
  }
  return true;
}

}  // namespace

Result<Content> sniff(const ByteSource& file) {
  std::array<std::byte, 512> buffer;
  const auto size = static_cast<std::size_t>(std::min<std::uint64_t>(file.size(), buffer.size()));
  FLATBED_TRY(file.read_at(0, std::span(buffer).first(size)));
  const std::string_view head = as_text(std::span(buffer).first(size));
  if (is_header(head)) return Content::safetensors;
  if (head.size() > 8 && is_zero(head)) {
    FLATBED_ASSIGN(const bool zeros, is_all_zeros(file));
    // By its length field it would be a safetensors file with an empty header (spec R5).
    if (zeros)
      return make_error(ErrorCode::header_not_json,
                        "the file is all zeros: a download that was given its size and never "
                        "filled?");
  }
  if (head.starts_with("PK\x03\x04"sv)) {
    // Consecutive zips of torch.save, which only the metadata can tell apart.
    if (file.label().ends_with(".distcp"))
      return make_error(kLayout, "this is ", pth::kDistributedAdvice);
    return Content::zip;
  }
  // A text has no zero bytes. Its names may well hold a magic number: "PTMF", or the "ustar" of
  // "mustard".
  if (is_json(head) && head.find('\0') == head.npos) return Content::json;
  for (const Magic& magic : kMagics) {
    if (matches(magic, head)) return make_error(magic.code, "this is ", magic.what);
  }
  if (head.size() > 262 && head.substr(257, 5) == "ustar") return Content::tar;
  if (is_pickle(head)) return Content::pickle;
  if (is_json(head)) return Content::json;
  FLATBED_ASSIGN(const bool old_pickle, is_old_pickle(file, head));
  if (old_pickle) return Content::pickle;
  if (is_junk(head)) return make_error(ErrorCode::unknown_format, "unrecognized file format");
  return Content::safetensors;
}

Result<std::unique_ptr<Container>> open_container(std::shared_ptr<const ByteSource> source,
                                                  Content content,
                                                  const ContainerOptions& options) {
  switch (content) {
    case Content::safetensors:
      return safetensors::SafetensorsContainer::open(std::move(source), options);
    case Content::zip:
      return pth::TorchContainer::open_zip(std::move(source), options);
    case Content::tar:
      return pth::TorchContainer::open_tar(std::move(source), options);
    case Content::pickle:
      return pth::TorchContainer::open_pickle(std::move(source), options);
    case Content::json:
      break;
  }
  return make_error(ErrorCode::unsupported_format,
                    "this is a JSON text; if it is an index, open the shards that it names");
}

}  // namespace flatbed
