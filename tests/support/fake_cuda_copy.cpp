// The fake's copies: what may be copied, whether its source stayed as it was, and the moving of
// bytes in pieces.
#include <execinfo.h>
#define XXH_INLINE_ALL  // the drop-in library links nothing
#include <xxhash.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <fstream>

#include "support/fake_cuda_state.hpp"

namespace flatbed::fake_cuda {
namespace {

std::uint64_t hash_rows(const std::byte* from, const Rows& rows) {
  std::uint64_t hash = 0;
  for (std::size_t row = 0; row < rows.height; ++row) {
    hash = hash * 31 + XXH3_64bits(from + row * rows.from_pitch, rows.width);
  }
  return hash;
}

std::size_t span_of(const Rows& rows, std::size_t pitch) {
  return rows.height == 0 ? 0 : (rows.height - 1) * pitch + rows.width;
}

// Whether memory that CUDA does not know is a file's or just unpinned.
std::string_view name_unpinned(const void* data) {
  std::ifstream maps("/proc/self/maps");
  const auto at = reinterpret_cast<std::uintptr_t>(data);
  std::string line;
  while (std::getline(maps, line)) {
    char* rest = nullptr;
    const std::uintptr_t begin = std::strtoull(line.c_str(), &rest, 16);
    const std::uintptr_t end = std::strtoull(rest + 1, nullptr, 16);
    if (at < begin || at >= end) continue;
    return line.find('/') == std::string::npos ? "pageable memory" : "a mapped file";
  }
  return "memory that is not there";
}

bool is_host(MemoryKind kind) {
  return kind == MemoryKind::pinned || kind == MemoryKind::registered;
}

std::string backtrace_of(const Op& op) {
  if (op.backtrace.empty()) return "";
  std::string out = ", submitted at";
  const int count = static_cast<int>(op.backtrace.size());
  char** const names = backtrace_symbols(op.backtrace.data(), count);
  for (int i = 0; names != nullptr && i < count; ++i) out += text(" ", names[i]);
  std::free(names);
  return out;
}

}  // namespace

cudaError_t State::submit_copy(Rows rows, cudaMemcpyKind kind, cudaStream_t handle) {
  const std::string_view call = rows.height == 1 ? "MemcpyAsync" : "Memcpy2DAsync";
  Stream* const stream = find_stream(handle, call);
  if (stream == nullptr) return cudaErrorInvalidResourceHandle;
  if (const cudaError_t wrong = use_uncaptured(*stream, call); wrong != cudaSuccess) return wrong;
  if (rows.width == 0 || rows.height == 0) return cudaSuccess;
  Op op{.kind = Op::Kind::copy, .stream = stream, .rows = rows};
  if (std::string wrong = check_copy(op, kind); !wrong.empty()) {
    add(Entry::misuse, text("cuda", call, " of ", rows.width, " x ", rows.height,
                            " bytes in stream ", stream->number, ": ", wrong));
    return cudaErrorInvalidValue;
  }
  if (options.backtraces) {
    op.backtrace.resize(16);
    op.backtrace.resize(static_cast<std::size_t>(backtrace(op.backtrace.data(), 16)));
  }
  if (op.from_host && options.guard_sources && options.move_bytes) {
    op.source_hash = hash_rows(op.from_view, rows);
  }
  op.last_first =
      options.last_first || (options.schedule == FakeSchedule::random && (random() & 1) != 0);
  Op& queued = enqueue(*stream, std::move(op));
  if (options.now_ns) {
    auto& link_free = link_free_ns[static_cast<std::size_t>(stream->device)];
    const double cost = static_cast<double>(rows.width * rows.height) / options.link_bytes_per_ns;
    link_free = std::max(now_ns, link_free) + static_cast<std::uint64_t>(cost);
    stream->complete_at_ns = std::max(stream->complete_at_ns, link_free + options.copy_latency_ns);
  }
  stream->unseen.push_back(stream->queue.back());
  claim_destination(queued);
  protect(queued, true);
  after_submit();
  return cudaSuccess;
}

std::string State::check_copy(Op& op, cudaMemcpyKind kind) {
  const Rows& rows = op.rows;
  if (rows.height > 1 && (rows.width > rows.to_pitch || rows.width > rows.from_pitch)) {
    return "its pitch is less than its width";
  }
  Allocation* to = nullptr;
  Allocation* from = nullptr;
  const std::string wrong_to = check_range(rows.to, span_of(rows, rows.to_pitch), &to);
  if (to == nullptr) return text("its destination is ", name_unpinned(rows.to));
  if (!wrong_to.empty()) return text("its destination ", wrong_to);
  const std::string wrong_from = check_range(rows.from, span_of(rows, rows.from_pitch), &from);
  if (from == nullptr) {
    const std::string wrong = text("its source is ", name_unpinned(rows.from));
    if (options.pageable_is_error) return wrong;
    add(Entry::misuse, text("cudaMemcpyAsync: ", wrong));
    op.from_host = true;
  } else if (!wrong_from.empty()) {
    return text("its source ", wrong_from);
  } else {
    op.from_host = is_host(from->kind);
  }
  const bool to_host = is_host(to->kind);
  const cudaMemcpyKind found = op.from_host
                                   ? (to_host ? cudaMemcpyHostToHost : cudaMemcpyHostToDevice)
                                   : (to_host ? cudaMemcpyDeviceToHost : cudaMemcpyDeviceToDevice);
  if (kind != cudaMemcpyDefault && kind != found) {
    return text("its kind is ", static_cast<int>(kind), ", its memory's is ",
                static_cast<int>(found));
  }
  for (const Allocation* const block : {to, from}) {
    if (block == nullptr || is_host(block->kind) || block->kind == MemoryKind::managed) continue;
    if (block->device != op.stream->device) {
      return text(describe(*block), " is not of the stream's device ", op.stream->device);
    }
  }
  op.to_view = to->view + (rows.to - to->data);
  op.from_view = from == nullptr ? rows.from : from->view + (rows.from - from->data);
  if (const Op* const kernel = find_kernel(op); kernel != nullptr) {
    return text("its destination is still ", kernel->kind == Op::Kind::read ? "read" : "written",
                " in the engine's stream ", kernel->stream->number);
  }
  if (destination_claimed(op)) return "its destination overlaps that of a copy under way";
  return "";
}

void State::check_source(Op& op, std::string_view when) {
  if (!op.from_host || !options.guard_sources || !options.move_bytes || op.seen_modified) return;
  if (hash_rows(op.from_view, op.rows) == op.source_hash) return;
  op.seen_modified = true;
  add(Entry::misuse, text("the source of copy ", op.number, " in stream ", op.stream->number,
                          " was modified in flight: found ", when, backtrace_of(op)));
}

bool overlaps_rows(const Rows& rows, const std::byte* data, std::size_t nbytes) {
  for (std::size_t row = 0; row < rows.height; ++row) {
    const std::byte* const to = rows.to + row * rows.to_pitch;
    if (to < data + nbytes && data < to + rows.width) return true;
  }
  return false;
}

// One that uses the destination and that the copy does not come after.
const Op* State::find_kernel(const Op& copy) const {
  for (const auto& kernel : kernels) {
    const auto ordered = copy.stream->before.find(kernel->stream->number);
    if (ordered != copy.stream->before.end() && ordered->second >= kernel->number) continue;
    const Rows& rows = kernel->rows;
    const std::byte* const used = kernel->kind == Op::Kind::read ? rows.from : rows.to;
    if (overlaps_rows(copy.rows, used, rows.width)) return kernel.get();
  }
  return nullptr;
}

bool State::destination_claimed(const Op& op) const {
  for (std::size_t row = 0; row < op.rows.height; ++row) {
    const std::byte* const begin = op.rows.to + row * op.rows.to_pitch;
    const auto after = destinations.lower_bound(begin + op.rows.width);
    if (after != destinations.begin() && std::prev(after)->second > begin) return true;
  }
  return false;
}

void State::claim_destination(const Op& op) {
  for (std::size_t row = 0; row < op.rows.height; ++row) {
    const std::byte* const begin = op.rows.to + row * op.rows.to_pitch;
    destinations[begin] = begin + op.rows.width;
  }
}

void State::unclaim_destination(const Op& op) {
  for (std::size_t row = 0; row < op.rows.height; ++row) {
    destinations.erase(op.rows.to + row * op.rows.to_pitch);
  }
}

std::size_t State::piece_count(const Op& op) const {
  const std::size_t piece = std::max<std::size_t>(options.piece_nbytes, 1);
  return (op.rows.width + piece - 1) / piece * op.rows.height;
}

void State::copy_pieces(Op& op, std::size_t first, std::size_t count) const {
  if (op.failed || !options.move_bytes) return;
  const std::size_t piece = std::max<std::size_t>(options.piece_nbytes, 1);
  const std::size_t in_row = (op.rows.width + piece - 1) / piece;
  const std::size_t total = in_row * op.rows.height;
  for (std::size_t i = first; i < first + count; ++i) {
    const std::size_t index = op.last_first ? total - 1 - i : i;
    const std::size_t row = index / in_row;
    const std::size_t begin = index % in_row * piece;
    const std::size_t nbytes = std::min(piece, op.rows.width - begin);
    std::byte* const to = op.to_view + row * op.rows.to_pitch + begin;
    const std::byte* const from = op.from_view + row * op.rows.from_pitch + begin;
    if (op.last_first) to[nbytes - 1] = from[nbytes - 1];
    std::memcpy(to, from, op.last_first ? nbytes - 1 : nbytes);
  }
}

}  // namespace flatbed::fake_cuda
