// Checkpoint::cast(): the same tensors, some of them as another dtype when they are read.
#include "flatbed/cast.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/checked.hpp"
#include "base/str_cat.hpp"
#include "cast/cast_kernel.hpp"
#include "checkpoint/checkpoint_state.hpp"
#include "checkpoint/glob.hpp"
#include "flatbed/checkpoint.hpp"

namespace flatbed {

namespace {

using State = CheckpointAccess::State;

// Results of this size are too large to stay in a cache until they are used.
constexpr std::uint64_t kStreamingNbytes = 4 << 20;

constexpr std::uint64_t element_nbytes(Dtype dtype) { return bits(dtype) / 8; }

// The elements of a tensor that bytes [offset, offset + nbytes) touch.
struct ElementRange {
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
};

// One request for the bytes of a cast tensor.
class CastRead {
 public:
  CastRead(const State& from, const TensorInfo& source, Dtype to, const Reading& reading)
      : from_(from),
        source_(source),
        reading_(reading),
        from_nbytes_(element_nbytes(source.dtype)),
        to_nbytes_(element_nbytes(to)),
        to_(to) {}

  // `out` may begin and end within an element. `step` is in stored bytes.
  Result<void> run(std::uint64_t offset, std::span<std::byte> out, std::uint64_t step) {
    if (out.empty()) return {};
    kernel_ =
        cast_kernel(source_.dtype, to_,
                    out.size() >= kStreamingNbytes ? CastStores::streaming : CastStores::usual);
    const std::uint64_t begin = offset / to_nbytes_;
    const std::uint64_t end = (offset + out.size() + to_nbytes_ - 1) / to_nbytes_;
    const std::uint64_t room = std::min(step, (end - begin) * from_nbytes_);
    const auto scratch =
        std::make_unique_for_overwrite<std::byte[]>(static_cast<std::size_t>(room));
    for (std::uint64_t at = begin; at < end;) {
      // Steps end where chunks do, so that each is read and hashed once.
      const std::uint64_t limit = (at * from_nbytes_ / step + 1) * step / from_nbytes_;
      const std::uint64_t last = std::min({end, limit, at + room / from_nbytes_});
      FLATBED_TRY(
          convert({at, last}, {scratch.get(), static_cast<std::size_t>(room)}, offset, out));
      at = last;
    }
    return {};
  }

 private:
  // Elements at the ends that are needed in part are converted one by one.
  Result<void> convert(ElementRange range, std::span<std::byte> scratch, std::uint64_t offset,
                       std::span<std::byte> out) {
    const std::span<std::byte> stored =
        scratch.first(static_cast<std::size_t>((range.end - range.begin) * from_nbytes_));
    FLATBED_TRY(from_.read(source_, range.begin * from_nbytes_, stored, reading_));
    const std::byte* at = stored.data();
    const std::uint64_t end = offset + out.size();
    const auto convert_part = [&](std::uint64_t element) {
      std::array<std::byte, 8> whole;
      CastCounts counts;
      kernel_(at, whole.data(), 1, counts);
      const std::uint64_t first = element * to_nbytes_;
      const std::uint64_t begin = std::max(first, offset);
      const std::uint64_t last = std::min(first + to_nbytes_, end);
      std::memcpy(out.data() + (begin - offset), whole.data() + (begin - first),
                  static_cast<std::size_t>(last - begin));
      if (begin == first) reading_.tally.casts += counts;
      at += from_nbytes_;
    };
    if (range.begin * to_nbytes_ < offset) convert_part(range.begin++);
    const bool cut = range.begin < range.end && range.end * to_nbytes_ > end;
    const auto whole = static_cast<std::size_t>(range.end - range.begin - (cut ? 1 : 0));
    if (whole != 0) {
      kernel_(at, out.data() + (range.begin * to_nbytes_ - offset), whole, reading_.tally.casts);
      at += whole * from_nbytes_;
    }
    if (cut) convert_part(range.end - 1);
    return {};
  }

  const State& from_;
  const TensorInfo& source_;
  const Reading& reading_;
  std::uint64_t from_nbytes_;
  std::uint64_t to_nbytes_;
  Dtype to_;
  CastKernel kernel_ = nullptr;
};

// The tensors of `from`, some with another dtype. Shares the ownership of `from`, which has the
// files and owns the names and shapes.
class CastState final : public State {
 public:
  CastState(std::shared_ptr<const State> from, const std::vector<bool>& chosen, Dtype to)
      : from_(std::move(from)) {
    layout = from_->layout;
    seal = from_->seal;
    files = from_->files;
    index_file = from_->index_file;
    notes = from_->notes;
    tensors = from_->tensors;
    aliases = from_->aliases;
    aliases_error = from_->aliases_error;
    missing = from_->missing;
    if (from_->has_tree) share_tree(from_->decoded_tree());
    for (const auto& pair : from_->metadata) {
      if (pair.first == "format") metadata.push_back(pair);  // spec L9
    }
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      if (chosen[i]) change(tensors[i], to);
    }
  }

  [[nodiscard]] const Container& container(std::uint32_t file) const override {
    return from_->container(file);
  }
  [[nodiscard]] TensorPlace locate(std::uint32_t tensor) const override {
    return from_->locate(tensor);
  }
  [[nodiscard]] Result<void> compute(const TensorInfo& tensor, std::uint64_t offset,
                                     std::span<std::byte> out,
                                     const Reading& reading) const override {
    const TensorInfo& source = from_->tensors[tensor.index];
    if (source.dtype == tensor.dtype) return from_->compute(source, offset, out, reading);
    return CastRead(*from_, source, tensor.dtype, reading)
        .run(offset, out, from_->step_nbytes(source));
  }
  void append_sources(std::uint32_t tensor, std::vector<SourceTensor>& sources) const override {
    from_->append_sources(tensor, sources);
  }
  [[nodiscard]] bool append_parts(const std::shared_ptr<const State>&, std::uint32_t tensor,
                                  const DimRange& range,
                                  std::vector<TensorPart>& parts) const override {
    const bool same = from_->tensors[tensor].dtype == tensors[tensor].dtype;
    return same && from_->append_parts(from_, tensor, range, parts);
  }
  [[nodiscard]] bool gathers(std::uint32_t tensor) const override { return from_->gathers(tensor); }

 private:
  // The new size is known to fit.
  static void change(TensorInfo& tensor, Dtype to) {
    tensor.nbytes = tensor.nbytes / element_nbytes(tensor.dtype) * element_nbytes(to);
    tensor.dtype = to;
    tensor.stored = Stored::computed;
    tensor.digests = {};
    tensor.cast = true;
  }

  std::shared_ptr<const State> from_;
};

// A call such as torch.FloatStorage(tensor).
bool is_storage_call(Value value) {
  return value.kind() == Kind::object && value.callable().kind() == Kind::global &&
         value.callable().qualname().ends_with("Storage");
}

// Whether the structure says of each tensor that its elements have a type of its own. An unreadable
// structure says nothing.
std::vector<bool> typed_by_tree(const State& state) {
  std::vector<bool> typed(state.tensors.size());
  if (!state.has_tree || !state.decoded_tree()) return typed;
  const ValueTree& tree = *state.decoded_tree();
  for (NodeId id = 0; id < tree.size(); ++id) {
    const Value value = tree.value(id);
    if (is_storage_call(value)) {
      for (const Value argument : value.arguments().items()) {
        if (const auto number = argument.tensor(); number && *number < typed.size())
          typed[*number] = true;
      }
    }
    const std::optional<std::uint32_t> tensor = value.tensor();
    if (!tensor || *tensor >= typed.size()) continue;
    const TensorAttributes& attributes = value.attributes();
    typed[*tensor] = typed[*tensor] || value.kind() != Kind::tensor || !attributes.dtype.empty() ||
                     attributes.quantizer != kNoNode;
  }
  return typed;
}

// A tensor with strides of 0 may have any number of elements.
Result<void> check_size(const TensorInfo& tensor, Dtype to) {
  if (checked_mul(tensor.nbytes / element_nbytes(tensor.dtype), bits(to))) return {};
  return make_error(ErrorCode::size_overflow, "tensor ", quoted(tensor.name), ": ", name(to), " ",
                    shape_text(tensor.shape.data(), tensor.shape.size()),
                    " needs more than 2^61 bytes");
}

// Which tensors have a name or an alias that one of the globs matches.
class NameMatches {
 public:
  NameMatches(const State& state, const std::vector<std::string>& globs)
      : state_(state), globs_(globs) {}

  // Errors: tensor_not_found, if one of the globs matches nothing.
  Result<std::vector<bool>> find(std::string_view what) const {
    std::vector<bool> found(state_.tensors.size());
    for (const std::string& glob : globs_) {
      bool matched = false;
      const auto see = [&](std::string_view name, const TensorInfo* tensor) {
        if (tensor == nullptr || !glob_matches(glob, name)) return;
        matched = found[tensor->index] = true;
      };
      for (const TensorInfo& tensor : state_.tensors) see(tensor.name, &tensor);
      for (const Alias& alias : state_.aliases) see(alias.name, state_.find_tensor(alias.target));
      if (matched) continue;
      return make_error(ErrorCode::tensor_not_found, "no tensor matches ", what, " ", quoted(glob));
    }
    return found;
  }

 private:
  const State& state_;
  const std::vector<std::string>& globs_;
};

std::string castable_text() {
  std::string text;
  for (const Dtype dtype : kCastableDtypes) text += str_cat(text.empty() ? "" : ", ", name(dtype));
  return text;
}

Result<void> check_target(Dtype to) {
  if (is_castable(to)) return {};
  return make_error(ErrorCode::invalid_argument, "tensors cannot be cast to ", name(to),
                    ": expected one of ", castable_text());
}

// `typed`: what typed_by_tree() says of the tensor.
Result<void> check_kind(const TensorInfo& tensor, Dtype to, bool typed) {
  if (!is_castable(tensor.dtype)) {
    return make_error(ErrorCode::invalid_argument, "tensor ", quoted(tensor.name),
                      ": cannot be cast to ", name(to), ": found ", name(tensor.dtype),
                      ", expected one of ", castable_text());
  }
  if (!typed) return {};
  return make_error(ErrorCode::invalid_argument, "tensor ", quoted(tensor.name),
                    ": cannot be cast to ", name(to), ": its ", name(tensor.dtype),
                    " elements are parts of another type, which the structure states");
}

// A tensor that was named literally cannot be left out silently.
Result<void> check_named(const Checkpoint& checkpoint, const CastRules& rules,
                         const std::vector<bool>& typed) {
  for (const std::string& name_or_alias : rules.include) {
    const TensorInfo* tensor = checkpoint.find(name_or_alias);
    if (tensor != nullptr) FLATBED_TRY(check_kind(*tensor, rules.to, typed[tensor->index]));
  }
  return {};
}

// A view in which these tensors are cast, by number. `from` if there are none.
Result<std::shared_ptr<const State>> cast_state(std::shared_ptr<const State> from,
                                                const std::vector<bool>& chosen, Dtype to) {
  if (std::ranges::find(chosen, true) == chosen.end()) return from;
  auto state = std::make_shared<CastState>(std::move(from), chosen, to);
  FLATBED_TRY(state->build_index());
  return std::shared_ptr<const State>(std::move(state));
}

}  // namespace

Result<Checkpoint> Checkpoint::cast(const CastRules& rules) const {
  FLATBED_TRY(check_target(rules.to));
  const std::vector<bool> typed = typed_by_tree(*state_);
  FLATBED_TRY(check_named(*this, rules, typed));
  FLATBED_ASSIGN(const std::vector<bool> included,
                 NameMatches(*state_, rules.include).find("include"));
  FLATBED_ASSIGN(const std::vector<bool> kept, NameMatches(*state_, rules.keep).find("keep"));
  std::vector<bool> chosen(tensors().size());
  for (const TensorInfo& tensor : tensors()) {
    const std::size_t i = tensor.index;
    chosen[i] = is_castable(tensor.dtype) && tensor.dtype != rules.to && !typed[i] && !kept[i] &&
                (rules.include.empty() || included[i]);
    if (chosen[i]) FLATBED_TRY(check_size(tensor, rules.to));
  }
  FLATBED_ASSIGN(std::shared_ptr<const State> state, cast_state(state_, chosen, rules.to));
  return Checkpoint(std::move(state));
}

Result<Checkpoint> CheckpointAccess::cast_what_can_be(const Checkpoint& checkpoint, Dtype to) {
  FLATBED_TRY(check_target(to));
  const std::vector<bool> typed = typed_by_tree(*checkpoint.state_);
  std::vector<bool> chosen(typed.size());
  for (const TensorInfo& tensor : checkpoint.tensors()) {
    chosen[tensor.index] =
        tensor.dtype != to && check_kind(tensor, to, typed[tensor.index]) && check_size(tensor, to);
  }
  FLATBED_ASSIGN(std::shared_ptr<const State> state, cast_state(checkpoint.state_, chosen, to));
  return make(std::move(state));
}

Result<void> CheckpointAccess::check_cast(const Checkpoint& checkpoint, const TensorInfo& tensor,
                                          Dtype to) {
  FLATBED_TRY(check_kind(tensor, to, typed_by_tree(*checkpoint.state_)[tensor.index]));
  return check_size(tensor, to);
}

}  // namespace flatbed
