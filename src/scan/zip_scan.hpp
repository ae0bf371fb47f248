// scan_zip_file(): scans the pickles of a zip, whichever one a reader takes for the checkpoint's.
#pragma once

#include <string>

#include "flatbed/byte_source.hpp"
#include "flatbed/result.hpp"
#include "scan/scan_log.hpp"

namespace flatbed::pth {

// Scans data.pkl, every other record that has a pickle's name or begins like one, arrays of NumPy,
// files within the zip, and what readers of local headers see. The records that a pickle uses as
// storages are data, whatever they look like. `depth` as in scan_content(). Returns what the file
// is. Errors: those of File::read_at.
[[nodiscard]] Result<std::string> scan_zip_file(const ByteSource& file, ScanLog& log,
                                                unsigned depth);

}  // namespace flatbed::pth
