// Recognizes files beside a model that no model loader runs, and files that are code. The name
// counts only for code and texts: a file with a model's name is judged as a model. Pure functions
// over a borrowed file.
#pragma once

#include <optional>
#include <span>
#include <string_view>

#include "flatbed/byte_source.hpp"

namespace flatbed::pth {

inline constexpr std::string_view kTextKind = "a text";

// Whether the name is one that a checkpoint's file has, such as "model.pth".
[[nodiscard]] bool is_model_name(std::string_view path);

// What a file is that Python or the system runs, by its name: "Python code".
[[nodiscard]] std::optional<std::string_view> code_kind(std::string_view path);

// A tokenizer of SentencePiece; or a text without control characters, an image, or an empty file,
// if it does not have a model's name. nullopt for anything else and for files that cannot be read.
[[nodiscard]] std::optional<std::string_view> harmless_kind(const ByteSource& file,
                                                            std::span<const std::byte> head);

// Whether the text has a tag by which YAML makes objects of Python, in any of the forms that
// PyYAML reads, or defines abbreviations of tags.
[[nodiscard]] bool has_python_tag(const ByteSource& file);
[[nodiscard]] bool has_python_tag(std::string_view text);
inline constexpr std::string_view kPythonYaml = "YAML that makes Python objects where it is loaded";

}  // namespace flatbed::pth
