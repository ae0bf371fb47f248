// scan_content(): scans bytes in each way in which a loader could read them, whatever they are: a
// file, a compressed file's contents, a file in an archive.
#pragma once

#include <string>

#include "checkpoint/sniff.hpp"
#include "flatbed/byte_source.hpp"
#include "flatbed/result.hpp"
#include "scan/scan_log.hpp"

namespace flatbed::pth {

// `content` is the result of sniff(), and `depth` the number of archives and compressed files
// around the bytes, at most kMaxScanDepth. Returns what the bytes are: "a zip of torch.save".
// Errors: those of File::read_at.
[[nodiscard]] Result<std::string> scan_content(const ByteSource& file,
                                               const Result<Content>& content, ScanLog& log,
                                               unsigned depth = 0);

// Scans a file in an archive as scan_content() does. `record` is its name in findings. Model files
// in use contain no such file, so its presence is itself a finding.
void scan_inner_file(const ByteSource& file, std::string_view record, ScanLog& log, unsigned depth);

// The kind of archive or compressed file that begins like this; empty if it is none: "a 7z file".
[[nodiscard]] std::string inner_file_kind(std::span<const std::byte> head);

}  // namespace flatbed::pth
