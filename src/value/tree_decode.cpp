// Decodes flatbed.tree and flatbed.aliases: a strict reader of spec T2 to T7 and A2. Recursion is
// bounded by the 512 levels that T7 allows, which are counted in advance.
#include <charconv>
#include <string>

#include "base/bytes.hpp"
#include "base/json.hpp"
#include "base/str_cat.hpp"
#include "base/utf8.hpp"
#include "io/name_index.hpp"
#include "value/tree_fit.hpp"
#include "value/tree_json.hpp"

namespace flatbed {

namespace {

constexpr std::size_t kMaxDepth = 512;
constexpr std::int64_t kIntegerBound = std::int64_t{1} << 53;
constexpr JsonRules kTreeRules{ErrorCode::tree_not_json, ErrorCode::tree_not_json,
                               ErrorCode::tree_malformed_number, ErrorCode::tree_too_deep,
                               kMaxDepth};
constexpr JsonRules kAliasRules{ErrorCode::aliases_malformed, ErrorCode::aliases_malformed,
                                ErrorCode::aliases_malformed, ErrorCode::aliases_malformed, 8};

Error malformed(std::string_view wanted) {
  return make_error(ErrorCode::tree_malformed_node, "expected ", wanted);
}
Error bad_number(std::string_view what) {
  return make_error(ErrorCode::tree_malformed_number, what);
}

// Prepends one more step to the place of an error: "/2/1: message".
Error below(std::size_t index, Error error) {
  error.message.insert(0, str_cat("/", index, error.message.starts_with('/') ? "" : ": "));
  return error;
}

bool is_hex(std::string_view text) {
  return text.find_first_not_of("0123456789abcdef") == text.npos;
}

std::optional<std::string> unhex(std::string_view text) {
  if (text.size() % 2 != 0 || !is_hex(text)) return std::nullopt;
  std::string out(text.size() / 2, '\0');
  const auto digit = [](char c) { return c <= '9' ? c - '0' : c - 'a' + 10; };
  for (std::size_t i = 0; i < out.size(); ++i) {
    out[i] = static_cast<char>(digit(text[2 * i]) << 4 | digit(text[2 * i + 1]));
  }
  return out;
}

// An opened array node: its tag and its children.
struct Items {
  std::string_view tag;
  std::vector<JsonValue> children;
};

class Decoder {
 public:
  explicit Decoder(const TensorByName& tensor_by_name) : tensor_by_name_(tensor_by_name) {}

  Result<ValueTree> run(JsonValue root) {
    FLATBED_ASSIGN(const NodeId id, node(root));
    tree_.set_root(id);
    return std::move(tree_);
  }

 private:
  // One ["id",K,...], kNoNode until its node exists. If `sealed`, refs to it are refused (a tuple,
  // or an object whose callable and arguments are still being read).
  struct Shared {
    NodeId node = kNoNode;
    bool refused = true;
  };

  Result<NodeId> node(JsonValue json) { return node(json, nullptr); }

  // `shared` is set if this node is the content of an id.
  Result<NodeId> node(JsonValue json, std::size_t* shared) {
    if (json.is_array()) return array_node(json, shared);
    if (json.is_object())
      return make_error(ErrorCode::tree_unexpected_object, "unexpected JSON object");
    if (json.is_null()) return tree_.add_none();
    if (json.is_string()) return tree_.add_string(json.text());
    if (const auto boolean = json.as_bool()) return tree_.add_boolean(*boolean);
    if (const auto real = json.as_real()) return tree_.add_real(*real);
    const auto integer = json.as_signed();
    if (!integer || *integer >= kIntegerBound || *integer <= -kIntegerBound) {
      return bad_number("an integer of magnitude 2^53 or more must be [\"int\",HEX]");
    }
    return tree_.add_integer(*integer);
  }

  static Result<Items> open(JsonValue json) {
    Items items;
    items.children.reserve(json.size_hint());
    for (JsonValue child = json.first(); !child.at_end(); child = child.next())
      items.children.push_back(child);
    if (items.children.empty() || !items.children[0].is_string())
      return malformed("a node's tag first");
    items.tag = items.children[0].text();
    return items;
  }

  Result<NodeId> array_node(JsonValue json, std::size_t* shared) {
    FLATBED_ASSIGN(const Items items, open(json));
    const std::string_view tag = items.tag;
    if (tag == "list") return list_node(items, shared);
    if (tag == "tuple") return tuple_node(items);
    if (tag == "dict") return dict_node(items, shared);
    if (tag == "object") return object_node(items, shared);
    if (tag == "tensor") return tensor_node(items);
    if (tag == "array") return numpy_array_node(items);
    if (shared != nullptr)
      return make_error(ErrorCode::tree_malformed_id, "an id marks ", quoted(tag));
    if (tag == "id") return id_node(items);
    if (tag == "ref") return ref_node(items);
    if (tag == "int") return int_node(items);
    if (tag == "float") return float_node(items);
    if (tag == "str") return str_node(items);
    if (tag == "bytes") return bytes_node(items);
    if (tag == "global") return global_node(items);
    if (tag == "scalar") return scalar_node(items);
    return make_error(ErrorCode::tree_unknown_tag, "unknown tag ", quoted(tag));
  }

  // Decodes the children from `first` on.
  Result<std::vector<NodeId>> nodes(const Items& items, std::size_t first) {
    std::vector<NodeId> ids;
    ids.reserve(items.children.size() - first);
    for (std::size_t i = first; i < items.children.size(); ++i) {
      Result<NodeId> id = node(items.children[i]);
      if (!id) return below(i, std::move(id).error());
      ids.push_back(*id);
    }
    return ids;
  }

  // From here on, a ref to this node is allowed: it exists and may be part of a cycle.
  void publish(std::size_t* shared, NodeId id) {
    if (shared != nullptr) shared_[*shared] = {id, false};
  }

  Result<NodeId> list_node(const Items& items, std::size_t* shared) {
    const NodeId id = tree_.add_list();
    publish(shared, id);
    FLATBED_ASSIGN(const std::vector<NodeId> ids, nodes(items, 1));
    tree_.append_all(id, ids);
    return id;
  }

  Result<NodeId> tuple_node(const Items& items) {
    FLATBED_ASSIGN(const std::vector<NodeId> ids, nodes(items, 1));
    return tree_.add_tuple(ids);
  }

  Result<NodeId> dict_node(const Items& items, std::size_t* shared) {
    const NodeId id = tree_.add_dict();
    publish(shared, id);
    FLATBED_ASSIGN(const std::vector<NodeId> ids, nodes(items, 1));
    FLATBED_TRY(check_pairs(ids));
    tree_.set_items(id, ids);
    return id;
  }

  // Keys and values alternate. A key must not be a container that cannot be hashed. No two str keys
  // and no two int keys may be equal.
  Result<void> check_pairs(std::span<const NodeId> ids) const {
    if (ids.size() % 2 != 0) return malformed("a value for every key");
    const auto key_text = [&](std::uint32_t pair) { return key_of(ids[std::size_t{pair} * 2]); };
    NameIndex keys(ids.size() / 2);
    for (std::size_t i = 0; i < ids.size(); i += 2) {
      const Kind kind = tree_.value(ids[i]).kind();
      if (kind == Kind::list || kind == Kind::dict || kind == Kind::array) {
        return make_error(ErrorCode::tree_malformed_key, "the key of pair ", i / 2,
                          " is a list, dict or array");
      }
      const std::string key = key_of(ids[i]);
      if (!key.empty() && keys.insert(key, static_cast<std::uint32_t>(i / 2), key_text)) {
        return make_error(ErrorCode::tree_duplicate_key,
                          "two keys are equal: ", quoted(std::string_view(key).substr(1)));
      }
    }
    return {};
  }

  // The text that decides whether str or int keys are equal; empty for other kinds.
  [[nodiscard]] std::string key_of(NodeId id) const {
    const Value key = tree_.value(id);
    if (key.kind() == Kind::string) return str_cat("s", key.text());
    if (key.kind() == Kind::big_integer) return str_cat("h", key.text());
    return key.kind() == Kind::integer ? str_cat("i", *key.as_int()) : std::string();
  }

  Result<NodeId> object_node(const Items& items, std::size_t* shared) {
    const std::size_t size = items.children.size();
    if (size != 3 && size != 5 && size != 6) return malformed("2, 4 or 5 parts of an object");
    Result<NodeId> callable = node(items.children[1]);
    if (!callable) return below(1, std::move(callable).error());
    Result<NodeId> arguments = argument_tuple(items.children[2]);
    if (!arguments) return below(2, std::move(arguments).error());
    const NodeId id = tree_.add_object(*callable, *arguments);
    publish(shared, id);
    if (size == 3) return id;
    FLATBED_ASSIGN(const std::vector<NodeId> appended, plain_array(items, 3));
    tree_.append_all(id, appended);
    FLATBED_ASSIGN(const std::vector<NodeId> pairs, plain_array(items, 4));
    if (auto checked = check_pairs(pairs); !checked) return below(4, std::move(checked).error());
    tree_.set_items(id, pairs);
    if (size == 5) return id;
    Result<NodeId> state = node(items.children[5]);
    if (!state) return below(5, std::move(state).error());
    tree_.set_state(id, *state);
    return id;
  }

  Result<NodeId> argument_tuple(JsonValue json) {
    if (!json.is_array() || json.first().text() != "tuple")
      return malformed("a tuple node as arguments");
    return array_node(json, nullptr);
  }

  // Part `index` of an object, a bare JSON array of nodes.
  Result<std::vector<NodeId>> plain_array(const Items& items, std::size_t index) {
    const JsonValue json = items.children[index];
    if (!json.is_array()) return below(index, malformed("an array of nodes"));
    Items inner;
    for (JsonValue child = json.first(); !child.at_end(); child = child.next())
      inner.children.push_back(child);
    Result<std::vector<NodeId>> ids = nodes(inner, 0);
    if (!ids) return below(index, std::move(ids).error());
    return ids;
  }

  Result<const TensorInfo*> tensor_named(JsonValue json) const {
    if (!json.is_string()) return malformed("a tensor's name");
    const TensorInfo* tensor = tensor_by_name_(json.text());
    if (tensor == nullptr) {
      return make_error(ErrorCode::tree_unknown_tensor, "there is not a tensor called ",
                        quoted(json.text()));
    }
    return tensor;
  }

  Result<NodeId> tensor_node(const Items& items) {
    const std::size_t size = items.children.size();
    if (size != 2 && size != 3) return malformed("[\"tensor\",NAME] or [\"tensor\",NAME,{...}]");
    FLATBED_ASSIGN(const TensorInfo* tensor, tensor_named(items.children[1]));
    if (size == 2) return tree_.add_tensor(tensor->index, {});
    Result<TensorAttributes> attributes = read_attributes(items.children[2]);
    if (!attributes) return below(2, std::move(attributes).error());
    if (!attributes_fit(*attributes, *tensor)) {
      return below(2, make_error(ErrorCode::tree_unknown_attribute,
                                 "dtype, shape or stride do not fit ", name(tensor->dtype), " ",
                                 shape_text(tensor->shape.data(), tensor->shape.size())));
    }
    return tree_.add_tensor(tensor->index, *attributes);
  }

  Result<TensorAttributes> read_attributes(JsonValue json) {
    if (!json.is_object()) return malformed("an object of attributes");
    TensorAttributes attributes;
    unsigned seen = 0;
    for (JsonValue key = json.first(); !key.at_end();) {
      const JsonValue value = key.member();
      FLATBED_ASSIGN(const unsigned bit, read_attribute(key.text(), value, attributes));
      if ((seen & bit) != 0) {
        return make_error(ErrorCode::tree_duplicate_member, "attribute ", quoted(key.text()),
                          " appears twice");
      }
      seen |= bit;
      key = value.next();
    }
    return attributes;
  }

  // Reads one attribute of T5's closed set and returns its bit.
  Result<unsigned> read_attribute(std::string_view key, JsonValue value, TensorAttributes& to) {
    const auto wrong = [&](std::string_view wanted) {
      return make_error(ErrorCode::tree_unknown_attribute, "attribute ", quoted(key), ": expected ",
                        wanted);
    };
    if (key == "grad" || key == "param") {
      if (value.as_bool() != true) return wrong("true");
      (key == "grad" ? to.requires_grad : to.parameter) = true;
      return key == "grad" ? 1u : 2u;
    }
    if (key == "device" || key == "dtype") {
      if (!value.is_string()) return wrong("a string");
      (key == "device" ? to.device : to.dtype) = value.text();
      return key == "device" ? 4u : 8u;
    }
    if (key == "stride" || key == "shape") {
      auto numbers = read_integers(value);
      if (!numbers) return wrong("an array of integers in [0, 2^53)");
      (key == "stride" ? to.stride : to.shape) = std::move(numbers);
      return key == "stride" ? 16u : 32u;
    }
    if (key != "quant" && key != "state")
      return wrong("one of grad, param, device, stride, dtype, shape, quant, state");
    FLATBED_ASSIGN((key == "quant" ? to.quantizer : to.state), node(value));
    return key == "quant" ? 64u : 128u;
  }

  static std::optional<std::vector<std::uint64_t>> read_integers(JsonValue json) {
    if (!json.is_array()) return std::nullopt;
    std::vector<std::uint64_t> numbers;
    for (JsonValue child = json.first(); !child.at_end(); child = child.next()) {
      const auto number = child.as_unsigned();
      if (!number || *number >= static_cast<std::uint64_t>(kIntegerBound)) return std::nullopt;
      numbers.push_back(*number);
    }
    return numbers;
  }

  Result<NodeId> numpy_array_node(const Items& items) {
    if (items.children.size() != 3 || !items.children[2].is_string())
      return malformed("[\"array\",NAME,TYPESTR]");
    FLATBED_ASSIGN(const TensorInfo* tensor, tensor_named(items.children[1]));
    const std::optional<NumpyType> type = parse_numpy_type(items.children[2].text());
    if (!type || !array_fits(*type, *tensor)) {
      return malformed(str_cat("a numpy type that ", name(tensor->dtype), " ",
                               shape_text(tensor->shape.data(), tensor->shape.size()), " holds"));
    }
    return tree_.add_array(tensor->index, items.children[2].text());
  }

  Result<NodeId> id_node(const Items& items) {
    if (items.children.size() != 3) return malformed("[\"id\",K,NODE]");
    std::size_t number = shared_.size();
    if (items.children[1].as_unsigned() != number) {
      return make_error(ErrorCode::tree_malformed_id,
                        "ids count from 0 in the order of the text, expected ", number);
    }
    if (!items.children[2].is_array())
      return make_error(ErrorCode::tree_malformed_id, "an id marks a scalar");
    shared_.emplace_back();
    Result<NodeId> id = node(items.children[2], &number);
    if (!id) return below(2, std::move(id).error());
    shared_[number] = {*id, false};
    return id;
  }

  Result<NodeId> ref_node(const Items& items) const {
    const auto number = items.children.size() == 2 ? items.children[1].as_unsigned() : std::nullopt;
    if (!number) return malformed("[\"ref\",K]");
    if (*number >= shared_.size()) {
      return make_error(ErrorCode::tree_malformed_ref, "no id ", *number, " was opened before");
    }
    const Shared& shared = shared_[*number];
    if (shared.refused) {
      return make_error(ErrorCode::tree_malformed_ref, "id ", *number,
                        " is still open and cannot contain itself");
    }
    return shared.node;
  }

  Result<NodeId> int_node(const Items& items) {
    if (items.children.size() != 2 || !items.children[1].is_string())
      return malformed("[\"int\",HEX]");
    const std::string_view text = items.children[1].text();
    const std::string_view digits = text.substr(text.starts_with('-') ? 1 : 0);
    if (digits.empty() || digits[0] == '0' || !is_hex(digits)) {
      return bad_number("an int is lower-case hex without leading zero");
    }
    std::uint64_t magnitude = 0;
    const bool wide = digits.size() > 16;
    if (!wide) std::from_chars(digits.data(), digits.data() + digits.size(), magnitude, 16);
    if (!wide && magnitude < static_cast<std::uint64_t>(kIntegerBound)) {
      return bad_number("an int of magnitude below 2^53 must be a JSON number");
    }
    const std::uint64_t most = std::uint64_t{INT64_MAX} + (text.size() != digits.size() ? 1 : 0);
    if (wide || magnitude > most) return tree_.add_big_integer(text);
    const std::uint64_t value = text.size() != digits.size() ? ~magnitude + 1 : magnitude;
    return tree_.add_integer(static_cast<std::int64_t>(value));
  }

  Result<NodeId> float_node(const Items& items) {
    if (items.children.size() != 2 || !items.children[1].is_string())
      return malformed("[\"float\",BITS]");
    const std::string_view digits = items.children[1].text();
    if (digits.size() != 16 || !is_hex(digits))
      return bad_number("a float's bits are 16 lower-case hex digits");
    std::uint64_t value = 0;
    std::from_chars(digits.data(), digits.data() + digits.size(), value, 16);
    return tree_.add_real(std::bit_cast<double>(value));
  }

  Result<NodeId> str_node(const Items& items) {
    if (items.children.size() != 2 || !items.children[1].is_string())
      return malformed("[\"str\",HEX]");
    const std::optional<std::string> text = unhex(items.children[1].text());
    if (!text || !is_wtf8(*text))
      return bad_number("a str is hex of UTF-8, surrogates as three bytes");
    return tree_.add_string(*text);
  }

  Result<NodeId> bytes_node(const Items& items) {
    if (items.children.size() != 2)
      return malformed("[\"bytes\",HEX] or [\"bytes\",[\"tensor\",NAME]]");
    const JsonValue contents = items.children[1];
    if (contents.is_string()) {
      const std::optional<std::string> bytes = unhex(contents.text());
      if (!bytes) return bad_number("bytes are pairs of lower-case hex digits");
      return tree_.add_bytes(*bytes);
    }
    if (!contents.is_array()) return malformed("hex or a tensor node");
    FLATBED_ASSIGN(const Items inner, open(contents));
    if (inner.tag != "tensor" || inner.children.size() != 2) return malformed("[\"tensor\",NAME]");
    FLATBED_ASSIGN(const TensorInfo* tensor, tensor_named(inner.children[1]));
    if (tensor->dtype != Dtype::u8 || tensor->shape.size() != 1)
      return malformed("a U8 tensor of rank 1 as bytes");
    return tree_.add_bytes_in_tensor(tensor->index);
  }

  Result<NodeId> global_node(const Items& items) {
    const auto& children = items.children;
    const bool right =
        children.size() == 3 && !children[1].text().empty() && !children[2].text().empty();
    if (!right) return malformed("[\"global\",MODULE,QUALNAME], neither empty");
    return tree_.add_global(children[1].text(), children[2].text());
  }

  Result<NodeId> scalar_node(const Items& items) {
    const auto& children = items.children;
    if (children.size() != 3 || !children[1].is_string() || !children[2].is_string()) {
      return malformed("[\"scalar\",TYPESTR,HEX]");
    }
    const std::optional<NumpyType> type = parse_numpy_type(children[1].text());
    if (!type) return malformed("a numpy type");
    const std::optional<std::string> bytes = unhex(children[2].text());
    if (!bytes) return bad_number("a scalar's bytes are pairs of lower-case hex digits");
    if (bytes->size() != type->nbytes) {
      return malformed(str_cat(type->nbytes, " bytes of a ", quoted(children[1].text())));
    }
    return tree_.add_scalar(children[1].text(), *bytes);
  }

  const TensorByName& tensor_by_name_;
  ValueTree tree_;
  std::vector<Shared> shared_;
};

}  // namespace

Result<ValueTree> decode_tree(std::string_view json, const TensorByName& tensor_by_name) {
  FLATBED_ASSIGN(const JsonDocument document, JsonDocument::parse_copy(json, kTreeRules));
  // simdjson reads -0 as 0, so it is looked for separately.
  if (const auto zeros = find_negative_zeros(json); !zeros.empty()) {
    return with_context("flatbed.tree",
                        bad_number(str_cat("-0 at byte ", zeros.front(), ": a float is -0.0")));
  }
  Result<ValueTree> tree = Decoder(tensor_by_name).run(document.root());
  if (!tree) return with_context("flatbed.tree", std::move(tree).error());
  return tree;
}

Result<std::vector<Alias>> decode_aliases(std::string_view json,
                                          const TensorByName& tensor_by_name) {
  const auto wrong = [](const auto&... parts) {
    return make_error(ErrorCode::aliases_malformed, "flatbed.aliases: ", parts...);
  };
  FLATBED_ASSIGN(const JsonDocument document, JsonDocument::parse_copy(json, kAliasRules));
  if (!document.root().is_object()) return wrong("not a JSON object");
  std::vector<Alias> aliases;
  NameIndex names(document.root().size_hint());
  for (JsonValue key = document.root().first(); !key.at_end();) {
    const JsonValue value = key.member();
    const auto number = static_cast<std::uint32_t>(aliases.size());
    const auto name_of = [&](std::uint32_t i) -> std::string_view { return aliases[i].name; };
    if (names.insert(key.text(), number, name_of))
      return wrong(quoted(key.text()), " appears twice");
    if (tensor_by_name(key.text()) != nullptr)
      return wrong(quoted(key.text()), " is a tensor itself");
    if (!value.is_string() || tensor_by_name(value.text()) == nullptr) {
      return wrong(quoted(key.text()), " stands for ", quoted(value.text()),
                   ", which is not a tensor");
    }
    aliases.push_back({std::string(key.text()), std::string(value.text())});
    key = value.next();
  }
  return aliases;
}

}  // namespace flatbed
