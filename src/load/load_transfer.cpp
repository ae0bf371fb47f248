// Where the bytes of a tensor go: the runs and rows of a Transfer (load_plan.hpp).
#include <algorithm>

#include "load/load_plan.hpp"

namespace flatbed {

std::byte* Transfer::place_together(std::uint64_t begin, std::uint64_t end) const noexcept {
  if (begin < source || end > source_end()) return nullptr;
  if (runs == 1 && packed()) return to + (begin - source);  // the usual case
  const std::uint64_t run = (begin - source) / run_pitch;
  const std::uint64_t in_run = (begin - source) % run_pitch;
  if (in_run > run_nbytes || end - begin > run_nbytes - in_run) return nullptr;
  const std::uint64_t at = run * run_nbytes + in_run;
  if (end - begin > row_nbytes - at % row_nbytes) return nullptr;
  return place(at);
}

namespace {

// Copies the contents' bytes [at, at + nbytes), which are contiguous at `from`: the rest of a row,
// whole rows, the start of a row.
void append_rows(const Transfer& transfer, std::uint64_t at, std::uint64_t nbytes,
                 const std::byte* from, std::vector<CopyPiece>& pieces) {
  const std::uint64_t row = transfer.row_nbytes;
  while (nbytes != 0) {
    const std::uint64_t in_row = at % row;
    const bool whole_rows = in_row == 0 && nbytes >= row;
    const std::uint64_t rows = whole_rows ? nbytes / row : 1;
    const std::uint64_t width = whole_rows ? row : std::min(nbytes, row - in_row);
    pieces.push_back({from, transfer.place(at), width, rows, row, transfer.row_pitch});
    at += rows * width;
    from += rows * width;
    nbytes -= rows * width;
  }
}

}  // namespace

void Transfer::append_contents(std::uint64_t at, std::uint64_t nbytes, const std::byte* from,
                               std::vector<CopyPiece>& pieces) const {
  append_rows(*this, at, nbytes, from, pieces);
}

void Transfer::append_pieces(std::uint64_t begin, std::uint64_t end, const std::byte* from,
                             std::vector<CopyPiece>& pieces) const {
  if (runs == 0 || end <= source) return;
  std::uint64_t run = begin <= source ? 0 : (begin - source) / run_pitch;
  while (run < runs) {
    const std::uint64_t run_begin = source + run * run_pitch;
    const std::uint64_t first = std::max(begin, run_begin);
    const std::uint64_t last = std::min(end, run_begin + run_nbytes);
    if (run_begin >= end) break;
    if (first >= last) {
      ++run;
      continue;
    }
    const std::uint64_t at = run * run_nbytes + (first - run_begin);
    const bool one_row_each = packed() || row_nbytes == run_nbytes;
    if (one_row_each && first == run_begin && last - first == run_nbytes) {
      // This run and the whole runs after it form one block.
      const std::uint64_t left = (end - first - run_nbytes) / run_pitch;
      const std::uint64_t count = std::min(runs - run, 1 + left);
      const std::uint64_t to_pitch = packed() ? run_nbytes : row_pitch;
      pieces.push_back({from + (first - begin), place(at), run_nbytes, count, run_pitch, to_pitch});
      run += count;
      continue;
    }
    append_rows(*this, at, last - first, from + (first - begin), pieces);
    ++run;
  }
}

}  // namespace flatbed
