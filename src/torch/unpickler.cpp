#include "torch/unpickler.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <string>
#include <utility>

#include "base/str_cat.hpp"
#include "base/utf8.hpp"
#include "pickle/pickle_literal.hpp"
#include "pickle/python_names.hpp"

namespace flatbed::pth {

namespace {

constexpr std::array<std::string_view, 15> kKindNames{
    "None",    "a bool", "an int",   "an int",    "a float",  "a str",    "bytes",   "a list",
    "a tuple", "a dict", "a global", "an object", "a tensor", "an array", "a scalar"};
static_assert(kKindNames.size() == static_cast<std::size_t>(Kind::scalar) + 1);

Error wrong_type(std::string_view what, Kind found, std::string_view wanted) {
  return make_error(ErrorCode::pickle_type, what, " is ",
                    kKindNames[static_cast<std::size_t>(found)], ", expected ", wanted);
}

bool is_callable(Kind kind) { return kind == Kind::global || kind == Kind::object; }

Result<void> check_name(std::string_view name) {
  if (!is_wtf8(name))
    return make_error(ErrorCode::pickle_not_utf8, "the name ", quoted(name), " is not UTF-8");
  if (!is_python_name(name))
    return make_error(ErrorCode::pickle_literal, quoted(name),
                      " is not a valid name of a module, class or function");
  return {};
}

}  // namespace

Result<NodeId> Unpickler::run() {
  objects_.begin_pickle(reader_.remaining());
  while (!stopped_) {
    run_common();
    if (auto read = reader_.next(); !read) [[unlikely]]
      return with_context(reader_.place(), std::move(read).error());
    if (auto done = run_op(); !done) [[unlikely]]
      return with_context(reader_.place(), std::move(done).error());
  }
  return pop();
}

Result<void> Unpickler::run_op() {
  const Op op = reader_.op();
  switch (reader_.group()) {
    case OpGroup::literal:
      return run_literal(op);
    case OpGroup::stack:
      return run_stack(op);
    case OpGroup::container:
      return run_container(op);
    case OpGroup::memo:
      return run_memo(op);
    case OpGroup::call:
      return run_call(op);
    case OpGroup::refused:
      return Error{ErrorCode::pickle_opcode_refused,
                   "needs a registry or buffers outside the file"};
    case OpGroup::unknown:
      break;
  }
  return Error{ErrorCode::pickle_opcode_unknown, "not an opcode of protocols 0 to 5"};
}

Result<void> Unpickler::run_literal(Op op) {
  switch (op) {
    case Op::none:
      return push(constant(none_, Kind::none, false));
    case Op::newtrue:
      return push(constant(true_, Kind::boolean, true));
    case Op::newfalse:
      return push(constant(false_, Kind::boolean, false));
    case Op::binint:
      return push(tree_.add_integer(
          static_cast<std::int32_t>(static_cast<std::uint32_t>(reader_.number()))));
    case Op::binint1:
      return push(small_integer(static_cast<std::uint8_t>(reader_.number())));
    case Op::binint2:
      return push(tree_.add_integer(static_cast<std::int64_t>(reader_.number())));
    case Op::binfloat:
      return push(tree_.add_real(std::bit_cast<double>(__builtin_bswap64(reader_.number()))));
    case Op::binunicode:
    case Op::short_binunicode:
    case Op::binunicode8:
      if (!is_wtf8(reader_.text()))
        return make_error(ErrorCode::pickle_not_utf8, "the text ", quoted(reader_.text()),
                          " is not UTF-8");
      return push_string(reader_.text());
    case Op::binbytes:
    case Op::short_binbytes:
    case Op::binbytes8:
      return push(objects_.add_bytes(reader_.text()));
    case Op::bytearray8:
      return push(objects_.add_bytearray(reader_.text()));
    case Op::binstring:
    case Op::short_binstring:
      return push_python2_string(reader_.text());
    default:
      return run_text_literal(op);
  }
}

// The literals of protocol 0, and long integers.
Result<void> Unpickler::run_text_literal(Op op) {
  std::string_view text = reader_.text();
  if (op == Op::long1 || op == Op::long4) {
    FLATBED_ASSIGN(const PickleInteger integer, parse_long(text));
    return push(integer_node(integer));
  }
  if (op == Op::float_) {
    FLATBED_ASSIGN(const double value, parse_float(text));
    return push(tree_.add_real(value));
  }
  if (op == Op::string) {
    FLATBED_ASSIGN(const std::string bytes, parse_quoted(text));
    return push_python2_string(bytes);
  }
  if (op == Op::unicode) {
    FLATBED_ASSIGN(const std::string utf8, parse_raw_unicode(text));
    return push_string(utf8);
  }
  if (op == Op::int_ && text == "00") return push(constant(false_, Kind::boolean, false));
  if (op == Op::int_ && text == "01") return push(constant(true_, Kind::boolean, true));
  if (op == Op::long_) {
    if (!text.ends_with('L'))
      return make_error(ErrorCode::pickle_literal, quoted(text), " does not end in L");
    text.remove_suffix(1);
  }
  FLATBED_ASSIGN(const PickleInteger integer, parse_decimal(text));
  return push(integer_node(integer));
}

NodeId Unpickler::integer_node(const PickleInteger& integer) {
  return integer.big.empty() ? tree_.add_integer(integer.value)
                             : tree_.add_big_integer(integer.big);
}

Result<void> Unpickler::push_string(std::string_view text) {
  if (text.size() > kMaxStringBytes)
    return make_error(ErrorCode::pickle_limit, "the str is too long: found ", text.size(),
                      " bytes, the limit is ", kMaxStringBytes);
  return push(tree_.add_string(text));
}

// A str of Python 2 holds bytes, which are nearly always text.
Result<void> Unpickler::push_python2_string(std::string_view bytes) {
  if (is_wtf8(bytes)) return push_string(bytes);
  return push(objects_.add_bytes(bytes));
}

Result<void> Unpickler::run_stack(Op op) {
  switch (op) {
    case Op::mark:
      marks_.push_back(stack_.size());
      return {};
    case Op::stop:
      if (available() < 1) return underflow(1);
      stopped_ = true;
      return {};
    case Op::pop:
      // On a fresh mark it takes the mark, as Python does.
      if (!marks_.empty() && available() == 0) return marks_.pop_back(), Result<void>();
      if (available() < 1) return underflow(1);
      stack_.pop_back();
      return {};
    case Op::pop_mark: {
      FLATBED_ASSIGN(const std::size_t begin, pop_mark());
      stack_.resize(begin);
      return {};
    }
    case Op::dup:
      if (available() < 1) return underflow(1);
      return push(stack_.back());
    case Op::proto:
      if (reader_.number() > kMaxPickleProtocol)
        return make_error(ErrorCode::pickle_opcode_refused, "unsupported protocol: found ",
                          reader_.number(), ", expected 0 to ", kMaxPickleProtocol);
      protocol_ = static_cast<std::uint8_t>(reader_.number());
      return {};
    default:  // FRAME
      return reader_.begin_frame();
  }
}

Result<void> Unpickler::run_container(Op op) {
  switch (op) {
    case Op::empty_list:
      return push(tree_.add_list());
    case Op::empty_dict:
      return push(tree_.add_dict());
    case Op::empty_set:
      return push(objects_.add_set());
    case Op::empty_tuple:
      return push(empty_tuple());
    case Op::tuple1:
      return push_tuple(1);
    case Op::tuple2:
      return push_tuple(2);
    case Op::tuple3:
      return push_tuple(3);
    case Op::append:
      if (available() < 2) return underflow(2);
      return fill(Op::appends, stack_.size() - 1);
    case Op::setitem:
      if (available() < 3) return underflow(3);
      return fill(Op::setitems, stack_.size() - 2);
    default:
      break;
  }
  FLATBED_ASSIGN(const std::size_t begin, pop_mark());
  if (op == Op::appends || op == Op::setitems || op == Op::additems) {
    if (available() == stack_.size() - begin) return underflow(1);
    return fill(op, begin);
  }
  const std::span<const NodeId> items = std::span(stack_).subspan(begin);
  NodeId made = kNoNode;
  if (op == Op::tuple) made = tree_.add_tuple(items);
  if (op == Op::frozenset) made = objects_.add_frozenset(items);
  if (op == Op::list) {
    made = tree_.add_list();
    tree_.append_all(made, items);
  }
  if (op == Op::dict) {
    made = tree_.add_dict();
    FLATBED_TRY(set_pairs(made, items));
  }
  stack_.resize(begin);
  return push(made);
}

Result<void> Unpickler::push_tuple(std::size_t count) {
  if (available() < count) return underflow(count);
  const NodeId tuple = tree_.add_tuple(std::span(stack_).last(count));
  stack_.resize(stack_.size() - count);
  return push(tuple);
}

// Pops what is on the stack from `begin` on, and puts it into the container below.
Result<void> Unpickler::fill(Op op, std::size_t begin) {
  const NodeId target = stack_[begin - 1];
  const std::span<const NodeId> items = std::span(stack_).subspan(begin);
  const Kind kind = tree_.value(target).kind();
  if (op == Op::appends) {
    if (kind != Kind::list && kind != Kind::object) return wrong_type("the target", kind, "a list");
    tree_.append_all(target, items);
  } else if (op == Op::setitems) {
    if (kind != Kind::dict && kind != Kind::object) return wrong_type("the target", kind, "a dict");
    FLATBED_TRY(set_pairs(target, items));
  } else {
    const std::optional<NodeId> list = objects_.set_items(target);
    if (!list) return wrong_type("the target", kind, "a set of EMPTY_SET");
    tree_.append_all(*list, items);
  }
  stack_.resize(begin);
  return {};
}

Result<void> Unpickler::set_pairs(NodeId target, std::span<const NodeId> pairs) {
  if (pairs.size() % 2 != 0)
    return make_error(ErrorCode::pickle_type, pairs.size(), " values do not form pairs");
  for (std::size_t i = 0; i < pairs.size(); i += 2) {
    const Kind kind = tree_.value(pairs[i]).kind();
    if (kind == Kind::list || kind == Kind::dict || kind == Kind::array)
      return wrong_type("a key", kind, "something hashable");
  }
  tree_.set_items(target, pairs);
  return {};
}

Result<void> Unpickler::run_memo(Op op) {
  switch (op) {
    case Op::binput:
    case Op::long_binput:
      return put(reader_.number());
    case Op::binget:
    case Op::long_binget:
      return get(reader_.number());
    case Op::memoize:
      return put(memo_size_);
    default:  // GET, PUT
      return run_text_memo(op);
  }
}

Result<void> Unpickler::run_text_memo(Op op) {
  FLATBED_ASSIGN(const std::uint64_t index, memo_index());
  return op == Op::get ? get(index) : put(index);
}

Result<std::uint64_t> Unpickler::memo_index() const {
  FLATBED_ASSIGN(const PickleInteger index, parse_decimal(reader_.text()));
  if (!index.big.empty() || index.value < 0)
    return make_error(ErrorCode::pickle_literal, quoted(reader_.text()), " is not a memo index");
  return static_cast<std::uint64_t>(index.value);
}

// Picklers number memo entries from 0 (or 1) on. So an index never exceeds the number of opcodes so
// far, and the memo is never larger than the input read.
Result<void> Unpickler::put(std::uint64_t index) {
  if (available() < 1) return underflow(1);
  if (index > reader_.op_count()) return memo_limit(index);
  if (index >= memo_.size()) {
    memo_.resize(index, kNoNode);
    memo_.push_back(kNoNode);
  }
  memo_size_ += memo_[index] == kNoNode ? 1 : 0;
  memo_[index] = stack_.back();
  return {};
}

Result<void> Unpickler::get(std::uint64_t index) {
  if (index >= memo_.size() || memo_[index] == kNoNode) return memo_missing(index);
  return push(memo_[index]);
}

Result<void> Unpickler::memo_limit(std::uint64_t index) const {
  return make_error(ErrorCode::pickle_limit, "memo index ", index, " after ", reader_.op_count(),
                    " opcodes");
}

Result<void> Unpickler::memo_missing(std::uint64_t index) const {
  return make_error(ErrorCode::pickle_memo_missing, "memo entry ", index, " was never written");
}

Result<void> Unpickler::run_call(Op op) {
  switch (op) {
    case Op::global:
      return push_result(global(reader_.text(), reader_.second_line()));
    case Op::stack_global:
      return push_result(stack_global());
    case Op::reduce: {
      if (available() < 2) return underflow(2);
      const NodeId arguments = pop();
      const NodeId callable = pop();
      return push_result(objects_.call(callable, arguments));
    }
    case Op::newobj:
    case Op::newobj_ex:
      return push_result(new_object(op));
    case Op::inst:
    case Op::obj:
      return push_result(old_object(op));
    case Op::build:
      return build();
    case Op::binpersid: {
      if (available() < 1) return underflow(1);
      return push_result(objects_.persistent(pop()));
    }
    default:  // PERSID
      return make_error(ErrorCode::persistent_id_malformed, "persistent id ",
                        quoted(reader_.text()), " is a text, expected a tuple");
  }
}

Result<NodeId> Unpickler::global(std::string_view module, std::string_view name) {
  FLATBED_TRY(check_name(module));
  FLATBED_TRY(check_name(name));
  // Protocols 0 to 2 write the names of Python 2.
  const PythonName found = protocol_ < 3 ? python3_name({module, name}) : PythonName{module, name};
  return objects_.add_global(found.module, found.name);
}

Result<NodeId> Unpickler::stack_global() {
  if (available() < 2) return underflow(2).error();
  const Value name = tree_.value(pop());
  const Value module = tree_.value(pop());
  if (module.kind() != Kind::string) return wrong_type("the module", module.kind(), "a str");
  if (name.kind() != Kind::string) return wrong_type("the name", name.kind(), "a str");
  const std::uint64_t nbytes = module.text().size() + name.text().size();
  if (nbytes > name_nbytes_)
    return make_error(ErrorCode::pickle_limit, "the names of all globals have more than ",
                      kMaxNameRatio, " times the bytes of the pickle");
  name_nbytes_ -= nbytes;
  // Copied, because the tree's texts move when it grows.
  return global(std::string(module.text()), std::string(name.text()));
}

// cls.__new__(cls, *args) or cls.__new__(cls, *args, **kwargs), written as Python's copyreg does.
Result<NodeId> Unpickler::new_object(Op op) {
  const bool with_keywords = op == Op::newobj_ex;
  const std::size_t count = with_keywords ? 3 : 2;
  if (available() < count) return underflow(count).error();
  const NodeId keywords = with_keywords ? pop() : kNoNode;
  const Value arguments = tree_.value(pop());
  const Value type = tree_.value(pop());
  if (!is_callable(type.kind())) return wrong_type("the class", type.kind(), "a global or object");
  if (arguments.kind() != Kind::tuple)
    return wrong_type("the arguments", arguments.kind(), "a tuple");
  if (!with_keywords && !objects_.take_copies(arguments.size()))
    return make_error(ErrorCode::pickle_limit,
                      "the arguments of all objects together are more "
                      "than the bytes of the pickle");
  std::vector<NodeId> all{type.id()};
  if (with_keywords) {
    const Kind kind = tree_.value(keywords).kind();
    if (kind != Kind::dict) return wrong_type("the keyword arguments", kind, "a dict");
    all.insert(all.end(), {arguments.id(), keywords});
  } else {
    for (std::size_t i = 0; i < arguments.size(); ++i) all.push_back(arguments.item(i).id());
  }
  NodeId& callable = with_keywords ? newobj_ex_ : newobj_;
  if (callable == kNoNode)
    callable = tree_.add_global("copyreg", with_keywords ? "__newobj_ex__" : "__newobj__");
  return tree_.add_object(callable, tree_.add_tuple(all));
}

// INST names its class; OBJ has it below the arguments.
Result<NodeId> Unpickler::old_object(Op op) {
  FLATBED_ASSIGN(std::size_t begin, pop_mark());
  const std::size_t mark = begin;
  NodeId callable = kNoNode;
  if (op == Op::inst) {
    FLATBED_ASSIGN(callable, global(reader_.text(), reader_.second_line()));
  } else {
    if (begin == stack_.size()) return underflow(1).error();
    callable = stack_[begin++];
  }
  const NodeId arguments = tree_.add_tuple(std::span(stack_).subspan(begin));
  stack_.resize(mark);
  return objects_.call(callable, arguments);
}

Result<void> Unpickler::build() {
  if (available() < 2) return underflow(2);
  const NodeId state = pop();
  const Value target = tree_.value(stack_.back());
  FLATBED_ASSIGN(const bool done, objects_.build(target.id(), state));
  if (done) return {};
  if (target.kind() != Kind::object) return wrong_type("the target", target.kind(), "an object");
  if (target.state()) return make_error(ErrorCode::pickle_type, "the object already has a state");
  tree_.set_state(target.id(), state);
  return {};
}

Result<void> Unpickler::push_result(Result<NodeId> node) {
  if (!node) return std::move(node).error();
  return push(*node);
}

NodeId Unpickler::pop() noexcept {
  const NodeId node = stack_.back();
  stack_.pop_back();
  return node;
}

Result<void> Unpickler::underflow(std::size_t wanted) const {
  return make_error(ErrorCode::pickle_stack_underflow, "the stack is too short: found ",
                    available(), ", expected ", wanted);
}

Result<std::size_t> Unpickler::pop_mark() {
  if (marks_.empty()) return make_error(ErrorCode::pickle_mark_missing, "no mark is set");
  const std::size_t begin = marks_.back();
  marks_.pop_back();
  return begin;
}

}  // namespace flatbed::pth
