// verify(): reads every byte of a checkpoint and checks it against its seal, or against the CRCs
// that a PyTorch zip states for its records. Memory is bounded. Sealed files that are in the page
// cache may be read there, under a lease, as load() does it (IoMode).
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include "flatbed/checkpoint.hpp"
#include "flatbed/crc.hpp"
#include "flatbed/export.hpp"
#include "flatbed/progress.hpp"
#include "flatbed/result.hpp"

namespace flatbed {

struct VerifyOptions {
  // That read. If a source prefers reads of 1 MiB or more, as over a network, there are 4, which
  // take up to 32 MiB.
  unsigned threads = 2;
  // Called from the calling thread. An error stops verify(), which returns it.
  ProgressCallback progress = {};
  const std::atomic<bool>* cancel = nullptr;
};

// A run of bytes that does not match: whole chunks, with adjacent ones joined.
struct DamagedRange {
  std::uint32_t file = 0;    // index into Checkpoint::files()
  std::uint32_t tensor = 0;  // index into Checkpoint::tensors()
  std::uint64_t begin = 0;   // within the tensor, or the stored one that it is made of, in bytes
  std::uint64_t end = 0;
};

struct VerifyReport {
  std::uint64_t bytes_checked = 0;  // bytes compared with digests or CRCs
  std::uint64_t chunks_checked = 0;
  // Chunks that were read once more because they, or the CRC of their record, did not match, from
  // sources where bytes may be damaged on the way (ByteSource::max_rereads()).
  std::uint64_t chunks_reread = 0;
  std::vector<DamagedRange> damaged;  // at most 10,000, in order of tensor and offset
  bool damaged_complete = true;       // false: there are more
  CrcReport crc;                      // of all records of PyTorch zips
};

// Checks every chunk that has a digest and every record that has a CRC. Damage is a result, not an
// error. Errors: those of the system, file_changed, cancelled, zip_deflate_malformed for a record
// that cannot be inflated, and shard_tensor_missing for an undamaged set that lacks a tensor of its
// index. For a checkpoint without digests and CRCs the report is empty.
[[nodiscard]] FLATBED_EXPORT Result<VerifyReport> verify(const Checkpoint& checkpoint,
                                                         const VerifyOptions& options = {});

}  // namespace flatbed
