#include "scan/plain_kinds.hpp"

#include <algorithm>
#include <array>
#include <string>
#include <utility>
#include <vector>

#include "base/ascii.hpp"
#include "base/bytes.hpp"
#include "base/text_char.hpp"

namespace flatbed::pth {

namespace {

using namespace std::string_view_literals;

constexpr std::size_t kWindow = 64 * 1024;
constexpr std::uint64_t kMaxSentencePiece = 64 << 20;
// The longest beginning of a tag that counts: "!<tag:yaml.org,2002:python/", each character as %XX.
constexpr std::size_t kTagOverlap = 96;

struct KindRow {
  std::string_view ending;  // or the first bytes
  std::string_view kind;
};
constexpr std::array kCode{
    KindRow{".py", "Python code"},           KindRow{".pyc", "compiled Python code"},
    KindRow{".pyo", "compiled Python code"}, KindRow{".pyd", "native code"},
    KindRow{".so", "native code"},           KindRow{".dylib", "native code"},
    KindRow{".dll", "native code"},          KindRow{".whl", "a Python package"},
    KindRow{".egg", "a Python package"}};
constexpr std::array kImages{KindRow{"\x89PNG\r\n\x1a\n"sv, "an image"},
                             KindRow{"\xff\xd8\xff"sv, "an image"}, KindRow{"GIF8"sv, "an image"}};

// Calls `see` with each window of the file, which overlaps the one before by `overlap` bytes, until
// it returns false. Returns false then, and where the file cannot be read.
template <typename See>
bool see_all(const ByteSource& file, std::size_t overlap, See see) {
  std::vector<std::byte> window(kWindow);
  for (std::uint64_t at = 0; at < file.size();) {
    const auto size = static_cast<std::size_t>(std::min<std::uint64_t>(kWindow, file.size() - at));
    const std::span<std::byte> bytes = std::span(window).first(size);
    if (!file.read_at(at, bytes) || !see(as_text(bytes))) return false;
    if (at + size == file.size()) break;
    at += size - overlap;
  }
  return true;
}

// A protobuf message: fields 1 to 5, each with a length, of which the first is a piece, up to the
// end of the file. Python's packages for it run no code.
//   0A <length> 0A <length> '<unk>' ...
bool is_sentence_piece(const ByteSource& file, std::span<const std::byte> head) {
  if (file.size() > kMaxSentencePiece || head.size() < 4 || head[0] != std::byte{0x0A} ||
      head[2] != std::byte{0x0A})
    return false;
  std::vector<std::byte> bytes(static_cast<std::size_t>(file.size()));
  if (!file.read_at(0, bytes)) return false;
  for (std::size_t at = 0; at < bytes.size();) {
    const auto tag = static_cast<unsigned>(bytes[at++]);
    if ((tag & 7) != 2 || tag < 0x0A || tag > 0x2A) return false;
    std::uint64_t nbytes = 0;
    for (unsigned shift = 0;; shift += 7) {
      if (at == bytes.size() || shift > 28) return false;
      const auto part = static_cast<std::uint64_t>(bytes[at++]);
      nbytes |= (part & 0x7F) << shift;
      if (part < 0x80) break;
    }
    if (nbytes > bytes.size() - at) return false;
    at += static_cast<std::size_t>(nbytes);
  }
  return true;
}

int hex_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

// Whether the text begins with `wanted`, any character of which may be escaped: %6F.
bool begins_as(std::string_view text, std::string_view wanted) {
  for (const char c : wanted) {
    if (text.size() >= 3 && text[0] == '%' && hex_value(text[1]) >= 0 && hex_value(text[2]) >= 0) {
      if (hex_value(text[1]) * 16 + hex_value(text[2]) != c) return false;
      text.remove_prefix(3);
    } else if (text.starts_with(c)) {
      text.remove_prefix(1);
    } else {
      return false;
    }
  }
  return true;
}

// "!!python/..." and "!<tag:yaml.org,2002:python/...>".
bool has_tag(std::string_view text) {
  for (std::size_t at = text.find('!'); at != text.npos; at = text.find('!', at + 1)) {
    const std::string_view rest = text.substr(at + 1, kTagOverlap);
    if (rest.starts_with('!') && begins_as(rest.substr(1), "python/")) return true;
    if (rest.starts_with('<') && begins_as(rest.substr(1), "tag:yaml.org,2002:python/"))
      return true;
  }
  return false;
}

// A line that begins with %TAG, which defines abbreviations of tags. YAML also ends lines with
// characters outside ASCII, and a byte order mark may come first. The first character of a window
// counts only if it is the file's.
bool has_directive(std::string_view text, bool first_window) {
  constexpr std::string_view kDirective = "%TAG";
  for (std::size_t at = text.find(kDirective); at != text.npos;
       at = text.find(kDirective, at + 1)) {
    const auto before = static_cast<unsigned char>(at == 0 ? '\0' : text[at - 1]);
    if (at == 0 ? first_window : before == '\n' || before == '\r' || before >= 0x80) return true;
  }
  return false;
}

}  // namespace

bool is_model_name(std::string_view path) {
  constexpr std::array kEndings{".bin"sv, ".pt"sv,     ".pth"sv,    ".ckpt"sv,        ".pkl"sv,
                                ".tar"sv, ".pickle"sv, ".joblib"sv, ".distcp"sv,      ".model"sv,
                                ".npy"sv, ".npz"sv,    ".ptl"sv,    ".safetensors"sv, ".zip"sv};
  return std::ranges::any_of(kEndings, [&](std::string_view e) { return has_ending(path, e); });
}

std::optional<std::string_view> code_kind(std::string_view path) {
  const auto found =
      std::ranges::find_if(kCode, [&](const KindRow& row) { return has_ending(path, row.ending); });
  return found == kCode.end() ? std::nullopt : std::optional(found->kind);
}

std::optional<std::string_view> harmless_kind(const ByteSource& file,
                                              std::span<const std::byte> head) {
  if (is_sentence_piece(file, head)) return "a SentencePiece model";
  if (is_model_name(file.label())) return std::nullopt;
  if (file.size() == 0) return "an empty file";
  for (const KindRow& row : kImages) {
    if (as_text(head).starts_with(row.ending)) return row.kind;
  }
  const bool text = see_all(
      file, 0, [](std::string_view window) { return std::ranges::all_of(window, is_text_char); });
  return text ? std::optional(kTextKind) : std::nullopt;
}

bool has_python_tag(const ByteSource& file) {
  bool first = true;
  return !see_all(file, kTagOverlap, [&](std::string_view window) {
    return !has_tag(window) && !has_directive(window, std::exchange(first, false));
  });
}

bool has_python_tag(std::string_view text) { return has_tag(text) || has_directive(text, true); }

}  // namespace flatbed::pth
