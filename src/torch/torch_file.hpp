// TorchFile: the contents of a PyTorch file; and read_torch_zip(), which reads files of torch >=
// 1.6 and TorchScript archives without running any of their code. torch_pickle.hpp and
// torch_tar.hpp read the other layouts.
//
// The result is plain data: a value tree whose tensor nodes are numbers of `tensors`, the tensors
// as views into storages, and the place of each storage in the file. The checkpoint assigns the
// names.
#pragma once

#include <cstdint>
#include <deque>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "archive/zip_entry.hpp"
#include "flatbed/byte_source.hpp"
#include "flatbed/dtype.hpp"
#include "flatbed/result.hpp"
#include "flatbed/value.hpp"
#include "io/large_allocator.hpp"
#include "pickle/pickle_stream.hpp"

namespace flatbed::pth {

inline constexpr std::uint32_t kNoRecord = 0xFFFFFFFF;

// One whole storage. In a zip it is the record data/<key>.
struct TorchStorage {
  std::string key;
  std::uint64_t nbytes = 0;         // of the storage after inflating
  std::uint64_t stored_offset = 0;  // offset of its first stored byte in the file, or in held[held]
  std::uint64_t stored_nbytes = 0;
  // Into TorchFile::held, if the file has its bytes only in encoded form.
  std::uint32_t held = kNotHeld;
  std::uint32_t record = kNoRecord;  // into TorchFile::zip.entries
  bool deflated = false;
  std::uint32_t swap_unit = 1;  // if > 1: big endian, reversed in units of this many bytes
};

inline constexpr std::uint32_t kNoStorage = 0xFFFFFFFF;

// One dense tensor, as torch sees it (sizes, strides) and as it will be stored (dtype, stored
// shape, spec T6).
struct TorchTensor {
  std::uint32_t storage = kNoStorage;  // if kNoStorage, the contents are held[held]
  std::uint32_t held = 0;
  Dtype dtype = Dtype::u8;           // stored dtype
  std::uint32_t element_nbytes = 1;  // of one torch element (16 for complex128)
  std::uint32_t rank = 0;            // of torch's sizes and strides
  std::uint32_t stored_rank = 0;
  std::size_t dims = 0;  // into TorchFile::dims: rank sizes, rank strides, stored_rank stored sizes
  std::uint64_t offset = 0;  // in the storage, in elements
  std::uint64_t nbytes = 0;  // of the contiguous contents
  // The contents are the bytes at offset, except for byte order and deflation.
  bool contiguous = true;
  bool conjugate = false;  // imaginary parts must be negated
  bool negate = false;     // all (real) values must be negated
};

enum class TorchLayout : std::uint8_t { zip, legacy, tar, pickle, script };

struct TorchFile {
  TorchLayout layout = TorchLayout::zip;
  ValueTree tree;
  LargeVector<TorchStorage> storages;
  // Equal views of one storage are one tensor (spec A1), except empty ones.
  LargeVector<TorchTensor> tensors;
  LargeVector<std::uint64_t> dims;
  std::deque<std::string> held;    // contents of long bytes objects, which never move
  ZipRecords zip;                  // if it is a zip: all its records
  std::vector<std::string> notes;  // facts for the user, such as dropped hooks
};

// The bytes of a tensor that is held. It is contiguous, or has no storage.
[[nodiscard]] std::span<const std::byte> held_bytes(const TorchFile& file,
                                                    const TorchTensor& tensor);

// Advice for users who open a distributed checkpoint.
inline constexpr std::string_view kDistributedAdvice =
    "a distributed checkpoint or a part of one; in Python, "
    "torch.distributed.checkpoint.format_utils.dcp_to_torch_save(folder, file) makes one file that "
    "flatbed reads";

// Bytes objects longer than this become tensors of their own (spec T2).
inline constexpr std::size_t kLongBytes = 1024;

// `file` begins with a zip local header. Errors: zip_*, pickle_*, the torch group, and
// unsupported_layout (zips that neither torch.save nor torch.jit.save wrote).
[[nodiscard]] Result<TorchFile> read_torch_zip(const ByteSource& file);

}  // namespace flatbed::pth
