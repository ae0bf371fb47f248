#include "archive/inflate.hpp"

#define ZLIB_CONST
#include <zlib.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "base/checked.hpp"
#include "base/str_cat.hpp"

namespace flatbed::pth {

namespace {

constexpr std::size_t kBufferBytes = 64 * 1024;
constexpr std::size_t kMaxStep = 1 << 30;  // the most that zlib's 32-bit counters can take at once
constexpr std::size_t kMaxSnapshots = 64;

// zlib keeps a pointer from its state back to the z_stream, so a stream lives on the heap and never
// moves.
struct EndStream {
  void operator()(z_stream* stream) const noexcept {
    inflateEnd(stream);
    delete stream;
  }
};
using Stream = std::unique_ptr<z_stream, EndStream>;

Error out_of_memory() {
  return {ErrorCode::resource_exhausted, "out of memory to inflate a zip record"};
}

Result<Stream> new_stream() {
  Stream stream(new z_stream{});
  if (inflateInit2(stream.get(), -MAX_WBITS) != Z_OK) return out_of_memory();
  return stream;
}

Result<Stream> copy_stream(z_stream& from) {
  Stream stream(new z_stream{});
  if (inflateCopy(stream.get(), &from) != Z_OK) return out_of_memory();
  return stream;
}

// A state from which inflating can continue: `consumed` stored bytes gave `produced` bytes.
struct Position {
  Stream stream;
  std::uint64_t consumed = 0;
  std::uint64_t produced = 0;
};

}  // namespace

struct InflateReader::State {
  const ByteSource* file;
  DeflatedRecord record;
  Position at;
  bool ended = false;  // the stream's own end was reached
  // Stored bytes read from the file; those after at.consumed wait in the stream.
  std::uint64_t fetched = 0;
  std::vector<Position> snapshots;  // by ascending `produced`; the first is at 0
  std::uint64_t interval = kInflateInterval;
  std::vector<std::byte> input = std::vector<std::byte>(kBufferBytes);
  std::vector<std::byte> skipped = std::vector<std::byte>(kBufferBytes);

  Result<void> seek(std::uint64_t offset);
  Result<void> inflate_into(std::span<std::byte> out);
  Result<void> step(std::span<std::byte> out, std::size_t& written);
  Result<void> fetch();
  Result<void> keep_snapshot();
  Result<void> check_end();
};

// Continues from the nearest kept state before `offset`, unless the current state is nearer, and
// inflates up to `offset`.
Result<void> InflateReader::State::seek(std::uint64_t offset) {
  const auto above =
      std::upper_bound(snapshots.begin(), snapshots.end(), offset,
                       [](std::uint64_t value, const Position& p) { return value < p.produced; });
  Position& nearest = *std::prev(above);  // the first is at 0
  if (at.produced > offset || nearest.produced > at.produced) {
    FLATBED_ASSIGN(at.stream, copy_stream(*nearest.stream));
    at.stream->avail_in = 0;
    at.consumed = nearest.consumed;
    at.produced = nearest.produced;
    fetched = nearest.consumed;
    ended = false;
  }
  while (at.produced < offset) {
    const std::uint64_t nbytes = std::min<std::uint64_t>(skipped.size(), offset - at.produced);
    FLATBED_TRY(inflate_into(std::span(skipped).first(nbytes)));
  }
  return {};
}

Result<void> InflateReader::State::inflate_into(std::span<std::byte> out) {
  while (!out.empty()) {
    const std::uint64_t next = (at.produced / interval + 1) * interval;
    std::size_t written = 0;
    FLATBED_TRY(step(out.first(std::min<std::uint64_t>(out.size(), next - at.produced)), written));
    out = out.subspan(written);
    if (at.produced == next && snapshots.back().produced < next) FLATBED_TRY(keep_snapshot());
  }
  return {};
}

// One call of inflate(). Either writes at least one byte, or consumes stored bytes, or fails.
Result<void> InflateReader::State::step(std::span<std::byte> out, std::size_t& written) {
  z_stream& stream = *at.stream;
  if (ended)
    return make_error(ErrorCode::zip_deflate_malformed, "the deflated record is too short: found ",
                      at.produced, " bytes, expected ", record.nbytes);
  FLATBED_TRY(fetch());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(std::min(out.size(), kMaxStep));
  const uInt room = stream.avail_out;
  const uInt waiting = stream.avail_in;
  const int status = ::inflate(&stream, Z_NO_FLUSH);
  written = room - stream.avail_out;
  at.produced += written;
  at.consumed += waiting - stream.avail_in;
  ended = status == Z_STREAM_END;
  if (status == Z_MEM_ERROR) return out_of_memory();
  if (status == Z_BUF_ERROR && waiting == 0)
    return make_error(ErrorCode::zip_deflate_malformed, "the deflated record is cut off: its ",
                      record.stored_nbytes, " stored bytes end before the stream does");
  if (status != Z_OK && status != Z_STREAM_END && status != Z_BUF_ERROR)
    return make_error(ErrorCode::zip_deflate_malformed, "the deflated record is damaged after ",
                      at.produced,
                      " bytes: ", stream.msg == nullptr ? "not a deflate stream" : stream.msg);
  return {};
}

Result<void> InflateReader::State::fetch() {
  if (at.stream->avail_in != 0 || fetched == record.stored_nbytes) return {};
  const std::uint64_t nbytes =
      std::min<std::uint64_t>(input.size(), record.stored_nbytes - fetched);
  FLATBED_TRY(file->read_at(record.stored_offset + fetched, std::span(input).first(nbytes)));
  at.stream->next_in = reinterpret_cast<const Bytef*>(input.data());
  at.stream->avail_in = static_cast<uInt>(nbytes);
  fetched += nbytes;
  return {};
}

// When all places are taken, every second state is dropped and the distance between states doubles.
Result<void> InflateReader::State::keep_snapshot() {
  if (snapshots.size() == kMaxSnapshots) {
    interval *= 2;
    std::erase_if(snapshots, [this](const Position& p) { return p.produced % interval != 0; });
    if (at.produced % interval != 0) return {};
  }
  FLATBED_ASSIGN(Stream copy, copy_stream(*at.stream));
  snapshots.push_back({std::move(copy), at.consumed, at.produced});
  return {};
}

// The stream must end exactly at the record's size and use all stored bytes.
Result<void> InflateReader::State::check_end() {
  while (!ended) {
    std::byte surplus{};
    std::size_t written = 0;
    FLATBED_TRY(step({&surplus, 1}, written));
    if (written != 0) {
      at.produced = record.nbytes + 1;  // makes seek() start again
      return make_error(ErrorCode::zip_deflate_malformed,
                        "the deflated record is too long: expected ", record.nbytes,
                        " bytes, found more");
    }
  }
  if (at.consumed != record.stored_nbytes)
    return make_error(ErrorCode::zip_deflate_malformed,
                      "the deflated record has unused bytes: its stream takes ", at.consumed,
                      " of ", record.stored_nbytes, " stored bytes");
  return {};
}

InflateReader::InflateReader(std::unique_ptr<State> state) : state_(std::move(state)) {}
InflateReader::InflateReader(InflateReader&&) noexcept = default;
InflateReader& InflateReader::operator=(InflateReader&&) noexcept = default;
InflateReader::~InflateReader() = default;

Result<InflateReader> InflateReader::open(const ByteSource& file, const DeflatedRecord& record,
                                          std::uint64_t interval) {
  if (!in_bounds(record.stored_offset, record.stored_nbytes, file.size()))
    return make_error(ErrorCode::zip_out_of_bounds, "a deflated record of ", record.stored_nbytes,
                      " bytes at byte ", record.stored_offset,
                      " extends past the end of the file of ", file.size(), " bytes");
  if (!may_inflate_to(record.stored_nbytes, record.nbytes))
    return make_error(ErrorCode::zip_deflate_malformed, record.stored_nbytes,
                      " deflated bytes cannot inflate to ", record.nbytes);
  auto state = std::make_unique<State>();
  state->file = &file;
  state->record = record;
  state->interval = interval;
  FLATBED_ASSIGN(state->at.stream, new_stream());
  FLATBED_ASSIGN(Stream start, copy_stream(*state->at.stream));
  state->snapshots.push_back({std::move(start), 0, 0});
  return InflateReader(std::move(state));
}

Result<void> InflateReader::read(std::uint64_t offset, std::span<std::byte> out) {
  if (!in_bounds(offset, out.size(), state_->record.nbytes))
    return make_error(ErrorCode::invalid_argument, "read out of range: found ", out.size(),
                      " bytes at ", offset, ", the record has ", state_->record.nbytes);
  if (out.empty() && state_->record.nbytes != 0) return {};
  FLATBED_TRY(state_->seek(offset));
  FLATBED_TRY(state_->inflate_into(out));
  return offset + out.size() == state_->record.nbytes ? state_->check_end() : Result<void>();
}

}  // namespace flatbed::pth
