// read_leaves(): what an XML document says, as far as S3 answers need it: the elements that hold
// text and no other elements, with their path. Documents with a DTD, which could define entities,
// are refused. Pure.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "flatbed/result.hpp"

namespace flatbed::remote {

// Called for <Error><Code>NoSuchKey</Code></Error> with "Error/Code" and "NoSuchKey". Elements that
// hold others are not told, nor is text between them.
using OnLeaf = std::function<void(std::string_view path, std::string_view text)>;

// Errors: http_protocol: not well-formed, a DTD, more than 16 levels, more than 64 KiB in an
// element.
[[nodiscard]] Result<void> read_leaves(std::string_view document, const OnLeaf& on_leaf);

// `text` as the text of an element.
[[nodiscard]] std::string escape_xml(std::string_view text);

}  // namespace flatbed::remote
