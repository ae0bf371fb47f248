// The members of a tar written by torch.save, each a stream of pickles and numbers:
//   sys_info   {"protocol_version": 1000, ...}
//   storages   count
//              per storage: (key, location, class), i64 elements, elements
//              [(key, key of the whole, first element, elements), ...]    parts of storages
//   tensors    count
//              per tensor: (key, key of its storage, class), i32 rank, 4 unused bytes,
//                          i64 sizes, i64 strides, i64 first element
//   pickle     the object, in which persistent ids are keys of tensors and storages, as texts
#include "torch/torch_tar.hpp"

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "archive/tar_archive.hpp"
#include "base/bytes.hpp"
#include "base/str_cat.hpp"
#include "pickle/pickle_stream.hpp"
#include "torch/legacy_stream.hpp"
#include "torch/torch_objects.hpp"

namespace flatbed::pth {

namespace {

constexpr std::int64_t kProtocol = 1000;

template <typename... Parts>
Error malformed(const Parts&... parts) {
  return make_error(ErrorCode::legacy_malformed, parts...);
}

class TarReader {
 public:
  TarReader(const ByteSource& file, const TarArchive& archive, TorchObjects& objects)
      : file_(file), archive_(archive), objects_(objects), tree_(objects.file().tree) {}

  Result<NodeId> read() {
    FLATBED_TRY(read_machine());
    FLATBED_TRY(read_member("storages", &TarReader::read_storages));
    FLATBED_TRY(read_member("tensors", &TarReader::read_tensors));
    PickleStream stream = member("pickle");
    return run_next_pickle(stream, objects_, {"'pickle'", PersistentIds::tar});
  }

 private:
  [[nodiscard]] PickleStream member(std::string_view name) const {
    const TarMember& found = *archive_.find(name);
    return {file_, found.offset, found.nbytes};
  }

  Result<void> read_member(std::string_view name, Result<void> (TarReader::*step)(PickleStream&)) {
    PickleStream stream = member(name);
    if (auto done = (this->*step)(stream); !done)
      return with_context(quoted(name), std::move(done).error());
    return {};
  }

  Result<void> read_machine() {
    PickleStream stream = member("sys_info");
    FLATBED_ASSIGN(const ValueTree tree, read_plain_pickle(stream, "'sys_info'"));
    const Value root = tree.root();
    if (root.kind() != Kind::dict) return malformed("'sys_info' is not a dict");
    for (std::size_t i = 0; i < root.size(); ++i) {
      if (root.key(i).kind() != Kind::string || root.key(i).text() != "protocol_version") continue;
      if (root.item(i).as_int() == kProtocol) return {};
      return make_error(ErrorCode::torch_version_unsupported,
                        "'sys_info' has an unsupported protocol: expected ", kProtocol);
    }
    return malformed("'sys_info' has no protocol_version");
  }

  // Runs a pickle of the tables. Its values stay in the tree, where nothing refers to them.
  Result<Value> next_value(PickleStream& stream) {
    FLATBED_ASSIGN(const NodeId node,
                   run_next_pickle(stream, objects_, {"a pickle", PersistentIds::none}));
    return tree_.value(node);
  }

  // (key, second item, class)
  struct Row {
    std::int64_t key;
    Value second, type;
  };
  Result<Row> next_row(PickleStream& stream) {
    FLATBED_ASSIGN(const Value row, next_value(stream));
    const bool fits = row.kind() == Kind::tuple && row.size() == 3 && row.item(0).as_int();
    if (!fits) return malformed("a row is not a tuple of a number and two values");
    return Row{*row.item(0).as_int(), row.item(1), row.item(2)};
  }

  Result<std::uint64_t> next_count(PickleStream& stream) {
    FLATBED_ASSIGN(const Value count, next_value(stream));
    // Each row takes at least one byte, which bounds the loop over rows.
    if (!count.as_int() || *count.as_int() < 0 ||
        static_cast<std::uint64_t>(*count.as_int()) > stream.remaining())
      return malformed("the count is not an int that fits the member");
    return static_cast<std::uint64_t>(*count.as_int());
  }

  Result<std::int64_t> next_i64(PickleStream& stream) {
    FLATBED_ASSIGN(const std::span<const std::byte> bytes, stream.next_bytes(8));
    return load_le<std::int64_t>(bytes.data());
  }

  Result<void> read_storages(PickleStream& stream) {
    FLATBED_ASSIGN(const std::uint64_t count, next_count(stream));
    for (std::uint64_t i = 0; i < count; ++i) FLATBED_TRY(read_storage(stream));
    FLATBED_ASSIGN(const Value views, next_value(stream));
    if (views.kind() != Kind::list) return malformed("the parts of storages are not a list");
    for (std::size_t i = 0; i < views.size(); ++i) FLATBED_TRY(read_view(views.item(i)));
    return {};
  }

  Result<void> read_storage(PickleStream& stream) {
    FLATBED_ASSIGN(const Row row, next_row(stream));
    FLATBED_ASSIGN(const std::int64_t count, next_i64(stream));
    TorchTensors& tensors = objects_.tensors();
    const std::size_t named = tensors.named_storages().size();
    FLATBED_ASSIGN(const NodeId node,
                   tensors.name_storage({row.type, text_of(row.key), row.second,
                                         tree_.value(tree_.add_integer(count))}));
    if (tensors.named_storages().size() == named || !objects_.name_tar_object(row.key, node))
      return make_error(ErrorCode::storage_conflict, "storage ", row.key, " appears twice");
    TorchStorage& storage = objects_.file().storages[tensors.named_storages().back()];
    storage.stored_offset = stream.offset();
    storage.stored_nbytes = storage.nbytes;
    if (auto skipped = stream.skip(storage.nbytes); !skipped)
      return with_context(str_cat("storage ", row.key), std::move(skipped).error());
    return {};
  }

  Result<void> read_view(Value row) {
    if (row.kind() != Kind::tuple || row.size() != 4 || !row.item(0).as_int())
      return malformed("a part of a storage is not a tuple of four numbers");
    const std::int64_t key = *row.item(0).as_int();
    FLATBED_ASSIGN(const NodeId root, find_storage(row.item(1)));
    FLATBED_ASSIGN(const NodeId view,
                   objects_.tensors().name_view(root, {text_of(key), row.item(2), row.item(3)}));
    if (!objects_.name_tar_object(key, view))
      return make_error(ErrorCode::storage_conflict, "storage ", key, " appears twice");
    return {};
  }

  Result<void> read_tensors(PickleStream& stream) {
    FLATBED_ASSIGN(const std::uint64_t count, next_count(stream));
    for (std::uint64_t i = 0; i < count; ++i) FLATBED_TRY(read_tensor(stream));
    return {};
  }

  Result<void> read_tensor(PickleStream& stream) {
    FLATBED_ASSIGN(const Row row, next_row(stream));
    FLATBED_ASSIGN(const NodeId storage, find_storage(row.second));
    FLATBED_ASSIGN(const std::span<const std::byte> head, stream.next_bytes(8));
    const std::uint32_t rank = load_le32(head.data());
    if (rank > kMaxRank)
      return malformed("tensor ", row.key, " has ", static_cast<std::int32_t>(rank),
                       " dimensions, torch allows ", kMaxRank);
    FLATBED_ASSIGN(const NodeId sizes, next_counts(stream, rank));
    FLATBED_ASSIGN(const NodeId strides, next_counts(stream, rank));
    FLATBED_ASSIGN(const std::int64_t offset, next_i64(stream));
    const NodeId parts[] = {storage, tree_.add_integer(offset), sizes, strides};
    Result<NodeId> tensor =
        objects_.tensors().rebuild(Meaning::rebuild_tensor, tree_.value(tree_.add_tuple(parts)));
    if (!tensor) return with_context(str_cat("tensor ", row.key), std::move(tensor).error());
    if (!objects_.name_tar_object(row.key, *tensor))
      return make_error(ErrorCode::storage_conflict, "tensor ", row.key, " appears twice");
    return {};
  }

  Result<NodeId> next_counts(PickleStream& stream, std::uint32_t rank) {
    std::vector<NodeId> counts;
    for (std::uint32_t i = 0; i < rank; ++i) {
      FLATBED_ASSIGN(const std::int64_t count, next_i64(stream));
      counts.push_back(tree_.add_integer(count));
    }
    return tree_.add_tuple(counts);
  }

  // The storage, or part of one, that a table calls by its key.
  Result<NodeId> find_storage(Value key) {
    const std::optional<NodeId> found =
        key.as_int() ? objects_.find_tar_object(*key.as_int()) : std::nullopt;
    if (!found || tree_.value(*found).kind() != Kind::bytes)
      return make_error(ErrorCode::storage_missing, "no storage ",
                        key.as_int() ? str_cat(*key.as_int()) : "of a key that is not a number");
    return *found;
  }

  Value text_of(std::int64_t key) { return tree_.value(tree_.add_string(str_cat(key))); }

  const ByteSource& file_;
  const TarArchive& archive_;
  TorchObjects& objects_;
  ValueTree& tree_;
};

}  // namespace

Result<TorchFile> read_torch_tar(const ByteSource& file) {
  FLATBED_ASSIGN(const TarArchive archive, TarArchive::open(file));
  TorchFile out;
  out.layout = TorchLayout::tar;
  for (const std::string_view name : {"sys_info", "storages", "tensors", "pickle"}) {
    if (archive.find(name) == nullptr)
      return make_error(ErrorCode::unsupported_layout, "a tar archive that torch.save did not ",
                        "write (it has no ", quoted(name), "): unpack it");
  }
  if (archive.members().size() != 4)
    out.notes.push_back(str_cat("ignored ", counted(archive.members().size() - 4, "other member")));
  TorchObjects objects(out, ByteOrder::little);
  TarReader reader(file, archive, objects);
  FLATBED_ASSIGN(const NodeId root, reader.read());
  out.tree.set_root(root);
  FLATBED_TRY(objects.finish());
  return out;
}

}  // namespace flatbed::pth
