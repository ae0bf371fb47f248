// Tensors of devices without storages of their own. torch copies them to the CPU when it saves.
//
//   _rebuild_device_tensor_from_numpy         (array, dtype, device, requires_grad)   XLA, HPU, ORT
//   _rebuild_device_tensor_from_cpu_tensor    (tensor, dtype, device, requires_grad)  since 2.5
//   _rebuild_npu_tensor of torch_npu          those of _rebuild_tensor_v2, then how the device lays
//                                             it out
#include <array>
#include <string>

#include "base/bytes.hpp"
#include "torch/torch_dtype.hpp"
#include "torch/torch_objects.hpp"

namespace flatbed::pth {

namespace {

// An array that torch.from_numpy() accepts: numbers in this machine's byte order.
bool holds_numbers(std::string_view typestr) {
  return typestr.size() > 1 && typestr[0] != '>' &&
         std::string_view("biufc").find(typestr[1]) != std::string_view::npos;
}

bool is_stored_as(const TorchDtype& dtype, Value data, Dtype stored) {
  const std::string_view own = data.attributes().dtype;
  return own.empty() ? !dtype.named && dtype.dtype == stored : own == dtype.name;
}

// The upper halves of floats. nullopt if a float would lose bits.
std::optional<std::string> to_bfloat16(std::string_view floats) {
  std::string halves;
  halves.reserve(floats.size() / 2);
  for (; floats.size() >= 4; floats.remove_prefix(4)) {
    if (floats[0] != 0 || floats[1] != 0) return std::nullopt;
    halves += floats.substr(2, 2);
  }
  return halves;
}

}  // namespace

// Makes a tensor of the contents of `data`, with the dtype that it had on its device. nullopt if
// `data` has another dtype, so that torch would round; then it stays a call.
std::optional<NodeId> TorchObjects::device_tensor(Value arguments) {
  if (arguments.size() != 4) return std::nullopt;
  const Value data = arguments.item(0);
  const Value device = arguments.item(2);
  const TorchGlobal type = globals_.find(arguments.item(1).id());
  const std::optional<bool> requires_grad = arguments.item(3).as_bool();
  if (type.meaning != Meaning::dtype || device.kind() != Kind::string || !requires_grad ||
      (data.kind() != Kind::tensor && data.kind() != Kind::array) ||
      (data.kind() == Kind::array && !holds_numbers(data.text())))
    return std::nullopt;

  const TorchDtype& dtype = kTorchDtypes[type.dtype];
  std::uint32_t number = *data.tensor();
  TorchTensor tensor = file_.tensors[number];
  if (!is_stored_as(dtype, data, tensor.dtype)) {
    // numpy has no bfloat16, so torch saved these tensors as floats.
    const bool widened = dtype.dtype == Dtype::bf16 && tensor.dtype == Dtype::f32 &&
                         data.kind() == Kind::array && tensor.storage == kNoStorage;
    if (!widened || !take_copies(static_cast<std::size_t>(tensor.nbytes / 2))) return std::nullopt;
    std::optional<std::string> halves = to_bfloat16(as_text(held_bytes(file_, tensor)));
    if (!halves) return std::nullopt;
    tensor.held = static_cast<std::uint32_t>(file_.held.size());
    file_.held.push_back(*std::move(halves));
    tensor.dtype = Dtype::bf16;
    tensor.element_nbytes = 2;
    tensor.nbytes /= 2;
    number = static_cast<std::uint32_t>(file_.tensors.size());
    file_.tensors.push_back(tensor);
  }
  TensorAttributes attributes = data.attributes();
  attributes.device = device.text() == "cpu" ? std::string() : std::string(device.text());
  attributes.requires_grad = *requires_grad;
  return tree_.add_tensor(number, attributes);
}

// What follows the arguments of _rebuild_tensor_v2 is for the device alone. nullopt if they are
// something else; then it stays a call.
std::optional<NodeId> TorchObjects::plugin_tensor(Value arguments) {
  std::array<NodeId, 6> first{};
  if (arguments.size() < first.size()) return std::nullopt;
  for (std::size_t i = 0; i < first.size(); ++i) first[i] = arguments.item(i).id();
  const Value of_v2 = tree_.value(tree_.add_tuple(first));
  const Result<NodeId> made = tensors_.rebuild(Meaning::rebuild_tensor_v2, of_v2);
  return made ? std::optional(*made) : std::nullopt;
}

}  // namespace flatbed::pth
