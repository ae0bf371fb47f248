// sniff(): what a file is, by its first bytes. Content decides, never the file's extension; only
// the parts of a distributed checkpoint, which look like what torch.save writes, are told by it.
#pragma once

#include "flatbed/result.hpp"
#include "io/file.hpp"

namespace flatbed {

enum class Content : std::uint8_t { safetensors, zip, json, pickle, tar };

// Whether it may be a PyTorch file.
[[nodiscard]] constexpr bool is_torch(Content content) noexcept {
  return content == Content::zip || content == Content::pickle || content == Content::tar;
}

// Errors: unsupported_format and unsupported_layout, naming what the file is and what
// to do; unknown_format. Files that may be meant as safetensors are left to that reader's rules.
[[nodiscard]] Result<Content> sniff(const File& file);

}  // namespace flatbed
