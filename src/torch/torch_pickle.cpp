#include "torch/torch_pickle.hpp"

#include <span>

#include "base/str_cat.hpp"
#include "pickle/pickle_stream.hpp"
#include "torch/legacy_stream.hpp"
#include "torch/torch_objects.hpp"

namespace flatbed::pth {

namespace {

constexpr std::string_view kMetadataModule = "torch.distributed.checkpoint.metadata";

// Whether a value is an object of the class that describes a distributed checkpoint.
bool is_distributed_metadata(Value root) {
  if (root.kind() != Kind::object) return false;
  Value type = root.callable();
  if (type.kind() == Kind::global && type.text() == "copyreg" && root.arguments().size() != 0)
    type = root.arguments().item(0);
  return type.kind() == Kind::global && type.text() == kMetadataModule;
}

}  // namespace

Result<TorchFile> read_torch_pickle(const ByteSource& file) {
  PickleStream stream(file, 0, file.size());
  FLATBED_ASSIGN(const std::span<const std::byte> first, stream.next_pickle());
  TorchFile out;
  out.layout = is_legacy_magic(first) ? TorchLayout::legacy : TorchLayout::pickle;
  stream.rewind();
  TorchObjects objects(out, ByteOrder::little);
  FLATBED_ASSIGN(const NodeId root,
                 out.layout == TorchLayout::legacy
                     ? read_legacy_stream(stream, objects)
                     : run_next_pickle(stream, objects, {"the pickle", PersistentIds::none}));
  out.tree.set_root(root);
  if (is_distributed_metadata(out.tree.root()))
    return make_error(ErrorCode::unsupported_layout, kDistributedAdvice);
  if (stream.remaining() != 0)
    out.notes.push_back(str_cat("ignored ", counted(stream.remaining(), "byte"),
                                " after the end of the ",
                                out.layout == TorchLayout::legacy ? "last storage" : "pickle"));
  FLATBED_TRY(objects.finish());
  return out;
}

}  // namespace flatbed::pth
