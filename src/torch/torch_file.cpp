// The records of torch's zip files, all in one folder:
//   data.pkl         the pickle
//   data/<key>       a storage: its bytes as they are in memory
//   byteorder        "little" or "big"; absent: little
//   version          or .data/version: a decimal number, 1 to 10
// Only in TorchScript archives, with bytecode.pkl (.ptl) or without:
//   constants.pkl    a tuple: what the code calls CONSTANTS.c0, CONSTANTS.c1, ...
//   constants/<key>  the storages of that pickle
//   code/...         the program; see script_modules.hpp
//   extra/...        files that the user added
// Other records say nothing about tensors.
#include "torch/torch_file.hpp"

#include <algorithm>
#include <charconv>
#include <optional>
#include <string_view>
#include <utility>

#include "archive/crc32.hpp"
#include "archive/zip_archive.hpp"
#include "base/bytes.hpp"
#include "base/str_cat.hpp"
#include "io/large_allocator.hpp"
#include "torch/script_modules.hpp"
#include "torch/torch_objects.hpp"
#include "torch/unpickler.hpp"

namespace flatbed::pth {

namespace {

constexpr std::uint64_t kMaxPickle = 0xFFFFFFFE;
// torch does not deflate pickles. In a file that was zipped again, a pickle deflates to about a
// tenth. A hostile one can claim a thousand times its size in the file, and would take many times
// that in memory.
constexpr std::uint64_t kMaxInflatedPickle = 1ULL << 30;
constexpr std::uint64_t kFreeInflatedPickle = 16 * 1024 * 1024;
constexpr std::uint64_t kMaxPickleRatio = 64;
constexpr std::uint64_t kMaxSmallRecord = 64;  // of version, byteorder
constexpr int kMinVersion = 1;
constexpr int kMaxVersion = 10;
constexpr std::string_view kConstants = "CONSTANTS";  // their name in the code

// One of torch's archives.
struct Records {
  const ByteSource& file;
  const ZipArchive& archive;
  std::string_view folder;

  [[nodiscard]] const ZipEntry* find(std::string_view record) const {
    return archive.find(str_cat(folder, "/", record));
  }
};

std::string_view folder_of(std::string_view name) {
  return name.substr(0, std::min(name.find('/'), name.size()));
}

// Names the archive if torch.save did not write it.
std::string_view other_kind(const ZipArchive& archive, std::string_view folder) {
  const auto has = [&](std::string_view record) {
    return archive.find(str_cat(folder, "/", record)) != nullptr;
  };
  if (has("model.json"))
    return "a TorchScript archive of torch <= 1.2; in Python, torch.jit.save(torch.jit.load(path), "
           "other) makes one that flatbed can read";
  if (has("constants.pkl")) return "a TorchScript archive without its data.pkl";
  if (has(".data/extern_modules") || has("extern_modules"))
    return "a torch.package archive, which holds code; in Python, "
           "torch.save(importer.load_pickle(package, resource).state_dict(), other) makes a file "
           "that flatbed reads";
  if (has("archive_format") || archive.find("archive_format") != nullptr)
    return "a torch.export archive (.pt2); in Python, "
           "torch.save(torch.export.load(path).state_dict, other) makes a file that flatbed reads";
  const std::span<const ZipEntry> entries = archive.entries();
  const bool arrays =
      !entries.empty() && std::all_of(entries.begin(), entries.end(), [](const ZipEntry& entry) {
        return entry.name.ends_with(".npy");
      });
  return arrays ? "a NumPy .npz archive"
                : "a zip file that torch.save did not write (it has no data.pkl)";
}

// The folder of all records, which is that of the first entry, as in torch's own reader.
Result<std::string_view> find_folder(const ZipArchive& archive) {
  const std::span<const ZipEntry> entries = archive.entries();
  if (entries.empty()) return make_error(ErrorCode::unsupported_layout, "the zip file is empty");
  const std::string_view folder = folder_of(entries[0].name);
  if (archive.find(str_cat(folder, "/data.pkl")) != nullptr) return folder;
  for (const ZipEntry& entry : entries) {
    if (entry.name == "data.pkl" || entry.name.ends_with("/data.pkl"))
      return make_error(ErrorCode::zip_prefix_refused,
                        "the pickle is not in the folder of the first zip entry: found ",
                        quoted(entry.name), " and ", quoted(entries[0].name));
  }
  return make_error(ErrorCode::unsupported_layout, other_kind(archive, folder));
}

// Other folders are refused, except those that macOS adds to zips.
Result<void> check_folder(const ZipArchive& archive, std::string_view folder, TorchFile& out) {
  std::uint64_t ignored = 0;
  for (const ZipEntry& entry : archive.entries()) {
    const bool inside = entry.name.starts_with(folder) && entry.name.size() > folder.size() &&
                        entry.name[folder.size()] == '/';
    if (inside) continue;
    if (!entry.name.starts_with("__MACOSX/"))
      return make_error(ErrorCode::zip_prefix_refused, "zip entry ", quoted(entry.name),
                        " is outside the folder ", quoted(folder));
    ++ignored;
  }
  if (ignored != 0)
    out.notes.push_back(
        str_cat("ignored ", counted(ignored, "zip entry", "zip entries"), " in __MACOSX"));
  return {};
}

Result<std::string> read_small_record(const ByteSource& file, const ZipEntry& entry) {
  FLATBED_ASSIGN(const ByteBuffer contents, read_entry(file, entry, kMaxSmallRecord));
  return std::string(as_text(contents));
}

Result<void> check_version(const ByteSource& file, const ZipArchive& archive,
                           std::string_view folder) {
  const ZipEntry* entry = archive.find(str_cat(folder, "/.data/version"));
  if (entry == nullptr) entry = archive.find(str_cat(folder, "/version"));
  if (entry == nullptr)
    return make_error(ErrorCode::zip_record_missing, "no record ",
                      quoted(str_cat(folder, "/version")));
  FLATBED_ASSIGN(const std::string text, read_small_record(file, *entry));
  const std::string_view digits =
      std::string_view(text).substr(0, text.size() - (text.ends_with('\n') ? 1 : 0));
  int version = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), version);
  if (error != std::errc{} || end != digits.data() + digits.size() || version < kMinVersion ||
      version > kMaxVersion)
    return make_error(ErrorCode::torch_version_unsupported, quoted(entry->name), ": found ",
                      quoted(text), ", expected ", kMinVersion, " to ", kMaxVersion);
  return {};
}

Result<ByteOrder> read_byte_order(const ByteSource& file, const ZipArchive& archive,
                                  std::string_view folder) {
  const ZipEntry* entry = archive.find(str_cat(folder, "/byteorder"));
  if (entry == nullptr) return ByteOrder::little;
  FLATBED_ASSIGN(const std::string text, read_small_record(file, *entry));
  if (text == "little") return ByteOrder::little;
  if (text == "big") return ByteOrder::big;
  return make_error(ErrorCode::byteorder_unknown, quoted(entry->name), ": found ", quoted(text),
                    ", expected 'little' or 'big'");
}

std::uint64_t max_pickle_nbytes(const ZipEntry& record) {
  if (!record.deflated) return kMaxPickle;
  const std::uint64_t by_ratio =
      std::min(record.stored_nbytes, kMaxInflatedPickle / kMaxPickleRatio) * kMaxPickleRatio;
  return std::max(by_ratio, kFreeInflatedPickle);
}

// Runs the pickle `name` and returns the value that it leaves.
Result<NodeId> run_pickle(std::span<const std::byte> pickle, std::string_view name,
                          TorchObjects& objects) {
  Unpickler unpickler(pickle, objects.file().tree, objects);
  FLATBED_ASSIGN(const NodeId root, unpickler.run());
  if (unpickler.trailing_nbytes() != 0)
    objects.file().notes.push_back(str_cat("ignored ", counted(unpickler.trailing_nbytes(), "byte"),
                                           " after the end of ", name, "'s pickle"));
  return root;
}

// Adds a possible cause to the error of a pickle that cannot be read. A readable one is not checked
// here: opening would take longer, and verify() does it.
Error with_damage(const ZipEntry& record, std::span<const std::byte> pickle, Error error) {
  const std::uint32_t found = crc32_of(pickle);
  if (found == record.crc || record.crc == 0) return error;
  error.message += str_cat("; the record is damaged: ", crc_text(found, record.crc));
  return error;
}

// Finds the records of the storages, in the folder `inner`. The record of an empty one may be
// missing.
Result<void> find_records(const Records& records, std::string_view inner,
                          std::span<const std::uint32_t> named, TorchFile& out) {
  const std::span<const ZipEntry> entries = records.archive.entries();
  std::string name = str_cat(records.folder, "/", inner, "/");
  const std::size_t prefix = name.size();
  const ZipEntry* next = entries.data();  // torch writes them in this order
  for (const std::uint32_t number : named) {
    TorchStorage& storage = out.storages[number];
    name.resize(prefix);
    name += storage.key;
    const bool here = next != entries.data() + entries.size() && next->name == name;
    const ZipEntry* entry = here ? next : records.archive.find(name);
    if (entry != nullptr) next = entry + 1;
    if (entry == nullptr && storage.nbytes == 0) continue;
    if (entry == nullptr)
      return make_error(ErrorCode::storage_missing, "no record ", quoted(std::string_view(name)));
    if (entry->nbytes != storage.nbytes)
      return make_error(ErrorCode::storage_size_mismatch, "record ", quoted(std::string_view(name)),
                        ": wrong size: found ", entry->nbytes, " bytes, expected ", storage.nbytes);
    storage.record = static_cast<std::uint32_t>(entry - entries.data());
    storage.stored_offset = entry->data_offset;
    storage.stored_nbytes = entry->stored_nbytes;
    storage.deflated = entry->deflated;
  }
  return {};
}

// Reads the tuple in constants.pkl. Its storages have keys of their own.
Result<NodeId> read_constants(const Records& records, const ZipEntry& record,
                              TorchObjects& objects) {
  FLATBED_ASSIGN(const ByteBuffer pickle,
                 read_entry(records.file, record, max_pickle_nbytes(record)));
  StorageKeys keys = objects.tensors().exchange_keys(StorageKeys());
  Result<NodeId> constants = run_pickle(pickle, "constants.pkl", objects);
  if (!constants) return with_context(quoted(record.name), std::move(constants).error());
  FLATBED_TRY(
      find_records(records, "constants", objects.tensors().named_storages(), objects.file()));
  objects.tensors().exchange_keys(std::move(keys));
  return *constants;
}

// In a program that torch.jit.freeze has processed, all weights are constants. They are kept as if
// they were an attribute of the whole.
void add_constants(NodeId constants, TorchFile& out) {
  ValueTree& tree = out.tree;
  const std::size_t count = tree.value(constants).size();
  if (count == 0) return;
  const std::optional<Value> state = tree.root().state();
  bool fits = state && state->kind() == Kind::dict;
  for (std::size_t i = 0; fits && i < state->size(); ++i) fits = state->key(i).text() != kConstants;
  if (fits) {
    tree.set_item(state->id(), tree.add_string(kConstants), constants);
  } else {
    out.notes.push_back(
        str_cat("left out ", counted(count, "constant"), " of the TorchScript code"));
  }
}

struct FolderSize {
  std::uint64_t count = 0, nbytes = 0;
};

FolderSize size_of(const Records& records, std::string_view inner) {
  const std::string prefix = str_cat(records.folder, "/", inner, "/");
  FolderSize size;
  for (const ZipEntry& entry : records.archive.entries()) {
    if (!entry.name.starts_with(prefix) || entry.name.ends_with('/')) continue;
    ++size.count;
    size.nbytes += entry.nbytes;
  }
  return size;
}

// Adds what a TorchScript archive has besides a pickle: modules declared in code, and constants.
Result<void> add_script(const Records& records, const ZipEntry& constants, TorchObjects& objects) {
  TorchFile& out = objects.file();
  ScriptCode code(records.file, records.archive, records.folder);
  FLATBED_TRY(arrange_modules(code, objects));
  FLATBED_ASSIGN(const NodeId tuple, read_constants(records, constants, objects));
  add_constants(tuple, out);
  if (const FolderSize size = size_of(records, "code"); size.count != 0)
    out.notes.push_back(
        str_cat("left out the TorchScript code: ", counted(size.count, "record"), " in code/"));
  if (const FolderSize size = size_of(records, "extra"); size.count != 0)
    out.notes.push_back(str_cat("left out ", counted(size.count, "record"),
                                " in extra/: ", counted(size.nbytes, "byte"),
                                " that torch does not read by itself"));
  return {};
}

}  // namespace

std::span<const std::byte> held_bytes(const TorchFile& file, const TorchTensor& tensor) {
  if (tensor.storage == kNoStorage) return as_bytes(file.held[tensor.held]);
  const TorchStorage& storage = file.storages[tensor.storage];
  const std::uint64_t skip = tensor.nbytes == 0 ? 0 : tensor.offset * tensor.element_nbytes;
  return as_bytes(file.held[storage.held])
      .subspan(static_cast<std::size_t>(storage.stored_offset + skip),
               static_cast<std::size_t>(tensor.nbytes));
}

Result<TorchFile> read_torch_zip(const ByteSource& file) {
  FLATBED_ASSIGN(ZipArchive archive, ZipArchive::open(file));
  FLATBED_ASSIGN(const std::string_view folder, find_folder(archive));
  TorchFile out;
  FLATBED_TRY(check_folder(archive, folder, out));
  if (archive.trailing_nbytes() != 0)
    out.notes.push_back(str_cat("ignored ", counted(archive.trailing_nbytes(), "byte"),
                                " after the end of the zip"));
  FLATBED_TRY(check_version(file, archive, folder));
  FLATBED_ASSIGN(const ByteOrder order, read_byte_order(file, archive, folder));

  const Records records{file, archive, folder};
  const ZipEntry& record = *records.find("data.pkl");
  const ZipEntry* constants = records.find("constants.pkl");
  if (constants != nullptr) out.layout = TorchLayout::script;
  FLATBED_ASSIGN(const ByteBuffer pickle, read_entry(file, record, max_pickle_nbytes(record)));
  out.storages.reserve(archive.entries().size());
  out.tensors.reserve(archive.entries().size());
  out.dims.reserve(archive.entries().size() * 6);  // sizes, strides and stored sizes of matrices
  TorchObjects objects(out, order, archive.entries().size());
  Result<NodeId> root = run_pickle(pickle, "data.pkl", objects);
  if (!root)
    return with_context(quoted(record.name), with_damage(record, pickle, std::move(root).error()));
  out.tree.set_root(*root);
  if (constants != nullptr) FLATBED_TRY(add_script(records, *constants, objects));
  if (auto done = objects.finish(); !done)
    return with_context(quoted(record.name), with_damage(record, pickle, std::move(done).error()));
  FLATBED_TRY(find_records(records, "data", objects.tensors().named_storages(), out));
  out.zip = std::move(archive).release();
  return out;
}

}  // namespace flatbed::pth
