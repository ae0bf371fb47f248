// Encodes a value tree as flatbed.tree and aliases as flatbed.aliases (spec T2 to T6, T8, A1).
// Three passes visit the nodes in the same order. The first finds the objects that are reached more
// than once. The second measures the text, so that one that is too long is never built and no
// memory is moved while it grows. The third writes an id at their first place and a ref at the
// others. An object's arguments are always written in full, because the grammar requires a tuple
// node there; the limit on the text bounds the cost.
#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <unordered_map>

#include "base/json_write.hpp"
#include "base/str_cat.hpp"
#include "base/utf8.hpp"
#include "value/tree_json.hpp"

namespace flatbed {

namespace {

constexpr std::size_t kMaxDepth = 512;
constexpr std::size_t kMaxText = 100'000'000;  // the longest possible header
constexpr std::int64_t kIntegerBound = std::int64_t{1} << 53;

bool can_be_shared(Kind kind) {
  return kind == Kind::list || kind == Kind::tuple || kind == Kind::dict || kind == Kind::object ||
         kind == Kind::tensor || kind == Kind::array;
}

// Calls visit(child) for the children of a node in the order of the text (spec N1). Stops at the
// first error.
template <typename Visit>
Result<void> for_each_child(const ValueTree& tree, Value value, Visit visit) {
  if (value.kind() == Kind::object) {
    FLATBED_TRY(visit(value.callable()));
    const Value arguments = value.arguments();
    for (std::size_t i = 0; i < arguments.size(); ++i) FLATBED_TRY(visit(arguments.item(i)));
    for (std::size_t i = 0; i < value.appended_size(); ++i) FLATBED_TRY(visit(value.appended(i)));
  }
  const bool pairs = value.kind() == Kind::dict || value.kind() == Kind::object;
  for (std::size_t i = 0; i < value.size(); ++i) {
    if (pairs) FLATBED_TRY(visit(value.key(i)));
    FLATBED_TRY(visit(value.item(i)));
  }
  if (const auto state = value.state()) FLATBED_TRY(visit(*state));
  for (const NodeId id : {value.attributes().quantizer, value.attributes().state}) {
    if (id != kNoNode) FLATBED_TRY(visit(tree.value(id)));
  }
  return {};
}

Error too_long(std::size_t limit) {
  return make_error(ErrorCode::header_over_limit, "its text would be longer than ", limit,
                    " bytes, the most that the header may take");
}

// How often each node is reached if every node is entered once: 0, 1 or 2 for "more than once".
Result<std::vector<std::uint8_t>> count_visits(const ValueTree& tree) {
  std::vector<std::uint8_t> visits(tree.size());
  std::vector<NodeId> pending = {tree.root().id()};
  std::size_t edges = 0;
  while (!pending.empty()) {
    const Value value = tree.value(pending.back());
    pending.pop_back();
    if (value.id() == kNoNode) continue;
    if (visits[value.id()] < 2) ++visits[value.id()];
    if (visits[value.id()] == 2 && can_be_shared(value.kind())) continue;
    FLATBED_TRY(for_each_child(tree, value, [&](Value child) -> Result<void> {
      // Every edge takes at least two bytes of the text.
      if (++edges > kMaxText / 2) {
        return too_long(kMaxText);
      }
      if (can_be_shared(child.kind())) pending.push_back(child.id());
      return {};
    }));
  }
  return visits;
}

void append_hex_string(std::string& out, std::string_view bytes) {
  constexpr char kDigits[] = "0123456789abcdef";
  out += '"';
  for (const char c : bytes) {
    out += kDigits[static_cast<unsigned char>(c) >> 4];
    out += kDigits[c & 15];
  }
  out += '"';
}

void append_integer(std::string& out, std::int64_t value) {
  if (value < kIntegerBound && value > -kIntegerBound) {
    out += str_cat(value);
    return;
  }
  const auto magnitude = static_cast<std::uint64_t>(value);
  out += str_cat("[\"int\",\"", value < 0 ? "-" : "", hex(value < 0 ? ~magnitude + 1 : magnitude),
                 "\"]");
}

void append_real(std::string& out, double value) {
  if (!std::isfinite(value)) {
    out += str_cat("[\"float\",\"", hex16(std::bit_cast<std::uint64_t>(value)), "\"]");
    return;
  }
  append_json_real(out, value);
}

void append_integers(std::string& out, std::span<const std::uint64_t> numbers) {
  out += '[';
  for (std::size_t i = 0; i < numbers.size(); ++i) out += str_cat(i == 0 ? "" : ",", numbers[i]);
  out += ']';
}

// A step of the path in an error message.
std::string step_text(Value key, std::size_t index) {
  return key.kind() == Kind::string ? quoted(key.text()) : str_cat(index);
}

Error below(std::string_view step, Error error) {
  error.message.insert(0, str_cat("at ", step, error.message.starts_with("at ") ? ", " : ": "));
  return error;
}

class Encoder {
 public:
  Encoder(const ValueTree& tree, std::span<const std::string> names,
          std::span<const std::uint8_t> visits, std::size_t max_nbytes)
      : tree_(tree), names_(names), visits_(visits), max_nbytes_(max_nbytes) {}

  // The length of the text.
  Result<std::size_t> measure() {
    measures_ = true;
    FLATBED_TRY(node(tree_.root(), 1));
    return measured_ + out_.size();
  }

  Result<std::string> write(std::size_t nbytes) {
    out_.reserve(nbytes);
    FLATBED_TRY(node(tree_.root(), 1));
    return std::move(out_);
  }

 private:
  Result<void> node(Value value, std::size_t depth) {
    if (measured_ + out_.size() > max_nbytes_) {
      return too_long(max_nbytes_);
    }
    if (measures_) {
      measured_ += out_.size();
      out_.clear();
    }
    const Kind kind = value.kind();
    const bool empty_tuple = kind == Kind::tuple && value.size() == 0;
    if (!can_be_shared(kind) || empty_tuple || visits_[value.id()] < 2)
      return content(value, depth);
    const auto [known, is_new] = ids_.try_emplace(value.id(), next_id_);
    if (!is_new) {
      FLATBED_TRY(check_depth(depth));
      return reference(value, known->second);
    }
    out_ += str_cat("[\"id\",", next_id_++, ",");
    FLATBED_TRY(content(value, depth + 1));
    out_ += ']';
    return {};
  }

  // A list, dict or object may contain itself. A tuple, an object within its own arguments, or a
  // tensor within its attributes cannot be built.
  Result<void> reference(Value value, std::uint32_t id) {
    for (const NodeId open : unfinished_) {
      if (open != value.id()) continue;
      const Kind kind = value.kind();
      return make_error(ErrorCode::tree_not_representable, "a ",
                        kind == Kind::tuple ? "tuple" : (kind == Kind::tensor ? "tensor" : "call"),
                        " that contains itself");
    }
    out_ += str_cat("[\"ref\",", id, "]");
    return {};
  }

  Result<void> content(Value value, std::size_t depth) {
    switch (value.kind()) {
      case Kind::none:
        return text("null");
      case Kind::boolean:
        return text(*value.as_bool() ? "true" : "false");
      case Kind::integer:
      case Kind::real:
      case Kind::string:
        return plain(value, depth);
      default:
        break;
    }
    FLATBED_TRY(check_depth(depth));
    return array(value, depth);
  }

  // Numbers and texts, of which only some are arrays.
  Result<void> plain(Value value, std::size_t depth) {
    const std::size_t begin = out_.size();
    if (value.kind() == Kind::integer) append_integer(out_, *value.as_int());
    if (value.kind() == Kind::real) append_real(out_, *value.as_real());
    if (value.kind() == Kind::string) string(value);
    return out_[begin] == '[' ? check_depth(depth) : Result<void>();
  }

  // `depth` is that of an array or object that is about to be written.
  static Result<void> check_depth(std::size_t depth) {
    if (depth <= kMaxDepth) return {};
    return make_error(ErrorCode::tree_not_representable, "nests more than ", kMaxDepth, " levels");
  }

  Result<void> text(std::string_view json) {
    out_ += json;
    return {};
  }

  void string(Value value) {
    if (is_utf8(value.text())) return append_json_string(out_, value.text());
    out_ += "[\"str\",";
    append_hex_string(out_, value.text());
    out_ += ']';
  }

  // The nodes that are JSON arrays.
  Result<void> array(Value value, std::size_t depth) {
    switch (value.kind()) {
      case Kind::big_integer:
        return text(str_cat("[\"int\",\"", value.text(), "\"]"));
      case Kind::bytes:
        return bytes(value, depth);
      case Kind::list:
        return list(value, depth);
      case Kind::tuple:
        return tuple(value, depth);
      case Kind::dict:
        out_ += "[\"dict\"";
        FLATBED_TRY(pairs(value, depth, true));
        return text("]");
      case Kind::global:
        return global(value);
      case Kind::object:
        return object(value, depth);
      case Kind::tensor:
        return tensor(value, depth);
      case Kind::array:
        out_ += "[\"array\",";
        append_json_string(out_, names_[*value.tensor()]);
        out_ += ',';
        append_json_string(out_, value.text());
        return text("]");
      default:
        out_ += "[\"scalar\",";
        append_json_string(out_, value.text());
        out_ += ',';
        append_hex_string(out_, value.raw());
        return text("]");
    }
  }

  Result<void> bytes(Value value, std::size_t depth) {
    out_ += "[\"bytes\",";
    if (const auto index = value.tensor()) {
      FLATBED_TRY(check_depth(depth + 1));
      out_ += "[\"tensor\",";
      append_json_string(out_, names_[*index]);
      return text("]]");
    }
    append_hex_string(out_, value.text());
    return text("]");
  }

  Result<void> global(Value value) {
    out_ += "[\"global\",";
    append_json_string(out_, value.text());
    out_ += ',';
    append_json_string(out_, value.qualname());
    return text("]");
  }

  Result<void> child(Value value, std::size_t depth, Value key, std::size_t index) {
    auto written = node(value, depth + 1);
    if (!written) return below(step_text(key, index), std::move(written).error());
    return {};
  }

  Result<void> list(Value value, std::size_t depth) {
    out_ += "[\"list\"";
    for (std::size_t i = 0; i < value.size(); ++i) {
      out_ += ',';
      FLATBED_TRY(child(value.item(i), depth, tree_.value(kNoNode), i));
    }
    return text("]");
  }

  Result<void> tuple(Value value, std::size_t depth) {
    unfinished_.push_back(value.id());
    out_ += "[\"tuple\"";
    for (std::size_t i = 0; i < value.size(); ++i) {
      out_ += ',';
      FLATBED_TRY(child(value.item(i), depth, tree_.value(kNoNode), i));
    }
    unfinished_.pop_back();
    return text("]");
  }

  // Keys and values. `after` means that a comma comes before the first pair too.
  Result<void> pairs(Value value, std::size_t depth, bool after) {
    for (std::size_t i = 0; i < value.size(); ++i) {
      out_ += after || i > 0 ? "," : "";
      FLATBED_TRY(child(value.key(i), depth, value.key(i), i));
      out_ += ',';
      FLATBED_TRY(child(value.item(i), depth, value.key(i), i));
    }
    return {};
  }

  Result<void> object(Value value, std::size_t depth) {
    out_ += "[\"object\",";
    unfinished_.push_back(value.id());
    FLATBED_TRY(child(value.callable(), depth, tree_.value(kNoNode), 0));
    out_ += ',';
    FLATBED_TRY(check_depth(depth + 1));
    FLATBED_TRY(tuple(value.arguments(), depth + 1));
    unfinished_.pop_back();
    const std::optional<Value> state = value.state();
    if (value.appended_size() == 0 && value.size() == 0 && !state) return text("]");
    out_ += ",[";
    for (std::size_t i = 0; i < value.appended_size(); ++i) {
      out_ += i > 0 ? "," : "";
      FLATBED_TRY(child(value.appended(i), depth + 1, tree_.value(kNoNode), i));
    }
    out_ += "],[";
    FLATBED_TRY(pairs(value, depth + 1, false));
    out_ += ']';
    if (state) {
      out_ += ',';
      FLATBED_TRY(child(*state, depth, tree_.value(kNoNode), 0));
    }
    return text("]");
  }

  Result<void> tensor(Value value, std::size_t depth) {
    out_ += "[\"tensor\",";
    append_json_string(out_, names_[*value.tensor()]);
    const TensorAttributes& of = value.attributes();
    if (of == TensorAttributes{}) return text("]");
    FLATBED_TRY(check_depth(depth + (of.stride || of.shape ? 2 : 1)));
    unfinished_.push_back(value.id());
    out_ += ",{";
    FLATBED_TRY(attributes(of, depth + 1));
    unfinished_.pop_back();
    return text("}]");
  }

  // T5, in the order of the spec's table.
  Result<void> attributes(const TensorAttributes& of, std::size_t depth) {
    bool first = true;
    const auto member = [&](std::string_view key) {
      out_ += str_cat(first ? "" : ",", "\"", key, "\":");
      first = false;
    };
    for (const auto& [key, is_set] :
         {std::pair{"grad", of.requires_grad}, std::pair{"param", of.parameter}}) {
      if (is_set) {
        member(key);
        out_ += "true";
      }
    }
    if (!of.device.empty()) {
      member("device");
      append_json_string(out_, of.device);
    }
    if (of.stride) {
      member("stride");
      append_integers(out_, *of.stride);
    }
    if (!of.dtype.empty()) {
      member("dtype");
      append_json_string(out_, of.dtype);
    }
    if (of.shape) {
      member("shape");
      append_integers(out_, *of.shape);
    }
    for (const auto& [key, id] : {std::pair{"quant", of.quantizer}, std::pair{"state", of.state}}) {
      if (id != kNoNode) {
        member(key);
        FLATBED_TRY(node(tree_.value(id), depth + 1));
      }
    }
    return {};
  }

  const ValueTree& tree_;
  std::span<const std::string> names_;
  std::span<const std::uint8_t> visits_;
  std::size_t max_nbytes_;
  bool measures_ = false;                          // instead of keeping the text
  std::size_t measured_ = 0;                       // bytes of the text that were dropped
  std::unordered_map<NodeId, std::uint32_t> ids_;  // numbers in the text of nodes that have opened
  // Nodes around the current place: tuples, objects in their arguments, tensors.
  std::vector<NodeId> unfinished_;
  std::uint32_t next_id_ = 0;
  std::string out_;
};

}  // namespace

Result<std::string> encode_tree(const ValueTree& tree, std::span<const std::string> names,
                                std::size_t max_nbytes) {
  FLATBED_ASSIGN(const std::vector<std::uint8_t> visits, count_visits(tree));
  const std::size_t limit = std::min(max_nbytes, kMaxText);
  const Result<std::size_t> nbytes = Encoder(tree, names, visits, limit).measure();
  if (!nbytes) return with_context("the tree", nbytes.error());
  Result<std::string> text = Encoder(tree, names, visits, limit).write(*nbytes);
  if (!text) return with_context("the tree", std::move(text).error());
  return text;
}

std::string encode_aliases(std::span<const Alias> aliases) {
  std::string out = "{";
  for (const Alias& alias : aliases) {
    if (out.size() > 1) out += ',';
    append_json_string(out, alias.name);
    out += ':';
    append_json_string(out, alias.target);
  }
  return out + "}";
}

}  // namespace flatbed
