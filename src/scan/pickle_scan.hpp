// PickleScan: finds what a pickle would import and call, without doing either.
// It is a symbolic unpickler: it runs every opcode of protocols 0 to 5 over a stack of small values
// that remember only what they are (a text of the pickle, a global, the result of calling it). So
// each import and call has its name, wherever its parts come from: the memo, DUP, a text protocol,
// a call whose result is dropped. At an error that would stop a real unpickler, it records a
// finding once and continues with a value that stands for anything. In bytes that may be no pickle
// at all it stops there instead, as every unpickler does, and reports imports only if it went on to
// a call or to STOP: ScanErrors::stop. A limit of the scan is a finding in both. Each opcode takes
// constant time, and stack, memo and names are bounded. Borrows bytes and log. Not thread-safe.
#pragma once

#include <array>
#include <bitset>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "io/large_allocator.hpp"
#include "io/name_index.hpp"
#include "pickle/pickle_reader.hpp"
#include "scan/scan_bytes.hpp"
#include "scan/scan_log.hpp"

namespace flatbed::pth {

// Values on the stack and in the memo take 32 bytes each. Every pickle may have this many, and one
// more for every two bytes that it takes in the file.
inline constexpr std::uint64_t kFreeScanValues = 1 << 20;
inline constexpr std::uint64_t kStoredBytesPerValue = 2;
inline constexpr std::size_t kMaxScanNames = 1 << 16;
inline constexpr std::size_t kMaxScanNameBytes = 16 << 20;  // of all names

// The kinds of persistent ids: a tuple that names a storage or a module, or anything else.
enum class ScanIds : std::uint8_t { torch, tar };
// What to do at an error that stops every unpickler.
enum class ScanErrors : std::uint8_t { go_on, stop };

// A text or bytes in the pickle, by their place.
struct ScanText {
  std::uint32_t offset = 0;
  std::uint32_t nbytes = 0;
  Op op = Op::none;  // `none` if there is no text
};

// A value whose bytes the pickle passes to torch.storage._load_from_bytes.
struct NestedBytes {
  ScanText text;
  bool latin1 = false;  // the bytes are the Latin-1 form of a text
};

// What is known about a value on the stack.
struct ScanValue {
  enum class What : std::uint8_t {
    data,
    text,
    bytes,
    tuple,
    list,
    dict,
    set,
    global,   // an imported name
    result,   // what a call of the name gave
    stored,   // a tensor or storage that a persistent id stands for
    unknown,  // cannot be told
  };
  // The first items of a tuple.
  enum class Item : std::uint8_t { other, text, global };
  What what = What::data;
  bool latin1 = false;  // bytes: _codecs.encode of the text
  std::array<Item, 2> items = {};
  std::uint32_t name = 0;            // of a global or result; of a tuple: its first global; 0: none
  ScanText first = {}, second = {};  // the text itself; of a tuple: its first two
};

class PickleScan {
 public:
  PickleScan(ScanBytes& bytes, ScanLog& log, std::string record, ScanIds ids,
             ScanErrors errors = ScanErrors::go_on);

  // Follows the pickle at `begin` and logs the findings. Returns the offset after its STOP, or
  // nullopt if it could not be followed to its end.
  std::optional<std::uint64_t> run(std::uint64_t begin);

  // The bytes that are pickles within the pickle, each once.
  [[nodiscard]] const std::vector<NestedBytes>& nested() const noexcept { return nested_; }
  // The keys of the storages that persistent ids name.
  [[nodiscard]] const std::vector<ScanText>& storages() const noexcept { return storages_; }

 private:
  // Irregularities, in the order of kOddities.
  enum class Oddity : std::uint8_t {
    computed_import,
    import_of_no_text,
    computed_call,
    call_of_no_callable,
    extension,
    persistent_id,
    changed,
    odd_target,
    underflow,
    no_mark,
    no_memo,
    memo_index,
    memo_text,
    protocol,
    buffer,
    frame_crossed,
    frame_nested,
    frame_too_long,
    nested_unseen,
    count,
  };
  struct OddityRow;
  static const std::array<OddityRow, static_cast<std::size_t>(Oddity::count)> kOddities;

  struct Place {
    std::uint64_t offset = 0, opcode = 0, count = 0;
  };
  // The effect of calling a name, as far as the scan cares.
  enum class Special : std::uint8_t {
    none,
    mapping,  // OrderedDict, Counter
    set,
    encode,
    get_attribute,
    load_from_bytes,
    by_class,   // copyreg: the first argument is the class
    partial,    // functools.partial: the first argument is the function
    raw_array,  // of joblib: the array's bytes follow the opcode that sets its state
  };
  struct NameRow {
    std::string module, qualname;
    ScanVerdict severity = ScanVerdict::unknown;
    std::string_view reason;
    Special special = Special::none;
    Place imported, called;
    // get_attribute, partial: calls whose attribute or function was judged.
    std::uint64_t resolved = 0;
    // How often it was pushed and not dropped at once. If that is more often than it was called,
    // something else got it and may call it, too.
    std::uint64_t pushed = 0;
    std::string argument;  // the first text passed to the first call
  };

  bool follow();
  [[nodiscard]] bool ends_inside() const;
  void step();
  void run_literal();
  void run_stack();
  void run_container();
  void run_memo();
  void run_call();

  void import_name(std::string_view module, std::string_view qualname);
  void stack_global();
  ScanValue call(const ScanValue& callee, const ScanValue& arguments);
  ScanValue result_of(std::uint32_t row, const ScanValue& arguments);
  ScanValue get_attribute(std::uint32_t row, const ScanValue& arguments);
  ScanValue persistent(const ScanValue& id);
  void load_bytes(const ScanValue& arguments);
  void build();
  void fill(ScanValue::What wanted, std::size_t begin);
  [[nodiscard]] bool may_change(const ScanValue& target, std::size_t begin) const;
  std::uint32_t name_row(std::string_view module, std::string_view qualname);

  void begin_frame();
  void check_frame();
  void cross_frame();
  void read_by_frames();

  [[nodiscard]] std::size_t available() const noexcept {
    return stack_.size() - (marks_.empty() ? 0 : marks_.back());
  }
  void push(const ScanValue& value) {
    if (value.what == ScanValue::What::global) ++names_[value.name].pushed;
    stack_.push_back(value);
  }
  void push(ScanValue::What what) { stack_.push_back(ScanValue{.what = what}); }
  ScanValue pop();
  void drop(const ScanValue& value);
  std::size_t pop_mark();
  [[nodiscard]] ScanValue make_tuple(std::size_t begin) const;
  void put(std::uint64_t index);
  void get(std::uint64_t index);
  std::optional<std::uint64_t> memo_index();

  [[nodiscard]] ScanText literal() const;
  [[nodiscard]] std::optional<std::string> decode(const ScanText& text) const;
  [[nodiscard]] bool is_too_large() const noexcept {
    return stack_.size() + memo_.size() + marks_.size() > max_values_ || full_;
  }
  void release();

  void note(Oddity oddity);
  static void note(Place& place, std::uint64_t offset, std::uint64_t opcode);
  void log_names();
  void log_oddities();
  void log_unseen(std::string_view why);
  void log_end(std::string_view why);

  ScanBytes& bytes_;
  ScanLog& log_;
  std::string record_;
  ScanIds ids_;
  ScanErrors errors_;
  std::uint64_t max_values_;
  bool raw_bytes_ = false;  // bytes that are no opcodes follow
  bool failed_ = false;     // errors_ is stop, and an unpickler would have stopped
  bool effect_ = false;     // it called or changed something before that
  // A second reading of what follows a frame that ends inside an opcode.
  bool second_reading_ = false;

  PickleReader reader_{{}};
  std::uint64_t base_ = 0;  // offset of the reader's bytes
  std::uint64_t op_begin_ = 0;
  std::uint64_t op_end_ = 0;
  std::uint64_t opcode_ = 0;  // number of the current opcode
  unsigned protocol_ = 0;
  bool stopped_ = false;
  bool full_ = false;
  std::uint64_t frame_end_ = 0;                 // 0 outside frames
  std::optional<std::uint64_t> other_reading_;  // where readers that go by frames continue

  LargeVector<ScanValue> stack_;
  LargeVector<std::uint32_t> marks_;
  LargeVector<ScanValue> memo_;
  std::map<std::uint64_t, ScanValue> far_memo_;  // at indices that no pickler writes
  std::map<std::string, std::uint64_t, std::less<>> huge_indices_;  // what stands for them
  std::uint64_t memo_size_ = 0;

  std::vector<NameRow> names_ = std::vector<NameRow>(1);  // row 0 means no name
  std::vector<std::string> keys_ = std::vector<std::string>(1);
  std::size_t name_nbytes_ = 0;
  NameIndex index_;
  std::array<Place, static_cast<std::size_t>(Oddity::count)> oddities_{};
  std::bitset<256> refused_;  // opcodes that weights_only=True does not know
  Place refused_place_;
  std::vector<NestedBytes> nested_;
  std::vector<ScanText> storages_;
  std::map<std::uint32_t, std::uint32_t> nested_seen_;  // offsets
};

// The characters of a text, decoded as unpicklers do it; nullopt if they refuse it.
[[nodiscard]] std::optional<std::string> decode_text(std::span<const std::byte> pickle,
                                                     const ScanText& text);

// Whether bytes that begin like this are a pickle: valid opcodes as far as they go, up to STOP.
// Without the mark of protocols 2 to 5 they must also import something.
[[nodiscard]] bool looks_like_pickle(std::span<const std::byte> head, bool complete);

}  // namespace flatbed::pth
