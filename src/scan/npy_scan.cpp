//   93 'NUMPY'  major  minor  N: u16 in version 1, u32 in 2 and 3  header: N bytes  data
//   the header is a Python dictionary: {'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }
#include "scan/npy_scan.hpp"

#include <algorithm>
#include <optional>
#include <string_view>
#include <utility>

#include "base/bytes.hpp"
#include "base/checked.hpp"
#include "base/str_cat.hpp"

namespace flatbed::pth {

namespace {

constexpr std::string_view kMagic("\x93NUMPY", 6);
constexpr std::size_t kFixed = 8;  // with the version
constexpr std::uint32_t kMaxHeader = 1 << 20;
constexpr int kMaxNesting = 16;
constexpr std::size_t kMaxArrays = 10'000;  // in a file, one after another

std::uint64_t saturated(std::optional<std::uint64_t> number) { return number.value_or(UINT64_MAX); }

// The product of the numbers in a shape.
std::uint64_t product(std::string_view shape) {
  constexpr std::string_view kDigits = "0123456789";
  std::uint64_t result = 1;
  for (std::size_t at = shape.find_first_of(kDigits); at != shape.npos;) {
    std::uint64_t number = 0;
    for (; at < shape.size() && kDigits.find(shape[at]) != kDigits.npos; ++at) {
      number = saturated(checked_mul(number, 10));
      number = saturated(checked_add(number, static_cast<std::uint64_t>(shape[at] - '0')));
    }
    result = saturated(checked_mul(result, number));
    at = shape.find_first_of(kDigits, at);
  }
  return result;
}

// Walks the header's literal. Its dtype is '<f4', or a list of fields ('name', dtype[, shape]); a
// field's name may also be a pair of title and name.
class NpyHeader {
 public:
  explicit NpyHeader(std::string_view text) : text_(text) {}

  // The size of the data if it is certain that it is no pickle: the three keys, each once, and a
  // dtype without objects. Python's literals have other ways to write the same, which nobody uses.
  std::optional<std::uint64_t> numeric_nbytes() {
    bool seen[3] = {};
    std::uint64_t count = 0, item_nbytes = 0;
    if (!take('{')) return std::nullopt;
    while (!take('}')) {
      std::string_view key;
      if (!take_text(key) || !take(':')) return std::nullopt;
      const std::size_t number = key == "descr" ? 0 : key == "fortran_order" ? 1 : 2;
      if ((number == 2 && key != "shape") || std::exchange(seen[number], true)) return std::nullopt;
      if (!(number == 0 ? dtype(0, item_nbytes) : number == 1 ? flag() : shape(count)))
        return std::nullopt;
      if (!take(',') && !text_.starts_with('}')) return std::nullopt;
    }
    skip_blanks();
    if (!text_.empty() || !seen[0] || !seen[1] || !seen[2]) return std::nullopt;
    return checked_mul(count, item_nbytes);
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

  bool shape(std::uint64_t& count) {
    if (!take('(')) return false;
    const std::size_t end = std::min(text_.find_first_not_of("0123456789, L"), text_.size());
    count = product(text_.substr(0, end));
    text_.remove_prefix(end);
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

  // A letter with a size, as NumPy writes it: "<f4", "|S10", "<M8[ns]".
  static bool number(std::string_view type, std::uint64_t& nbytes) {
    constexpr std::size_t kMaxDigits = 9;
    if (!type.empty() && std::string_view("<>|=").find(type[0]) != type.npos) type.remove_prefix(1);
    if (type.empty() || std::string_view("biufcSaUVmM").find(type[0]) == type.npos) return false;
    const std::uint64_t unit = type[0] == 'U' ? 4 : 1;
    type.remove_prefix(1);
    const std::size_t digits = std::min(type.find_first_not_of("0123456789"), type.size());
    if (digits == 0 || digits > kMaxDigits) return false;
    nbytes = product(type.substr(0, digits)) * unit;
    type.remove_prefix(digits);
    return type.empty() || (type.starts_with('[') && type.find(']') == type.size() - 1);
  }

  // Up to the bracket that closes a field, with the shape before it: numbers alone.
  bool field_shape(std::uint64_t& nbytes) {
    skip_blanks();
    const std::size_t end = text_.find_first_not_of("0123456789(, L)");
    if (end == text_.npos) return false;
    // The last bracket closes the field.
    const std::size_t close = text_.substr(0, end).rfind(')');
    if (close == text_.npos) return false;
    nbytes = saturated(checked_mul(nbytes, product(text_.substr(0, close))));
    text_.remove_prefix(close);
    return true;
  }

  bool field(int depth, std::uint64_t& nbytes) {
    std::string_view name;
    if (!take('(')) return false;
    if (take('(')) {
      if (!take_text(name) || !take(',') || !take_text(name) || !take(')')) return false;
    } else if (!take_text(name)) {
      return false;
    }
    if (!take(',') || !dtype(depth + 1, nbytes)) return false;
    if (take(')')) return true;
    return take(',') && field_shape(nbytes) && take(')');
  }

  bool dtype(int depth, std::uint64_t& nbytes) {
    if (depth > kMaxNesting) return false;
    std::string_view type;
    if (take_text(type)) return number(type, nbytes);
    if (!take('[')) return false;
    nbytes = 0;
    while (!take(']')) {
      std::uint64_t of_field = 0;
      if (!field(depth, of_field)) return false;
      nbytes = saturated(checked_add(nbytes, of_field));
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

struct Array {
  std::string what = "a NumPy array file";
  std::optional<std::uint64_t> end = {};  // of numbers; nullopt if it is not known
};

Array scan_array(ScanBytes& bytes, ScanLog& log, const RecordScan& scan) {
  const std::size_t data = find_data(bytes);
  if (data == 0) {
    log.unknown(ScanKind::malformed, scan.record, "an array file of NumPy with a broken header");
    return {};
  }
  const std::size_t header = kFixed + (bytes.have()[kMagic.size()] == std::byte{1} ? 2 : 4);
  NpyHeader parsed(as_text(bytes.have()).substr(header, data - header));
  if (const auto nbytes = parsed.numeric_nbytes())
    return {.end = saturated(checked_add(data, *nbytes))};
  log.unknown(ScanKind::unseen, scan.record,
              "a NumPy array that may hold objects, which numpy.load(allow_pickle=True) unpickles");
  Array objects{.what = "a NumPy array file of objects"};
  if (!log.take_work(bytes.limit())) {
    log.unknown(ScanKind::unseen, scan.record, std::string(kOutOfWork));
    return objects;
  }
  RecordScan pickle = scan;
  pickle.begin = data;
  static_cast<void>(scan_record(bytes, log, pickle));
  return objects;
}

// What follows the numbers: numpy.load() may be called again for the same file, and then reads
// another array or a pickle.
void scan_rest(ScanBytes& bytes, std::uint64_t at, ScanLog& log, const RecordScan& scan) {
  if (at < bytes.size() && !log.take_work(bytes.limit()))
    return log.unknown(ScanKind::unseen, scan.record, std::string(kOutOfWork));
  for (std::size_t number = 2; at < bytes.size() && !log.cancelled(); ++number) {
    if (number > kMaxArrays)
      return log.unknown(ScanKind::unseen, scan.record,
                         str_cat("arrays after the first ", kMaxArrays, " are not scanned"));
    ScanBytes rest = bytes.rest(at);
    if (!bytes.trouble().empty())
      log.unknown(ScanKind::unseen, scan.record,
                  str_cat("it is not scanned to its end: ", bytes.trouble()));
    RecordScan next = scan;
    next.record = str_cat(scan.record, scan.record.empty() ? "" : " ", "[array ", number, "]");
    static_cast<void>(rest.fetch(kMagic.size()));
    if (!is_npy(rest.have())) {
      next.errors = rest.have().size() > 0 && rest.have()[0] == std::byte{0x80} ? ScanErrors::go_on
                                                                                : ScanErrors::stop;
      static_cast<void>(scan_record(rest, log, next));
      return log.unknown(ScanKind::trailing, scan.record,
                         str_cat(counted(bytes.size() - at, "byte"), " after the array"));
    }
    const Array array = scan_array(rest, log, next);
    if (!array.end) return;
    at = saturated(checked_add(at, *array.end));
  }
}

}  // namespace

bool is_npy(std::span<const std::byte> head) noexcept { return as_text(head).starts_with(kMagic); }

std::string scan_npy(ScanBytes& bytes, ScanLog& log, const RecordScan& scan) {
  Array first = scan_array(bytes, log, scan);
  if (first.end) scan_rest(bytes, *first.end, log, scan);
  return std::move(first.what);
}

}  // namespace flatbed::pth
