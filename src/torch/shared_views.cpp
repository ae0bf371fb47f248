#include "torch/shared_views.hpp"

#include <algorithm>
#include <cstdint>
#include <functional>
#include <tuple>
#include <vector>

#include "base/str_cat.hpp"

namespace flatbed::pth {

namespace {

// Limits the search of one file. Several thousand interleaved views take more steps.
constexpr std::size_t kMaxSteps = 1 << 22;
constexpr std::uint64_t kMaxStorage = std::uint64_t{1} << 60;  // distances fit 64 bits

// The bytes of a storage between the first and the last element of a view.
struct Extent {
  std::uint32_t storage;
  std::uint64_t begin, end;
  std::uint32_t name;
};

// A stride in bytes: elements of two views lie `low` to `high` such strides apart. The terms after
// this one, whose strides are shorter, add `low_after` to `high_after` bytes.
struct Term {
  std::int64_t stride;
  std::int64_t low, high;
  std::int64_t low_after = 0, high_after = 0;
};

std::uint64_t size_of(const TorchFile& file, const TorchTensor& tensor, std::size_t dim) {
  return file.dims[tensor.dims + dim];
}

std::uint64_t stride_of(const TorchFile& file, const TorchTensor& tensor, std::size_t dim) {
  return file.dims[tensor.dims + tensor.rank + dim];
}

// The sums are known to fit: each element lies in the storage.
std::uint64_t span_of(const TorchFile& file, const TorchTensor& tensor) {
  std::uint64_t elements = 1;
  for (std::size_t i = 0; i < tensor.rank; ++i)
    elements += (size_of(file, tensor, i) - 1) * stride_of(file, tensor, i);
  return elements * tensor.element_nbytes;
}

bool has_storage(const TorchTensor& tensor) {
  return tensor.storage != kNoStorage && tensor.nbytes != 0;
}

// Of the storages with several tensors, in the order of the bytes.
std::vector<Extent> extents_of(const TorchFile& file, std::span<const std::uint32_t> order) {
  std::vector<std::uint8_t> tensors(file.storages.size());  // 2: several
  for (const std::uint32_t number : order) {
    const TorchTensor& tensor = file.tensors[number];
    if (has_storage(tensor) && tensors[tensor.storage] < 2) ++tensors[tensor.storage];
  }
  std::vector<Extent> extents;
  for (std::uint32_t i = 0; i < order.size(); ++i) {
    const TorchTensor& tensor = file.tensors[order[i]];
    if (!has_storage(tensor) || tensors[tensor.storage] < 2) continue;
    const std::uint64_t begin = tensor.offset * tensor.element_nbytes;
    extents.push_back({tensor.storage, begin, begin + span_of(file, tensor), i});
  }
  std::ranges::sort(extents, [](const Extent& a, const Extent& b) {
    return std::tie(a.storage, a.begin, a.name) < std::tie(b.storage, b.begin, b.name);
  });
  return extents;
}

enum class Common : std::uint8_t { none, some, unknown };  // unknown: it takes too many steps

// Compares two views of one storage. Views of different columns of a matrix, such as q, k and v,
// are interleaved but have no byte in common.
class ViewComparison {
 public:
  explicit ViewComparison(const TorchFile& file) : file_(file) {}

  bool take(std::size_t steps) {
    const bool enough = steps <= steps_;
    steps_ = enough ? steps_ - steps : 0;
    return enough;
  }

  // Two elements share a byte if the distance of the views is a sum of strides, each as often as
  // the sizes allow.
  Common compare(const TorchTensor& first, const TorchTensor& second, std::int64_t distance) {
    terms_.clear();
    add_terms(first, 1);
    add_terms(second, -1);
    merge_terms();
    pending_.assign(1, {0, distance});
    while (!pending_.empty()) {
      const Rest rest = pending_.back();
      pending_.pop_back();
      if (rest.term < terms_.size()) {
        if (!push_rests(rest)) return Common::unknown;
      } else if (rest.distance == 0) {
        return Common::some;
      }
    }
    return Common::none;
  }

 private:
  struct Rest {
    std::size_t term;       // the first whose number of strides is open
    std::int64_t distance;  // what it and those after it must sum up to
  };

  void add_terms(const TorchTensor& tensor, std::int64_t sign) {
    const auto add = [&](std::uint64_t stride, std::uint64_t size) {
      const std::int64_t most = sign * static_cast<std::int64_t>(size - 1);
      if (most == 0 || stride == 0) return;
      terms_.push_back({static_cast<std::int64_t>(stride), std::min<std::int64_t>(most, 0),
                        std::max<std::int64_t>(most, 0)});
    };
    for (std::size_t i = 0; i < tensor.rank; ++i) {
      const std::uint64_t size = size_of(file_, tensor, i);
      if (size > 1) add(stride_of(file_, tensor, i) * tensor.element_nbytes, size);
    }
    add(1, tensor.element_nbytes);
  }

  // Puts the longest stride first, each stride once, and sums up how far those after each reach.
  void merge_terms() {
    std::ranges::sort(terms_, std::ranges::greater(), &Term::stride);
    std::size_t count = 0;
    for (const Term& term : terms_) {
      if (count == 0 || terms_[count - 1].stride != term.stride) {
        terms_[count++] = term;
      } else {
        terms_[count - 1].low += term.low;
        terms_[count - 1].high += term.high;
      }
    }
    terms_.resize(count);
    for (std::size_t i = count; i-- > 1;) {
      const Term& term = terms_[i];
      terms_[i - 1].low_after = term.low_after + term.low * term.stride;
      terms_[i - 1].high_after = term.high_after + term.high * term.stride;
    }
  }

  // Pushes what remains for each number of strides that the terms after can complete. Returns false
  // if that takes too many steps.
  bool push_rests(const Rest& rest) {
    const Term& term = terms_[rest.term];
    const std::int64_t low =
        std::max(term.low, divide_up(rest.distance - term.high_after, term.stride));
    const std::int64_t high =
        std::min(term.high, -divide_up(term.low_after - rest.distance, term.stride));
    if (!take(high < low ? 1 : static_cast<std::size_t>(high - low) + 1)) return false;
    for (std::int64_t count = low; count <= high; ++count)
      pending_.push_back({rest.term + 1, rest.distance - count * term.stride});
    return true;
  }

  static std::int64_t divide_up(std::int64_t value, std::int64_t by) {
    return value / by + (value % by > 0 ? 1 : 0);
  }

  const TorchFile& file_;
  std::size_t steps_ = kMaxSteps;
  std::vector<Term> terms_;
  std::vector<Rest> pending_;
};

// Finds the views that have bytes in common with others.
class ViewSearch {
 public:
  ViewSearch(const TorchFile& file, std::span<const std::uint32_t> order)
      : file_(file), order_(order), comparison_(file) {}

  // Takes the extents in the order of extents_of() and borrows them. Returns whether this one has
  // bytes in common with an earlier one, which other() then returns.
  Common add(const Extent& extent) {
    if (last_ == nullptr || last_->storage != extent.storage || last_->end <= extent.begin) {
      before_.assign(1, &extent);
      last_ = &extent;
      return Common::none;
    }
    other_ = last_;
    if (extent.end > last_->end) last_ = &extent;
    if (extent.end > kMaxStorage || !comparison_.take(before_.size())) return Common::unknown;
    std::erase_if(before_, [&](const Extent* earlier) { return earlier->end <= extent.begin; });
    const Common found = compare_with_earlier(extent);
    before_.push_back(&extent);
    return found;
  }

  [[nodiscard]] const Extent& other() const { return *other_; }

 private:
  Common compare_with_earlier(const Extent& extent) {
    Common found = Common::none;
    for (std::size_t i = before_.size(); i-- > 0 && found != Common::some;) {
      const Extent& earlier = *before_[i];
      const Common common =
          comparison_.compare(tensor_of(earlier), tensor_of(extent),
                              static_cast<std::int64_t>(extent.begin - earlier.begin));
      if (common == Common::none) continue;
      found = common;
      other_ = &earlier;
    }
    return found;
  }

  [[nodiscard]] const TorchTensor& tensor_of(const Extent& extent) const {
    return file_.tensors[order_[extent.name]];
  }

  const TorchFile& file_;
  std::span<const std::uint32_t> order_;
  ViewComparison comparison_;
  std::vector<const Extent*> before_;  // the earlier ones that reach into the latest
  const Extent* last_ = nullptr;       // the one of them that ends last
  const Extent* other_ = nullptr;
};

}  // namespace

std::optional<std::string> shared_views_note(const TorchFile& file,
                                             std::span<const std::uint32_t> order,
                                             const TextList& names) {
  const std::vector<Extent> extents = extents_of(file, order);
  ViewSearch search(file, order);
  std::size_t count = 0;
  bool known = true;
  std::string first;
  for (const Extent& extent : extents) {
    const Common common = search.add(extent);
    if (common == Common::none) continue;
    known = known && common == Common::some;
    if (count++ == 0)
      first = str_cat(quoted(names[extent.name]), " of ", quoted(names[search.other().name]));
  }
  if (count == 0) return std::nullopt;
  const bool one = count == 1;
  const std::string_view what = known ? one ? " is a view of memory that another tensor also sees"
                                            : " are views of memory that another tensor also sees"
                                : one ? " lies among the bytes of another tensor of its storage"
                                      : " lie among the bytes of other tensors of their storage";
  return str_cat(counted(count, "tensor"), what, ", and ", one ? "is" : "are",
                 " stored apart from it: ", one ? "" : "first ", first);
}

}  // namespace flatbed::pth
