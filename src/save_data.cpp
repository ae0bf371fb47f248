#include "save_data.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>
#include <variant>
#include <vector>

#include "checkpoint_state.hpp"
#include "io/digest.hpp"
#include "pieces.hpp"

namespace flatbed {

namespace {

using safetensors::kChunkBytes;

constexpr std::size_t kPanelBytes = 48 << 20;  // what gathering from a strided tensor takes at once
constexpr unsigned kMaxSaveThreads = 16;       // so that pieces and panels stay within 64 MiB

// Items are worked through in three groups, by how their bytes are had best.
enum Way : std::uint8_t { plain, strided, deflated };
constexpr std::size_t kWays = 3;

const TensorInfo* source_tensor(const SaveItem& item) {
  const auto* ref = std::get_if<TensorRef>(&item.from);
  return ref == nullptr ? nullptr : &ref->checkpoint.tensors()[ref->tensor];
}

Way way_of(const SaveItem& item) {
  const TensorInfo* tensor = source_tensor(item);
  if (tensor != nullptr && tensor->stored == Stored::strided) return Way::strided;
  if (tensor != nullptr && tensor->stored == Stored::deflated) return Way::deflated;
  return Way::plain;
}

class DataWriter {
 public:
  DataWriter(const SavePlan& plan, const SaveOptions& options, safetensors::NewHeader& header,
             AtomicFile& file)
      : plan_(plan), options_(options), header_(header), file_(file) {}

  Result<void> run();

 private:
  [[nodiscard]] std::array<std::vector<Run>, kWays> collect_runs() const;
  Result<void> write_piece(const PieceQueue& queue, const Piece& piece,
                           std::span<std::byte> buffer);
  Result<void> fill(const SaveItem& item, std::uint64_t offset, std::span<std::byte> out) const;
  Result<void> hash(std::uint32_t item, std::uint64_t chunk, std::span<const std::byte> bytes);
  Result<void> check_sources() const;

  const SavePlan& plan_;
  const SaveOptions& options_;
  safetensors::NewHeader& header_;
  AtomicFile& file_;
};

Result<void> DataWriter::run() {
  const unsigned threads = std::clamp(options_.threads, 1U, kMaxSaveThreads);
  struct Group {
    unsigned threads;
    std::size_t piece_nbytes;
  };
  // A strided tensor is gathered in longer runs the larger the range is, and by several threads. A
  // deflated record is read from front to back by one.
  const std::array<Group, kWays> groups{
      Group{threads, kPieceBytes},
      Group{threads, kPanelBytes / threads / kChunkBytes * kChunkBytes},
      Group{1, kPanelBytes},
  };
  const std::uint64_t data_nbytes = header_.file_nbytes - header_.bytes.size();
  PieceRunner runner({options_.progress, options_.cancel, data_nbytes});
  std::array<std::vector<Run>, kWays> runs = collect_runs();
  for (std::size_t way = 0; way < kWays; ++way) {
    PieceQueue queue(std::move(runs[way]), groups[way].piece_nbytes);
    FLATBED_TRY(runner.run(queue, groups[way].threads,
                           [&](const Piece& piece, std::span<std::byte> buffer) {
                             return write_piece(queue, piece, buffer);
                           }));
  }
  return check_sources();
}

std::array<std::vector<Run>, kWays> DataWriter::collect_runs() const {
  std::array<std::vector<Run>, kWays> runs;
  for (std::size_t i = 0; i < header_.file_order.size(); ++i) {
    const std::uint32_t item = header_.file_order[i];
    const std::uint64_t begin = header_.offsets[item];
    const bool last = i + 1 == header_.file_order.size();
    const std::uint64_t end =
        last ? header_.file_nbytes : header_.offsets[header_.file_order[i + 1]];
    runs[way_of(plan_.items[item])].push_back({item, 0, begin, end - begin});
  }
  return runs;
}

Result<void> DataWriter::write_piece(const PieceQueue& queue, const Piece& piece,
                                     std::span<std::byte> buffer) {
  FLATBED_TRY(for_each_part(queue, piece, buffer,
                            [&](const Run& run, std::uint64_t skip, std::span<std::byte> part) {
                              return fill(plan_.items[run.tensor], skip, part);
                            }));
  FLATBED_TRY(
      for_each_chunk(queue, piece, buffer,
                     [&](const Run& run, std::uint64_t chunk, std::span<const std::byte> bytes) {
                       return hash(run.tensor, chunk, bytes);
                     }));
  FLATBED_TRY(file_.write_at(piece.offset, buffer.first(piece.nbytes)));
  // At once: the device works while the next piece is read, and commit() has little left to wait
  // for.
  file_.start_writeback(piece.offset, piece.nbytes);
  return {};
}

Result<void> DataWriter::fill(const SaveItem& item, std::uint64_t offset,
                              std::span<std::byte> out) const {
  if (const auto* memory = std::get_if<std::span<const std::byte>>(&item.from)) {
    std::memcpy(out.data(), memory->data() + offset, out.size());
    return {};
  }
  const auto& ref = *std::get_if<TensorRef>(&item.from);
  // Not verified here: hash() compares the digest that is needed anyway.
  return ref.checkpoint.read(*source_tensor(item), offset, out, Verify::no);
}

Result<void> DataWriter::hash(std::uint32_t item, std::uint64_t chunk,
                              std::span<const std::byte> bytes) {
  const TensorInfo* tensor = source_tensor(plan_.items[item]);
  const bool sealed_source = tensor != nullptr && !tensor->digests.empty();
  if (!options_.seal && !sealed_source) return {};
  const std::uint64_t digest = xxh3(bytes);
  if (sealed_source) {
    const Checkpoint& source = std::get_if<TensorRef>(&plan_.items[item].from)->checkpoint;
    Result<void> same = CheckpointAccess::state(source).check_chunk(*tensor, chunk, digest);
    if (!same) {
      return with_context(source.files()[tensor->where.file].path.native(),
                          std::move(same).error());
    }
  }
  if (options_.seal) put_digest(header_, item, chunk, digest);
  return {};
}

// A source that another program wrote to meanwhile may have been read half old, half new.
Result<void> DataWriter::check_sources() const {
  std::vector<const File*> files;
  for (const SaveItem& item : plan_.items) {
    const auto* ref = std::get_if<TensorRef>(&item.from);
    if (ref == nullptr) continue;
    files.push_back(&CheckpointAccess::file(ref->checkpoint, source_tensor(item)->where.file));
  }
  std::ranges::sort(files);
  files.erase(std::unique(files.begin(), files.end()), files.end());
  for (const File* file : files) FLATBED_TRY(file->check_unchanged());
  return {};
}

}  // namespace

Result<void> write_data(const SavePlan& plan, const SaveOptions& options,
                        safetensors::NewHeader& header, AtomicFile& file) {
  return DataWriter(plan, options, header, file).run();
}

}  // namespace flatbed
