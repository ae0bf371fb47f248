// Five pickles, then the storages:
//   0x1950a86a20f9469cfc6c
//   1001                     the protocol
//   {...}                    byte order and sizes of the machine, which are ignored: all data is
//                            little endian
//   the object
//   [key, ...]               its storages
//   for each key of the list:
//     i64                    its number of elements
//     elements
#include "torch/legacy_stream.hpp"

#include <algorithm>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/bytes.hpp"
#include "base/str_cat.hpp"
#include "io/large_allocator.hpp"
#include "torch/unpickler.hpp"

namespace flatbed::pth {

namespace {

constexpr std::string_view kMagic = "1950a86a20f9469cfc6c";
constexpr std::int64_t kProtocol = 1001;
constexpr std::size_t kMaxMagicPickle = 64;  // in any protocol

// Reads a tree of plain values from one pickle.
Result<ValueTree> run_plain(std::span<const std::byte> pickle) {
  TorchFile file;
  TorchObjects objects(file, ByteOrder::little);
  objects.exchange_source({.ids = PersistentIds::none});
  Unpickler unpickler(pickle, file.tree, objects);
  FLATBED_ASSIGN(const NodeId root, unpickler.run());
  file.tree.set_root(root);
  return std::move(file.tree);
}

Result<void> read_head(PickleStream& stream) {
  FLATBED_ASSIGN(const std::span<const std::byte> magic, stream.next_pickle());
  if (!is_legacy_magic(magic))
    return make_error(ErrorCode::legacy_malformed,
                      "the bytes do not begin like a legacy stream of torch.save");
  FLATBED_ASSIGN(const ValueTree protocol, read_plain_pickle(stream, "the protocol's pickle"));
  const std::optional<std::int64_t> number = protocol.root().as_int();
  if (!number) return make_error(ErrorCode::legacy_malformed, "the protocol is not an int");
  if (*number != kProtocol)
    return make_error(ErrorCode::torch_version_unsupported, "unsupported protocol: found ", *number,
                      ", expected ", kProtocol);
  FLATBED_ASSIGN(const ValueTree machine, read_plain_pickle(stream, "the machine's pickle"));
  if (machine.root().kind() != Kind::dict)
    return make_error(ErrorCode::legacy_malformed, "the machine is not a dict");
  return {};
}

// Finds the storage that the list names, and checks that it is listed once.
Result<std::uint32_t> listed_storage(Value key, TorchObjects& objects, std::vector<bool>& listed) {
  if (key.kind() != Kind::string)
    return make_error(ErrorCode::legacy_malformed, "a key of the list of storages is not a text");
  const std::optional<std::uint32_t> number = objects.tensors().find_storage(key.text());
  if (!number)
    return make_error(ErrorCode::legacy_malformed, "storage ", quoted(key.text()),
                      " is listed, but the object does not use it");
  // Storages are numbered by their first use.
  const std::span<const std::uint32_t> named = objects.tensors().named_storages();
  const auto at = std::lower_bound(named.begin(), named.end(), *number) - named.begin();
  if (listed[static_cast<std::size_t>(at)])
    return make_error(ErrorCode::legacy_malformed, "storage ", quoted(key.text()),
                      " is listed twice");
  listed[static_cast<std::size_t>(at)] = true;
  return *number;
}

Result<void> place_storage(PickleStream& stream, TorchObjects& objects, std::uint32_t number) {
  TorchStorage& storage = objects.file().storages[number];
  FLATBED_ASSIGN(const std::span<const std::byte> bytes, stream.next_bytes(8));
  const std::uint64_t count = load_le64(bytes.data());
  const std::uint64_t wanted = storage.nbytes / objects.tensors().unit(number);
  if (count != wanted)
    return make_error(ErrorCode::storage_size_mismatch, "wrong number of elements: found ",
                      static_cast<std::int64_t>(count), ", expected ", wanted);
  storage.held = stream.held();
  storage.stored_offset = stream.offset();
  storage.stored_nbytes = storage.nbytes;
  return stream.skip(storage.nbytes);
}

Result<void> place_storages(PickleStream& stream, Value keys, TorchObjects& objects) {
  if (keys.kind() != Kind::list)
    return make_error(ErrorCode::legacy_malformed, "the storages are not a list");
  const std::span<const std::uint32_t> named = objects.tensors().named_storages();
  std::vector<bool> listed(named.size());
  for (std::size_t i = 0; i < keys.size(); ++i) {
    FLATBED_ASSIGN(const std::uint32_t number, listed_storage(keys.item(i), objects, listed));
    if (auto placed = place_storage(stream, objects, number); !placed)
      return with_context(str_cat("storage ", quoted(keys.item(i).text())),
                          std::move(placed).error());
  }
  for (std::size_t i = 0; i < named.size(); ++i) {
    const TorchStorage& storage = objects.file().storages[named[i]];
    if (!listed[i] && storage.nbytes != 0)
      return make_error(ErrorCode::storage_missing, "storage ", quoted(storage.key),
                        " is not in the list of storages");
  }
  return {};
}

}  // namespace

Result<NodeId> run_next_pickle(PickleStream& stream, TorchObjects& objects, const PickleRun& run) {
  const std::uint64_t offset = stream.offset();
  Result<std::span<const std::byte>> pickle = stream.next_pickle();
  if (!pickle)
    return with_context(str_cat(run.what, " from byte ", offset,
                                ": "
                                "its end was not found"),
                        std::move(pickle).error());
  ValueTree& tree = objects.file().tree;
  objects.exchange_source({run.ids, *pickle, stream.held(), offset});
  Unpickler unpickler(*pickle, tree, objects);
  Result<NodeId> root = unpickler.run();
  if (!root) return with_context(str_cat(run.what, " from byte ", offset), std::move(root).error());
  return root;
}

Result<ValueTree> read_plain_pickle(PickleStream& stream, std::string_view what) {
  const std::uint64_t offset = stream.offset();
  Result<std::span<const std::byte>> pickle = stream.next_pickle();
  if (!pickle) return with_context(str_cat(what, " from byte ", offset), std::move(pickle).error());
  Result<ValueTree> tree = run_plain(*pickle);
  if (!tree) return with_context(str_cat(what, " from byte ", offset), std::move(tree).error());
  return tree;
}

bool is_legacy_magic(std::span<const std::byte> pickle) {
  if (pickle.size() > kMaxMagicPickle) return false;
  const Result<ValueTree> tree = run_plain(pickle);
  return tree && tree->root().kind() == Kind::big_integer && tree->root().text() == kMagic;
}

Result<NodeId> read_legacy_stream(PickleStream& stream, TorchObjects& objects) {
  FLATBED_TRY(read_head(stream));
  FLATBED_ASSIGN(const NodeId root,
                 run_next_pickle(stream, objects, {"the pickle", PersistentIds::legacy}));
  FLATBED_ASSIGN(const ValueTree keys, read_plain_pickle(stream, "the list of storages"));
  FLATBED_TRY(place_storages(stream, keys.root(), objects));
  return root;
}

}  // namespace flatbed::pth
