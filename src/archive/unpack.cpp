#include "archive/unpack.hpp"

#define ZLIB_CONST
#include <zlib.h>

#ifdef FLATBED_LZMA
#include <lzma.h>
#endif

#include <algorithm>
#include <array>
#include <bit>
#include <utility>
#include <vector>

#include "base/bytes.hpp"
#include "base/str_cat.hpp"
#include "base/text_char.hpp"

namespace flatbed::pth {

namespace {

using namespace std::string_view_literals;

constexpr std::size_t kInputBytes = 64 * 1024;
constexpr std::size_t kMaxStep = 1 << 30;  // zlib counts in 32 bits
constexpr int kGzip = MAX_WBITS + 16;

struct PackingRow {
  Packing packing;
  std::string_view name;
  std::string_view magic;
};
// clang-format off
constexpr std::array kPackings{
    PackingRow{Packing::gzip, "gzip", "\x1f\x8b\x08"sv},
    PackingRow{Packing::zlib, "zlib", "\x78"sv},
    PackingRow{Packing::xz, "xz", "\xfd\x37zXZ\0"sv},
    PackingRow{Packing::lzma, "lzma", ""sv},
    PackingRow{Packing::bzip2, "bzip2", "BZh"sv},
    PackingRow{Packing::zstd, "zstd", "\x28\xb5\x2f\xfd"sv},
    PackingRow{Packing::lz4, "lz4", "\x04\x22\x4d\x18"sv},
    PackingRow{Packing::seven_zip, "7z", "7z\xbc\xaf\x27\x1c"sv},
    PackingRow{Packing::rar, "rar", "Rar!\x1a\x07"sv}};
// clang-format on

// The header of RFC 1950 without a dictionary (bit 5 of its second byte). 78 5E is "x^", with which
// a text may begin.
bool is_zlib(std::string_view text) {
  constexpr std::size_t kLook = 64;
  if (text.size() < 2) return false;
  const auto second = static_cast<unsigned char>(text[1]);
  if ((0x7800U + second) % 31 != 0 || (second & 0x20U) != 0) return false;
  return second != '^' || !std::ranges::all_of(text.substr(0, kLook), is_text_char);
}

// LZMA without a container has no magic number:
//   properties: u8 < 225   dictionary: u32   size when unpacked: u64, or -1   0
// The limits are those by which xz and Python recognize it.
bool is_lzma(std::span<const std::byte> head) {
  constexpr std::size_t kHeader = 13;
  if (head.size() <= kHeader || head[0] >= std::byte{225} || head[kHeader] != std::byte{0})
    return false;
  const std::uint32_t dictionary = load_le32(head.data() + 1);
  const std::uint64_t nbytes = load_le64(head.data() + 5);
  if (nbytes == 0 || (nbytes >= 1ULL << 38 && nbytes != UINT64_MAX)) return false;
  if (dictionary == 0) return false;
  // 2^n or 2^n + 2^(n-1), or the largest.
  const std::uint32_t rest = dictionary & (dictionary - 1);
  const bool two_bits = rest != 0 && (rest & (rest - 1)) == 0 &&
                        std::countr_zero(rest) == std::countr_zero(dictionary) + 1;
  return rest == 0 || two_bits || dictionary == UINT32_MAX;
}

// "BZh", the size of its blocks, and the mark of a block or of the end.
bool is_bzip2(std::string_view text) {
  if (text.size() < 10 || text[3] < '1' || text[3] > '9') return false;
  const std::string_view mark = text.substr(4, 6);
  return mark == "1AY&SY" || mark == "\x17rE8P\x90";
}

template <typename... Parts>
Error malformed(const Parts&... parts) {
  return make_error(ErrorCode::unsupported_format, parts...);
}

Error out_of_memory() { return {ErrorCode::resource_exhausted, "out of memory to unpack a file"}; }

}  // namespace

std::string_view name(Packing packing) noexcept {
  return kPackings[static_cast<std::size_t>(packing)].name;
}

std::optional<Packing> find_packing(std::span<const std::byte> head) noexcept {
  const std::string_view text = as_text(head);
  for (const PackingRow& row : kPackings) {
    if (!text.starts_with(row.magic)) continue;
    if (row.packing == Packing::zlib && !is_zlib(text)) continue;
    if (row.packing == Packing::lzma && !is_lzma(head)) continue;
    if (row.packing == Packing::bzip2 && !is_bzip2(text)) continue;
    return row.packing;
  }
  return std::nullopt;
}

struct Unpacker::State {
  explicit State(const ByteSource& source) : file(&source) {}
  State(const State&) = delete;
  State& operator=(const State&) = delete;
  virtual ~State() = default;
  virtual Result<std::size_t> read(std::span<std::byte> out) = 0;

  // The next bytes of the file; empty at its end.
  Result<std::span<const std::byte>> fetch() {
    const auto count =
        static_cast<std::size_t>(std::min<std::uint64_t>(input.size(), file->size() - fetched));
    FLATBED_TRY(file->read_at(fetched, std::span(input).first(count)));
    fetched += count;
    return std::span<const std::byte>(input).first(count);
  }
  [[nodiscard]] std::uint64_t left() const noexcept { return file->size() - fetched; }

  const ByteSource* file;
  std::vector<std::byte> input = std::vector<std::byte>(kInputBytes);
  std::uint64_t fetched = 0;
  std::uint64_t trailing = 0;
  bool ended = false;
};

namespace {

// zlib keeps a pointer from its state back to the z_stream: this object never moves.
struct ZlibState final : Unpacker::State {
  ZlibState(const ByteSource& source, bool as_gzip) : State(source), gzip(as_gzip) {}
  ~ZlibState() override { inflateEnd(&stream); }

  Result<void> open() {
    if (inflateInit2(&stream, gzip ? kGzip : MAX_WBITS) != Z_OK) return out_of_memory();
    return {};
  }

  Result<std::size_t> read(std::span<std::byte> out) override {
    while (!ended) {
      if (stream.avail_in == 0) FLATBED_TRY(refill());
      if (between && !begin_member()) continue;
      stream.next_out = reinterpret_cast<Bytef*>(out.data());
      stream.avail_out = static_cast<uInt>(std::min(out.size(), kMaxStep));
      const uInt room = stream.avail_out, waiting = stream.avail_in;
      const int status = ::inflate(&stream, Z_NO_FLUSH);
      const std::size_t written = room - stream.avail_out;
      between = status == Z_STREAM_END;
      // What was unpacked before an error counts. The next call meets the error again.
      if (written != 0) return written;
      if (status == Z_MEM_ERROR) return out_of_memory();
      if (status == Z_BUF_ERROR && waiting == 0)
        return malformed("the ", gzip ? "gzip" : "zlib", " data is cut off");
      if (status != Z_OK && status != Z_STREAM_END && status != Z_BUF_ERROR)
        return malformed("the ", gzip ? "gzip" : "zlib",
                         " data is damaged: ", stream.msg == nullptr ? "not a stream" : stream.msg);
    }
    return std::size_t{0};
  }

 private:
  Result<void> refill() {
    FLATBED_ASSIGN(const std::span<const std::byte> bytes, fetch());
    stream.next_in = reinterpret_cast<const Bytef*>(bytes.data());
    stream.avail_in = static_cast<uInt>(bytes.size());
    return {};
  }

  // After a member: skips zeros, then begins the next member or ends. False if there is none yet.
  bool begin_member() {
    while (stream.avail_in != 0 && *stream.next_in == 0) {
      ++stream.next_in;
      --stream.avail_in;
    }
    if (stream.avail_in == 0 && left() != 0) return false;
    const bool more = gzip && stream.avail_in != 0 && *stream.next_in == 0x1f;
    if (!more) {
      trailing = stream.avail_in + left();
      ended = true;
      return false;
    }
    inflateReset(&stream);
    between = false;
    return true;
  }

  z_stream stream{};
  bool gzip;
  bool between = false;  // a member has ended
};

#ifdef FLATBED_LZMA
struct LzmaState final : Unpacker::State {
  LzmaState(const ByteSource& source, Packing packing)
      : State(source), xz(packing == Packing::xz) {}
  ~LzmaState() override { lzma_end(&stream); }

  Result<void> open() {
    constexpr std::uint64_t kMaxMemory = 80 << 20;  // xz -9 needs 65 MiB
    const lzma_ret status = xz ? lzma_stream_decoder(&stream, kMaxMemory, LZMA_CONCATENATED)
                               : lzma_alone_decoder(&stream, kMaxMemory);
    if (status != LZMA_OK) return out_of_memory();
    return {};
  }

  Result<std::size_t> read(std::span<std::byte> out) override {
    while (!ended) {
      if (stream.avail_in == 0 && left() != 0) {
        FLATBED_ASSIGN(const std::span<const std::byte> bytes, fetch());
        stream.next_in = reinterpret_cast<const std::uint8_t*>(bytes.data());
        stream.avail_in = bytes.size();
      }
      stream.next_out = reinterpret_cast<std::uint8_t*>(out.data());
      stream.avail_out = out.size();
      const lzma_ret status = lzma_code(&stream, left() == 0 ? LZMA_FINISH : LZMA_RUN);
      const std::size_t written = out.size() - stream.avail_out;
      ended = status == LZMA_STREAM_END;
      if (ended) trailing = stream.avail_in + left();
      if (written != 0) return written;
      if (status == LZMA_MEM_ERROR) return out_of_memory();
      if (status == LZMA_MEMLIMIT_ERROR)
        return make_error(ErrorCode::resource_exhausted, "unpacking needs more than 80 MiB");
      if (status == LZMA_BUF_ERROR)
        return malformed("the ", xz ? "xz" : "lzma", " data is cut off");
      if (status != LZMA_OK && status != LZMA_STREAM_END)
        return malformed("the ", xz ? "xz" : "lzma", " data is damaged");
    }
    return std::size_t{0};
  }

 private:
  lzma_stream stream = LZMA_STREAM_INIT;
  bool xz;
};
#endif

}  // namespace

Unpacker::Unpacker(std::unique_ptr<State> state) : state_(std::move(state)) {}
Unpacker::Unpacker(Unpacker&&) noexcept = default;
Unpacker& Unpacker::operator=(Unpacker&&) noexcept = default;
Unpacker::~Unpacker() = default;

Result<Unpacker> Unpacker::open(const ByteSource& file, Packing packing) {
  if (packing == Packing::gzip || packing == Packing::zlib) {
    auto state = std::make_unique<ZlibState>(file, packing == Packing::gzip);
    FLATBED_TRY(state->open());
    return Unpacker(std::move(state));
  }
#ifdef FLATBED_LZMA
  if (packing == Packing::xz || packing == Packing::lzma) {
    auto state = std::make_unique<LzmaState>(file, packing);
    FLATBED_TRY(state->open());
    return Unpacker(std::move(state));
  }
#endif
  if (packing == Packing::xz || packing == Packing::lzma)
    return malformed("this build cannot unpack ", name(packing), " files");
  return malformed(name(packing), " files are not unpacked");
}

Result<std::size_t> Unpacker::read(std::span<std::byte> out) { return state_->read(out); }

std::uint64_t Unpacker::trailing_nbytes() const noexcept { return state_->trailing; }

}  // namespace flatbed::pth
