#include "load/load_plan.hpp"

#include <algorithm>
#include <numeric>
#include <utility>

#include "base/checked.hpp"
#include "base/str_cat.hpp"
#include "checkpoint/checkpoint_access.hpp"
#include "load/joined_parts.hpp"

namespace flatbed {

namespace {

// A slice with a known end, of an existing dimension.
struct Cut {
  std::size_t dim = 0;
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
};

template <typename... Parts>
Error slice_error(const TensorInfo& tensor, const Parts&... parts) {
  return make_error(ErrorCode::slice_invalid, "tensor ", quoted(tensor.name), " ",
                    shape_text(tensor.shape.data(), tensor.shape.size()), ": ", parts...);
}

// Whether each of the tensors that this one is joined of is to be cut.
bool cuts_parts(const TensorInfo& tensor, const Slice& slice) {
  return slice.count != 0 && !tensor.joined_along(slice.dim).empty();
}

// begin and end of a slice of parts are not what is loaded, but have to be those of shard_slice():
// others were changed by someone who expected that, or are of another tensor.
Result<void> check_rank(const TensorInfo& tensor, const Slice& slice) {
  FLATBED_ASSIGN(const Slice expected, shard_slice(tensor, slice.dim, slice.rank, slice.count));
  if (slice.begin == expected.begin && slice.end == expected.end) return {};
  return slice_error(tensor, "part ", slice.rank, " of ", slice.count,
                     " of a joined tensor has elements of its own: found [", slice.begin, ",",
                     slice.end, "), expected [", expected.begin, ",", expected.end,
                     ") as shard_slice() says, or a count of 0");
}

Result<Cut> resolve(const TensorInfo& tensor, const Slice& slice) {
  const bool whole = slice.begin == 0 && slice.end == Slice::kEnd;
  if (tensor.shape.empty() && slice.dim == 0 && whole) return Cut{0, 0, 1};  // a scalar
  if (slice.dim >= tensor.shape.size()) {
    return slice_error(tensor, "there is no dimension ", slice.dim, " to cut");
  }
  const std::uint64_t size = tensor.shape[slice.dim];
  const std::uint64_t end = slice.end == Slice::kEnd ? size : slice.end;
  if (slice.begin > end || end > size) {
    return slice_error(tensor, "slice out of range: found elements [", slice.begin, ",", end,
                       ") of dimension ", slice.dim, ", which has ", size);
  }
  if (cuts_parts(tensor, slice)) FLATBED_TRY(check_rank(tensor, slice));
  return Cut{slice.dim, slice.begin, end};
}

// The size of `elements` elements; nullopt if it is not in whole bytes. `elements` is at most that
// of a tensor that is known to fit 64 bits.
std::optional<std::uint64_t> bytes_of(std::uint64_t elements, Dtype dtype) {
  const std::optional<std::uint64_t> nbits = checked_mul(elements, bits(dtype));
  if (nbits) return *nbits % 8 == 0 ? std::optional(*nbits / 8) : std::nullopt;
  return checked_mul(elements / 8, bits(dtype));  // no file has a tensor of over 2^61 bytes
}

// Fills the runs of `transfer`. A tensor without bytes gets none: its other dimensions may be of
// any size.
Result<void> set_runs(Transfer& transfer, const Cut& cut) {
  const TensorInfo& tensor = *transfer.tensor;
  if (tensor.nbytes == 0 || cut.begin == cut.end) return {};
  const ShapeView shape = tensor.shape;
  std::uint64_t outer = 1;
  std::uint64_t inner = 1;
  for (std::size_t i = 0; i < shape.size(); ++i) {
    if (i < cut.dim) outer *= shape[i];  // factors of a product that fits
    if (i > cut.dim) inner *= shape[i];
  }
  const std::uint64_t size = shape.empty() ? 1 : shape[cut.dim];
  const auto source = bytes_of(cut.begin * inner, tensor.dtype);
  const auto run = bytes_of((cut.end - cut.begin) * inner, tensor.dtype);
  const auto pitch = bytes_of(size * inner, tensor.dtype);
  const bool whole = cut.begin == 0 && cut.end == size;
  if (!whole && (!source || !run || (outer > 1 && !pitch))) {
    return slice_error(tensor, "elements [", cut.begin, ",", cut.end, ") of dimension ", cut.dim,
                       " of ", name(tensor.dtype), " do not fill whole bytes");
  }
  transfer.source = whole ? 0 : *source;
  transfer.runs = whole ? 1 : outer;
  transfer.run_nbytes = whole ? tensor.nbytes : *run;
  transfer.run_pitch = transfer.runs == 1 ? transfer.run_nbytes : *pitch;
  return {};
}

Result<void> check_expectations(const TensorInfo& tensor, const Cut& cut, const LoadItem& item) {
  if (item.dtype && *item.dtype != tensor.dtype) {
    return make_error(ErrorCode::load_mismatch, "tensor ", quoted(tensor.name),
                      ": the dtype does not match: found ", name(tensor.dtype), ", expected ",
                      name(*item.dtype));
  }
  if (!item.shape) return {};
  std::vector<std::uint64_t> arrives(tensor.shape.begin(), tensor.shape.end());
  if (!arrives.empty()) arrives[cut.dim] = cut.end - cut.begin;
  if (std::ranges::equal(arrives, *item.shape)) return {};
  return make_error(ErrorCode::load_mismatch, "tensor ", quoted(tensor.name),
                    ": the shape does not match: found ",
                    shape_text(arrives.data(), arrives.size()), ", expected ",
                    shape_text(item.shape->data(), item.shape->size()));
}

template <typename... Parts>
Error destination_error(const TensorInfo& tensor, const Parts&... parts) {
  return make_error(ErrorCode::destination_invalid, "tensor ", quoted(tensor.name),
                    ": the destination ", parts...);
}

// Rows of the last dimension, if the destination has a pitch.
Result<void> set_rows(Transfer& transfer, const Cut& cut, const Destination& to) {
  const TensorInfo& tensor = *transfer.tensor;
  transfer.row_nbytes = transfer.row_pitch = transfer.nbytes();
  if (to.row_pitch == 0 || transfer.runs == 0) return {};
  const std::size_t rank = tensor.shape.size();
  std::uint64_t last = rank == 0 ? 1 : tensor.shape[rank - 1];
  if (rank != 0 && cut.dim == rank - 1) last = cut.end - cut.begin;
  const std::optional<std::uint64_t> row = bytes_of(last, tensor.dtype);
  if (!row) {
    return destination_error(tensor, "has a row pitch, and rows of ", last, " elements of ",
                             name(tensor.dtype), " that do not fill whole bytes");
  }
  if (to.row_pitch < *row) {
    return destination_error(tensor, "has too small a row pitch: found ", to.row_pitch,
                             " bytes, expected at least ", *row);
  }
  if (to.row_pitch == *row) return {};
  const std::uint64_t rows = transfer.nbytes() / *row;
  if (!checked_mul(rows, to.row_pitch)) {
    return destination_error(tensor, "has too large a row pitch: found ", to.row_pitch,
                             " bytes for ", rows, " rows");
  }
  transfer.row_nbytes = *row;
  transfer.row_pitch = rows == 1 ? *row : to.row_pitch;
  return {};
}

Result<void> set_destination(Transfer& transfer, const Cut& cut, const Destination& to) {
  const TensorInfo& tensor = *transfer.tensor;
  FLATBED_TRY(set_rows(transfer, cut, to));
  transfer.to = static_cast<std::byte*>(to.data);
  const std::uint64_t extent = transfer.extent();
  if (extent > to.capacity) {
    return make_error(ErrorCode::buffer_too_small, "tensor ", quoted(tensor.name),
                      ": the destination is too small: found ", to.capacity, " bytes, expected ",
                      extent);
  }
  if (extent == 0) return {};
  if (to.data == nullptr) return destination_error(tensor, "is null");
  const auto address = reinterpret_cast<std::uintptr_t>(to.data);
  if (extent > ~address)
    return destination_error(tensor, "reaches past the end of the address space");
  const std::uint32_t element = std::max(bits(tensor.dtype) / 8, 1U);
  if (address % element != 0 || to.row_pitch % element != 0) {
    return destination_error(tensor, "is misaligned: address 0x", hex(address), ", row pitch ",
                             to.row_pitch, ", elements of ", element, " bytes");
  }
  return {};
}

}  // namespace

Result<Slice> shard_slice(const TensorInfo& tensor, std::size_t dim, std::uint64_t rank,
                          std::uint64_t count) {
  if (dim >= tensor.shape.size()) {
    return slice_error(tensor, "there is no dimension ", dim, " to cut");
  }
  if (rank >= count) {
    return slice_error(tensor, "there is no part ", rank, " of ", count);
  }
  std::uint64_t at = 0;
  for (const std::uint64_t size : tensor.joined_along(dim)) {
    if (size % count != 0) {
      return slice_error(tensor, "elements [", at, ",", at + size, ") of dimension ", dim,
                         " are one of the tensors that it is joined of, and do not divide into ",
                         count, " equal parts");
    }
    at += size;
  }
  // The first parts get one more element each, until none are left over.
  const std::uint64_t each = tensor.shape[dim] / count;
  const std::uint64_t left_over = tensor.shape[dim] % count;
  const auto border = [&](std::uint64_t part) { return each * part + std::min(part, left_over); };
  return Slice{dim, border(rank), border(rank + 1), rank, count};
}

Result<std::uint64_t> slice_nbytes(const TensorInfo& tensor, const Slice& slice) {
  FLATBED_ASSIGN(const Cut cut, resolve(tensor, slice));
  Transfer transfer;
  transfer.tensor = &tensor;
  FLATBED_TRY(set_runs(transfer, cut));
  return transfer.nbytes();
}

std::uint32_t LoadPlan::State::checkpoint_index(const Checkpoint& checkpoint) {
  const void* const identity = CheckpointAccess::identity(checkpoint);
  for (std::size_t i = checkpoints.size(); i-- > 0;) {  // usually it is the last one
    if (CheckpointAccess::identity(checkpoints[i]) == identity)
      return static_cast<std::uint32_t>(i);
  }
  checkpoints.push_back(checkpoint);
  return static_cast<std::uint32_t>(checkpoints.size() - 1);
}

Result<Checkpoint> LoadPlan::State::cast_view(const Checkpoint& checkpoint,
                                              const TensorInfo& tensor, Dtype as) {
  const std::pair key(CheckpointAccess::identity(checkpoint), as);
  auto view = casts.find(key);
  if (view == casts.end()) {
    FLATBED_ASSIGN(Checkpoint cast, CheckpointAccess::cast_what_can_be(checkpoint, as));
    view = casts.emplace(key, std::move(cast)).first;
  }
  if (view->second.tensors()[tensor.index].dtype != as)
    FLATBED_TRY(CheckpointAccess::check_cast(checkpoint, tensor, as));
  return view->second;
}

Result<Checkpoint> LoadPlan::State::rank_view(const Checkpoint& checkpoint, const Slice& slice) {
  const RankCut cut{slice.dim, slice.rank, slice.count};
  const std::pair key(CheckpointAccess::identity(checkpoint), cut);
  auto view = rank_views.find(key);
  if (view == rank_views.end()) {
    FLATBED_ASSIGN(Checkpoint made, CheckpointAccess::rank_view(checkpoint, cut));
    view = rank_views.emplace(key, std::move(made)).first;
  }
  return view->second;
}

std::uint32_t LoadPlan::State::device_index(Device* device) {
  if (device == nullptr || device->is_host()) return 0;
  const auto found = std::ranges::find(devices, device);
  if (found == devices.end()) devices.push_back(device);
  return static_cast<std::uint32_t>(std::ranges::find(devices, device) - devices.begin());
}

Result<std::uint32_t> LoadPlan::State::group_index(const Group& group) {
  const auto [entry, added] =
      group_of_id.try_emplace(group.id, static_cast<std::uint32_t>(groups.size()));
  if (added) groups.push_back(group);
  const Group& known = groups[entry->second];
  if (known.priority == group.priority) return entry->second;
  return make_error(ErrorCode::invalid_argument, "group ", group.id, " has priority ",
                    group.priority, " here and ", known.priority, " before");
}

std::vector<std::uint32_t> LoadPlan::State::group_order() const {
  std::vector<std::uint32_t> order(groups.size());
  std::iota(order.begin(), order.end(), 0U);
  std::ranges::sort(order, {}, [this](std::uint32_t index) {
    return std::pair(groups[index].priority, groups[index].id);
  });
  return order;
}

const std::string& path_of(const LoadPlanState& plan, const Transfer& transfer) {
  const Checkpoint& checkpoint = plan.checkpoints[transfer.checkpoint];
  return checkpoint.files()[transfer.tensor->where.file].path.native();
}

std::string tensor_text(const LoadPlanState& plan, const Transfer& transfer) {
  const std::string name = str_cat(quoted(transfer.tensor->name));
  if (transfer.part_of == kNoItem) return "tensor " + name;
  return str_cat("tensor ", quoted(plan.joined[transfer.part_of]), " (its part ", name, ")");
}

std::string transfer_text(const LoadPlanState& plan, const Transfer& transfer) {
  return str_cat(path_of(plan, transfer), ": ", tensor_text(plan, transfer));
}

LoadPlan::LoadPlan() : state_(std::make_unique<State>()) {}
LoadPlan::LoadPlan(LoadPlan&& other) noexcept = default;
LoadPlan& LoadPlan::operator=(LoadPlan&& other) noexcept = default;
LoadPlan::~LoadPlan() = default;

std::size_t LoadPlan::size() const noexcept { return state_->items; }

Result<void> LoadPlan::add(const Checkpoint& checkpoint, std::string_view name,
                           const Destination& to, const LoadItem& item) {
  const TensorInfo* const found = checkpoint.find(name);
  if (found == nullptr) return checkpoint.tensor(name).error();
  FLATBED_ASSIGN(Cut cut, resolve(*found, item.slice));
  FLATBED_TRY(check_expectations(*found, cut, item));
  Checkpoint source = checkpoint;
  if (cuts_parts(*found, item.slice)) {
    FLATBED_ASSIGN(source, state_->rank_view(checkpoint, item.slice));
    cut = {cut.dim, 0, cut.end - cut.begin};  // all of what the view has
    if (source.tensors()[found->index].shape[cut.dim] != cut.end) {
      return slice_error(*found, "part ", item.slice.rank, " of ", item.slice.count,
                         " of the tensors that it is joined of along dimension ", cut.dim,
                         " does not fill whole bytes of ", flatbed::name(found->dtype));
    }
  }
  if (item.as && *item.as != found->dtype) {
    Result<Checkpoint> cast = state_->cast_view(source, *found, *item.as);
    if (!cast) return with_context(str_cat("tensor ", quoted(name)), std::move(cast).error());
    source = *std::move(cast);
  }
  Transfer transfer;
  transfer.tensor = &source.tensors()[found->index];
  FLATBED_TRY(set_runs(transfer, cut));
  FLATBED_TRY(set_destination(transfer, cut, to));
  FLATBED_ASSIGN(transfer.group, state_->group_index(item.group));
  transfer.owner = state_->device_index(to.device);
  const bool direct = transfer.owner != 0 && transfer.runs != 0 &&
                      to.device->host_can_write(transfer.to, transfer.extent());
  transfer.device = direct ? 0 : transfer.owner;
  ++state_->items;
  std::vector<JoinedPart> parts;
  if (transfer.runs != 0) parts = joined_parts(source, transfer, {cut.dim, cut.begin, cut.end});
  if (parts.empty()) {
    parts.push_back({std::move(source), transfer});
  } else {
    for (JoinedPart& part : parts)
      part.transfer.part_of = static_cast<std::uint32_t>(state_->joined.size());
    state_->joined.emplace_back(name);
  }
  for (JoinedPart& part : parts) {
    part.transfer.checkpoint = state_->checkpoint_index(part.checkpoint);
    state_->transfers.push_back(part.transfer);
  }
  return {};
}

}  // namespace flatbed
