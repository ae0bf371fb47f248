// save(): the one writer. convert, merges and engines all describe a file as a SavePlan and hand it
// here.
//
//   SavePlan plan;
//   plan.items.push_back({"weight", Dtype::f32, {2, 2}, std::as_bytes(std::span(values))});
//   FLATBED_ASSIGN(const SaveReport report, save("out.safetensors", plan));
//
// The file is a valid .safetensors file, laid out, aligned and sealed as spec/FORMAT.md says (L, S,
// T). It is written to a temporary file beside the target, synced and renamed: readers see the old
// file or the complete new one. Memory is bounded whatever the size: 64 MiB, and 1 KiB per tensor.
#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <string>

#include "flatbed/crc.hpp"
#include "flatbed/export.hpp"
#include "flatbed/progress.hpp"
#include "flatbed/result.hpp"
#include "flatbed/save_plan.hpp"

namespace flatbed {

struct SaveOptions {
  bool seal = true;
  bool sync = true;      // false: no fsync; the file is complete but may not survive a power cut
  bool replace = true;   // false: an existing target is file_exists
  bool dry_run = false;  // true: everything is checked, nothing is written
  bool allow_large_header = false;  // above 25,000,000 bytes, which the Hub and others refuse
  // A record of a source zip whose bytes have another CRC than it states, or no CRC at all, is
  // zip_crc_mismatch instead of a finding in the report. Records are then read whole to be checked,
  // however little of them is wanted. A dry run finds out only whether there are CRCs.
  bool strict_crc = false;
  unsigned threads = 2;  // that read and hash; at most 16 are used
  // Called from the calling thread, at most every few MiB. An error stops save(), which removes
  // what it wrote and returns that error.
  ProgressCallback progress = {};
  // Set from anywhere: save() stops, removes what it wrote, says cancelled.
  const std::atomic<bool>* cancel = nullptr;
};

// committed: complete and durable. durability_unknown: complete and visible, but the directory
// could not be synced (or options.sync was off). Not committed is an Error: the target is as it was
// and nothing is left beside it.
enum class Durability : std::uint8_t { committed, durability_unknown };

struct SaveReport {
  Durability durability = Durability::committed;
  std::uint64_t nbytes = 0;  // of the file
  std::uint64_t header_nbytes = 0;
  std::string content;  // the seal's content digest; empty when unsealed
  std::string durability_note;
  // Of the sources that are PyTorch zips: every record of which something was taken, and those of
  // the structure. A record is summed while it is copied. Where only a part of it is, or in another
  // order, it is read once more, unless it is large and less than a quarter of it was wanted.
  CrcReport crc;
};

// Blocking; may be called from several threads for different targets.
[[nodiscard]] FLATBED_EXPORT Result<SaveReport> save(const std::filesystem::path& path,
                                                     const SavePlan& plan,
                                                     const SaveOptions& options = {});

// Seals a safetensors file that must not change: writes <path>.flatbed.json beside it (spec C1),
// atomically.
[[nodiscard]] FLATBED_EXPORT Result<SaveReport> save_sidecar(const std::filesystem::path& path,
                                                             const SaveOptions& options = {});

}  // namespace flatbed
