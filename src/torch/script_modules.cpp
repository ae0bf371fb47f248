#include "torch/script_modules.hpp"

#include <algorithm>
#include <array>
#include <optional>
#include <vector>

#include "base/bytes.hpp"
#include "base/str_cat.hpp"
#include "torch/tree_check.hpp"

namespace flatbed::pth {

namespace {

enum Part : std::uint8_t { kParameters, kBuffers, kModules, kOthers };
constexpr std::array<std::string_view, 3> kPartNames{"_parameters", "_buffers", "_modules"};

bool is_in(const std::vector<std::string>& sorted, std::string_view name) {
  return std::binary_search(sorted.begin(), sorted.end(), name, std::less<>());
}

// Whether a value is a tensor, a tensor that is not dense, or None.
bool may_be_tensor(Value value) {
  return value.kind() == Kind::tensor || value.kind() == Kind::object || value.kind() == Kind::none;
}

// The class of an object that NEWOBJ made, if TorchScript declares it.
std::optional<Value> script_class(Value object) {
  const Value callable = object.callable();
  const Value arguments = object.arguments();
  if (callable.kind() != Kind::global || callable.text() != "copyreg" ||
      callable.qualname() != "__newobj__" || arguments.size() != 1)
    return std::nullopt;
  const Value type = arguments.item(0);
  const std::string_view module = type.text();
  const bool script =
      type.kind() == Kind::global && (module == "__torch__" || module.starts_with("__torch__."));
  // Classes of torch's own C++ code are not declared anywhere.
  if (!script || module.starts_with("__torch__.torch.classes")) return std::nullopt;
  return type;
}

// Counts objects that stay as they are, for a note.
struct Left {
  std::uint64_t count = 0;
  std::string first;
  void add(Value type) {
    if (count++ == 0) first = str_cat(type.text(), ".", type.qualname());
  }
};

class Arranger {
 public:
  Arranger(ScriptCode& code, TorchObjects& objects)
      : code_(code), objects_(objects), tree_(objects.file().tree) {}

  Result<void> run() {
    FLATBED_TRY(find_modules());
    if (modules_.empty()) return add_notes();
    empty_tuple_ = tree_.add_tuple({});
    for (std::size_t i = 0; i < kPartNames.size(); ++i)
      part_keys_[i] = tree_.add_string(kPartNames[i]);
    for (const auto& [object, type] : modules_) FLATBED_TRY(arrange(object, *type));
    return add_notes();
  }

 private:
  Result<void> find_modules() {
    for (NodeId id = 0; id < tree_.size(); ++id) {
      const Value object = tree_.value(id);
      if (object.kind() != Kind::object) continue;
      const std::optional<Value> type = script_class(object);
      if (!type) continue;
      FLATBED_ASSIGN(const ScriptClass* found, code_.find(*type));
      if (found == nullptr) {
        undeclared_.add(*type);
      } else if (found->module) {
        modules_.emplace(id, found);
      }
    }
    return {};
  }

  Result<void> arrange(NodeId object, const ScriptClass& type) {
    const std::optional<Value> state = tree_.value(object).state();
    if (type.makes_state || !state || state->kind() != Kind::dict) {
      own_state_.add(*script_class(tree_.value(object)));
      return {};
    }
    // torch never writes modules that share one state, so they are not worth the time that copies
    // would take.
    const auto [made, fresh] = states_.try_emplace(state->id(), &type, kNoNode);
    if (fresh) {
      FLATBED_ASSIGN(made->second.second, new_state(*state, type));
    }
    if (made->second.first != &type || made->second.second == kNoNode) {
      undeclared_.add(*script_class(tree_.value(object)));
      return {};
    }
    tree_.set_state(object, made->second.second);
    return {};
  }

  // kNoNode if an attribute already has the name of a part.
  Result<NodeId> new_state(Value state, const ScriptClass& type) {
    FLATBED_TRY(check_keys(state));
    std::array<std::vector<NodeId>, kOthers + 1> pairs;
    for (std::size_t i = 0; i < state.size(); ++i) {
      const Value key = state.key(i);
      const bool named = key.kind() == Kind::string;
      if (named && std::ranges::find(kPartNames, key.text()) != kPartNames.end()) return kNoNode;
      std::vector<NodeId>& part = pairs[named ? part_of(key.text(), state.item(i), type) : kOthers];
      part.push_back(key.id());
      part.push_back(state.item(i).id());
    }
    const NodeId dict = tree_.add_dict();
    const NodeId ordered_dict = objects_.add_global("collections", "OrderedDict");
    for (std::size_t i = 0; i < kPartNames.size(); ++i) {
      const NodeId part = tree_.add_object(ordered_dict, empty_tuple_);
      tree_.set_items(part, pairs[i]);
      tree_.set_item(dict, part_keys_[i], part);
    }
    tree_.set_items(dict, pairs[kOthers]);
    return dict;
  }

  [[nodiscard]] Part part_of(std::string_view name, Value value, const ScriptClass& type) const {
    if (modules_.contains(value.id())) return kModules;
    if (!may_be_tensor(value)) return kOthers;
    if (is_in(type.parameters, name)) return kParameters;
    // If buffers are not listed, all other tensors were buffers.
    const bool buffer =
        type.lists_buffers ? is_in(type.buffers, name) : value.kind() == Kind::tensor;
    return buffer ? kBuffers : kOthers;
  }

  Result<void> add_notes() {
    add_note(undeclared_, "no declaration in code/ of their attributes");
    add_note(own_state_, "a state made by their own code");
    return {};
  }
  void add_note(const Left& left, std::string_view why) {
    if (left.count == 0) return;
    objects_.file().notes.push_back(
        str_cat("kept as they are: ", counted(left.count, "TorchScript object"), " with ", why,
                "; the first is of ", quoted(left.first)));
  }

  ScriptCode& code_;
  TorchObjects& objects_;
  ValueTree& tree_;
  std::map<NodeId, const ScriptClass*> modules_;
  // By state: its owner, and what became of it.
  std::unordered_map<NodeId, std::pair<const ScriptClass*, NodeId>> states_;
  NodeId empty_tuple_ = kNoNode;
  std::array<NodeId, kPartNames.size()> part_keys_{};
  Left undeclared_, own_state_;
};

}  // namespace

Result<const ScriptClass*> ScriptCode::find(Value global) {
  const auto there = found_.find(global.id());
  if (there != found_.end()) return there->second;
  const std::string module(global.text());
  if (!modules_.contains(module)) FLATBED_TRY(read_module(module));
  const auto type = classes_.find({module, std::string(global.qualname())});
  const ScriptClass* const found = type == classes_.end() ? nullptr : &type->second;
  found_.emplace(global.id(), found);
  return found;
}

Result<void> ScriptCode::read_module(std::string_view module) {
  modules_.emplace(module);
  std::string path(module);
  std::ranges::replace(path, '.', '/');
  const ZipEntry* record = archive_.find(str_cat(folder_, "/code/", path, ".py"));
  if (record == nullptr) return {};
  allowed_nbytes_ += std::min(record->stored_nbytes, kMaxScriptCode) * kMaxScriptCodeRatio;
  allowed_nbytes_ = std::min(allowed_nbytes_, kMaxScriptCode);
  FLATBED_ASSIGN(const ByteBuffer text, read_entry(file_, *record, allowed_nbytes_));
  allowed_nbytes_ -= text.size();
  std::optional<std::vector<ScriptClass>> classes = scan_script_code(as_text(text));
  if (!classes) return {};
  for (ScriptClass& type : *classes) {
    std::pair key{std::string(module), type.name};
    classes_.insert_or_assign(std::move(key), std::move(type));
  }
  return {};
}

Result<void> arrange_modules(ScriptCode& code, TorchObjects& objects) {
  return Arranger(code, objects).run();
}

}  // namespace flatbed::pth
