// The walk that collects the state of a module. It is iterative, because modules may be nested
// deeply.
#include <algorithm>
#include <array>
#include <span>
#include <utility>

#include "base/str_cat.hpp"
#include "base/utf8.hpp"
#include "flatbed/torch_module.hpp"

namespace flatbed {

namespace {

constexpr std::size_t kMaxSteps = 5'000'000;  // entries and modules, counted each time they occur
// Of all names together; no header could hold more.
constexpr std::size_t kMaxNameBytes = 100'000'000;
constexpr std::size_t kMaxNotes = 8;

// Packages with classes that have a get_extra_state(). None of torch's own classes has one.
constexpr std::array<std::string_view, 4> kExtraState{
    "transformer_engine", "megatron.core.tensor_parallel",
    "megatron.core.extensions.transformer_engine",
    "megatron.core.transformer.custom_layers.transformer_engine"};
// Packages whose _save_to_state_dict() also adds more than _parameters and _buffers.
constexpr std::array<std::string_view, 6> kQuantized{
    "torch.ao.nn.quantized", "torch.ao.nn.intrinsic.quantized", "torch.ao.nn.sparse.quantized",
    "torch.nn.quantized",    "torch.nn.intrinsic.quantized",    "bitsandbytes.nn"};

bool is_from(std::string_view module, std::span<const std::string_view> packages) {
  return std::ranges::any_of(packages, [&](std::string_view package) {
    return module.starts_with(package) &&
           (module.size() == package.size() || module[package.size()] == '.');
  });
}

// The sorted contents of {'a', 'b'}, that is set(['a', 'b']).
std::vector<std::string_view> texts_of_set(std::optional<Value> set) {
  std::vector<std::string_view> texts;
  if (!set || set->kind() != Kind::object || set->arguments().size() != 1) return texts;
  const Value list = set->arguments().item(0);
  for (std::size_t i = 0; list.kind() == Kind::list && i < list.size(); ++i) {
    if (list.item(i).kind() == Kind::string) texts.push_back(list.item(i).text());
  }
  std::ranges::sort(texts);
  return texts;
}

// The tensor within Parameter(tensor), if that is an object of its own.
Value without_parameter(Value value) {
  if (value.kind() != Kind::object) return value;
  const Value made_by = value.callable();
  const bool parameter = made_by.kind() == Kind::global && made_by.text() == "torch._utils" &&
                         (made_by.qualname() == "_rebuild_parameter" ||
                          made_by.qualname() == "_rebuild_parameter_with_state");
  return parameter && value.arguments().size() != 0 ? value.arguments().item(0) : value;
}

// A bit for each node.
class NodeSet {
 public:
  // Returns false if it was there already.
  bool insert(NodeId id) {
    if (id >= bits_.size()) bits_.resize(std::size_t{id} + 1);
    const bool is_new = !bits_[id];
    bits_[id] = true;
    return is_new;
  }
  void erase(NodeId id) { bits_[id] = false; }

 private:
  std::vector<bool> bits_;
};

// The walk of state_dict(). The modules on the path to the current one are open.
class StateDictWalk {
 public:
  Result<StateDict> run(const TorchModule& root) {
    FLATBED_TRY(enter(root));
    while (!open_.empty()) {
      Open& open = open_.back();
      const Value children = open.module.children();
      const std::optional<Value> wrapped = open.module.wrapped();
      if (open.next == (wrapped ? 1 : children.size())) {
        open_ids_.erase(open.module.object().id());
        open_.pop_back();
        continue;
      }
      const std::size_t i = open.next++;
      prefix_.resize(open.prefix_nbytes);
      FLATBED_TRY(wrapped ? append(kWrappedModule) : append_key(children.key(i)));
      FLATBED_TRY(child(wrapped ? *wrapped : children.item(i)));
    }
    FLATBED_TRY(check_names());
    const std::uint64_t buffers = result_.not_persistent;
    if (buffers != 0)
      result_.notes.push_back(str_cat(buffers,
                                      buffers == 1 ? " buffer that is" : " buffers that are",
                                      " not persistent and thus not part of the state dict"));
    if (more_notes_ != 0)
      result_.notes.push_back(str_cat("there are as many notes on ", more_notes_, " more modules"));
    return std::move(result_);
  }

 private:
  struct Open {
    TorchModule module;
    std::size_t prefix_nbytes;
    std::size_t next = 0;  // index of the next child
  };

  Result<void> step(std::size_t count) {
    steps_ += count;
    if (steps_ <= kMaxSteps) return {};
    return make_error(ErrorCode::limit_exceeded, "the state dict has more than ", kMaxSteps,
                      " entries and modules, because modules share others many times");
  }

  // prefix_ is the name of the module and a dot.
  Result<void> enter(const TorchModule& module) {
    if (!open_ids_.insert(module.object().id()))
      return make_error(ErrorCode::tree_not_representable, "module ", place(),
                        " contains itself, so its state dict would be infinite");
    open_.push_back({module, prefix_.size()});
    note_class(module);
    FLATBED_TRY(entries(module.parameters(), {}));
    return entries(module.buffers(), texts_of_set(module.find("_non_persistent_buffers_set")));
  }

  // prefix_ is the name of the child.
  Result<void> child(Value value) {
    FLATBED_TRY(step(1));
    if (value.kind() == Kind::none) return {};
    const std::optional<TorchModule> module = TorchModule::of(value);
    if (!module) {
      note(value.id(), str_cat(place(), " is not a readable module and is left out"));
      return {};
    }
    prefix_ += '.';
    return enter(*module);
  }

  Result<void> entries(Value dict, const std::vector<std::string_view>& not_persistent) {
    FLATBED_TRY(step(dict.size() + not_persistent.size()));
    const std::size_t prefix_nbytes = prefix_.size();
    for (std::size_t i = 0; i < dict.size(); ++i) {
      const Value key = dict.key(i);
      const Value value = dict.item(i);
      if (value.kind() == Kind::none) continue;
      if (key.kind() == Kind::string && std::ranges::binary_search(not_persistent, key.text())) {
        ++result_.not_persistent;
        continue;
      }
      FLATBED_TRY(append_key(key));
      FLATBED_TRY(add(value));
      prefix_.resize(prefix_nbytes);
    }
    return {};
  }

  Result<void> add(Value value) {
    if (value.kind() != Kind::tensor && value.kind() != Kind::object) {
      note(value.id(), str_cat(place(), " is not a tensor and is left out"));
      return {};
    }
    name_nbytes_ += prefix_.size();
    if (name_nbytes_ > kMaxNameBytes) return names_too_long();
    result_.entries.push_back({prefix_, without_parameter(value)});
    return {};
  }

  Result<void> append_key(Value key) {
    if (key.kind() != Kind::string)
      return append(key.kind() == Kind::integer ? str_cat(*key.as_int()) : "?");
    return is_utf8(key.text()) ? append(key.text()) : append(replace_surrogates(key.text()));
  }

  Result<void> append(std::string_view name) {
    // Long names count for more, because they take longer to copy.
    FLATBED_TRY(step(name.size() / 64));
    if (name.size() > kMaxNameBytes - std::min(prefix_.size(), kMaxNameBytes))
      return names_too_long();
    prefix_ += name;
    return {};
  }

  static Error names_too_long() {
    return make_error(ErrorCode::limit_exceeded, "the names of the state dict have more than ",
                      kMaxNameBytes, " bytes together");
  }

  // The file does not say what a class or its hooks may do to the state dict.
  void note_class(const TorchModule& module) {
    const NodeId id = module.object().id();
    for (const std::string_view name : {"_state_dict_hooks", "_state_dict_pre_hooks"}) {
      const std::optional<Value> hooks = module.find(name);
      if (hooks && hooks->size() != 0)
        note(id, str_cat("module ", place(), " has ", name,
                         " that may change its state dict; they are not run"));
    }
    if (module.find("_packed_params"))
      note(id, str_cat("module ", place(),
                       " is quantized; its packed weights are left out of the state dict"));
    const std::string_view from = module.type().text();
    if (is_from(from, kQuantized) &&
        (from.starts_with("bitsandbytes") || module.find("scale") || module.find("weight_qscheme")))
      note(id, str_cat("module ", place(),
                       " is quantized; what only its class adds to its state"
                       " dict, such as a scale, is left out"));
    if (is_from(from, kExtraState))
      note(id, str_cat("module ", place(),
                       " may have an extra state, which only its class can make; it is left out"));
  }

  void note(NodeId of, std::string text) {
    if (!noted_.insert(of)) return;
    if (result_.notes.size() < kMaxNotes) {
      result_.notes.push_back(std::move(text));
    } else {
      ++more_notes_;
    }
  }

  // torch forbids names with dots. With them, two entries could have the same name.
  [[nodiscard]] Result<void> check_names() const {
    std::vector<std::string_view> names;
    names.reserve(result_.entries.size());
    for (const StateEntry& entry : result_.entries) names.push_back(entry.name);
    std::ranges::sort(names);
    const auto twice = std::ranges::adjacent_find(names);
    if (twice == names.end()) return {};
    return make_error(ErrorCode::tree_not_representable,
                      "two entries of the state dict are called ", quoted(*twice));
  }

  // The place of the module or entry that prefix_ names.
  [[nodiscard]] std::string place() const {
    if (prefix_.empty()) return "at the root";
    return quoted(std::string_view(prefix_).substr(0, prefix_.size() - prefix_.ends_with('.')));
  }

  StateDict result_;
  std::string prefix_;
  std::vector<Open> open_;
  NodeSet open_ids_;
  NodeSet noted_;
  std::size_t steps_ = 0;
  std::size_t name_nbytes_ = 0;
  std::size_t more_notes_ = 0;
};

}  // namespace

Result<StateDict> state_dict(const TorchModule& module) { return StateDictWalk().run(module); }

NodeId add_state_dict(ValueTree& tree, const StateDict& weights) {
  std::vector<NodeId> pairs;
  pairs.reserve(weights.entries.size() * 2);
  for (const StateEntry& entry : weights.entries) {
    NodeId value = entry.value.id();
    if (entry.value.kind() == Kind::tensor) {
      TensorAttributes attributes = tree.value(value).attributes();
      attributes.parameter = attributes.requires_grad = false;
      attributes.state = kNoNode;
      value = tree.add_tensor(*entry.value.tensor(), attributes);
    }
    pairs.push_back(tree.add_string(entry.name));
    pairs.push_back(value);
  }
  const NodeId type = tree.add_global("collections", "OrderedDict");
  const NodeId dict = tree.add_object(type, tree.add_tuple({}));
  tree.set_items(dict, pairs);
  return dict;
}

}  // namespace flatbed
