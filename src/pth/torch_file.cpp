// The records of torch's zip files, all in one folder:
//
//   data.pkl         the pickle
//   data/<key>       a storage: its bytes as they are in memory
//   byteorder        "little" or "big"; absent: little
//   version          or .data/version: a decimal number, 1 to 10
//   constants.pkl    only in TorchScript archives
//
// and others that say nothing about tensors.
#include "pth/torch_file.hpp"

#include <algorithm>
#include <charconv>
#include <optional>
#include <string_view>
#include <utility>

#include "base/bytes.hpp"
#include "base/str_cat.hpp"
#include "pth/torch_objects.hpp"
#include "pth/unpickler.hpp"
#include "pth/zip_archive.hpp"

namespace flatbed::pth {

namespace {

constexpr std::size_t kMaxReserve = 256 << 20;  // of a pickle's bytes, for room made in advance
constexpr std::uint64_t kMaxPickle = 0xFFFFFFFE;
// torch deflates no pickle; files that were zipped anew have one that deflates to a tenth or so.
// What a hostile one can claim, a thousand times its size in the file, would be many times that in
// memory.
constexpr std::uint64_t kMaxInflatedPickle = 1ULL << 30;
constexpr std::uint64_t kFreeInflatedPickle = 16 * 1024 * 1024;
constexpr std::uint64_t kMaxPickleRatio = 64;
constexpr std::uint64_t kMaxSmallRecord = 64;  // version, byteorder
constexpr int kMinVersion = 1;
constexpr int kMaxVersion = 10;

std::string_view folder_of(std::string_view name) {
  return name.substr(0, std::min(name.find('/'), name.size()));
}

// What the archive is, when it is not torch.save's.
std::string_view other_kind(const ZipArchive& archive, std::string_view folder) {
  const auto has = [&](std::string_view record) {
    return archive.find(str_cat(folder, "/", record)) != nullptr;
  };
  if (has("constants.pkl"))
    return "a TorchScript archive; in Python, torch.save(torch.jit.load(path).state_dict(), other) "
           "makes a file that "
           "flatbed reads";
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
                : "a zip file that torch.save did not write: it has no data.pkl";
}

// The folder of all records: that of the first entry, as in torch's own reader.
Result<std::string_view> find_folder(const ZipArchive& archive) {
  const std::span<const ZipEntry> entries = archive.entries();
  if (entries.empty()) return make_error(ErrorCode::unsupported_layout, "an empty zip file");
  const std::string_view folder = folder_of(entries[0].name);
  const bool has_pickle = archive.find(str_cat(folder, "/data.pkl")) != nullptr;
  if (archive.find(str_cat(folder, "/constants.pkl")) != nullptr)
    return make_error(ErrorCode::unsupported_layout, other_kind(archive, folder));
  if (has_pickle) return folder;
  for (const ZipEntry& entry : entries) {
    if (entry.name == "data.pkl" || entry.name.ends_with("/data.pkl"))
      return make_error(ErrorCode::zip_prefix_refused, "the first zip entry is ",
                        quoted(entries[0].name), ", the pickle is ", quoted(entry.name),
                        ": torch wants both in one folder");
  }
  return make_error(ErrorCode::unsupported_layout, other_kind(archive, folder));
}

// Other folders are refused, but for what macOS adds to the zips that it makes.
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
  if (ignored != 0) out.notes.push_back(str_cat(ignored, " zip entries in __MACOSX are ignored"));
  return {};
}

Result<std::string> read_small_record(const File& file, const ZipEntry& entry) {
  FLATBED_ASSIGN(const ByteBuffer contents, read_entry(file, entry, kMaxSmallRecord));
  return std::string(as_text(contents));
}

Result<void> check_version(const File& file, const ZipArchive& archive, std::string_view folder) {
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
    return make_error(ErrorCode::torch_version_unsupported, quoted(entry->name), " says ",
                      quoted(text), ", wanted ", kMinVersion, " to ", kMaxVersion);
  return {};
}

Result<ByteOrder> read_byte_order(const File& file, const ZipArchive& archive,
                                  std::string_view folder) {
  const ZipEntry* entry = archive.find(str_cat(folder, "/byteorder"));
  if (entry == nullptr) return ByteOrder::little;
  FLATBED_ASSIGN(const std::string text, read_small_record(file, *entry));
  if (text == "little") return ByteOrder::little;
  if (text == "big") return ByteOrder::big;
  return make_error(ErrorCode::byteorder_unknown, quoted(entry->name), " says ", quoted(text),
                    ", wanted 'little' or 'big'");
}

std::uint64_t max_pickle_nbytes(const ZipEntry& record) {
  if (!record.deflated) return kMaxPickle;
  const std::uint64_t by_ratio =
      std::min(record.stored_nbytes, kMaxInflatedPickle / kMaxPickleRatio) * kMaxPickleRatio;
  return std::max(by_ratio, kFreeInflatedPickle);
}

Result<void> run_pickle(std::span<const std::byte> pickle, TorchObjects& objects, TorchFile& out) {
  Unpickler unpickler(pickle, out.tree, objects);
  FLATBED_ASSIGN(const NodeId root, unpickler.run());
  out.tree.set_root(root);
  if (unpickler.trailing_nbytes() != 0)
    out.notes.push_back(str_cat(unpickler.trailing_nbytes(),
                                " bytes after the end of data.pkl's pickle are ignored"));
  return objects.finish();
}

// The records of the storages. An empty one may be missing.
Result<void> find_records(const ZipArchive& archive, std::string_view folder,
                          std::span<const std::uint32_t> named, TorchFile& out) {
  std::string name = str_cat(folder, "/data/");
  const std::size_t prefix = name.size();
  for (const std::uint32_t number : named) {
    TorchStorage& storage = out.storages[number];
    name.resize(prefix);
    name += storage.key;
    const ZipEntry* entry = archive.find(name);
    if (entry == nullptr && storage.nbytes == 0) continue;
    if (entry == nullptr)
      return make_error(ErrorCode::storage_missing, "no record ", quoted(std::string_view(name)));
    if (entry->nbytes != storage.nbytes)
      return make_error(ErrorCode::storage_size_mismatch, "record ", quoted(std::string_view(name)),
                        " has ", entry->nbytes, " bytes, the pickle says ", storage.nbytes);
    storage.stored_offset = entry->data_offset;
    storage.stored_nbytes = entry->stored_nbytes;
    storage.deflated = entry->deflated;
  }
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

Result<TorchFile> read_torch_zip(const File& file) {
  FLATBED_ASSIGN(const ZipArchive archive, ZipArchive::open(file));
  FLATBED_ASSIGN(const std::string_view folder, find_folder(archive));
  TorchFile out;
  FLATBED_TRY(check_folder(archive, folder, out));
  if (archive.trailing_nbytes() != 0)
    out.notes.push_back(
        str_cat(archive.trailing_nbytes(), " bytes after the end of the zip are ignored"));
  FLATBED_TRY(check_version(file, archive, folder));
  FLATBED_ASSIGN(const ByteOrder order, read_byte_order(file, archive, folder));

  const ZipEntry& record = *archive.find(str_cat(folder, "/data.pkl"));
  FLATBED_ASSIGN(const ByteBuffer pickle, read_entry(file, record, max_pickle_nbytes(record)));
  out.storages.reserve(archive.entries().size());
  out.tensors.reserve(archive.entries().size());
  out.dims.reserve(archive.entries().size() * 6);  // sizes, strides and stored sizes of matrices
  // A state dict's pickle has a node for every 15 bytes. Memory that stays unused is not touched.
  out.tree.reserve(std::min(pickle.size(), kMaxReserve) / 12);
  TorchObjects objects(out, order, archive.entries().size());
  if (auto done = run_pickle(pickle, objects, out); !done)
    return with_context(quoted(record.name), std::move(done).error());
  FLATBED_TRY(find_records(archive, folder, objects.tensors().named_storages(), out));
  return out;
}

}  // namespace flatbed::pth
