// save(): writes a checkpoint. convert, merges and engines all describe a file as a SavePlan and
// pass it to this function.
//
//   SavePlan plan;
//   plan.items.push_back({"weight", Dtype::f32, {2, 2}, std::as_bytes(std::span(values))});
//   FLATBED_ASSIGN(const SaveReport report, save("out.safetensors", plan));
//
// The file is a valid .safetensors file, laid out, aligned and sealed as spec/FORMAT.md specifies
// (L, S, T). It is written without a name, synced and then given its name, so readers see the old
// file or the complete new one. A killed process leaves nothing, or, where a file was being
// replaced or the file system has no unnamed files, a temporary that the next save in the directory
// removes. A symbolic link at the target is replaced, not followed.
//
// The file gets the permission bits that all files read by the plan share, never setuid or setgid.
// If their group cannot be kept, the new file's group gets no more rights than others. A plan that
// reads only memory takes the permissions of the file that it replaces, or the process's default.
//
// Memory is bounded whatever the size: 64 MiB, and 1 KiB per tensor.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>

#include "flatbed/byte_sink.hpp"
#include "flatbed/cast.hpp"
#include "flatbed/crc.hpp"
#include "flatbed/export.hpp"
#include "flatbed/progress.hpp"
#include "flatbed/result.hpp"
#include "flatbed/save_plan.hpp"

namespace flatbed {

// How a file is laid out. `safetensors`: byte for byte as the safetensors library writes it, for
// programs that compare files; only unsealed. Tensors are sorted by dtype and name and not aligned
// to pages, and "format" is not added. The library writes metadata of two or more pairs in random
// order; here it is in name order.
enum class FileLayout : std::uint8_t { flatbed, safetensors };

struct SaveOptions {
  bool seal = true;
  bool sync = true;     // false: no fsync; the file is complete but may not survive a power failure
  bool replace = true;  // false: an existing target is file_exists
  bool dry_run = false;             // true: check everything and write nothing
  bool allow_large_header = false;  // over 25,000,000 bytes; the Hub and others refuse such files
  // Whether a record of a source zip that states no CRC is the error zip_crc_mismatch, too, instead
  // of a finding in the report. Records are then read whole to be checked, even if little of them
  // is needed. A dry run only finds out whether there are CRCs. Default: false.
  bool strict_crc = false;
  // Whether the bytes of sealed sources are compared with their digests. Default: yes.
  Verify verify = Verify::yes;
  // Whether a record of a source zip that does not match its CRC is only a finding in the report.
  // It is not read again then. Default: false, which makes it the error zip_crc_mismatch.
  bool ignore_crc = false;
  // That read and hash; at most 16 are used. Tensors of sources that prefer reads of megabytes,
  // such as files on servers, are read by four threads whatever this says, because they wait.
  unsigned threads = 2;
  // Called on the calling thread, at most every few MiB.
  ProgressCallback progress = {};
  // May be set from any thread: save() stops, removes what it wrote, and returns cancelled.
  const std::atomic<bool>* cancel = nullptr;
  FileLayout layout = FileLayout::flatbed;
  // With FileLayout::safetensors: whether metadata without pairs is written, as {}, which some
  // readers refuse. Default: false.
  bool empty_metadata = false;
};

// committed: complete and durable. durability_unknown: complete and visible, but the directory
// could not be synced (or options.sync was off). If the file was not committed, save() returns an
// Error: the target is unchanged and no temporary file is left.
enum class Durability : std::uint8_t { committed, durability_unknown };

struct SaveReport {
  Durability durability = Durability::committed;
  std::uint64_t nbytes = 0;  // size of the file
  std::uint64_t header_nbytes = 0;
  std::string content;  // the seal's content digest; empty if unsealed
  std::string durability_note;
  // For the sources that are PyTorch zips: every record that was used, and those of the structure.
  // A record is summed while it is copied. If only part of it is copied, or in another order, it is
  // read once more, unless it is large and less than a quarter of it was needed.
  CrcReport crc;
  CastReport casts;  // of the tensors that Checkpoint::cast() casts
  // Chunks that were read once more because they, or the CRC of their record, did not match, from
  // sources where bytes may be damaged on the way (ByteSource::max_rereads()).
  std::uint64_t chunks_reread = 0;
};

// Blocking. May be called from several threads for different targets.
[[nodiscard]] FLATBED_EXPORT Result<SaveReport> save(const std::filesystem::path& path,
                                                     const SavePlan& plan,
                                                     const SaveOptions& options = {});

// The same file, written to `sink`, which is begun and, unless it is a dry run, committed. `sync`
// and `replace` have no effect: what is already there is the sink's business. Memory: that of
// save() and of the sink. Errors: those of save() that have nothing to do with the new file, those
// of the sink.
[[nodiscard]] FLATBED_EXPORT Result<SaveReport> save(ByteSink& sink, const SavePlan& plan,
                                                     const SaveOptions& options = {});

// Returns memory of `nbytes` bytes; it must stay valid until save_memory() returns.
using AllocateFile = std::function<Result<std::span<std::byte>>(std::uint64_t nbytes)>;

// Writes the file that save() would write into memory. `allocate` is called at most once, on the
// calling thread, when the size is known. `sync` and `replace` have no effect; a dry run allocates
// nothing. Errors: those of save() that have nothing to do with the new file, those of `allocate`;
// buffer_too_small if it returns memory of another size.
[[nodiscard]] FLATBED_EXPORT Result<SaveReport> save_memory(const SavePlan& plan,
                                                            const AllocateFile& allocate,
                                                            const SaveOptions& options = {});

// Seals a safetensors file that must not change: writes <path>.flatbed.json beside it (spec C1),
// atomically.
[[nodiscard]] FLATBED_EXPORT Result<SaveReport> save_sidecar(const std::filesystem::path& path,
                                                             const SaveOptions& options = {});

}  // namespace flatbed
