// IniFile: sections of "key = value" lines, in the form in which the AWS command line keeps its
// settings:
//
//   # a comment, as is a line that begins with ;
//   [profile team a]
//   region = eu-west-1
//   s3 =
//     addressing_style = path          is the key "s3.addressing_style"
//
// Keys are in lower case, values as they stand, without blanks around them. Values are often
// secrets, so no message contains one. Plain data; thread-safe when const.
#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "flatbed/result.hpp"

namespace flatbed::tool {

class IniFile {
 public:
  using Section = std::map<std::string, std::string, std::less<>>;

  // Of several sections of one name, and keys of one section, the last value counts. Errors:
  // invalid_argument for a line that is none of the above, with its number; `label` names the file.
  [[nodiscard]] static Result<IniFile> parse(std::string_view text, std::string_view label);

  // An empty one where there is no such file. Errors: io_error, permission_denied, limit_exceeded
  // (1 MiB), and those of parse().
  [[nodiscard]] static Result<IniFile> read(const std::filesystem::path& path);

  // Null: there is none. Blanks in `name` are as in the file, quotes are not part of it.
  [[nodiscard]] const Section* find(std::string_view name) const;

 private:
  std::map<std::string, Section, std::less<>> sections_;
};

// The value of a key, or nothing where it is missing or empty.
[[nodiscard]] std::optional<std::string> value_of(const IniFile::Section* section,
                                                  std::string_view key);

// The whole text of a small file. nullopt: there is no such file. Errors: io_error,
// permission_denied, limit_exceeded (1 MiB).
[[nodiscard]] Result<std::optional<std::string>> read_small_file(const std::filesystem::path& path);

}  // namespace flatbed::tool
