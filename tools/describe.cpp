#include "describe.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <optional>
#include <string_view>

#include "format_text.hpp"
#include "picks.hpp"
#include "value_text.hpp"

namespace flatbed::tool {
namespace {

// A kind of checkpoint. It is recognized by keys that must all be present; unused ones are empty.
struct KindRow {
  std::string_view text;
  std::array<std::string_view, 3> keys;
};
constexpr std::array kKinds{
    // the first that fits
    KindRow{"Lightning checkpoint", {"pytorch-lightning_version"}},
    KindRow{"timm checkpoint", {"arch", "state_dict"}},
    KindRow{"Ultralytics checkpoint", {"train_args", "ema"}},
    KindRow{"YOLO checkpoint", {"best_fitness", "model"}},
    KindRow{"DeepSpeed checkpoint", {"module", "ds_config", "ds_version"}},
    KindRow{"DeepSpeed optimizer state", {"optimizer_state_dict", "ds_version"}},
    KindRow{"Megatron checkpoint", {"checkpoint_version", "iteration", "model"}},
    KindRow{"fairseq checkpoint", {"model", "optimizer_history"}},
    KindRow{"MMEngine checkpoint", {"meta", "state_dict"}},
    KindRow{"Whisper checkpoint", {"dims", "model_state_dict"}},
    KindRow{"optimizer state", {"state", "param_groups"}},
    KindRow{"training checkpoint", {"model_state_dict"}},
    KindRow{"training checkpoint", {"state_dict"}},
    KindRow{"training checkpoint", {"model", "optimizer"}},
};

constexpr std::array<std::string_view, 5> kSteps{"epoch", "global_step", "iteration", "iter",
                                                 "step"};

bool holds_pairs(Value value) { return value.kind() == Kind::dict || value.kind() == Kind::object; }

std::optional<Value> find_key(Value dict, std::string_view wanted) {
  for (std::size_t i = 0; i < dict.size(); ++i) {
    const Value key = dict.key(i);
    if (key.kind() == Kind::string && key.text() == wanted) return dict.item(i);
  }
  return std::nullopt;
}

bool has_all_keys(Value dict, const KindRow& row) {
  return std::all_of(row.keys.begin(), row.keys.end(), [&](std::string_view key) {
    return key.empty() || find_key(dict, key).has_value();
  });
}

bool all_tensors(Value dict) {
  for (std::size_t i = 0; i < dict.size(); ++i) {
    if (!is_tensor(dict.item(i))) return false;
  }
  return dict.size() > 0;
}

std::string dict_kind(Value root) {
  if (all_tensors(root)) return "state dict";
  const auto row = std::find_if(kKinds.begin(), kKinds.end(),
                                [&](const KindRow& kind) { return has_all_keys(root, kind); });
  std::string text(row == kKinds.end() ? "nested structure" : row->text);
  if (const std::optional<Value> arch = find_key(root, "arch");
      arch && arch->kind() == Kind::string) {
    text += fmt::format(" of {}", safe_text(arch->text()));
  }
  for (const std::string_view step : kSteps) {
    const std::optional<Value> found = find_key(root, step);
    const std::optional<std::int64_t> count = found ? found->as_int() : std::nullopt;
    if (count) return text + fmt::format(", {} {}", step == "global_step" ? "step" : step, *count);
  }
  return text;
}

std::string other_kind(Value root) {
  switch (root.kind()) {
    case Kind::tensor:
      return "single tensor";
    case Kind::list:
      return fmt::format("list of {}", count_text(root.size(), "item"));
    case Kind::tuple:
      return fmt::format("tuple of {}", count_text(root.size(), "item"));
    case Kind::object:
      return fmt::format("{} {}", module_name(root) ? "whole model" : "pickled", class_name(root));
    default:
      return "nested structure";
  }
}

}  // namespace

std::string container_text(const Checkpoint& checkpoint) {
  const bool torch = checkpoint.layout() != Layout::safetensors;
  if (checkpoint.files().size() > 1) {
    return fmt::format("sharded set of {} {} files", number_text(checkpoint.files().size()),
                       torch ? "PyTorch" : "safetensors");
  }
  if (checkpoint.layout() == Layout::torch_script) return "TorchScript archive";
  return torch ? "PyTorch file" : "safetensors file";
}

std::string describe(const Checkpoint& checkpoint) {
  if (!checkpoint.has_tree()) return container_text(checkpoint);
  const Result<Value> tree = checkpoint.tree();
  if (!tree) return container_text(checkpoint);
  if (!holds_pairs(*tree) || tree->size() == 0 || module_name(*tree)) return other_kind(*tree);
  return dict_kind(*tree);
}

}  // namespace flatbed::tool
