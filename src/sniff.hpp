// sniff(): what a file is, by its first bytes. Content decides, never the file's extension.
#pragma once

#include "flatbed/result.hpp"
#include "io/file.hpp"

namespace flatbed {

enum class Content : std::uint8_t { safetensors, zip, json };

// Errors: unsupported_format and unsupported_layout, naming what the file is and what
// to do; unknown_format. Files that may be meant as safetensors are left to that reader's rules.
[[nodiscard]] Result<Content> sniff(const File& file);

}  // namespace flatbed
