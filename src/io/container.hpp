// Container: one opened file of some format. It holds what the format's reader found, and reads
// tensors that are not stored plainly. A format is one class that implements it, and one line in
// checkpoint/sniff.
// Owns what its contents borrow, and shares the ownership of the source. Thread-safe once open.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/json.hpp"
#include "flatbed/byte_source.hpp"
#include "flatbed/file_info.hpp"
#include "flatbed/source_folder.hpp"
#include "flatbed/tensor.hpp"
#include "flatbed/value.hpp"
#include "io/large_allocator.hpp"
#include "io/mapped_file.hpp"
#include "io/name_index.hpp"
#include "io/text_pool.hpp"

namespace flatbed {

// The contents of a file. Names, shapes and texts borrow from the container.
struct ContainerContents {
  FileInfo info;
  LargeVector<TensorInfo> tensors;  // numbered in this order; `where.file` is not set yet
  NameIndex index;                  // of the tensors' names, possibly followed by the aliases
  std::vector<Alias> aliases;
  std::vector<std::pair<std::string_view, std::string_view>> metadata;  // in file order
  std::vector<std::string> notes;
  // The structure: decoded with the file, or flatbed.tree and flatbed.aliases if a seal covers
  // them.
  std::optional<ValueTree> tree;
  std::optional<std::string_view> tree_text;
  std::optional<std::string_view> aliases_text;
  std::uint32_t storages = 0;  // upper bound: each tensor's `storage` is less
};

// A part of the file whose CRC-32 the file states, such as an entry of a zip.
struct ContainerRecord {
  std::string_view name;
  std::uint64_t data_offset = 0;
  std::uint64_t stored_nbytes = 0;
  std::uint64_t nbytes = 0;  // after inflating
  std::uint32_t crc = 0;     // as stated, of the inflated bytes
  bool deflated = false;
  bool structure = false;  // open() reads it to find the tensors
  bool storage = false;    // it holds nothing but tensors' bytes; a sum of 0 may mean none
};

struct ContainerRecords {
  std::vector<ContainerRecord> list;
  bool state_crcs = false;  // false: the file has records but states 0 for each
};

// The record with a tensor's bytes, as a number in ContainerRecords::list.
struct TensorRecord {
  std::uint32_t number = 0;
  bool whole = false;     // the tensor's contents are exactly the record
  std::uint32_t crc = 0;  // as ContainerRecord's; 0: the record states none
};

// What the files of a set share while they are opened one after the other.
struct SetMemory {
  JsonScratch scratch;
  std::shared_ptr<TextPool> texts = std::make_shared<TextPool>();  // kept by the containers
};

// Requirements on a file, and the files next to it: those of a path, or of a name in a folder.
struct ContainerOptions {
  CheckSeal check_seal = CheckSeal::if_sealed;
  std::filesystem::path path;            // where to look for a sidecar; empty: no files are there
  SetMemory* set = nullptr;              // null: the file is opened alone
  const SourceFolder* folder = nullptr;  // that has `path`, a name; null: `path` is local
};

class Container {
 public:
  Container(const Container&) = delete;
  Container& operator=(const Container&) = delete;
  virtual ~Container();

  [[nodiscard]] const ByteSource& source() const noexcept { return *source_; }
  // For the checkpoint that keeps the container. Call once.
  [[nodiscard]] ContainerContents take_contents() { return std::move(contents_); }

  [[nodiscard]] virtual Layout layout() const noexcept = 0;

  // Fills `out` from byte `offset` of the contiguous contents of tensor `number`. The range is
  // checked, and the tensor is neither plain nor held. Errors: those of ByteSource::read_at() and
  // of the encoding. The default is for formats that store all tensors plainly.
  [[nodiscard]] virtual Result<void> read(std::uint32_t number, std::uint64_t offset,
                                          std::span<std::byte> out) const;
  // The same, but the bytes come from ByteSource::reread_at(). A record that is unpacked begins
  // anew, unless this reread continues where the last one of the record ended. The default calls
  // read().
  [[nodiscard]] virtual Result<void> reread(std::uint32_t number, std::uint64_t offset,
                                            std::span<std::byte> out) const;

  // The contents of a tensor that is Stored::held.
  [[nodiscard]] virtual std::span<const std::byte> held(std::uint32_t number) const;

  // All records; none if the format has no checksums of its own.
  [[nodiscard]] virtual ContainerRecords records() const;
  // nullopt if no record has bytes of the tensor.
  [[nodiscard]] virtual std::optional<TensorRecord> record_of(std::uint32_t number) const;

  // Reads the bytes that describe the data, which a sidecar also covers; empty if there are none.
  // Errors: those of ByteSource::read_at().
  [[nodiscard]] virtual Result<ByteBuffer> read_raw_header() const;

  // All bytes of the source: its own memory, or a mapping created on the first call. Errors: those
  // of MappedFile::map().
  [[nodiscard]] Result<std::span<const std::byte>> bytes() const;

 protected:
  explicit Container(std::shared_ptr<const ByteSource> source);

  [[nodiscard]] ContainerContents& contents() noexcept { return contents_; }

 private:
  std::shared_ptr<const ByteSource> source_;
  ContainerContents contents_;
  mutable std::once_flag map_once_;
  mutable std::optional<Result<MappedFile>> mapping_;
};

}  // namespace flatbed
