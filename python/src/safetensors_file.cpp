#include "safetensors_file.hpp"

#include <algorithm>
#include <new>
#include <string>
#include <thread>

#include "flatbed/device.hpp"
#include "flatbed/verify.hpp"
#include "pieces.hpp"

namespace flatbed::python {

namespace {

constexpr std::uint64_t kChunkBytes = 262'144;
constexpr std::uint64_t kPieceBytes = 4 * kChunkBytes;  // hashed while it is in the cache
constexpr std::uint64_t kLargeBytes = 4 << 20;          // from here on memory takes huge pages

// Memory of the host's Device, which frees it.
struct LargeMemory {
  std::unique_ptr<Device> device;
  DeviceBuffer buffer;
};

struct AlignedDelete {
  void operator()(std::byte* memory) const noexcept {
    ::operator delete(memory, std::align_val_t(64));
  }
};

Result<Memory> allocate(std::uint64_t nbytes) {
  const auto size = static_cast<std::size_t>(nbytes);
  if (nbytes >= kLargeBytes) {
    std::unique_ptr<Device> device = host_device();
    Result<DeviceBuffer> buffer = DeviceBuffer::allocate(*device, nbytes);
    if (!buffer) return std::move(buffer).error();
    const auto owner =
        std::make_shared<LargeMemory>(LargeMemory{std::move(device), *std::move(buffer)});
    return Memory{owner, {owner->buffer.data(), size}};
  }
  auto* const memory = static_cast<std::byte*>(
      ::operator new(std::max<std::size_t>(size, 1), std::align_val_t(64), std::nothrow));
  if (memory == nullptr) return Error{ErrorCode::resource_exhausted, "out of memory"};
  return Memory{std::shared_ptr<std::byte>(memory, AlignedDelete()), {memory, size}};
}

void cut(std::uint32_t tensor, std::uint64_t offset, std::span<std::byte> out,
         std::vector<FilePart>& parts) {
  while (!out.empty()) {
    // The first part ends where a chunk does, so that no chunk is read twice.
    const std::uint64_t most = kPieceBytes - offset % kChunkBytes;
    const auto nbytes = static_cast<std::size_t>(std::min<std::uint64_t>(most, out.size()));
    parts.push_back({tensor, offset, out.first(nbytes)});
    out = out.subspan(nbytes);
    offset += nbytes;
  }
}

bool has_digests(const Checkpoint& checkpoint) {
  return checkpoint.seal() == SealState::sealed || checkpoint.seal() == SealState::annotated;
}

OpenOptions open_options(Verify verify) {
  return {verify == Verify::yes ? CheckSeal::if_sealed : CheckSeal::off};
}

Result<void> check_format(const Checkpoint& checkpoint, std::string_view path) {
  if (checkpoint.layout() == Layout::safetensors && checkpoint.files().size() == 1 &&
      checkpoint.files()[0].path == path) {
    return {};
  }
  return Error{ErrorCode::unsupported_format,
               std::string(path) + ": expected a safetensors file, found another kind of model"};
}

}  // namespace

SafetensorsFile::SafetensorsFile(Checkpoint checkpoint, Verify verify, std::shared_ptr<Crew> crew)
    : checkpoint_(std::move(checkpoint)),
      views_(checkpoint_),
      verify_(verify),
      crew_(std::move(crew)) {}

Result<SafetensorsFile> SafetensorsFile::open(const std::filesystem::path& path, Verify verify,
                                              VerifiedFiles& known) {
  const std::optional<FileIdentity> before = FileIdentity::of(path);
  if (before && before->is_folder)
    return Error{ErrorCode::not_a_regular_file, path.native() + ": is a folder"};
  Result<Checkpoint> opened = Checkpoint::open(path, open_options(verify));
  if (!opened) return std::move(opened).error();
  if (Result<void> fits = check_format(*opened, path.native()); !fits)
    return std::move(fits).error();
  SafetensorsFile file(*std::move(opened), verify, known.crew());
  const std::uint64_t chunks = file.count_chunks();
  if (chunks == 0) return file;
  // Whether the path still leads to what was opened, and a later write would show.
  const bool shared = before && before == FileIdentity::of(path) && before->is_settled();
  file.verified_ = shared ? known.of(*before, file.checkpoint_.files()[0].content, chunks)
                          : std::make_shared<VerifiedChunks>(chunks);
  return file;
}

Result<SafetensorsFile> SafetensorsFile::open_memory(std::span<const std::byte> bytes,
                                                     Verify verify) {
  constexpr std::string_view kLabel = "bytes";
  Result<Checkpoint> opened =
      Checkpoint::open_memory(bytes, std::string(kLabel), open_options(verify));
  if (!opened) return std::move(opened).error();
  if (Result<void> fits = check_format(*opened, kLabel); !fits) return std::move(fits).error();
  return SafetensorsFile(*std::move(opened), verify, std::make_shared<Crew>());
}

std::uint64_t SafetensorsFile::count_chunks() {
  if (verify_ == Verify::no || !has_digests(checkpoint_)) return 0;
  first_chunks_.reserve(checkpoint_.tensors().size() + 1);
  std::uint64_t chunks = 0;
  for (const TensorInfo& tensor : checkpoint_.tensors()) {
    first_chunks_.push_back(chunks);
    chunks += tensor.digests.size();
  }
  first_chunks_.push_back(chunks);
  return chunks;
}

std::optional<std::uint32_t> SafetensorsFile::find(std::string_view name) const {
  const TensorInfo* const found = checkpoint_.find(name);
  if (found == nullptr || found->name != name) return std::nullopt;
  return found->index;
}

Result<void> SafetensorsFile::check(std::uint32_t tensor, std::uint64_t begin, std::uint64_t end,
                                    const ProgressCallback& progress) const {
  if (verified_ == nullptr || begin >= end) return {};
  const std::uint64_t first = begin / kChunkBytes;
  const std::uint64_t last = (end - 1) / kChunkBytes;
  std::vector<std::uint64_t> pieces;  // their first chunks
  for (std::uint64_t chunk = first; chunk <= last;) {
    if (verified_->has(first_chunks_[tensor] + chunk)) {
      ++chunk;
      continue;
    }
    pieces.push_back(chunk);
    chunk += kPieceBytes / kChunkBytes;
  }
  if (pieces.empty()) return {};
  const std::uint64_t nbytes = checkpoint_.tensors()[tensor].nbytes;
  const std::uint64_t scratch_nbytes = std::min(kPieceBytes, nbytes - pieces[0] * kChunkBytes);
  return crew_->for_each_piece(
      {pieces.size(), std::min(nbytes, pieces.size() * kPieceBytes),
       static_cast<std::size_t>(scratch_nbytes), progress},
      [&](std::size_t piece, std::span<std::byte> scratch) {
        const std::uint64_t chunk = pieces[piece];
        return check_chunks(tensor, chunk, std::min(chunk + kPieceBytes / kChunkBytes, last + 1),
                            scratch);
      });
}

Result<void> SafetensorsFile::check_chunks(std::uint32_t tensor, std::uint64_t first,
                                           std::uint64_t end, std::span<std::byte> scratch) const {
  const TensorInfo& info = checkpoint_.tensors()[tensor];
  const std::uint64_t offset = first * kChunkBytes;
  const std::uint64_t nbytes = std::min(end * kChunkBytes, info.nbytes) - offset;
  Result<void> read =
      checkpoint_.read(info, offset, scratch.first(static_cast<std::size_t>(nbytes)));
  if (!read) return read;
  for (std::uint64_t chunk = first; chunk < end; ++chunk)
    verified_->add(first_chunks_[tensor] + chunk);
  return {};
}

Result<void> SafetensorsFile::check_all(const ProgressCallback& progress) const {
  if (verified_ == nullptr) return {};
  const std::span<const TensorInfo> tensors = checkpoint_.tensors();
  if (verified_->any()) {
    for (const TensorInfo& tensor : tensors) {
      if (Result<void> done = check(tensor.index, 0, tensor.nbytes, progress); !done) return done;
    }
    return {};
  }
  // One pass that reads neighbours together.
  VerifyOptions options;
  options.threads = std::clamp(std::thread::hardware_concurrency(), 1U, 8U);
  options.progress = progress;
  Result<VerifyReport> report = verify(checkpoint_, options);
  if (!report) return std::move(report).error();
  if (report->damaged.empty()) {
    verified_->add_all();
    return {};
  }
  return explain(report->damaged[0].tensor, report->damaged[0].begin);
}

// The error of a chunk that did not match.
Result<void> SafetensorsFile::explain(std::uint32_t tensor, std::uint64_t begin) const {
  const TensorInfo& info = checkpoint_.tensors()[tensor];
  std::vector<std::byte> chunk(
      static_cast<std::size_t>(std::min(kChunkBytes, info.nbytes - begin)));
  Result<void> read = checkpoint_.read(info, begin, chunk);
  if (!read) return read;
  return Error{ErrorCode::file_changed, "tensor '" + std::string(info.name) +
                                            "': a chunk did not match its digest and now does"};
}

Result<Memory> SafetensorsFile::view(std::uint32_t tensor) const {
  Result<PrivateView> view = views_.view(checkpoint_.tensors()[tensor], verify_);
  if (!view) return std::move(view).error();
  const std::span<std::byte> bytes = view->bytes();
  return Memory{std::make_shared<PrivateView>(*std::move(view)), bytes};
}

Result<void> SafetensorsFile::read_parts(const std::vector<FilePart>& parts,
                                         const ProgressCallback& progress) const {
  std::uint64_t nbytes = 0;
  for (const FilePart& part : parts) nbytes += part.out.size();
  return crew_->for_each_piece(
      {parts.size(), nbytes, 0, progress}, [&](std::size_t piece, std::span<std::byte>) {
        const FilePart& part = parts[piece];
        return checkpoint_.read(checkpoint_.tensors()[part.tensor], part.offset, part.out, verify_);
      });
}

Result<Memory> SafetensorsFile::read(std::uint32_t tensor, std::uint64_t begin,
                                     std::uint64_t nbytes, const ProgressCallback& progress) const {
  Result<Memory> memory = allocate(nbytes);
  if (!memory) return memory;
  std::vector<FilePart> parts;
  cut(tensor, begin, memory->bytes, parts);
  if (Result<void> done = read_parts(parts, progress); !done) return std::move(done).error();
  return memory;
}

Result<void> SafetensorsFile::read_into(std::span<const std::span<std::byte>> outputs,
                                        const ProgressCallback& progress) const {
  std::vector<FilePart> parts;
  for (std::uint32_t i = 0; i < outputs.size(); ++i) cut(i, 0, outputs[i], parts);
  return read_parts(parts, progress);
}

Result<std::vector<Memory>> SafetensorsFile::read_all(const ProgressCallback& progress) const {
  std::vector<Memory> memories;
  std::vector<std::span<std::byte>> outputs;
  memories.reserve(checkpoint_.tensors().size());
  outputs.reserve(checkpoint_.tensors().size());
  for (const TensorInfo& tensor : checkpoint_.tensors()) {
    Result<Memory> memory = allocate(tensor.nbytes);
    if (!memory) return std::move(memory).error();
    outputs.push_back(memory->bytes);
    memories.push_back(*std::move(memory));
  }
  if (Result<void> done = read_into(outputs, progress); !done) return std::move(done).error();
  return memories;
}

}  // namespace flatbed::python
