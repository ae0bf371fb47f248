// scan_zip_file(): the pickles of a zip, whichever reader takes which for the checkpoint's.
#pragma once

#include <string>

#include "flatbed/byte_source.hpp"
#include "flatbed/result.hpp"
#include "scan/scan_log.hpp"

namespace flatbed::pth {

// Scans data.pkl, every other record that is called a pickle or begins like one, and what readers
// see that go by local headers. Returns what the file is. Errors: those of File::read_at.
[[nodiscard]] Result<std::string> scan_zip_file(const ByteSource& file, ScanLog& log);

}  // namespace flatbed::pth
