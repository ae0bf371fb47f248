#include "torch/tree_pickler.hpp"

#include <algorithm>
#include <iterator>

#include "base/str_cat.hpp"
#include "base/utf8.hpp"
#include "pickle/python_names.hpp"
#include "torch/weights_only.hpp"

namespace flatbed::pth {

namespace {

constexpr std::uint64_t kBatch = 1000;        // items between two marks, as in CPython
constexpr std::size_t kMaxText = 0xFFFFFFFF;  // the longest that BINUNICODE can state
constexpr std::size_t kShownSteps = 12;       // of a path, at each end

// Whether a value has an identity that Python code can see, or is a text worth writing only once.
bool can_be_shared(Kind kind) {
  return kind >= Kind::string && kind != Kind::global && kind != Kind::scalar;
}

}  // namespace

// A GLOBAL is two lines of UTF-8.
bool fits_global(std::string_view name) { return is_python_name(name) && is_utf8(name); }

std::string full_name(Value global) { return str_cat(global.text(), ".", global.qualname()); }

TreePickler::TreePickler(const ValueTree& tree, std::span<const StoredTensor> tensors,
                         const PickleOptions& options, ValueTree* editable)
    : tree_(tree),
      editable_(editable),
      tensors_(tensors),
      options_(options),
      visits_(tree.size()),
      memo_(tree.size(), kUnseen),
      key_room_(kKeyRoom + 16 * tree.size()),
      first_storage_(tensors.size(), kUnseen) {}

Result<TorchPickle> TreePickler::run() {
  count_visits();
  push({{.what = Do::value, .node = tree_.root().id()}});
  while (!steps_.empty()) {
    const Step next = steps_.back();
    steps_.pop_back();
    FLATBED_TRY(step(next));
  }
  TorchPickle pickle;
  pickle.bytes = out_.finish();
  pickle.storages.reserve(storages_.size());
  for (const Storage& storage : storages_) pickle.storages.push_back(storage.tensor);
  for (const auto& [what, found] : conversions_) {
    pickle.conversions.push_back(str_cat(
        what, ": ", found.times == 1 ? "" : str_cat(found.times, " times, first "), found.first));
  }
  std::ranges::move(notes_, std::back_inserter(pickle.conversions));
  return pickle;
}

// ---- the walk -----------------------------------------------------------------------------------

// How often each node is reached if every node is entered once.
void TreePickler::count_visits() {
  std::vector<NodeId> pending{tree_.root().id()};
  while (!pending.empty()) {
    const NodeId id = pending.back();
    pending.pop_back();
    if (id == kNoNode) continue;
    if (visits_[id] < 2) ++visits_[id];
    if (visits_[id] == 1) count_children(tree_.value(id), pending);
  }
}

// Numbers and other atoms are not counted.
void TreePickler::count_children(Value value, std::vector<NodeId>& pending) const {
  const Kind kind = value.kind();
  const auto add = [&](Value child) {
    if (child.id() != kNoNode && can_be_shared(child.kind())) pending.push_back(child.id());
  };
  for (const NodeId child : value.children()) add(value.node(child));
  if (kind == Kind::object) {
    add(value.callable());
    for (const Value argument : value.arguments().items()) add(argument);
    for (std::size_t i = 0; i < value.appended_size(); ++i) add(value.appended(i));
    if (const std::optional<Value> state = value.state()) add(*state);
  }
  if (kind == Kind::tensor) {
    add(value.node(value.attributes().quantizer));
    add(value.node(value.attributes().state));
  }
}

void TreePickler::push(std::initializer_list<Step> steps) {
  steps_.insert(steps_.end(), std::make_reverse_iterator(steps.end()),
                std::make_reverse_iterator(steps.begin()));
}

Result<void> TreePickler::step(Step step) {
  const Value at = tree_.value(step.node);
  switch (step.what) {
    case Do::value:
      return value(at);
    case Do::items:
    case Do::appended:
    case Do::pairs:
      return batch(step, at);
    case Do::tuple: {
      if (step.at == at.size()) return {};
      const Value item = at.item(step.at++);
      push({{.what = Do::value, .node = item.id()}, step});
      return {};
    }
    case Do::emit:
      out_.op(step.op);
      return {};
    case Do::remember:
      remember(step.node);
      return {};
    case Do::finish_tensor:
      finish_tensor(at);
      return {};
  }
  return {};
}

// The next item, key, or value of a run that is added in batches, with the opcodes around batches.
Result<void> TreePickler::batch(Step step, Value value) {
  const std::uint64_t width = step.what == Do::pairs ? 2 : 1;
  const std::uint64_t size =
      width * (step.what == Do::appended ? value.appended_size() : value.size());
  const bool alone = size == width;
  const Op one = width == 2 ? Op::setitem : Op::append;
  const Op many = width == 2 ? Op::setitems : Op::appends;
  const bool at_end = step.at == size;
  if (step.at != 0 && (at_end || step.at % (kBatch * width) == 0)) out_.op(alone ? one : many);
  if (at_end) return {};
  if (!alone && step.at % (kBatch * width) == 0) out_.op(Op::mark);
  const Value next = child(step, value);
  ++step.at;
  push({{.what = Do::value, .node = next.id()}, step});
  return {};
}

Value TreePickler::child(const Step& step, Value value) const {
  if (step.what == Do::appended) return value.appended(step.at);
  if (step.what != Do::pairs) return value.item(step.at);
  return step.at % 2 == 0 ? value.key(step.at / 2) : value.item(step.at / 2);
}

// "at 'optimizer', 3, 'lr'": the steps in progress, without the last one.
std::string TreePickler::place() const {
  std::vector<std::string> path;
  std::size_t left_out = 0;
  for (const Step& step : steps_) {
    const bool counts = step.what <= Do::tuple && step.what != Do::value && step.at != 0;
    if (!counts) continue;
    if (path.size() == 2 * kShownSteps) {
      path.erase(path.begin() + kShownSteps);
      ++left_out;
    }
    const std::uint64_t last = step.at - 1;
    const Value value = tree_.value(step.node);
    if (step.what != Do::pairs) {
      path.push_back(str_cat(last));
      continue;
    }
    const Value key = value.key(last / 2);
    std::string text = key.kind() == Kind::string    ? quoted(key.text())
                       : key.kind() == Kind::integer ? str_cat(*key.as_int())
                                                     : str_cat("pair ", last / 2);
    path.push_back(last % 2 == 0 ? str_cat("key ", last / 2) : std::move(text));
  }
  if (path.empty()) return "at the root";
  std::string out = "at ";
  for (std::size_t i = 0; i < path.size(); ++i) {
    if (i != 0) out += ", ";
    if (left_out != 0 && i == kShownSteps) out += str_cat("(", left_out, " levels), ");
    out += path[i];
  }
  return out;
}

void TreePickler::remember(NodeId id) {
  if (visits_[id] < 2) return;
  memo_[id] = out_.put();
}

// ---- values -------------------------------------------------------------------------------------

Result<void> TreePickler::value(Value value) {
  const Kind kind = value.kind();
  if (!can_be_shared(kind)) return atom(value);
  FLATBED_ASSIGN(const bool done, written_before(value));
  if (done) return {};
  return container(value);
}

// Refers to what was written. This is impossible for a tuple, call or tensor that is still being
// made.
Result<bool> TreePickler::written_before(Value value) {
  std::uint32_t& known = memo_[value.id()];
  if (known == kOpen) {
    const Kind kind = value.kind();
    return fail(ErrorCode::tree_not_representable, "a ",
                kind == Kind::tuple ? "tuple" : (kind == Kind::object ? "call" : "tensor"),
                " that contains itself");
  }
  if (known == kUnseen) {
    if (visits_[value.id()] >= 2) known = kOpen;
    return false;
  }
  out_.get(known);
  return true;
}

Result<void> TreePickler::atom(Value value) {
  switch (value.kind()) {
    case Kind::boolean:
      out_.boolean(*value.as_bool());
      return {};
    case Kind::integer:
      out_.integer(*value.as_int());
      return {};
    case Kind::big_integer: {
      const std::string number = long_bytes(value.text());
      if (number.size() > kMaxLong1 && options_.unsafe_objects != UnsafeObjects::keep)
        return refused("an int of more than 255 bytes");
      out_.long_integer(number);
      return {};
    }
    case Kind::real:
      out_.real(*value.as_real());
      return {};
    case Kind::global:
      return global(value);
    case Kind::scalar:
      return scalar(value);
    default:
      out_.none();
      return {};
  }
}

Result<void> TreePickler::container(Value value) {
  switch (value.kind()) {
    case Kind::string:
      return string(value);
    case Kind::bytes:
      return bytes(value);
    case Kind::list:
      out_.op(Op::empty_list);
      remember(value.id());
      push({{.what = Do::items, .node = value.id()}});
      return {};
    case Kind::dict:
      FLATBED_TRY(check_keys(value));
      out_.op(Op::empty_dict);
      remember(value.id());
      push({{.what = Do::pairs, .node = value.id()}});
      return {};
    case Kind::tuple:
      tuple(value);
      return {};
    case Kind::tensor:
      return tensor(value);
    case Kind::array:
      return array(value);
    default:
      return object(value);
  }
}

Result<void> TreePickler::string(Value value) {
  if (value.text().size() > kMaxText)
    return fail(ErrorCode::limit_exceeded, "a str of ", value.text().size(), " bytes");
  out_.text(value.text());
  remember(value.id());
  return {};
}

Result<void> TreePickler::bytes(Value value) {
  // Latin-1 takes up to twice as many bytes.
  const std::optional<std::uint32_t> number = value.tensor();
  const std::uint64_t nbytes = number ? tensors_[*number].nbytes : value.text().size();
  if (nbytes > kMaxText / 2)
    return fail(ErrorCode::limit_exceeded, "a bytes object of ", nbytes, " bytes");
  if (number) {
    FLATBED_ASSIGN(const std::string content, contents(*number));
    out_.bytes(content);
  } else {
    out_.bytes(value.text());
  }
  remember(value.id());
  return {};
}

void TreePickler::tuple(Value value) {
  if (value.size() == 0) {
    out_.op(Op::empty_tuple);
    memo_[value.id()] = kUnseen;  // there is only one empty tuple, which needs no memo
    return;
  }
  push({{.what = Do::remember, .node = value.id()}});
  tuple_from(value, 0);
}

// The tuple of the items from `first` on.
void TreePickler::tuple_from(Value items, std::uint64_t first) {
  constexpr Op kShort[] = {Op::empty_tuple, Op::tuple1, Op::tuple2, Op::tuple3};
  const std::uint64_t count = items.size() - first;
  push({{.what = Do::tuple, .node = items.id(), .at = first},
        {.what = Do::emit, .op = count > 3 ? Op::tuple : kShort[count]}});
  if (count > 3) push({{.what = Do::emit, .op = Op::mark}});
}

Result<void> TreePickler::global(Value value) { return named(value.text(), value.qualname()); }

Result<void> TreePickler::named(std::string_view module, std::string_view name) {
  if (!fits_global(module) || !fits_global(name) || name.starts_with('.'))
    return fail(ErrorCode::not_in_torch, "the name ", quoted(str_cat(module, ".", name)),
                " cannot be written in a pickle");
  if (is_layout(module, name)) {
    out_.global("torch.serialization", "_get_layout");
    out_.constant(str_cat(module, ".", name));
    out_.op(Op::tuple1).op(Op::reduce);
    return {};
  }
  if (options_.unsafe_objects != UnsafeObjects::keep && !allows_global(module, name))
    return refused(str_cat(module, ".", name));
  // Before protocol 4 names have no dots, so a member of a class is fetched from it.
  std::size_t dot = name.find('.');
  for (std::size_t at = dot; at != std::string_view::npos; at = name.find('.', at + 1))
    out_.global("builtins", "getattr");
  out_.global(module, name.substr(0, dot));
  while (dot != std::string_view::npos) {
    const std::size_t next = name.find('.', dot + 1);
    out_.text(name.substr(dot + 1, next == std::string_view::npos ? next : next - dot - 1));
    out_.op(Op::tuple2).op(Op::reduce);
    dot = next;
  }
  return {};
}

Result<void> TreePickler::object(Value value) {
  FLATBED_ASSIGN(const bool is_storage, storage_value(value));
  if (is_storage) return {};
  FLATBED_ASSIGN(const bool is_subclass, subclass(value));
  if (is_subclass) return {};
  FLATBED_TRY(check_keys(value));
  if (options_.unsafe_objects == UnsafeObjects::keep || allows_object(value)) {
    push_object(value);
    return {};
  }
  return convert(value);
}

// The call's result, then its items, pairs and state.
void TreePickler::push_object(Value value) {
  const NodeId id = value.id();
  if (const std::optional<Value> state = value.state())
    push({{.what = Do::value, .node = state->id()}, {.what = Do::emit, .op = Op::build}});
  push({{.what = Do::appended, .node = id}, {.what = Do::pairs, .node = id}});
  const Value arguments = value.arguments();
  const Value callable = value.callable();
  const bool by_class = callable.kind() == Kind::global && callable.text() == "copyreg" &&
                        callable.qualname() == "__newobj__" && arguments.size() != 0;
  push({{.what = Do::emit, .op = by_class ? Op::newobj : Op::reduce},
        {.what = Do::remember, .node = id}});
  tuple_from(arguments, by_class ? 1 : 0);
  push({{.what = Do::value, .node = by_class ? arguments.item(0).id() : callable.id()}});
}

}  // namespace flatbed::pth
