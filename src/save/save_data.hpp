// write_data(): writes the tensors' bytes of a new file, from wherever the plan has them, and
// hashes them on the way. The caller writes the header.
#pragma once

#include "flatbed/result.hpp"
#include "flatbed/save.hpp"
#include "io/atomic_file.hpp"
#include "safetensors/header_write.hpp"
#include "save/save_source.hpp"

namespace flatbed {

// Writes every item of `plan` to its place in `file`. With options.seal the digests of all chunks
// go to their slots in `header`. A sealed source is verified chunk by chunk with the same digests
// that the new file gets, and the records of a zip by their CRCs. Memory: 48 MiB for tensors that
// are strided or deflated, otherwise 1 MiB per thread. Errors: those of Checkpoint::read
// (chunk_corrupt, ...), no_space, io_error, cancelled, file_changed, zip_crc_mismatch.
[[nodiscard]] Result<DataReport> write_data(const SavePlan& plan, const SaveOptions& options,
                                            safetensors::NewHeader& header, AtomicFile& file);

}  // namespace flatbed
