#include "torch/torch_reader.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

#include "io/large_allocator.hpp"
#include "torch/gather.hpp"

namespace flatbed::pth {

namespace {

constexpr std::size_t kWindow = 256 * 1024;
// Of a deflated record that is read again, the inflater asks for little at a time.
constexpr std::size_t kRereadAhead = 1 << 20;
// A small read this close after the last one counts as sequential.
constexpr std::uint64_t kNear = 4096;

// Serves consecutive small reads from one larger read ahead.
class ForwardWindow {
 public:
  ForwardWindow(const ReadStorage& read, std::uint64_t storage_nbytes)
      : read_(read), nbytes_(storage_nbytes) {}

  Result<void> read(std::uint64_t offset, std::span<std::byte> out) {
    const bool follows = offset >= end_ && offset - end_ <= kNear;
    end_ = offset + out.size();
    if (holds(offset, out.size())) {
      std::memcpy(out.data(), window_.data() + (offset - begin_), out.size());
      return {};
    }
    if (!follows || out.size() >= kWindow / 8) return read_(offset, out);
    window_.resize(kWindow);
    begin_ = offset;
    size_ = std::min<std::uint64_t>(kWindow, nbytes_ - offset);
    FLATBED_TRY(read_(begin_, std::span(window_).first(size_)));
    std::memcpy(out.data(), window_.data(), out.size());
    return {};
  }

 private:
  [[nodiscard]] bool holds(std::uint64_t offset, std::uint64_t nbytes) const {
    return offset >= begin_ && nbytes <= size_ && offset - begin_ <= size_ - nbytes;
  }

  const ReadStorage& read_;
  std::uint64_t nbytes_;
  std::uint64_t end_ = 0;  // of the last read
  std::uint64_t begin_ = 0;
  std::uint64_t size_ = 0;
  ByteBuffer window_;
};

void swap_units(std::span<std::byte> bytes, std::uint32_t unit) {
  for (std::size_t at = 0; at < bytes.size(); at += unit) {
    std::reverse(bytes.begin() + static_cast<std::ptrdiff_t>(at),
                 bytes.begin() + static_cast<std::ptrdiff_t>(at + unit));
  }
}

// Size in bytes of one real number: the element itself, or each of its two parts.
std::size_t component_nbytes(Dtype dtype) { return dtype == Dtype::c64 ? 4 : bits(dtype) / 8; }

bool is_integer(Dtype dtype) {
  switch (dtype) {
    case Dtype::u8:
    case Dtype::i8:
    case Dtype::i16:
    case Dtype::u16:
    case Dtype::i32:
    case Dtype::u32:
    case Dtype::i64:
    case Dtype::u64:
      return true;
    default:
      return false;
  }
}

// Without a negative zero, whose bits are those of the only NaN.
bool is_fnuz(Dtype dtype) { return dtype == Dtype::f8_e4m3fnuz || dtype == Dtype::f8_e5m2fnuz; }

// In two's complement: inverted, plus one.
void negate_integer(std::span<std::byte> number) {
  bool carry = true;
  for (std::byte& byte : number) {
    byte = ~byte;
    if (!carry) continue;
    byte = static_cast<std::byte>(std::to_integer<unsigned>(byte) + 1U);
    carry = byte == std::byte{0};
  }
}

void negate(Dtype dtype, std::span<std::byte> number) {
  if (is_integer(dtype)) return negate_integer(number);
  std::byte& top = number.back();
  if (is_fnuz(dtype) && (top & std::byte{0x7F}) == std::byte{0}) return;
  top ^= std::byte{0x80};
}

// Negates what torch leaves to the reader: every number, imaginary parts, or both.
void apply_signs(const TorchTensor& tensor, std::span<std::byte> bytes) {
  const std::size_t component = component_nbytes(tensor.dtype);
  std::size_t number = 0;
  for (std::size_t at = 0; at + component <= bytes.size(); at += component, ++number) {
    const bool imaginary = number % 2 == 1;
    if (tensor.negate != (tensor.conjugate && imaginary))
      negate(tensor.dtype, bytes.subspan(at, component));
  }
}

}  // namespace

Result<void> TorchReader::read(const TorchTensor& tensor, std::uint64_t offset,
                               std::span<std::byte> out, ReadsOfSource reads) {
  Call call{reads, {}};
  FLATBED_TRY(read_bytes(tensor, offset, out, call));
  if (!call.again || !tensor.contiguous) return {};
  call.again->reread_to = tensor.offset * tensor.element_nbytes + offset + out.size();
  const std::lock_guard lock(mutex_);
  keep_inflater(std::move(*call.again));
  return {};
}

Result<void> TorchReader::read_bytes(const TorchTensor& tensor, std::uint64_t offset,
                                     std::span<std::byte> out, Call& call) {
  const std::uint32_t element = tensor.element_nbytes;
  // Reads whole elements. A range that cuts an element takes its part from a copy.
  while (!out.empty()) {
    const std::uint64_t first = offset / element;
    const std::size_t skip = offset % element;
    std::size_t taken = out.size() - out.size() % element;
    if (skip == 0 && taken > 0) {
      FLATBED_TRY(read_elements(tensor, first, out.first(taken), call));
    } else {
      std::byte one[16];
      taken = std::min<std::size_t>(out.size(), element - skip);
      FLATBED_TRY(read_elements(tensor, first, {one, element}, call));
      std::memcpy(out.data(), one + skip, taken);
    }
    offset += taken;
    out = out.subspan(taken);
  }
  return {};
}

Result<void> TorchReader::read_elements(const TorchTensor& tensor, std::uint64_t first,
                                        std::span<std::byte> out, Call& call) {
  const TorchStorage& storage = torch_.storages[tensor.storage];
  const ReadStorage from_storage = [&](std::uint64_t offset, std::span<std::byte> to) {
    return read_storage({tensor.storage, offset}, to, call);
  };
  if (tensor.contiguous) {
    FLATBED_TRY(from_storage((tensor.offset + first) * tensor.element_nbytes, out));
  } else {
    ForwardWindow window(from_storage, storage.nbytes);
    const ReadStorage windowed = [&](std::uint64_t offset, std::span<std::byte> to) {
      return window.read(offset, to);
    };
    const std::span<const std::uint64_t> dims =
        std::span(torch_.dims).subspan(tensor.dims, tensor.rank * 2);
    const StridedView view{dims.first(tensor.rank), dims.subspan(tensor.rank), tensor.offset,
                           tensor.element_nbytes};
    FLATBED_TRY(gather(view, first, out, windowed));
  }
  if (storage.swap_unit > 1) swap_units(out, storage.swap_unit);
  if (tensor.conjugate || tensor.negate) apply_signs(tensor, out);
  return {};
}

Result<void> TorchReader::read_storage(const StorageRange& range, std::span<std::byte> out,
                                       Call& call) {
  const TorchStorage& storage = torch_.storages[range.storage];
  if (storage.held != kNotHeld) {
    std::memcpy(out.data(), torch_.held[storage.held].data() + storage.stored_offset + range.offset,
                out.size());
    return {};
  }
  const bool again = call.reads == ReadsOfSource::again;
  if (storage.deflated) return again ? inflate_again(range, out, call) : inflate(range, out);
  const std::uint64_t at = storage.stored_offset + range.offset;
  return again ? file_.reread_at(at, out) : file_.read_at(at, out);
}

// An inflater that fails is dropped: its states may be those of damaged bytes.
Result<void> TorchReader::inflate(const StorageRange& range, std::span<std::byte> out) {
  const std::lock_guard lock(mutex_);
  std::optional<Inflater> inflater = take_inflater(range.storage);
  // One that reads again would pass every copy kept on the way.
  if (!inflater || inflater->again) {
    FLATBED_ASSIGN(inflater, new_inflater(range.storage, ReadsOfSource::first));
  }
  FLATBED_TRY(inflater->reader.read(range.offset, out));
  keep_inflater(std::move(*inflater));
  return {};
}

// The call owns the inflater, and keeps it between the runs of a strided tensor.
Result<void> TorchReader::inflate_again(const StorageRange& range, std::span<std::byte> out,
                                        Call& call) {
  if (!call.again) {
    {
      const std::lock_guard lock(mutex_);
      call.again = take_inflater(range.storage);
    }
    const bool continues = call.again && call.again->again && call.again->reread_to == range.offset;
    if (!continues) {
      FLATBED_ASSIGN(call.again, new_inflater(range.storage, ReadsOfSource::again));
    }
  }
  return call.again->reader.read(range.offset, out);
}

Result<TorchReader::Inflater> TorchReader::new_inflater(std::uint32_t number,
                                                        ReadsOfSource reads) const {
  const TorchStorage& storage = torch_.storages[number];
  std::unique_ptr<RereadSource> again;
  if (reads == ReadsOfSource::again) {
    again = std::make_unique<RereadSource>(
        file_, RereadAhead{kRereadAhead, storage.stored_offset + storage.stored_nbytes});
  }
  const ByteSource& from = again ? static_cast<const ByteSource&>(*again) : file_;
  FLATBED_ASSIGN(
      InflateReader reader,
      InflateReader::open(from, {storage.stored_offset, storage.stored_nbytes, storage.nbytes}));
  return Inflater{number, std::move(again), 0, std::move(reader)};
}

std::optional<TorchReader::Inflater> TorchReader::take_inflater(std::uint32_t storage) {
  const auto found =
      std::find_if(inflaters_.begin(), inflaters_.end(),
                   [storage](const Inflater& inflater) { return inflater.storage == storage; });
  if (found == inflaters_.end()) return std::nullopt;
  std::optional<Inflater> taken = std::move(*found);
  inflaters_.erase(found);
  return taken;
}

void TorchReader::keep_inflater(Inflater inflater) {
  static_cast<void>(take_inflater(inflater.storage));  // another thread may have kept one meanwhile
  if (inflaters_.size() == kMaxInflaters) inflaters_.pop_back();
  inflaters_.insert(inflaters_.begin(), std::move(inflater));
}

}  // namespace flatbed::pth
