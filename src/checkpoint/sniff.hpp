// sniff(): the kind of a file, from its first bytes. The content decides, not the file's extension;
// only parts of a distributed checkpoint, which look like files of torch.save, are told by their
// extension. open_container(): opens the file with its format.
#pragma once

#include "flatbed/byte_source.hpp"
#include "flatbed/result.hpp"
#include "io/container.hpp"

namespace flatbed {

enum class Content : std::uint8_t { safetensors, zip, json, pickle, tar };

// Whether it may be a PyTorch file.
[[nodiscard]] constexpr bool is_torch(Content content) noexcept {
  return content == Content::zip || content == Content::pickle || content == Content::tar;
}

// Errors: unsupported_format and unsupported_layout, which name the kind of file and what to do;
// unknown_format. Files that may be meant as safetensors are left to that reader's rules.
[[nodiscard]] Result<Content> sniff(const ByteSource& file);

// Opens a file by the result of sniff(). Errors: those of the format; unsupported_format (a JSON
// text).
[[nodiscard]] Result<std::unique_ptr<Container>> open_container(
    std::shared_ptr<const ByteSource> source, Content content, const ContainerOptions& options);

}  // namespace flatbed
