// compare_sidecar(): whether a sidecar seals its file as it is.
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "base/bytes.hpp"
#include "base/str_cat.hpp"
#include "checkpoint/checkpoint_access.hpp"
#include "flatbed/save_compare.hpp"
#include "io/digest.hpp"
#include "save/output_file.hpp"
#include "save/pieces.hpp"
#include "save/planned_sidecar.hpp"

namespace flatbed {

namespace {

using safetensors::kChunkBytes;
using safetensors::kDigestDigits;

// Returns a difference() where a chunk of the file does not have its digest.
Result<void> check_data(const PlannedSidecar& planned, std::string_view digests,
                        const SaveOptions& options, CompareData data) {
  const std::span<const TensorInfo> tensors = planned.checkpoint.tensors();
  std::vector<Run> places;
  for (const TensorInfo& tensor : tensors)
    places.push_back({tensor.index, 0, tensor.where.offset, tensor.nbytes});
  const std::vector<Sample> samples = choose_samples(places, data);
  std::vector<Run> runs;
  for (std::uint32_t i = 0; i < samples.size(); ++i)
    runs.push_back({i, 0, samples[i].offset, samples[i].nbytes});

  const ByteSource& file = CheckpointAccess::source(planned.checkpoint, 0);
  PieceQueue queue(std::move(runs), kPieceBytes);
  const ProgressCallback silent;
  PieceRunner runner(
      {data == CompareData::all ? options.progress : silent, options.cancel, queue.nbytes()});
  return runner.run(
      queue, options.threads, [&](const Piece& piece, std::span<std::byte> buffer) -> Result<void> {
        FLATBED_TRY(file.read_at(piece.offset, buffer.first(piece.nbytes)));
        return for_each_chunk(
            queue, piece, buffer,
            [&](const Run& run, std::uint64_t number, std::span<std::byte> bytes) -> Result<void> {
              const Sample& sample = samples[run.tensor];
              const std::uint64_t chunk = sample.first_chunk + number;
              const std::string_view stated = digests.substr(
                  planned.slots.begin[sample.place] + chunk * kDigestDigits, kDigestDigits);
              if (stated == hex16(xxh3(bytes))) return {};
              return data_difference(tensors[sample.place].name, chunk * kChunkBytes, bytes.size());
            });
      });
}

// Returns a difference() where the sidecar does not seal the file as it is.
Result<void> compare_file(const OutputFile& file, const PlannedSidecar& planned,
                          const SaveOptions& options, CompareData data) {
  if (file.size() != planned.nbytes()) {
    return difference(
        str_cat("found ", counted(file.size(), "byte"), ", expected ", planned.nbytes()));
  }
  FLATBED_ASSIGN(const std::string found, file.read(0, planned.nbytes()));
  constexpr std::string_view kEnd = "\"}";
  const std::string_view digests = std::string_view(found).substr(
      found.size() - kEnd.size() - planned.slots.size, planned.slots.size);
  if (found != planned.text(planned.content(digests), digests))
    return difference("it was made for another header");
  return check_data(planned, digests, options, data);
}

}  // namespace

Result<OutputState> compare_sidecar(const std::filesystem::path& path, const SaveOptions& options,
                                    CompareData data) {
  OutputState state;
  FLATBED_ASSIGN(const std::optional<OutputFile> file, OutputFile::open(sidecar_path(path), state));
  if (!file) return state;
  FLATBED_ASSIGN(const PlannedSidecar planned, plan_sidecar(path));
  FLATBED_ASSIGN(state, conclude(*file, compare_file(*file, planned, options, data)));
  if (state.kind == OutputKind::up_to_date) {
    FLATBED_ASSIGN(const std::string found, file->read(0, planned.nbytes()));
    constexpr std::size_t kContentBegin =
        std::string_view("{\"flatbed\":\"").size() + kDigestDigits + std::string_view("/1/").size();
    state.content = found.substr(kContentBegin, kDigestDigits);
  }
  return state;
}

}  // namespace flatbed
