#include "checkpoint/fused_state.hpp"

#include <algorithm>
#include <cstring>
#include <optional>

#include "base/checked.hpp"
#include "base/str_cat.hpp"
#include "flatbed/key_map.hpp"

namespace flatbed {

namespace {

// What is joined of more parts than these, step by step, is not made of its smallest parts.
constexpr std::size_t kMaxFlatParts = 1024;
constexpr std::uint64_t kMaxSize = std::uint64_t{1} << 63;  // of a dimension

// The product of dimensions of a tensor that has elements, so that it is known to fit.
std::uint64_t product(ShapeView dims) {
  std::uint64_t out = 1;
  for (const std::uint64_t size : dims) out *= size;
  return out;
}

// The bytes of one run, for a tensor that has elements. nullopt if they are not whole.
std::optional<std::uint64_t> run_nbytes(const TensorInfo& tensor, std::size_t dim,
                                        std::uint64_t size) {
  const auto elements = checked_mul(size, product(tensor.shape.subspan(dim + 1)));
  const auto nbits = elements ? checked_mul(*elements, bits(tensor.dtype)) : std::nullopt;
  return nbits && *nbits % 8 == 0 ? std::optional(*nbits / 8) : std::nullopt;
}

std::string shape_of(const TensorInfo& tensor) {
  return str_cat(name(tensor.dtype), " ", shape_text(tensor.shape.data(), tensor.shape.size()));
}

}  // namespace

FusedState::FusedState(std::shared_ptr<const State> from) : from_(std::move(from)) {
  layout = from_->layout;
  seal = from_->seal;
  files = from_->files;
  index_file = from_->index_file;
  notes = from_->notes;
  for (const auto& pair : from_->metadata) {
    if (pair.first == "format") metadata.push_back(pair);  // spec L9
  }
}

const TextList& FusedState::own(TextList names) {
  names_ = std::move(names);
  return names_;
}

void FusedState::take(Node node, std::string_view name) {
  TensorInfo of = info(node);
  of.name = name;
  of.index = static_cast<std::uint32_t>(tensors.size());
  node_of_.push_back(node);
  tensors.push_back(of);
}

// ---- what tensors are made of -------------------------------------------------------------------

bool FusedState::is_whole(std::size_t dim, const Part& part) const {
  return part.begin == 0 && part.end == info(part.node).shape[dim];
}

// The parts without those that have no elements; what is joined along the same dimension is
// replaced by what it is joined of.
std::vector<FusedState::Part> FusedState::flat(std::size_t dim, std::span<const Part> parts) const {
  std::vector<Part> out;
  for (const Part& part : parts) {
    if (part.begin == part.end) continue;
    const bool joined = is_made(part.node) && made(part.node).dim == dim;
    if (!joined || out.size() + made(part.node).parts > kMaxFlatParts) {
      out.push_back(part);
      continue;
    }
    std::uint64_t at = 0;
    for (const Part& inner : parts_of(made(part.node))) {
      const std::uint64_t end = at + (inner.end - inner.begin);
      if (end > part.begin && at < part.end) {
        out.push_back({inner.node, inner.begin + (std::max(at, part.begin) - at),
                       inner.begin + (std::min(end, part.end) - at)});
      }
      at = end;
    }
  }
  return out;
}

Result<FusedState::Node> FusedState::add(std::size_t dim, std::span<const Part> parts) {
  const std::vector<Part> needed = flat(dim, parts);
  if (needed.size() == 1 && is_whole(dim, needed.front())) return needed.front().node;
  Made made;
  made.first = needed.empty() ? parts.front().node : needed.front().node;
  made.info = info(made.first);
  made.dim = static_cast<std::uint32_t>(dim);
  made.info.stored = Stored::computed;
  made.info.digests = {};
  FLATBED_TRY(set_shape(made, parts));
  FLATBED_TRY(set_joined(made, parts));
  made.gathers = product(made.info.nbytes == 0 ? ShapeView() : made.info.shape.first(dim)) > 1;
  for (const Part& part : needed) {
    if (is_made(part.node)) made.depth = std::max(made.depth, this->made(part.node).depth + 1);
    made.gathers = made.gathers || node_gathers(part.node);
    made.info.cast = made.info.cast || info(part.node).cast;
  }
  if (made.depth > KeyMap::kMaxFusionDepth) {
    return make_error(ErrorCode::limit_exceeded, "tensors are joined and split in more than ",
                      KeyMap::kMaxFusionDepth, " steps");
  }
  made.first_part = parts_.size();
  made.parts = static_cast<std::uint32_t>(needed.size());
  parts_.insert(parts_.end(), needed.begin(), needed.end());
  made_.push_back(made);
  return static_cast<Node>(from_->tensors.size() + made_.size() - 1);
}

Result<void> FusedState::set_shape(Made& made, std::span<const Part> parts) {
  const ShapeView first = info(parts.front().node).shape;
  const std::span<std::uint64_t> shape = dims_.add(first.size());
  std::ranges::copy(first, shape.begin());
  std::optional<std::uint64_t> size = 0;
  std::optional<std::uint64_t> nbytes = 0;
  for (const Part& part : parts) {
    const TensorInfo& from = info(part.node);
    if (size) size = checked_add(*size, part.end - part.begin);
    if (part.begin == part.end || from.nbytes == 0) continue;
    const std::uint64_t runs = product(from.shape.first(made.dim));
    const auto run = run_nbytes(from, made.dim, part.end - part.begin);
    const bool pitch = runs == 1 || run_nbytes(from, made.dim, from.shape[made.dim]);
    if (!run || !run_nbytes(from, made.dim, part.begin) || !pitch) {
      return make_error(ErrorCode::partial_byte, "elements [", part.begin, ",", part.end,
                        ") of dimension ", made.dim, " of ", shape_of(from),
                        " do not fill whole bytes");
    }
    if (nbytes) nbytes = checked_add(*nbytes, runs * *run);
  }
  if (!size || *size >= kMaxSize || !nbytes || *nbytes >= kMaxSize)
    return make_error(ErrorCode::size_overflow, "a joined tensor has more than 2^63 bytes");
  shape[made.dim] = *size;
  made.info.shape = shape;
  made.info.nbytes = *nbytes;
  return {};
}

// Along `dim` what the parts are joined of, or the parts; along other dimensions they must agree.
Result<void> FusedState::set_joined(Made& made, std::span<const Part> parts) {
  std::vector<JoinedDim> joined;
  for (const JoinedDim& other : info(parts.front().node).joined) {
    if (other.dim != made.dim) joined.push_back(other);
  }
  std::vector<std::uint64_t> sizes;
  for (const Part& part : parts) {
    const TensorInfo& from = info(part.node);
    for (std::size_t dim = 0; dim < from.shape.size(); ++dim) {
      if (dim == made.dim) continue;
      const ShapeView first = info(parts.front().node).joined_along(dim);
      if (std::ranges::equal(first, from.joined_along(dim))) continue;
      return make_error(ErrorCode::invalid_argument,
                        "the parts are joined in different ways along dimension ", dim);
    }
    const ShapeView inner = from.joined_along(made.dim);
    const ShapeView all = inner.empty() ? from.shape.subspan(made.dim, 1) : inner;
    std::uint64_t at = 0;
    for (const std::uint64_t size : all) {
      const std::uint64_t begin = std::max(at, part.begin);
      const std::uint64_t end = std::min(at + size, part.end);
      if (begin < end) sizes.push_back(end - begin);
      at += size;
    }
  }
  if (sizes.size() > 1) {
    const std::span<std::uint64_t> kept = dims_.add(sizes.size());
    std::ranges::copy(sizes, kept.begin());
    joined.push_back({made.dim, kept});
  }
  made.info.joined = {};
  if (!joined.empty()) made.info.joined = joined_.emplace_back(std::move(joined));
  return {};
}

bool FusedState::node_gathers(Node node) const {
  return is_made(node) ? made(node).gathers : from_->gathers(node);
}

bool FusedState::gathers(std::uint32_t tensor) const { return node_gathers(node_of_[tensor]); }

TensorPlace FusedState::locate(std::uint32_t tensor) const {
  Node node = node_of_[tensor];
  while (is_made(node)) node = made(node).first;
  return from_->locate(node);
}

void FusedState::append_sources(std::uint32_t tensor, std::vector<SourceTensor>& sources) const {
  append_node(node_of_[tensor], sources);
}

void FusedState::append_node(Node node, std::vector<SourceTensor>& sources) const {
  if (!is_made(node)) return from_->append_sources(node, sources);
  if (made(node).parts == 0) return append_node(made(node).first, sources);
  for (const Part& part : parts_of(made(node))) append_node(part.node, sources);
}

bool FusedState::append_parts(const std::shared_ptr<const State>&, std::uint32_t tensor,
                              const DimRange& range, std::vector<TensorPart>& parts) const {
  return append_node_parts(node_of_[tensor], range, parts);
}

// No deeper than what is joined of joined tensors, which add() limits.
bool FusedState::append_node_parts(Node node, const DimRange& range,
                                   std::vector<TensorPart>& parts) const {
  if (!is_made(node)) return from_->append_parts(from_, node, range, parts);
  const Made& of = made(node);
  if (of.parts == 0 || of.dim != range.dim) return false;
  std::uint64_t at = 0;
  for (const Part& part : parts_of(of)) {
    const std::uint64_t end = at + (part.end - part.begin);
    const std::uint64_t first = std::max(at, range.begin);
    const std::uint64_t last = std::min(end, range.end);
    const DimRange inner{range.dim, part.begin + (first - at), part.begin + (last - at)};
    if (first < last && !append_node_parts(part.node, inner, parts)) return false;
    at = end;
  }
  return true;
}

// ---- their bytes --------------------------------------------------------------------------------

// One request for bytes of a tensor that was made.
class FusedState::Read {
 public:
  Read(const FusedState& state, const Made& made, const Reading& reading)
      : state_(state), made_(made), reading_(reading) {}

  Result<void> run(std::uint64_t offset, std::span<std::byte> out) {
    if (out.empty()) return {};
    offset_ = offset;
    out_ = out;
    const std::uint64_t runs = product(made_.info.shape.first(made_.dim));
    Runs of;
    of.count = runs;
    of.pitch = made_.info.nbytes / runs;
    for (const Part& part : state_.parts_of(made_)) {
      const TensorInfo& source = state_.info(part.node);
      of.source = part.node;
      of.source_begin = *run_nbytes(source, made_.dim, part.begin);
      of.source_pitch = source.nbytes / runs;
      of.nbytes = *run_nbytes(source, made_.dim, part.end - part.begin);
      FLATBED_TRY(read(of));
      of.begin += of.nbytes;
    }
    return {};
  }

 private:
  // See fused_state.hpp. All but `count` in bytes.
  struct Runs {
    Node source = 0;
    std::uint64_t source_begin = 0;
    std::uint64_t source_pitch = 0;
    std::uint64_t begin = 0;
    std::uint64_t pitch = 0;
    std::uint64_t nbytes = 0;
    std::uint64_t count = 0;

    // From the source's bytes to those of the new tensor; `at` is in a run.
    [[nodiscard]] std::uint64_t place(std::uint64_t at) const {
      const std::uint64_t beyond = at - source_begin;
      return begin + beyond / source_pitch * pitch + beyond % source_pitch;
    }
    [[nodiscard]] std::uint64_t in_run(std::uint64_t at) const {
      return (at - source_begin) % source_pitch;
    }
  };

  // The place in the source of byte `at` of the new tensor, or of the first one after it that comes
  // from there.
  [[nodiscard]] static std::uint64_t source_of(const Runs& runs, std::uint64_t at) {
    if (at <= runs.begin) return runs.source_begin;
    const std::uint64_t run = (at - runs.begin) / runs.pitch;
    const std::uint64_t in_run = std::min((at - runs.begin) % runs.pitch, runs.nbytes);
    if (in_run < runs.nbytes) return runs.source_begin + run * runs.source_pitch + in_run;
    return runs.source_begin + (run + 1) * runs.source_pitch;
  }

  // In steps that end where chunks do, so that each is read and hashed once, and without those that
  // no run touches.
  Result<void> read(const Runs& runs) {
    const std::uint64_t all =
        runs.source_begin + (runs.count - 1) * runs.source_pitch + runs.nbytes;
    std::uint64_t at = source_of(runs, offset_);
    const std::uint64_t end = std::min(all, end_of(runs, offset_ + out_.size()));
    if (at >= end) return {};
    if (runs.in_run(at) + (end - at) <= runs.nbytes) return read_run(runs, at, end);
    const std::uint64_t step =
        state_.is_made(runs.source)
            ? (state_.made(runs.source).gathers ? kGatheredStepNbytes : kComputedStepNbytes)
            : state_.from_->step_nbytes(state_.info(runs.source));
    while (at < end) {
      const std::uint64_t in_run = runs.in_run(at);
      if (in_run >= runs.nbytes) {
        at += runs.source_pitch - in_run;
        continue;
      }
      std::uint64_t last = std::min(end, (at / step + 1) * step);
      const std::uint64_t beyond = (last - 1 - runs.source_begin) % runs.source_pitch + 1;
      if (beyond > runs.nbytes) last -= beyond - runs.nbytes;  // it ends between runs
      const bool one = last - at <= runs.nbytes - in_run;
      FLATBED_TRY(one ? read_run(runs, at, last) : read_step(runs, at, last));
      at = last;
    }
    return {};
  }

  // The end of the source's bytes before byte `at` of the new tensor.
  [[nodiscard]] static std::uint64_t end_of(const Runs& runs, std::uint64_t at) {
    if (at <= runs.begin) return 0;
    const std::uint64_t run = (at - 1 - runs.begin) / runs.pitch;
    const std::uint64_t in_run = std::min((at - 1 - runs.begin) % runs.pitch + 1, runs.nbytes);
    return runs.source_begin + run * runs.source_pitch + in_run;
  }

  // Bytes of one run, straight into place.
  Result<void> read_run(const Runs& runs, std::uint64_t at, std::uint64_t end) {
    const std::uint64_t place = runs.place(at) - offset_;
    return state_.read_node(
        runs.source, at,
        out_.subspan(static_cast<std::size_t>(place), static_cast<std::size_t>(end - at)),
        reading_);
  }

  // Bytes of several runs, by way of memory of their own.
  Result<void> read_step(const Runs& runs, std::uint64_t at, std::uint64_t end) {
    const auto nbytes = static_cast<std::size_t>(end - at);
    if (scratch_.size() < nbytes) scratch_.resize(nbytes);
    FLATBED_TRY(state_.read_node(runs.source, at, std::span(scratch_).first(nbytes), reading_));
    const std::byte* from = scratch_.data();
    std::byte* to = out_.data() + (runs.place(at) - offset_);
    std::uint64_t left = runs.nbytes - runs.in_run(at);  // of the run
    for (std::uint64_t rest = end - at; left < rest; left = runs.nbytes) {
      std::memcpy(to, from, static_cast<std::size_t>(left));
      const std::uint64_t hole = runs.source_pitch - runs.nbytes;
      from += left + hole;
      to += left + (runs.pitch - runs.nbytes);
      rest -= left + hole;
      if (rest <= runs.nbytes) {
        left = rest;
        break;
      }
    }
    std::memcpy(to, from, static_cast<std::size_t>(left));
    return {};
  }

  const FusedState& state_;
  const Made& made_;
  const Reading& reading_;
  std::uint64_t offset_ = 0;
  std::span<std::byte> out_;
  ByteBuffer scratch_;
};

Result<void> FusedState::compute(const TensorInfo& tensor, std::uint64_t offset,
                                 std::span<std::byte> out, const Reading& reading) const {
  return read_node(node_of_[tensor.index], offset, out, reading);
}

Result<void> FusedState::read_node(Node node, std::uint64_t offset, std::span<std::byte> out,
                                   const Reading& reading) const {
  if (!is_made(node)) return from_->read(from_->tensors[node], offset, out, reading);
  return Read(*this, made(node), reading).run(offset, out);
}

}  // namespace flatbed
