#include "torch/gather.hpp"

#include <algorithm>
#include <cstring>
#include <vector>

#include "io/large_allocator.hpp"

namespace flatbed::pth {

namespace {

constexpr std::uint64_t kStage = 1 << 20;  // bytes; fits in the second-level cache
// Reading over a gap of this many bytes is cheaper than one more read.
constexpr std::uint64_t kGap = 4096;
constexpr std::uint64_t kTile = 32;  // elements along one side of a block that scatter works on

// One dimension of a box: its strides in bytes, in the storage and in `out`.
struct Dim {
  std::uint64_t size = 1;
  std::uint64_t from = 0;
  std::uint64_t to = 0;
};

// A stage holds `rows` rows of `columns` elements each, row_pitch and column_pitch bytes apart.
struct Staged {
  const std::byte* data;
  Dim columns;
  Dim rows;
};

template <std::size_t kElement>
void scatter_tiles(const Staged& staged, std::byte* out) {
  const auto [data, columns, rows] = staged;
  for (std::uint64_t c0 = 0; c0 < columns.size; c0 += kTile) {
    const std::uint64_t c1 = std::min(c0 + kTile, columns.size);
    for (std::uint64_t r0 = 0; r0 < rows.size; r0 += kTile) {
      const std::uint64_t r1 = std::min(r0 + kTile, rows.size);
      for (std::uint64_t c = c0; c < c1; ++c) {
        for (std::uint64_t r = r0; r < r1; ++r) {
          std::memcpy(out + c * columns.to + r * rows.to, data + c * columns.from + r * rows.from,
                      kElement);
        }
      }
    }
  }
}

void scatter(const Staged& staged, std::uint32_t element_nbytes, std::byte* out) {
  switch (element_nbytes) {
    case 1:
      return scatter_tiles<1>(staged, out);
    case 2:
      return scatter_tiles<2>(staged, out);
    case 4:
      return scatter_tiles<4>(staged, out);
    case 8:
      return scatter_tiles<8>(staged, out);
    default:
      return scatter_tiles<16>(staged, out);
  }
}

class Gatherer {
 public:
  Gatherer(const StridedView& view, std::span<std::byte> out, const ReadStorage& read)
      : element_(view.element_nbytes), out_(out.data()), read_(read) {
    coalesce(view);
    inner_.assign(dims_.size() + 1, 1);
    for (std::size_t i = dims_.size(); i-- > 0;) inner_[i] = inner_[i + 1] * dims_[i].size;
    base_ = view.offset * element_;
  }

  Result<void> run(std::uint64_t first, std::uint64_t count) {
    return range(0, base_, first, count);
  }

 private:
  // Drops dimensions of size 1 and joins dimensions that follow each other without a step.
  void coalesce(const StridedView& view) {
    for (std::size_t i = 0; i < view.sizes.size(); ++i) {
      const std::uint64_t size = view.sizes[i];
      const std::uint64_t stride = view.strides[i] * element_;
      if (size == 1) continue;
      if (!dims_.empty() && dims_.back().from == stride * size) {
        dims_.back() = {dims_.back().size * size, stride, 0};
      } else {
        dims_.push_back({size, stride, 0});
      }
    }
  }

  // Copies elements [first, first + count) of the subspace of dimensions `dim` and up, from byte
  // `from` of the storage: part of a row, whole rows, part of a row. Recurses once per dimension.
  Result<void> range(std::size_t dim, std::uint64_t from, std::uint64_t first,
                     std::uint64_t count) {
    if (dim == dims_.size()) return box(dim, from, 1);
    const std::uint64_t row = inner_[dim + 1];
    while (count > 0) {
      const std::uint64_t index = first / row;
      const std::uint64_t rest = first % row;
      const std::uint64_t at = from + index * dims_[dim].from;
      std::uint64_t taken = 0;
      if (rest == 0 && count >= row) {
        taken = count / row * row;
        FLATBED_TRY(box(dim, at, count / row));
      } else {
        taken = std::min(count, row - rest);
        FLATBED_TRY(range(dim + 1, at, rest, taken));
      }
      first += taken;
      count -= taken;
    }
    return {};
  }

  // Copies `rows` whole rows of dimension `dim` to the next bytes of the output.
  Result<void> box(std::size_t dim, std::uint64_t from, std::uint64_t rows) {
    std::vector<Dim> box;
    for (std::size_t i = dim; i < dims_.size(); ++i) {
      box.push_back({i == dim ? rows : dims_[i].size, dims_[i].from, inner_[i + 1] * element_});
    }
    std::sort(box.begin(), box.end(), [](const Dim& a, const Dim& b) { return a.from < b.from; });
    box.resize(std::max<std::size_t>(box.size(), 2));
    std::vector<std::uint64_t> index(box.size());
    std::byte* const out = out_ + done_;
    std::uint64_t to = 0;
    for (;;) {
      FLATBED_TRY(plane(from, box[0], box[1], out + to));
      // Counts up over the other dimensions, smallest stride first.
      std::size_t i = 2;
      for (; i < box.size(); ++i) {
        from += box[i].from;
        to += box[i].to;
        if (++index[i] < box[i].size) break;
        from -= box[i].from * box[i].size;
        to -= box[i].to * box[i].size;
        index[i] = 0;
      }
      if (i == box.size()) break;
    }
    std::uint64_t elements = 1;
    for (const Dim& d : box) elements *= d.size;
    done_ += elements * element_;
    return {};
  }

  // Copies the two dimensions with the smallest strides, one stage at a time.
  Result<void> plane(std::uint64_t from, const Dim& columns, const Dim& rows, std::byte* out) {
    const bool sparse = columns.from > element_ + kGap;
    const std::uint64_t fit =
        columns.from == 0 ? columns.size : (kStage - element_) / columns.from + 1;
    const std::uint64_t width = sparse ? 1 : std::min(columns.size, fit);
    for (std::uint64_t c = 0; c < columns.size; c += width) {
      const Dim part{std::min(width, columns.size - c), columns.from, columns.to};
      FLATBED_TRY(column_block(from + c * columns.from, part, rows, out + c * columns.to));
    }
    return {};
  }

  Result<void> column_block(std::uint64_t from, const Dim& columns, const Dim& rows,
                            std::byte* out) {
    const std::uint64_t length = (columns.size - 1) * columns.from + element_;
    const bool contiguous = columns.from == element_ && columns.to == element_;
    if (contiguous && length >= kGap) return direct_rows(from, {length, 0, 0}, rows, out);
    const bool dense = rows.from <= length + kGap;
    const std::uint64_t pitch = dense ? rows.from : length;
    const std::uint64_t fit = pitch == 0 ? rows.size : (kStage - length) / pitch + 1;
    for (std::uint64_t r = 0; r < rows.size; r += fit) {
      const std::uint64_t count = std::min(fit, rows.size - r);
      FLATBED_TRY(dense ? read_(from + r * rows.from, stage((count - 1) * pitch + length))
                        : read_rows(from + r * rows.from, {length, 0, 0}, {count, rows.from, 0}));
      const Staged staged{stage_.data(), columns, {count, pitch, rows.to}};
      scatter(staged, element_, out + r * rows.to);
    }
    return {};
  }

  // Rows that are contiguous on both sides need no stage.
  Result<void> direct_rows(std::uint64_t from, const Dim& length, const Dim& rows, std::byte* out) {
    for (std::uint64_t r = 0; r < rows.size; ++r) {
      FLATBED_TRY(read_(from + r * rows.from, {out + r * rows.to, length.size}));
    }
    return {};
  }

  // Makes `rows` reads of `length` bytes, packed into the stage.
  Result<void> read_rows(std::uint64_t from, const Dim& length, const Dim& rows) {
    const std::span<std::byte> all = stage(rows.size * length.size);
    for (std::uint64_t r = 0; r < rows.size; ++r) {
      FLATBED_TRY(read_(from + r * rows.from, all.subspan(r * length.size, length.size)));
    }
    return {};
  }

  std::span<std::byte> stage(std::uint64_t nbytes) {
    stage_.resize(kStage);
    return std::span(stage_).first(nbytes);
  }

  std::uint32_t element_;
  std::byte* out_;
  const ReadStorage& read_;
  std::vector<Dim> dims_;  // outermost first; `to` is unused
  // Inner_[i] is the number of elements for one index of dimension i - 1.
  std::vector<std::uint64_t> inner_;
  std::uint64_t base_ = 0;
  std::uint64_t done_ = 0;  // bytes of the output already filled
  ByteBuffer stage_;
};

}  // namespace

Result<void> gather(const StridedView& view, std::uint64_t first, std::span<std::byte> out,
                    const ReadStorage& read) {
  if (out.empty()) return {};
  return Gatherer(view, out, read).run(first, out.size() / view.element_nbytes);
}

}  // namespace flatbed::pth
