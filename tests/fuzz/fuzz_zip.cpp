// A zip file: its directory, and every record of it.
#include "archive/zip_archive.hpp"
#include "fuzz/check.hpp"
#include "fuzz/targets.hpp"

namespace flatbed::fuzz {

void zip(std::string_view bytes) {
  constexpr std::uint64_t kMostRecord = 1 << 20;
  const MemorySource file = source_of(bytes);
  const Result<pth::ZipArchive> archive = pth::ZipArchive::open(file);
  if (!archive) return check_error(archive.error());
  for (const pth::ZipEntry& entry : archive->entries()) {
    require(archive->find(entry.name) == &entry, "an entry is found by its name");
    require(entry.data_offset <= bytes.size() &&
                entry.stored_nbytes <= bytes.size() - entry.data_offset,
            "an entry lies in the file");
    const Result<ByteBuffer> contents = pth::read_entry(file, entry, kMostRecord);
    if (!contents) {
      check_error(contents.error());
    } else {
      require(contents->size() == entry.nbytes, "a record has the size that its entry says");
    }
  }
}

}  // namespace flatbed::fuzz
