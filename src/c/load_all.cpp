// Loading a whole checkpoint, in flatbed.h.
#include "flatbed/load_all.hpp"

#include "base/str_cat.hpp"
#include "c/callbacks.hpp"
#include "c/checkpoints.hpp"
#include "c/guard.hpp"
#include "c/loading.hpp"

namespace flatbed::c {

namespace {

static_assert(kNoLayer == FLATBED_NO_LAYER);

// What the caller's `choose` said of the tensor that is being asked about. load_all() asks for one
// tensor whether it is loaded, then for its slice, then for its group.
struct Choice {
  flatbed_load_all_options options;
  flatbed_transfer transfer{};
  Result<void> result = {};

  bool ask(const TensorInfo& info);
  [[nodiscard]] Result<bool> call(const TensorInfo& info);
};

// Whatever else a transfer says would have no effect.
Result<void> check_transfer(flatbed_transfer transfer) {
  FLATBED_TRY(slice_of(transfer));
  transfer.dim = transfer.begin = transfer.end = transfer.rank = transfer.count = 0;
  transfer.sliced = transfer.group = 0;
  transfer.priority = 0;
  flatbed_transfer expected{};
  expected.struct_size = sizeof expected;
  if (std::memcmp(&transfer, &expected, sizeof expected) == 0) return {};
  return make_error(ErrorCode::invalid_argument,
                    "argument 'transfer': found members that the caller's choose may not set, "
                    "expected a slice and a group alone");
}

Result<bool> Choice::call(const TensorInfo& info) {
  flatbed_tensor tensor = tensor_to_c(info);
  tensor.struct_size = sizeof tensor;
  transfer = {};
  transfer.struct_size = sizeof transfer;
  std::uint32_t is_loaded = 1;
  FLATBED_TRY(callback_result(options.choose(options.context, &tensor, &transfer, &is_loaded),
                              "the caller's choose", ErrorCode::cancelled));
  FLATBED_TRY(check_transfer(transfer));
  return read_flag(is_loaded, "is_loaded");
}

// Of an error the slice is asked for, which can say it.
bool Choice::ask(const TensorInfo& info) {
  const Result<bool> is_loaded = call(info);
  result = is_loaded ? Result<void>() : Result<void>(is_loaded.error());
  return !is_loaded || *is_loaded;
}

// `choice` is borrowed.
void set_callbacks(Choice& choice, flatbed_loaded* handle, LoadAllOptions& options) {
  if (choice.options.choose != nullptr) {
    options.include = [&choice](const TensorInfo& info) { return choice.ask(info); };
    options.slice = [&choice](const TensorInfo&) -> Result<Slice> {
      FLATBED_TRY(choice.result);
      return slice_of(choice.transfer);
    };
    options.group = [&choice](const TensorInfo&) { return group_of(choice.transfer); };
  }
  options.placed = [&choice, handle](const LoadedTensors& tensors) -> Result<void> {
    handle->tensors = &tensors;
    if (choice.options.placed == nullptr) return {};
    return callback_result(choice.options.placed(choice.options.context, handle),
                           "the caller's placed", ErrorCode::cancelled);
  };
}

Result<std::unique_ptr<flatbed_loaded>> load_checkpoint(const Checkpoint& checkpoint,
                                                        const flatbed_device* device,
                                                        const flatbed_load_all_options* given) {
  Choice choice;
  FLATBED_ASSIGN(choice.options, read_options(given));
  LoadAllOptions options;
  FLATBED_ASSIGN(options.load,
                 load_options(choice.options.load, [device](const Device*) { return device; }));
  if (choice.options.alignment != 0) options.alignment = choice.options.alignment;
  auto handle = std::make_unique<flatbed_loaded>();
  set_callbacks(choice, handle.get(), options);
  std::shared_ptr<Device> to = device == nullptr ? host_device() : device->device;
  FLATBED_ASSIGN(LoadedTensors loaded, load_all(checkpoint, *to, options));
  handle->owned = std::make_shared<const flatbed_loaded::Owned>(
      flatbed_loaded::Owned{std::move(to), std::move(loaded)});
  handle->tensors = &handle->owned->tensors;
  return handle;
}

Result<void> give_tensor(const LoadedTensor& from, flatbed_loaded_tensor* out) {
  flatbed_loaded_tensor tensor{};
  tensor.name = to_c(from.name);
  tensor.shape = from.shape.data();
  tensor.rank = from.shape.size();
  tensor.data = from.data;
  tensor.nbytes = from.nbytes;
  tensor.index = from.index;
  tensor.group = from.group;
  tensor.dtype = dtype_number(from.dtype);
  fill_report(tensor, out);
  return {};
}

}  // namespace

}  // namespace flatbed::c

using flatbed::LoadedTensor;
using flatbed::Result;
using flatbed::c::check;
using flatbed::c::check_report;
using flatbed::c::clear_out;
using flatbed::c::guarded;
using flatbed::c::is_handle;

int32_t flatbed_load_all(const flatbed_checkpoint* checkpoint, const flatbed_device* device,
                         const flatbed_load_all_options* options, flatbed_loaded** out,
                         flatbed_load_report* report, flatbed_error* error) {
  return guarded(error, [&]() -> Result<void> {
    FLATBED_TRY(clear_out(out));
    FLATBED_TRY(check(checkpoint, "checkpoint"));
    if (device != nullptr) FLATBED_TRY(check(device, "device"));
    if (report != nullptr) FLATBED_TRY(check_report(report, "report"));
    FLATBED_ASSIGN(std::unique_ptr<flatbed_loaded> loaded,
                   flatbed::c::load_checkpoint(checkpoint->checkpoint, device, options));
    if (report != nullptr)
      flatbed::c::fill_report(flatbed::c::report_to_c(loaded->tensors->report()), report);
    *out = loaded.release();
    return {};
  });
}

void flatbed_loaded_free(flatbed_loaded* loaded) { flatbed::c::free_handle(loaded); }

uint64_t flatbed_loaded_count(const flatbed_loaded* loaded) {
  return is_handle(loaded) ? loaded->tensors->tensors().size() : 0;
}

int32_t flatbed_loaded_at(const flatbed_loaded* loaded, uint64_t index, flatbed_loaded_tensor* out,
                          flatbed_error* error) {
  return guarded(error, [&]() -> Result<void> {
    FLATBED_TRY(check_report(out, "out"));
    FLATBED_TRY(check(loaded, "loaded"));
    const std::span<const LoadedTensor> tensors = loaded->tensors->tensors();
    if (index >= tensors.size()) return flatbed::c::index_error(index, tensors.size(), "index");
    return flatbed::c::give_tensor(tensors[index], out);
  });
}

int32_t flatbed_loaded_find(const flatbed_loaded* loaded, flatbed_string name,
                            flatbed_loaded_tensor* out, flatbed_error* error) {
  return guarded(error, [&]() -> Result<void> {
    FLATBED_TRY(check_report(out, "out"));
    FLATBED_TRY(check(loaded, "loaded"));
    FLATBED_ASSIGN(const std::string_view text, flatbed::c::read_string(name, "name"));
    const LoadedTensor* const tensor = loaded->tensors->find(text);
    if (tensor != nullptr) return flatbed::c::give_tensor(*tensor, out);
    return flatbed::make_error(flatbed::ErrorCode::tensor_not_found, "no tensor ",
                               flatbed::quoted(text), " was loaded");
  });
}

uint64_t flatbed_loaded_nbytes(const flatbed_loaded* loaded) {
  return is_handle(loaded) ? loaded->tensors->nbytes() : 0;
}

int32_t flatbed_group_by_layer(flatbed_string name, flatbed_transfer* transfer,
                               flatbed_error* error) {
  return guarded(error, [&]() -> Result<void> {
    FLATBED_TRY(check_report(transfer, "transfer"));
    flatbed::TensorInfo info;
    FLATBED_ASSIGN(info.name, flatbed::c::read_string(name, "name"));
    const flatbed::Group group = flatbed::group_by_layer(info);
    transfer->group = group.id;
    transfer->priority = group.priority;
    return {};
  });
}
