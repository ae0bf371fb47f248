// A legacy stream in memory.
#include "fuzz/check.hpp"
#include "fuzz/targets.hpp"
#include "torch/legacy_stream.hpp"

namespace flatbed::fuzz {

void legacy(std::string_view bytes) {
  pth::TorchFile file;
  pth::TorchObjects objects(file, pth::ByteOrder::little);
  pth::PickleStream stream(as_bytes(bytes), pth::kNotHeld, 0);
  const Result<NodeId> root = pth::read_legacy_stream(stream, objects);
  if (!root) return check_error(root.error());
  file.tree.set_root(*root);
  const Result<void> finished = objects.finish();
  if (!finished) return check_error(finished.error());
  for (const pth::TorchStorage& storage : file.storages) {
    if (storage.held != pth::kNotHeld || storage.nbytes == 0) continue;
    require(storage.stored_offset <= bytes.size() &&
                storage.nbytes <= bytes.size() - storage.stored_offset,
            "a storage lies in the stream");
  }
}

}  // namespace flatbed::fuzz
