// NumPy's array files (.npy): what numpy.load(allow_pickle=True) would run. The data of an array of
// objects is a pickle; the data of all other arrays is numbers.
#pragma once

#include <span>
#include <string>

#include "scan/scan_bytes.hpp"
#include "scan/scan_log.hpp"
#include "scan/stream_scan.hpp"

namespace flatbed::pth {

[[nodiscard]] bool is_npy(std::span<const std::byte> head) noexcept;

// Scans a file or record that begins like an array file, and what follows the array. Returns what
// it is. It does not read the data of an array of numbers.
std::string scan_npy(ScanBytes& bytes, ScanLog& log, const RecordScan& scan);

}  // namespace flatbed::pth
