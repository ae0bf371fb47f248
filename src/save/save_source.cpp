#include "save/save_source.hpp"

#include <algorithm>
#include <cstring>
#include <map>
#include <optional>
#include <utility>
#include <variant>

#include "base/checked.hpp"
#include "base/str_cat.hpp"
#include "checkpoint/checkpoint_access.hpp"
#include "io/far_source.hpp"

namespace flatbed {

namespace {

using safetensors::kChunkBytes;

constexpr std::size_t kPanelBytes = 48 << 20;  // what gathering from a strided tensor takes at once
constexpr std::size_t kComputedPieceBytes = 8 << 20;
constexpr unsigned kComputedThreads = 2;

// Of a source that waits for a network: few large pieces, several at once, 32 MiB in all.
constexpr std::size_t kFarPieceBytes = 8 << 20;
constexpr unsigned kFarThreads = 4;

enum Way : std::uint8_t { plain, far, strided, strided_computed, deflated };

const TensorInfo* source_tensor(const SaveItem& item) {
  const auto* ref = std::get_if<TensorRef>(&item.from);
  return ref == nullptr ? nullptr : &ref->checkpoint.tensors()[ref->tensor];
}

Result<std::uint64_t> source_nbytes(const SaveItem& item) {
  const auto* memory = std::get_if<std::span<const std::byte>>(&item.from);
  if (memory != nullptr) return memory->size();
  const auto& ref = *std::get_if<TensorRef>(&item.from);
  if (ref.tensor >= ref.checkpoint.tensors().size()) {
    return make_error(ErrorCode::invalid_argument, "tensor ", quoted(item.name),
                      ": comes from tensor ", ref.tensor, " of a checkpoint that has ",
                      ref.checkpoint.tensors().size());
  }
  return ref.checkpoint.tensors()[ref.tensor].nbytes;
}

// The size that dtype and shape require, if it is in whole bytes and fits 64 bits. Multiplied in
// the order in which readers do it, because for some of them [2^40, 2^40, 0] overflows.
std::optional<std::uint64_t> shape_nbytes(const SaveItem& item) {
  std::uint64_t elements = 1;
  for (const std::uint64_t dimension : item.shape) {
    const std::optional<std::uint64_t> product = checked_mul(elements, dimension);
    if (!product) return std::nullopt;
    elements = *product;
  }
  const std::optional<std::uint64_t> nbits = checked_mul(elements, bits(item.dtype));
  if (!nbits || *nbits % 8 != 0) return std::nullopt;
  return *nbits / 8;
}

}  // namespace

Result<std::uint64_t> item_nbytes(const SaveItem& item) {
  FLATBED_ASSIGN(const std::uint64_t nbytes, source_nbytes(item));
  const std::optional<std::uint64_t> wanted = shape_nbytes(item);
  if (wanted == nbytes) return nbytes;
  return make_error(ErrorCode::shape_mismatch, "tensor ", quoted(item.name), ": wrong size: found ",
                    nbytes, " bytes, ", name(item.dtype), " ",
                    shape_text(item.shape.data(), item.shape.size()), " needs ",
                    wanted ? str_cat(*wanted) : "whole bytes below 2^61");
}

bool is_computed(const SaveItem& item) {
  const TensorInfo* tensor = source_tensor(item);
  return tensor != nullptr && tensor->stored == Stored::computed;
}

Result<void> read_item(const SaveItem& item, std::uint64_t offset, std::span<std::byte> out,
                       const Reading& reading) {
  if (const auto* memory = std::get_if<std::span<const std::byte>>(&item.from)) {
    if (!out.empty()) std::memcpy(out.data(), memory->data() + offset, out.size());
    return {};
  }
  const auto& ref = *std::get_if<TensorRef>(&item.from);
  const TensorInfo& tensor = *source_tensor(item);
  const bool reread = CheckpointAccess::source(ref.checkpoint, tensor.where.file).max_rereads() > 0;
  const Verify verify = is_computed(item) || reread ? reading.verify : Verify::no;
  return CheckpointAccess::read(ref.checkpoint, tensor, {offset, out},
                                {verify, reading.tally, reading.check_records});
}

const ByteSource* source_of(const SaveItem& item) {
  const TensorInfo* tensor = source_tensor(item);
  if (tensor == nullptr || tensor->stored == Stored::computed) return nullptr;
  return &CheckpointAccess::source(std::get_if<TensorRef>(&item.from)->checkpoint,
                                   tensor->where.file);
}

Result<void> reread_item(const SaveItem& item, std::uint64_t offset, std::span<std::byte> out) {
  return CheckpointAccess::reread(std::get_if<TensorRef>(&item.from)->checkpoint,
                                  *source_tensor(item), {offset, out});
}

CastReport report_casts(const SavePlan& plan, std::span<const std::uint32_t> written,
                        const CastSums& sums) {
  std::uint64_t tensors = 0;
  for (const std::uint32_t item : written) {
    const TensorInfo* tensor = source_tensor(plan.items[item]);
    tensors += tensor != nullptr && tensor->cast ? 1 : 0;
  }
  return sums.report(tensors, [&](std::uint32_t item) {
    return CastOverflow{plan.items[item].name, plan.items[item].dtype, {}};
  });
}

bool is_verified(const SaveItem& item, const SaveOptions& options) {
  const TensorInfo* tensor = source_tensor(item);
  return options.verify == Verify::yes && tensor != nullptr && !tensor->digests.empty();
}

Result<void> check_item_chunk(const SaveItem& item, std::uint64_t chunk, std::uint64_t digest) {
  const TensorInfo& tensor = *source_tensor(item);
  const Checkpoint& source = std::get_if<TensorRef>(&item.from)->checkpoint;
  Result<void> same = CheckpointAccess::check_chunk(source, tensor, chunk, digest);
  if (same) return {};
  return with_context(source.files()[tensor.where.file].path.native(), std::move(same).error());
}

Result<void> check_sources(const SavePlan& plan) {
  std::vector<const ByteSource*> files;
  for (const SaveItem& item : plan.items) {
    const auto* ref = std::get_if<TensorRef>(&item.from);
    if (ref == nullptr) continue;
    const TensorInfo& tensor = *source_tensor(item);
    files.push_back(&CheckpointAccess::source(ref->checkpoint, tensor.where.file));
    if (tensor.stored != Stored::computed) continue;
    for (const SourceTensor& stored : CheckpointAccess::sources(ref->checkpoint, tensor))
      files.push_back(&stored.place.container.source());
  }
  std::ranges::sort(files);
  files.erase(std::unique(files.begin(), files.end()), files.end());
  for (const ByteSource* file : files) FLATBED_TRY(file->check_unchanged());
  return {};
}

Result<std::optional<FilePermissions>> source_permissions(const SavePlan& plan) {
  std::map<const void*, const Checkpoint*> sources;
  for (const Checkpoint& source : plan.sources)
    sources.emplace(CheckpointAccess::identity(source), &source);
  for (const SaveItem& item : plan.items) {
    if (const auto* ref = std::get_if<TensorRef>(&item.from))
      sources.emplace(CheckpointAccess::identity(ref->checkpoint), &ref->checkpoint);
  }
  std::optional<FilePermissions> common;
  for (const auto& [identity, source] : sources) {
    for (std::uint32_t i = 0; i < source->files().size(); ++i) {
      FLATBED_ASSIGN(const std::optional<FilePermissions> of_file,
                     permissions_of(CheckpointAccess::source(*source, i)));
      if (of_file) narrow(common, *of_file);
    }
  }
  return common;
}

std::size_t way_of(const SaveItem& item) {
  const TensorInfo* tensor = source_tensor(item);
  if (tensor == nullptr) return Way::plain;
  if (tensor->stored == Stored::strided) return Way::strided;
  if (tensor->stored == Stored::deflated) return Way::deflated;
  const Checkpoint& checkpoint = std::get_if<TensorRef>(&item.from)->checkpoint;
  if (tensor->stored == Stored::plain) {
    const ByteSource& source = CheckpointAccess::source(checkpoint, tensor->where.file);
    return is_far(source) ? Way::far : Way::plain;
  }
  if (tensor->stored != Stored::computed) return Way::plain;
  const std::vector<SourceTensor> sources = CheckpointAccess::sources(checkpoint, *tensor);
  const auto any = [&](Stored stored) {
    return std::ranges::any_of(
        sources, [stored](const SourceTensor& source) { return source.info.stored == stored; });
  };
  if (any(Stored::deflated)) return Way::deflated;
  return CheckpointAccess::gathers(checkpoint, *tensor) ? Way::strided_computed : Way::plain;
}

Result<void> work_through(RunsByWay runs, const SaveOptions& options, const PieceWork& work) {
  std::vector<WayRuns> groups;
  for (std::size_t way = 0; way < kWays; ++way) groups.push_back({way, std::move(runs[way])});
  return work_in_order(std::move(groups), options, work);
}

Result<void> work_in_order(std::vector<WayRuns> groups, const SaveOptions& options,
                           const PieceWork& work) {
  const unsigned threads = std::clamp(options.threads, 1U, kMaxSaveThreads);
  struct Crew {
    unsigned threads;
    std::size_t piece_nbytes;
  };
  // A larger range lets a strided tensor be gathered in longer runs, by several threads. A deflated
  // record is read from front to back by one. What is computed of a strided tensor takes 16 MiB of
  // each thread beside its piece, so there are fewer threads.
  const std::array<Crew, kWays> crews{
      Crew{threads, kPieceBytes},
      Crew{kFarThreads, kFarPieceBytes},
      Crew{threads, kPanelBytes / threads / kChunkBytes * kChunkBytes},
      Crew{std::min(threads, kComputedThreads), kComputedPieceBytes},
      Crew{1, kPanelBytes},
  };
  std::uint64_t nbytes = 0;
  for (const WayRuns& group : groups) {
    for (const Run& run : group.runs) nbytes = checked_add(nbytes, run.nbytes).value_or(UINT64_MAX);
  }
  PieceRunner runner({options.progress, options.cancel, nbytes});
  for (WayRuns& group : groups) {
    PieceQueue queue(std::move(group.runs), crews[group.way].piece_nbytes);
    FLATBED_TRY(runner.run(queue, crews[group.way].threads,
                           [&](const Piece& piece, std::span<std::byte> buffer) {
                             return work(queue, piece, buffer);
                           }));
  }
  return {};
}

}  // namespace flatbed
