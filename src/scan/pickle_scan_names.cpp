// Imports and calls of a pickle, and the findings about them.
#include <algorithm>
#include <utility>

#include "base/str_cat.hpp"
#include "base/utf8.hpp"
#include "pickle/python_names.hpp"
#include "scan/dangerous_names.hpp"
#include "scan/pickle_scan.hpp"

namespace flatbed::pth {

namespace {

using What = ScanValue::What;
using Item = ScanValue::Item;

constexpr std::size_t kMaxNameBytes = 4096;

// Whether an import of it can succeed. The other characters are those of binary data, JSON and
// prose, which loaders may be given by mistake. A line may end as in a text of Windows.
bool may_be_name(std::string_view name) {
  constexpr std::string_view kNever = "\"'{}[]():,;=<>/\\";
  if (name.ends_with('\r')) name.remove_suffix(1);
  return !name.empty() && std::ranges::none_of(name, [&](char c) {
    return static_cast<unsigned char>(c) <= 0x20 || c == '\x7F' || kNever.find(c) != kNever.npos;
  });
}

}  // namespace

struct PickleScan::OddityRow {
  ScanVerdict severity;
  ScanKind kind;
  std::string_view text;
  bool stops = false;  // every unpickler stops at it
};

// clang-format off
constexpr std::array<PickleScan::OddityRow, static_cast<std::size_t>(PickleScan::Oddity::count)>
    PickleScan::kOddities{{
    {ScanVerdict::dangerous, ScanKind::computed, "imports what the pickle computes while it loads"},
    {ScanVerdict::unknown, ScanKind::malformed, "imports by something that is not a text", true},
    {ScanVerdict::unknown, ScanKind::computed, "calls something that the file does not determine"},
    {ScanVerdict::unknown, ScanKind::malformed, "calls something that cannot be called", true},
    {ScanVerdict::unknown, ScanKind::computed, "imports by a number of the extension registry"},
    {ScanVerdict::unknown, ScanKind::malformed, "has a persistent id that does not name a storage"},
    {ScanVerdict::dangerous, ScanKind::changed, "changes something that it imported"},
    {ScanVerdict::unknown, ScanKind::malformed, "sets items or a state of something without any"},
    {ScanVerdict::unknown, ScanKind::malformed, "takes more from the stack than it holds", true},
    {ScanVerdict::unknown, ScanKind::malformed, "uses a mark that was not set", true},
    {ScanVerdict::unknown, ScanKind::malformed, "reads a memo entry that was never written", true},
    {ScanVerdict::unknown, ScanKind::malformed, "has a memo index that no pickler writes"},
    {ScanVerdict::unknown, ScanKind::malformed, "has a memo index that is not a number", true},
    {ScanVerdict::unknown, ScanKind::malformed, "names a protocol above 5", true},
    {ScanVerdict::unknown, ScanKind::malformed, "needs buffers from outside the file"},
    {ScanVerdict::dangerous, ScanKind::malformed,
     "has a frame that ends inside an opcode: readers see different opcodes after it"},
    {ScanVerdict::unknown, ScanKind::malformed, "has a frame inside another"},
    {ScanVerdict::unknown, ScanKind::malformed, "has a frame that is longer than the pickle"},
    {ScanVerdict::unknown, ScanKind::unseen, "loads a pickle from bytes that it computes"},
}};
// clang-format on

void PickleScan::run_call() {
  switch (reader_.op()) {
    case Op::global:
      return import_name(reader_.text(), reader_.second_line());
    case Op::stack_global:
      return stack_global();
    case Op::inst: {
      const std::size_t begin = pop_mark();
      const ScanValue arguments = make_tuple(begin);
      stack_.resize(begin);
      import_name(reader_.text(), reader_.second_line());
      return push(call(pop(), arguments));
    }
    case Op::obj: {
      const std::size_t begin = pop_mark();
      if (begin >= stack_.size()) return note(Oddity::underflow), push(What::unknown);
      const ScanValue callee = stack_[begin];
      const ScanValue arguments = make_tuple(begin + 1);
      stack_.resize(begin);
      return push(call(callee, arguments));
    }
    case Op::newobj_ex:
      static_cast<void>(pop());
      [[fallthrough]];
    case Op::reduce:
    case Op::newobj: {
      const ScanValue arguments = pop();
      const ScanValue callee = pop();
      return push(call(callee, arguments));
    }
    case Op::build:
      return build();
    case Op::binpersid:
      return push(persistent(pop()));
    default:  // PERSID
      if (ids_ != ScanIds::tar) note(Oddity::persistent_id);
      return push(What::stored);
  }
}

// Pushes the global.
void PickleScan::import_name(std::string_view module, std::string_view qualname) {
  failed_ =
      failed_ || (errors_ == ScanErrors::stop && !(may_be_name(module) && may_be_name(qualname)));
  if (failed_) return push(What::unknown);
  const std::uint32_t row = name_row(module, qualname);
  note(names_[row].imported, op_begin_, opcode_);
  push({.what = What::global, .name = row});
}

void PickleScan::stack_global() {
  const ScanValue name = pop();
  const ScanValue module = pop();
  const auto is_literal = [](const ScanValue& value) {
    return (value.what == What::text || value.what == What::bytes) && !value.latin1;
  };
  if (is_literal(name) && is_literal(module)) {
    const std::optional<std::string> module_text = decode(module.first);
    const std::optional<std::string> name_text = decode(name.first);
    if (module_text && name_text) {
      if (name.what != What::text || module.what != What::text) note(Oddity::import_of_no_text);
      return import_name(*module_text, *name_text);
    }
  }
  const auto computed = [](const ScanValue& value) {
    return value.what == What::result || value.what == What::unknown ||
           value.what == What::global || value.latin1;
  };
  note(computed(name) || computed(module) ? Oddity::computed_import : Oddity::import_of_no_text);
  push(What::unknown);
}

// The row of a name as Python 3 imports it.
std::uint32_t PickleScan::name_row(std::string_view module, std::string_view qualname) {
  module = module.substr(0, kMaxNameBytes);
  qualname = qualname.substr(0, kMaxNameBytes);
  const NameJudgement judgement = judge_spelling(module, qualname, protocol_);
  const PythonName found =
      protocol_ < 3 ? python3_name({module, qualname}) : PythonName{module, qualname};
  std::string key = str_cat(found.module, "\n", found.name);
  const auto next = static_cast<std::uint32_t>(names_.size());
  const bool full = names_.size() > kMaxScanNames || name_nbytes_ > kMaxScanNameBytes;
  if (full) key = "\n\n" + std::string(name(judgement.severity));
  const auto there = index_.insert(key, next, [this](std::uint32_t i) { return keys_[i]; });
  if (there) {
    NameRow& row = names_[*there];
    row.severity = std::max(row.severity, judgement.severity);
    return *there;
  }

  NameRow row{std::string(found.module),
              std::string(found.name),
              judgement.severity,
              judgement.reason,
              Special::none,
              {},
              {},
              0,
              0,
              ""};
  const auto is = [&](std::string_view of, std::string_view what) {
    return row.module == of && row.qualname == what;
  };
  if (full) {
    row.module = row.qualname = "";
    row.reason = "more names than any pickler writes";
  } else if (is("collections", "OrderedDict") || is("collections", "Counter")) {
    row.special = Special::mapping;
  } else if (is("builtins", "set")) {
    row.special = Special::set;
  } else if (is("_codecs", "encode")) {
    row.special = Special::encode;
  } else if (is("builtins", "getattr")) {
    row.special = Special::get_attribute;
  } else if (is("functools", "partial")) {
    row.special = Special::partial;
  } else if (is("torch.storage", "_load_from_bytes")) {
    row.special = Special::load_from_bytes;
    row.reason = "loads another pickle, which is scanned too";
  } else if (row.qualname == "NumpyArrayWrapper" && row.module.ends_with("joblib.numpy_pickle")) {
    row.special = Special::raw_array;
  } else if (row.module == "copyreg" && row.severity != ScanVerdict::dangerous) {
    row.special = Special::by_class;
  }
  name_nbytes_ += key.size();
  keys_.push_back(std::move(key));
  names_.push_back(std::move(row));
  return next;
}

ScanValue PickleScan::call(const ScanValue& callee, const ScanValue& arguments) {
  if (callee.what == What::global) {
    NameRow& row = names_[callee.name];
    if (row.called.count == 0 && row.severity == ScanVerdict::dangerous &&
        name_nbytes_ <= kMaxScanNameBytes) {
      row.argument = decode(arguments.first).value_or("").substr(0, kMaxNameBytes);
      name_nbytes_ += row.argument.size();
    }
    note(row.called, op_begin_, opcode_);
    effect_ = effect_ || !failed_;
    return result_of(callee.name, arguments);
  }
  const bool computed = callee.what == What::result || callee.what == What::unknown;
  note(computed ? Oddity::computed_call : Oddity::call_of_no_callable);
  effect_ = effect_ || !failed_;
  return {.what = What::unknown};
}

ScanValue PickleScan::result_of(std::uint32_t row, const ScanValue& arguments) {
  ScanValue result{.what = What::result, .name = row};
  switch (names_[row].special) {
    case Special::mapping:
      result.what = What::dict;
      return result;
    case Special::set:
      result.what = What::set;
      return result;
    case Special::encode: {
      if (arguments.items != std::array{Item::text, Item::text} || arguments.latin1) return result;
      const std::string encoding = decode(arguments.second).value_or("");
      result.latin1 = encoding == "latin1" || encoding == "latin-1";
      if (!result.latin1) return result;
      result.what = What::bytes;
      result.first = arguments.first;
      return result;
    }
    case Special::get_attribute:
      return get_attribute(row, arguments);
    case Special::load_from_bytes:
      load_bytes(arguments);
      return result;
    case Special::by_class:
      if (arguments.name != 0) {
        note(names_[arguments.name].called, op_begin_, opcode_);
        result.name = arguments.name;
      }
      return result;
    case Special::partial:
      // The function is judged as an import. The pickle does not call it here.
      if (arguments.items[0] == Item::global) ++names_[row].resolved;
      return result;
    case Special::raw_array:
    case Special::none:
      break;
  }
  return result;
}

// getattr(cls, 'NAME') with a name in the pickle is an import of cls.NAME and is judged as such,
// because some picklers write enum members this way. Methods of objects are pickled as
// getattr(object, 'NAME') too: what they do depends on the object's class, which is listed, unless
// the name is one by which code gets at other code.
ScanValue PickleScan::get_attribute(std::uint32_t row, const ScanValue& arguments) {
  const std::optional<std::string> attribute = decode(arguments.first);
  const bool is_literal = arguments.items[1] == Item::text && attribute && !arguments.latin1;
  if (is_literal && arguments.items[0] == Item::other && !leads_anywhere(*attribute))
    ++names_[row].resolved;
  if (!is_literal || arguments.items[0] != Item::global) return {.what = What::unknown};
  const std::string module = names_[arguments.name].module;
  const std::string qualname = str_cat(names_[arguments.name].qualname, ".", *attribute);
  ++names_[row].resolved;
  import_name(module, qualname);
  const ScanValue value = pop();
  drop(value);  // the call pushes it
  return value;
}

void PickleScan::load_bytes(const ScanValue& arguments) {
  if (arguments.items[0] != Item::text) return note(Oddity::nested_unseen);
  if (!nested_seen_.emplace(arguments.first.offset, 0).second) return;
  nested_.push_back({arguments.first, arguments.latin1});
}

ScanValue PickleScan::persistent(const ScanValue& id) {
  ScanValue value{.what = What::stored};
  const std::string kind = id.items[0] == Item::text ? decode(id.first).value_or("") : "";
  // ('storage', class, ...), or ('module', class, file, text) for the class itself.
  const bool of_class = id.items[1] == Item::global;
  if (kind == "storage" && of_class) {
    if (id.second.op != Op::none) storages_.push_back(id.second);
    return value;
  }
  const bool tar_class = ids_ == ScanIds::tar && id.items[0] == Item::global;
  if ((kind == "module" && of_class) || tar_class) {
    value.what = What::global;
    value.name = id.name;
    return value;
  }
  if (ids_ == ScanIds::tar && id.what == What::text) return value;
  note(Oddity::persistent_id);
  value.what = What::unknown;
  return value;
}

void PickleScan::build() {
  const bool changes =
      stack_.size() > 1 && may_change(stack_[stack_.size() - 2], stack_.size() - 1);
  static_cast<void>(pop());
  if (available() == 0) return note(Oddity::underflow), push(What::unknown);
  const ScanValue& target = stack_.back();
  if (target.what == What::global) {
    effect_ = effect_ || (changes && !failed_);
    return note(Oddity::changed);
  }
  raw_bytes_ = target.what == What::result && names_[target.name].special == Special::raw_array;
  const bool object = target.what == What::result || target.what == What::unknown ||
                      (target.what == What::dict && target.name != 0);
  if (!object) note(Oddity::odd_target);
}

void PickleScan::note(Oddity oddity) {
  if (errors_ == ScanErrors::stop) {
    failed_ = failed_ || kOddities[static_cast<std::size_t>(oddity)].stops;
    if (failed_) return;
  }
  note(oddities_[static_cast<std::size_t>(oddity)], op_begin_, opcode_);
}

void PickleScan::note(Place& place, std::uint64_t offset, std::uint64_t opcode) {
  if (place.count++ == 0) {
    place.offset = offset;
    place.opcode = opcode;
  }
}

void PickleScan::log_names() {
  if (failed_ && !effect_) return;
  for (NameRow& row : names_) {
    if (row.imported.count == 0) continue;
    const bool called = row.called.count != 0;
    const Place& place = called ? row.called : row.imported;
    // Each use of it was a call that was judged by what it reaches.
    if (row.resolved != 0 && row.called.count == row.resolved && row.pushed == row.resolved) {
      row.severity = ScanVerdict::unknown;
      row.reason = row.special == Special::partial
                       ? "makes a function of another, which is listed separately"
                       : "reaches attributes of classes that are listed separately";
      row.argument.clear();
    }
    std::string text(row.reason);
    if (!row.argument.empty())
      text += str_cat("; first given ", quoted(std::string_view(row.argument)));
    log_.add({row.severity, called ? ScanKind::called : ScanKind::imported, row.module,
              row.qualname, record_, place.offset, place.opcode, place.count, 0, std::move(text)});
  }
}

void PickleScan::log_oddities() {
  if (failed_ && !effect_ && !other_reading_) return;
  for (std::size_t i = 0; i < oddities_.size(); ++i) {
    const Place& place = oddities_[i];
    if (place.count == 0) continue;
    log_.add({kOddities[i].severity, kOddities[i].kind, "", "", record_, place.offset, place.opcode,
              place.count, 0, std::string(kOddities[i].text)});
  }
  if (refused_place_.count == 0) return;
  std::string text = "weights_only=True refuses";
  char between = ' ';
  for (std::size_t i = 0; i < refused_.size(); ++i) {
    if (!refused_[i]) continue;
    text += str_cat(between == ' ' ? " " : ", ", kPickleOps[i].name);
    between = ',';
  }
  log_.add({ScanVerdict::unknown, ScanKind::opcode, "", "", record_, refused_place_.offset,
            refused_place_.opcode, refused_place_.count, 0, std::move(text)});
}

// Every unpickler ends here, unless the scan saw less than it does.
void PickleScan::log_end(std::string_view why) {
  failed_ = errors_ == ScanErrors::stop && bytes_.trouble().empty();
  if (!failed_) log_unseen(why);
}

void PickleScan::log_unseen(std::string_view why) {
  if (second_reading_) return;
  const std::string& trouble = bytes_.trouble();
  log_.add({ScanVerdict::unknown, ScanKind::unseen, "", "", record_, op_begin_, opcode_, 1, 0,
            str_cat("the pickle cannot be followed from here on: ", why,
                    trouble.empty() ? "" : "; ", trouble)});
}

}  // namespace flatbed::pth
