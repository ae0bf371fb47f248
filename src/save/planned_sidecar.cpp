#include "save/planned_sidecar.hpp"

#include <utility>

#include "base/str_cat.hpp"
#include "checkpoint/checkpoint_access.hpp"
#include "io/digest.hpp"

namespace flatbed {

namespace {

using safetensors::MetadataPair;

// The one safetensors file at `path`, which must not have a seal of its own.
Result<Checkpoint> open_unsealed(const std::filesystem::path& path) {
  FLATBED_ASSIGN(Checkpoint checkpoint, Checkpoint::open(path, {.check_seal = CheckSeal::off}));
  const std::string place = quoted(path.native());
  if (checkpoint.layout() != Layout::safetensors || checkpoint.files()[0].path != path) {
    return make_error(ErrorCode::invalid_argument, place,
                      ": --sidecar needs a single .safetensors file");
  }
  for (const auto& [key, value] : checkpoint.metadata()) {
    if (safetensors::is_seal_key(key)) {
      return make_error(ErrorCode::invalid_argument, place, ": has the key ", quoted(key),
                        ", and readers prefer a seal inside a file to a sidecar");
    }
  }
  return checkpoint;
}

}  // namespace

std::uint64_t PlannedSidecar::nbytes() const {
  return text(std::string(safetensors::kDigestDigits, '0'), {}).size() + slots.size;
}

std::string PlannedSidecar::content(std::string_view digests) const {
  const MetadataPair pair{safetensors::kDigestsKey, digests};
  return hex16(content_digest(tensors, order, {&pair, 1}));
}

std::string PlannedSidecar::text(std::string_view content, std::string_view digests) const {
  return str_cat("{\"flatbed\":\"", header_digest, "/1/", content, "\",\"flatbed.digests\":\"",
                 digests, "\"}");
}

Result<PlannedSidecar> plan_sidecar(const std::filesystem::path& path) {
  FLATBED_ASSIGN(Checkpoint checkpoint, open_unsealed(path));
  PlannedSidecar planned{std::move(checkpoint), {}, {}, {}, {}};
  planned.tensors.reserve(planned.checkpoint.tensors().size());
  for (const TensorInfo& tensor : planned.checkpoint.tensors()) {
    planned.tensors.push_back({tensor.name, tensor.dtype, tensor.shape, tensor.nbytes});
  }
  planned.order = name_order(planned.tensors);
  planned.slots = digest_slots(planned.tensors, planned.order);
  const Container& container = CheckpointAccess::container(planned.checkpoint, 0);
  // A file that has changed meanwhile is noticed when the sidecar is written.
  FLATBED_ASSIGN(const ByteBuffer header, container.read_raw_header());
  planned.header_digest = hex16(xxh3(header));
  if (planned.nbytes() > safetensors::kMaxSidecarBytes) {
    return make_error(ErrorCode::limit_exceeded, "the sidecar is too large: found ",
                      planned.nbytes(), " bytes, the limit is ", safetensors::kMaxSidecarBytes);
  }
  return planned;
}

std::filesystem::path sidecar_path(const std::filesystem::path& path) {
  std::filesystem::path sidecar = path;
  sidecar += safetensors::kSidecarSuffix;
  return sidecar;
}

}  // namespace flatbed
