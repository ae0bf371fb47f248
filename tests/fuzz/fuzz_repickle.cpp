// A pickle becomes a tree, the tree a pickle; that is read again and gives the same pickle.
#include <string>

#include "fuzz/check.hpp"
#include "fuzz/targets.hpp"
#include "torch/pickle_writer.hpp"
#include "torch/torch_objects.hpp"
#include "torch/unpickler.hpp"

namespace flatbed::fuzz {

namespace {

Result<void> read(std::string_view bytes, pth::TorchFile& file) {
  pth::TorchObjects objects(file, pth::ByteOrder::little);
  objects.exchange_source({.ids = pth::PersistentIds::zip});
  pth::Unpickler unpickler(as_bytes(bytes), file.tree, objects);
  FLATBED_ASSIGN(const NodeId root, unpickler.run());
  file.tree.set_root(root);
  return objects.finish();
}

Result<pth::TorchPickle> write(const pth::TorchFile& file) {
  std::vector<pth::StoredTensor> tensors;
  for (const pth::TorchTensor& tensor : file.tensors) {
    tensors.push_back({tensor.dtype,
                       std::span(file.dims).subspan(tensor.dims + std::size_t{tensor.rank} * 2,
                                                    tensor.stored_rank),
                       tensor.nbytes});
  }
  pth::PickleOptions options;
  options.unsafe_objects = UnsafeObjects::keep;
  options.keep_device = true;
  options.contents = [&](std::uint32_t number) -> Result<std::string> {
    const std::uint64_t nbytes = file.tensors[number].nbytes;
    if (nbytes > 4096)
      return Error{ErrorCode::limit_exceeded, "the target writes no long contents"};
    return std::string(static_cast<std::size_t>(nbytes), 'x');
  };
  return pth::write_pickle(file.tree, tensors, options);
}

}  // namespace

void repickle(std::string_view bytes) {
  pth::TorchFile first;
  if (const Result<void> done = read(bytes, first); !done) return check_error(done.error());
  const Result<pth::TorchPickle> written = write(first);
  if (!written) return check_error(written.error());
  pth::TorchFile second;
  const Result<void> done = read(written->bytes, second);
  if (!done) std::fprintf(stderr, "%s\n", done.error().message.c_str());
  require(done.has_value(), "what is written can be read");
  const Result<pth::TorchPickle> twice = write(second);
  require(twice.has_value(), "what was written can be written again");
  require(twice->storages.size() == written->storages.size(), "no tensor is lost");
}

}  // namespace flatbed::fuzz
