//   93 'NUMPY'  major  minor  N: u16 in version 1, u32 in 2 and 3  header: N bytes  data
//   the header is a Python dictionary: {'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }
#include "scan/npy_scan.hpp"

#include <algorithm>
#include <string_view>
#include <utility>

#include "base/bytes.hpp"
#include "base/str_cat.hpp"

namespace flatbed::pth {

namespace {

constexpr std::string_view kMagic("\x93NUMPY", 6);
constexpr std::size_t kFixed = 8;  // with the version
constexpr std::uint32_t kMaxHeader = 1 << 20;
constexpr int kMaxNesting = 16;

// Walks the header's literal. Its dtype is '<f4', or a list of fields ('name', dtype[, shape]); a
// field's name may also be a pair of title and name.
class NpyHeader {
 public:
  explicit NpyHeader(std::string_view text) : text_(text) {}

  // Whether it is certain that the data is no pickle: the three keys, each once, and a dtype
  // without objects. Python's literals have other ways to write the same, which nobody uses.
  bool is_numeric() {
    bool seen[3] = {};
    if (!take('{')) return false;
    while (!take('}')) {
      std::string_view key;
      if (!take_text(key) || !take(':')) return false;
      const std::size_t number = key == "descr" ? 0 : key == "fortran_order" ? 1 : 2;
      if ((number == 2 && key != "shape") || std::exchange(seen[number], true)) return false;
      if (!(number == 0 ? dtype(0) : number == 1 ? flag() : shape())) return false;
      if (!take(',') && !text_.starts_with('}')) return false;
    }
    skip_blanks();
    return text_.empty() && seen[0] && seen[1] && seen[2];
  }

 private:
  bool flag() {
    skip_blanks();
    for (const std::string_view word : {"True", "False"}) {
      if (!text_.starts_with(word)) continue;
      text_.remove_prefix(word.size());
      return true;
    }
    return false;
  }

  bool shape() {
    if (!take('(')) return false;
    text_.remove_prefix(std::min(text_.find_first_not_of("0123456789, L"), text_.size()));
    return take(')');
  }

  void skip_blanks() {
    while (!text_.empty() && (text_[0] == ' ' || text_[0] == '\n')) text_.remove_prefix(1);
  }

  bool take(char c) {
    skip_blanks();
    if (!text_.starts_with(c)) return false;
    text_.remove_prefix(1);
    return true;
  }

  // A text without escapes.
  bool take_text(std::string_view& text) {
    skip_blanks();
    if (text_.starts_with('u') || text_.starts_with('b')) text_.remove_prefix(1);  // Python 2
    if (text_.empty() || (text_[0] != '\'' && text_[0] != '"')) return false;
    const std::size_t end = text_.find(text_[0], 1);
    if (end == text_.npos) return false;
    text = text_.substr(1, end - 1);
    text_.remove_prefix(end + 1);
    return text.find('\\') == text.npos;
  }

  // A letter with a size: "<f4", "|S10", "<M8[ns]", "?".
  static bool is_number(std::string_view type) {
    if (!type.empty() && std::string_view("<>|=").find(type[0]) != type.npos) type.remove_prefix(1);
    if (type.empty() || std::string_view("?bBhHiIlLqQuefdgFDGSaUVcmM").find(type[0]) == type.npos)
      return false;
    type.remove_prefix(1);
    const std::size_t digits = std::min(type.find_first_not_of("0123456789"), type.size());
    type.remove_prefix(digits);
    return type.empty() || (type.starts_with('[') && type.find(']') == type.size() - 1);
  }

  // Up to the bracket that closes a shape: numbers alone.
  bool skip_shape() {
    skip_blanks();
    const std::size_t end = text_.find_first_not_of("0123456789(, L)");
    if (end == text_.npos) return false;
    // The last bracket closes the field.
    const std::size_t close = text_.substr(0, end).rfind(')');
    if (close == text_.npos) return false;
    text_.remove_prefix(close);
    return true;
  }

  bool field(int depth) {
    std::string_view name;
    if (!take('(')) return false;
    if (take('(')) {
      if (!take_text(name) || !take(',') || !take_text(name) || !take(')')) return false;
    } else if (!take_text(name)) {
      return false;
    }
    if (!take(',') || !dtype(depth + 1)) return false;
    if (take(')')) return true;
    return take(',') && skip_shape() && take(')');
  }

  bool dtype(int depth) {
    if (depth > kMaxNesting) return false;
    std::string_view type;
    if (take_text(type)) return is_number(type);
    if (!take('[')) return false;
    while (!take(']')) {
      if (!field(depth)) return false;
      take(',');
    }
    return true;
  }

  std::string_view text_;
};

// The offset of the data, or 0 if the header is not there.
std::size_t find_data(ScanBytes& bytes) {
  while (bytes.have().size() < kFixed + 4 && bytes.fetch(kFixed + 4)) {
  }
  if (bytes.have().size() < kFixed + 4) return 0;
  const auto major = static_cast<unsigned>(bytes.have()[kMagic.size()]);
  const std::byte* length = bytes.have().data() + kFixed;
  const std::uint32_t nbytes = major == 1 ? load_le16(length) : load_le32(length);
  if (major < 1 || major > 3 || nbytes > kMaxHeader) return 0;
  const std::size_t begin = kFixed + (major == 1 ? 2 : 4) + std::size_t{nbytes};
  while (bytes.have().size() < begin && bytes.fetch(begin)) {
  }
  return bytes.have().size() < begin ? 0 : begin;
}

}  // namespace

bool is_npy(std::span<const std::byte> head) noexcept { return as_text(head).starts_with(kMagic); }

std::string scan_npy(ScanBytes& bytes, ScanLog& log, const RecordScan& scan) {
  const std::size_t data = find_data(bytes);
  if (data == 0) {
    log.unknown(ScanKind::malformed, scan.record, "an array file of NumPy with a broken header");
    return "a NumPy array file";
  }
  const std::size_t header = kFixed + (bytes.have()[kMagic.size()] == std::byte{1} ? 2 : 4);
  if (NpyHeader(as_text(bytes.have()).substr(header, data - header)).is_numeric())
    return "a NumPy array file";
  log.unknown(ScanKind::unseen, scan.record,
              "a NumPy array that may hold objects, which numpy.load(allow_pickle=True) unpickles");
  RecordScan pickle = scan;
  pickle.begin = data;
  static_cast<void>(scan_record(bytes, log, pickle));
  return "a NumPy array file of objects";
}

}  // namespace flatbed::pth
