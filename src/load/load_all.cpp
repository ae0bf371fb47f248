#include "flatbed/load_all.hpp"

#include <algorithm>
#include <bit>
#include <charconv>
#include <optional>
#include <utility>
#include <vector>

#include "base/str_cat.hpp"

namespace flatbed {

namespace {

constexpr std::uint64_t kPage = 4096;
constexpr std::uint64_t kLarge = 1 << 20;
constexpr std::uint64_t kMaxAlignment = 2 << 20;
constexpr std::uint64_t kMaxNbytes = std::uint64_t{1} << 62;
constexpr std::uint32_t kNotLoaded = ~std::uint32_t{0};

// All of `word` as the number of a layer.
std::optional<std::uint32_t> layer_number(std::string_view word) {
  std::uint32_t number = 0;
  const char* const end = word.data() + word.size();
  const auto [stop, error] = std::from_chars(word.data(), end, number);
  if (error != std::errc() || stop != end || number == kNoLayer) return std::nullopt;
  return number;
}

}  // namespace

Result<std::uint64_t> MemoryLayout::place(std::uint64_t nbytes) {
  if (!std::has_single_bit(least_) || least_ > kMaxAlignment) {
    return make_error(ErrorCode::invalid_argument, "an alignment of ", least_,
                      " bytes; expected a power of two of at most ", kMaxAlignment);
  }
  if (nbytes == 0) return 0;
  const std::uint64_t alignment = nbytes >= kLarge ? std::max(least_, kPage) : least_;
  const std::uint64_t offset = (nbytes_ + alignment - 1) / alignment * alignment;
  if (offset > kMaxNbytes || nbytes > kMaxNbytes - offset) {
    return make_error(ErrorCode::size_overflow, "the sizes of the tensors add up to more than ",
                      kMaxNbytes, " bytes");
  }
  alignment_ = std::max(alignment_, alignment);
  nbytes_ = offset + nbytes;
  return offset;
}

struct LoadedTensors::State {
  explicit State(const Checkpoint& of)
      : checkpoint(of), position(of.tensors().size(), kNotLoaded) {}

  Checkpoint checkpoint;  // names, shapes and aliases are its own
  std::vector<LoadedTensor> tensors;
  std::vector<std::uint32_t> position;             // in `tensors`, of each of the checkpoint's
  std::vector<std::vector<std::uint64_t>> shapes;  // of slices
  std::optional<DeviceBuffer> memory;              // none: nothing has bytes
  LoadReport report;
};

// The steps of one load_all().
struct LoadAll {
  struct Part {
    LoadItem item;
    std::uint64_t offset = 0;
  };

  LoadAll(const Checkpoint& checkpoint, Device& to, const LoadAllOptions& how)
      : device(to),
        options(how),
        layout(how.alignment),
        state(std::make_unique<LoadedTensors::State>(checkpoint)) {}

  Result<LoadedTensors> run();
  Result<void> choose(const TensorInfo& tensor);
  [[nodiscard]] ShapeView shape_of(const TensorInfo& tensor, const Slice& slice);
  Result<void> allocate();
  Result<LoadPlan> make_plan() const;

  Device& device;
  const LoadAllOptions& options;
  MemoryLayout layout;
  std::vector<Part> parts;  // of state->tensors
  std::unique_ptr<LoadedTensors::State> state;
};

Result<LoadedTensors> LoadAll::run() {
  for (const TensorInfo& tensor : state->checkpoint.tensors()) FLATBED_TRY(choose(tensor));
  FLATBED_TRY(allocate());
  FLATBED_ASSIGN(const LoadPlan plan, make_plan());
  LoadedTensors loaded(std::move(state));
  if (options.placed) FLATBED_TRY(options.placed(loaded));
  FLATBED_ASSIGN(loaded.state_->report, load(plan, options.load));
  return loaded;
}

// Gives the tensor a place, if it is to be loaded.
Result<void> LoadAll::choose(const TensorInfo& tensor) {
  if (options.include && !options.include(tensor)) return {};
  Part part;
  if (options.slice) {
    FLATBED_ASSIGN(part.item.slice, options.slice(tensor));
  }
  if (options.group) part.item.group = options.group(tensor);
  LoadedTensor loaded{.name = tensor.name,
                      .shape = {},
                      .data = nullptr,
                      .nbytes = 0,
                      .index = tensor.index,
                      .group = part.item.group.id,
                      .dtype = tensor.dtype};
  FLATBED_ASSIGN(loaded.nbytes, slice_nbytes(tensor, part.item.slice));
  FLATBED_ASSIGN(part.offset, layout.place(loaded.nbytes));
  loaded.shape = shape_of(tensor, part.item.slice);
  state->position[tensor.index] = static_cast<std::uint32_t>(state->tensors.size());
  state->tensors.push_back(loaded);
  parts.push_back(part);
  return {};
}

// After a slice that slice_nbytes() has checked.
ShapeView LoadAll::shape_of(const TensorInfo& tensor, const Slice& slice) {
  if (tensor.shape.empty()) return tensor.shape;
  const std::uint64_t size = tensor.shape[slice.dim];
  const std::uint64_t end = std::min(slice.end, size);
  if (end - slice.begin == size) return tensor.shape;
  std::vector<std::uint64_t> shape(tensor.shape.begin(), tensor.shape.end());
  shape[slice.dim] = end - slice.begin;
  return state->shapes.emplace_back(std::move(shape));  // whose elements stay where they are
}

// The device's memory may begin at less than the layout's alignment, and an engine's own device may
// promise too much: there is room for the largest gap.
Result<void> LoadAll::allocate() {
  if (layout.nbytes() == 0) return {};
  const std::uint64_t alignment = layout.alignment();
  FLATBED_ASSIGN(state->memory, DeviceBuffer::allocate(device, layout.nbytes() + alignment - 1));
  std::byte* begin = state->memory->data();
  const std::uint64_t beyond = reinterpret_cast<std::uintptr_t>(begin) % alignment;
  if (beyond != 0) begin += alignment - beyond;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    LoadedTensor& tensor = state->tensors[i];
    if (tensor.nbytes != 0) tensor.data = begin + parts[i].offset;
  }
  return {};
}

Result<LoadPlan> LoadAll::make_plan() const {
  LoadPlan plan;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const LoadedTensor& tensor = state->tensors[i];
    const Destination to{
        .device = &device, .data = tensor.data, .capacity = tensor.nbytes, .row_pitch = 0};
    FLATBED_TRY(plan.add(state->checkpoint, tensor.name, to, parts[i].item));
  }
  return plan;
}

LoadedTensors::LoadedTensors(std::unique_ptr<State> state) : state_(std::move(state)) {}
LoadedTensors::LoadedTensors(LoadedTensors&& other) noexcept = default;
LoadedTensors& LoadedTensors::operator=(LoadedTensors&& other) noexcept = default;
LoadedTensors::~LoadedTensors() = default;

std::span<const LoadedTensor> LoadedTensors::tensors() const& { return state_->tensors; }

const LoadedTensor* LoadedTensors::find(std::string_view name_or_alias) const& {
  const TensorInfo* const tensor = state_->checkpoint.find(name_or_alias);
  if (tensor == nullptr || state_->position[tensor->index] == kNotLoaded) return nullptr;
  return &state_->tensors[state_->position[tensor->index]];
}

std::uint64_t LoadedTensors::nbytes() const noexcept {
  return state_->memory ? state_->memory->nbytes() : 0;
}

const LoadReport& LoadedTensors::report() const& noexcept { return state_->report; }

Result<LoadedTensors> load_all(const Checkpoint& checkpoint, Device& device,
                               const LoadAllOptions& options) {
  return LoadAll(checkpoint, device, options).run();
}

Group group_by_layer(const TensorInfo& tensor) noexcept {
  for (std::string_view rest = tensor.name;;) {
    const std::size_t dot = std::min(rest.find('.'), rest.size());
    if (const auto number = layer_number(rest.substr(0, dot))) return {*number, 0};
    if (dot == rest.size()) return {kNoLayer, -1};
    rest.remove_prefix(dot + 1);
  }
}

}  // namespace flatbed
