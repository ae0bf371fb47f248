// The opcodes. Imports and calls are in pickle_scan_names.cpp.
#include "scan/pickle_scan.hpp"

#include <algorithm>
#include <utility>

#include "base/ascii.hpp"
#include "base/bytes.hpp"
#include "base/str_cat.hpp"
#include "pickle/pickle_literal.hpp"

namespace flatbed::pth {

namespace {

using What = ScanValue::What;

constexpr std::size_t kMaxFarMemo = 1 << 16;
constexpr std::uint64_t kCancelInterval = 1 << 16;

// The opcodes that torch.load(weights_only=True) runs, in torch 2.6 to 2.14.
constexpr std::array kWeightsOnlyOps{
    Op::proto,      Op::stop,       Op::mark,        Op::none,        Op::newtrue,
    Op::newfalse,   Op::binint,     Op::binint1,     Op::binint2,     Op::long1,
    Op::binfloat,   Op::binunicode, Op::empty_list,  Op::append,      Op::appends,
    Op::empty_dict, Op::setitem,    Op::setitems,    Op::empty_set,   Op::short_binstring,
    Op::tuple,      Op::tuple1,     Op::tuple2,      Op::tuple3,      Op::empty_tuple,
    Op::binget,     Op::binput,     Op::long_binget, Op::long_binput, Op::binpersid,
    Op::global,     Op::reduce,     Op::newobj,      Op::build};
static_assert(kWeightsOnlyOps.size() == 34);

constexpr std::string_view kDigits = "0123456789";

// Whether no Python reads the line of an opcode of protocol 0: a number without a digit, a text
// without a quotation mark. CPython takes INT and a NUL for 0.
bool is_refused(Op op, std::string_view line) {
  if (op == Op::string) return line.empty() || (line[0] != '\'' && line[0] != '"');
  if (op == Op::float_ && line.find_first_of("nN") != line.npos) return false;  // nan, inf
  const bool number = op == Op::int_ || op == Op::long_ || op == Op::float_;
  return number && line.find_first_of(kDigits) == line.npos && line.find('\0') == line.npos;
}

// The digits of a number that Python's int() accepts, without leading zeros; nullopt if it is none
// or below zero. CPython reads a line up to a NUL.
std::optional<std::string> read_digits(std::string_view line) {
  line = trim_blanks(line.substr(0, line.find('\0')));
  const bool negative = line.starts_with('-');
  if (negative || line.starts_with('+')) line.remove_prefix(1);
  std::string digits;
  bool any = false;
  for (const char c : line) {
    if (c == '_') continue;
    if (kDigits.find(c) == kDigits.npos) return std::nullopt;
    any = true;
    if (c != '0' || !digits.empty()) digits += c;
  }
  if (!any || (negative && !digits.empty())) return std::nullopt;
  return digits.empty() ? "0" : digits;
}

bool in_weights_only(Op op) {
  return std::find(kWeightsOnlyOps.begin(), kWeightsOnlyOps.end(), op) != kWeightsOnlyOps.end();
}

}  // namespace

PickleScan::PickleScan(ScanBytes& bytes, ScanLog& log, std::string record, ScanIds ids,
                       ScanErrors errors)
    : bytes_(bytes),
      log_(log),
      record_(std::move(record)),
      ids_(ids),
      errors_(errors),
      max_values_(kFreeScanValues +
                  std::min(bytes.stored_nbytes(), log.file_nbytes()) / kStoredBytesPerValue) {}

std::optional<std::uint64_t> PickleScan::run(std::uint64_t begin) {
  op_end_ = begin;
  const bool whole = follow();
  if (!second_reading_ && (!failed_ || effect_)) log_.count_pickle();
  log_names();
  if (!second_reading_) log_oddities();
  if (other_reading_) read_by_frames();
  release();
  return whole ? std::optional(op_end_) : std::nullopt;
}

// Pickles in the bytes of this one are scanned next, so that only one has values at a time.
void PickleScan::release() {
  stack_ = {};
  marks_ = {};
  memo_ = {};
  far_memo_.clear();
  huge_indices_.clear();
  names_ = {};
  keys_ = {};
  index_ = NameIndex();
}

// Runs up to STOP. Returns false if the pickle cannot be followed any further.
bool PickleScan::follow() {
  std::uint64_t next_check = kCancelInterval;
  while (!stopped_) {
    base_ = op_end_;
    reader_ = PickleReader(bytes_.have().subspan(static_cast<std::size_t>(base_)));
    for (bool more = false; !stopped_ && !more;) {
      op_begin_ = op_end_;
      const Result<void> next = reader_.next();
      // A limit of the reader, not of the scan.
      if (!next && next.error().code == ErrorCode::pickle_limit) break;
      if (!next && next.error().code == ErrorCode::pickle_truncated)
        more = !ends_inside() && bytes_.fetch(0);
      if (!next && more) continue;
      if (!next) return log_end(next.error().message), false;
      op_end_ = bytes_.have().size() - reader_.remaining();
      if (reader_.group() == OpGroup::unknown)
        return log_end(str_cat("0x", hex(static_cast<std::uint8_t>(reader_.op())),
                               " is not an opcode of protocols 0 to 5")),
               false;
      step();
      if (failed_) return false;
      if (raw_bytes_)
        return log_unseen("joblib puts the numbers of arrays between the opcodes"), false;
      if (is_too_large())
        return log_unseen("its stack or memo is larger than any pickler makes it"), false;
      if (++opcode_ == next_check) {
        if (log_.cancelled()) return false;
        next_check += kCancelInterval;
      }
    }
  }
  return true;
}

// Whether the current opcode states a text longer than all that is left, so that fetching more is
// useless.
bool PickleScan::ends_inside() const {
  const OpRow& row = kPickleOps[static_cast<std::uint8_t>(reader_.op())];
  const std::uint64_t begin = op_begin_ + 1 + row.operand_nbytes;
  return row.operand >= Operand::text8 && row.operand <= Operand::text_i32 &&
         begin <= bytes_.have().size() && reader_.number() > bytes_.size() - begin;
}

void PickleScan::step() {
  const Op op = reader_.op();
  if (!in_weights_only(op)) {
    refused_.set(static_cast<std::uint8_t>(op));
    note(refused_place_, op_begin_, opcode_);
  }
  if (frame_end_ != 0) check_frame();
  switch (reader_.group()) {
    case OpGroup::literal:
      return run_literal();
    case OpGroup::stack:
      return run_stack();
    case OpGroup::container:
      return run_container();
    case OpGroup::memo:
      return run_memo();
    case OpGroup::call:
      return run_call();
    default:
      break;
  }
  if (op == Op::next_buffer || op == Op::readonly_buffer) {
    note(Oddity::buffer);
    if (op == Op::next_buffer) push(What::data);
    return;
  }
  // A number in Python's own registry of extensions, which may stand for anything.
  note(Oddity::extension);
  push(What::unknown);
}

void PickleScan::run_literal() {
  if (errors_ == ScanErrors::stop && is_refused(reader_.op(), reader_.text())) failed_ = true;
  switch (reader_.op()) {
    case Op::string:
    case Op::binstring:
    case Op::short_binstring:
    case Op::unicode:
    case Op::binunicode:
    case Op::short_binunicode:
    case Op::binunicode8:
      return push({.what = What::text, .first = literal()});
    case Op::binbytes:
    case Op::short_binbytes:
    case Op::binbytes8:
    case Op::bytearray8:
      return push({.what = What::bytes, .first = literal()});
    default:
      return push(What::data);
  }
}

// The place of the current opcode's text.
ScanText PickleScan::literal() const {
  const auto begin = as_bytes(reader_.text()).data() - bytes_.have().data();
  return {static_cast<std::uint32_t>(begin), static_cast<std::uint32_t>(reader_.text().size()),
          reader_.op()};
}

std::optional<std::string> PickleScan::decode(const ScanText& text) const {
  return decode_text(bytes_.have(), text);
}

std::optional<std::string> decode_text(std::span<const std::byte> pickle, const ScanText& text) {
  if (text.op == Op::none) return std::nullopt;
  const std::string_view raw = as_text(pickle).substr(text.offset, text.nbytes);
  if (text.op != Op::string && text.op != Op::unicode) return std::string(raw);
  Result<std::string> decoded = text.op == Op::string ? parse_quoted(raw) : parse_raw_unicode(raw);
  return decoded ? std::optional(*std::move(decoded)) : std::nullopt;
}

void PickleScan::run_stack() {
  switch (reader_.op()) {
    case Op::mark:
      return marks_.push_back(static_cast<std::uint32_t>(stack_.size()));
    case Op::stop:
      static_cast<void>(pop());
      stopped_ = true;
      return;
    case Op::pop:
      // On a fresh mark it takes the mark, as Python does.
      if (!marks_.empty() && available() == 0) return marks_.pop_back();
      return drop(pop());
    case Op::pop_mark:
      return stack_.resize(pop_mark());
    case Op::dup:
      if (available() == 0) return note(Oddity::underflow), push(What::unknown);
      return push(ScanValue(stack_.back()));
    case Op::proto:
      protocol_ = static_cast<unsigned>(reader_.number());
      if (protocol_ > 5) note(Oddity::protocol);
      return;
    default:  // FRAME
      return begin_frame();
  }
}

ScanValue PickleScan::pop() {
  if (available() == 0) {
    note(Oddity::underflow);
    return {.what = What::unknown};
  }
  const ScanValue value = stack_.back();
  stack_.pop_back();
  return value;
}

// An import that is dropped goes nowhere.
void PickleScan::drop(const ScanValue& value) {
  if (value.what == What::global) --names_[value.name].pushed;
}

// The stack's size when the mark was set.
std::size_t PickleScan::pop_mark() {
  if (marks_.empty()) {
    note(Oddity::no_mark);
    return 0;
  }
  const std::size_t begin = marks_.back();
  marks_.pop_back();
  return begin;
}

void PickleScan::run_container() {
  switch (reader_.op()) {
    case Op::empty_list:
      return push(What::list);
    case Op::empty_dict:
      return push(What::dict);
    case Op::empty_set:
      return push(What::set);
    case Op::empty_tuple:
      return push(What::tuple);
    case Op::tuple1:
    case Op::tuple2:
    case Op::tuple3: {
      const std::size_t count = static_cast<std::size_t>(reader_.op()) - 0x84;
      while (available() < count) {
        note(Oddity::underflow);
        push(What::unknown);
      }
      const ScanValue tuple = make_tuple(stack_.size() - count);
      stack_.resize(stack_.size() - count);
      return push(tuple);
    }
    case Op::append:
      return fill(What::list, stack_.size() - std::min<std::size_t>(available(), 1));
    case Op::setitem:
      return fill(What::dict, stack_.size() - std::min<std::size_t>(available(), 2));
    default:
      break;
  }
  const std::size_t begin = pop_mark();
  switch (reader_.op()) {
    case Op::appends:
      return fill(What::list, begin);
    case Op::setitems:
      return fill(What::dict, begin);
    case Op::additems:
      return fill(What::set, begin);
    default:
      break;
  }
  ScanValue made{.what = What::list};
  if (reader_.op() == Op::tuple) made = make_tuple(begin);
  if (reader_.op() == Op::dict) made.what = What::dict;
  if (reader_.op() == Op::frozenset) made.what = What::set;
  stack_.resize(begin);
  push(made);
}

// Describes the stack from `begin` on: the first global and the first two texts among the first
// three items. Calls and persistent ids are told apart by them.
ScanValue PickleScan::make_tuple(std::size_t begin) const {
  ScanValue tuple{.what = What::tuple};
  for (std::size_t i = begin; i < stack_.size() && i < begin + 3; ++i) {
    const ScanValue& item = stack_[i];
    const bool is_text = item.what == What::text || item.what == What::bytes;
    if (i < begin + tuple.items.size() && (is_text || item.what == What::global))
      tuple.items[i - begin] = is_text ? ScanValue::Item::text : ScanValue::Item::global;
    if (item.what == What::global && tuple.name == 0) tuple.name = item.name;
    if (!is_text) continue;
    if (tuple.first.op == Op::none) {
      tuple.first = item.first;
      tuple.latin1 = item.latin1;
    } else if (tuple.second.op == Op::none) {
      tuple.second = item.first;
    }
  }
  return tuple;
}

// Whether the values from `begin` on can change an import. If they are imports themselves, all of
// them are more likely words of a text.
bool PickleScan::may_change(const ScanValue& target, std::size_t begin) const {
  if (target.what != What::global) return false;
  if (names_[target.name].severity == ScanVerdict::dangerous) return true;
  return std::any_of(stack_.begin() + static_cast<std::ptrdiff_t>(begin), stack_.end(),
                     [](const ScanValue& value) { return value.what != What::global; });
}

// Pops the stack from `begin` on, into the value below.
void PickleScan::fill(What wanted, std::size_t begin) {
  begin = std::min(begin, stack_.size());
  const bool changes = begin != 0 && may_change(stack_[begin - 1], begin);
  stack_.resize(begin);
  if (available() == 0) {
    note(Oddity::underflow);
    return push(What::unknown);
  }
  const ScanValue& target = stack_.back();
  if (target.what == wanted || target.what == What::unknown) return;
  if (target.what == What::global) {
    effect_ = effect_ || (changes && !failed_);
    return note(Oddity::changed);
  }
  // Objects have methods of their own for it. Their effect depends on a class that is listed.
  const bool object = target.what == What::result || target.what == What::dict;
  if (object && target.name != 0 && names_[target.name].severity != ScanVerdict::plain) return;
  note(Oddity::odd_target);
}

void PickleScan::run_memo() {
  switch (reader_.op()) {
    case Op::binput:
    case Op::long_binput:
      return put(reader_.number());
    case Op::memoize:
      return put(memo_size_);
    case Op::binget:
    case Op::long_binget:
      return get(reader_.number());
    default:
      break;
  }
  const std::optional<std::uint64_t> index = memo_index();
  if (reader_.op() == Op::put) {
    if (index) put(*index);
  } else if (index) {
    get(*index);
  } else {
    push(What::unknown);
  }
}

// Parses as Python's int() does: with blanks around the number and underscores in it, where
// picklers write none. A number of more than 63 bits gets one that stands for it. nullopt where
// Python reads no number.
std::optional<std::uint64_t> PickleScan::memo_index() {
  const Result<PickleInteger> exact = parse_decimal(reader_.text());
  if (exact && exact->big.empty() && exact->value >= 0)
    return static_cast<std::uint64_t>(exact->value);
  std::optional<std::string> digits = read_digits(reader_.text());
  note(digits ? Oddity::memo_index : Oddity::memo_text);
  if (!digits) return std::nullopt;
  constexpr std::size_t kMaxDigits = 19;  // of 63 bits
  if (digits->size() <= kMaxDigits) {
    const Result<PickleInteger> lax = parse_decimal(*digits);
    if (lax && lax->big.empty()) return static_cast<std::uint64_t>(lax->value);
  }
  const std::uint64_t next = UINT64_MAX - huge_indices_.size();
  full_ = full_ || huge_indices_.size() > kMaxFarMemo;
  return huge_indices_.try_emplace(*std::move(digits), next).first->second;
}

void PickleScan::put(std::uint64_t index) {
  if (available() == 0) {
    note(Oddity::underflow);
    push(What::unknown);
  }
  const ScanValue& value = stack_.back();
  if (index > opcode_) {
    memo_size_ += far_memo_.insert_or_assign(index, value).second ? 1 : 0;
  } else {
    if (index >= memo_.size()) {
      ScanValue none{.what = What::unknown};
      none.name = UINT32_MAX;  // never written
      memo_.resize(static_cast<std::size_t>(index) + 1, none);
    }
    const bool fresh = memo_[index].name == UINT32_MAX && !far_memo_.contains(index);
    memo_size_ += fresh ? 1 : 0;
    far_memo_.erase(index);
    memo_[index] = value;
  }
  full_ = full_ || far_memo_.size() > kMaxFarMemo;
}

void PickleScan::get(std::uint64_t index) {
  if (const auto far = far_memo_.find(index); far != far_memo_.end()) return push(far->second);
  if (index < memo_.size() && memo_[index].name != UINT32_MAX) return push(ScanValue(memo_[index]));
  note(Oddity::no_memo);
  push(What::unknown);
}

void PickleScan::begin_frame() {
  if (reader_.number() > bytes_.size() - op_end_) return note(Oddity::frame_too_long);
  const std::uint64_t end = op_end_ + reader_.number();
  if (frame_end_ == 0) {
    frame_end_ = end;
  } else if (end <= frame_end_) {
    note(Oddity::frame_nested);
  } else {
    cross_frame();
    frame_end_ = end;
  }
}

// A reader that takes a frame's bytes first sees different opcodes from one that reads on: CPython
// drops the bytes of an operand up to the frame's end and continues after it.
void PickleScan::check_frame() {
  if (op_end_ < frame_end_) return;
  if (op_end_ > frame_end_) cross_frame();
  frame_end_ = 0;
}

void PickleScan::cross_frame() {
  note(Oddity::frame_crossed);
  if (!other_reading_) other_reading_ = frame_end_;
}

// Follows what comes after the frame's end once, for its imports and calls. Not every reading is
// followed, so such a frame is dangerous in itself.
void PickleScan::read_by_frames() {
  if (second_reading_) return;
  PickleScan other(bytes_, log_, record_, ids_, errors_);
  other.second_reading_ = true;
  static_cast<void>(other.run(*other_reading_));
  nested_.insert(nested_.end(), other.nested_.begin(), other.nested_.end());
}

bool looks_like_pickle(std::span<const std::byte> head, bool complete) {
  if (head.size() < 2) return false;
  const bool marked = head[0] == std::byte{0x80} && head[1] <= std::byte{5};
  PickleReader reader(head);
  bool imports = false;
  for (;;) {
    const Result<void> next = reader.next();
    if (!next)
      return next.error().code == ErrorCode::pickle_truncated && !complete &&
             (marked || (imports && reader.op_count() > 16));
    if (reader.group() == OpGroup::unknown) return false;
    const Op op = reader.op();
    imports = imports || op == Op::global || op == Op::inst || op == Op::stack_global ||
              reader.group() == OpGroup::refused;
    if (op == Op::stop) return marked || imports;
  }
}

}  // namespace flatbed::pth
