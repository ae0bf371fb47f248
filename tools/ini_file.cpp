#include "ini_file.hpp"

#include <cctype>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>
#include <utility>

namespace flatbed::tool {
namespace {

constexpr std::size_t kMaxText = std::size_t{1} << 20;
constexpr std::string_view kBlanks = " \t\r\f\v";

std::string_view trimmed(std::string_view text) {
  const std::size_t begin = text.find_first_not_of(kBlanks);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(kBlanks) - begin + 1);
}

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return out;
}

// [profile "team a"] and [profile team a] are one section.
std::string section_name(std::string_view text) {
  std::string name;
  for (const char c : trimmed(text)) {
    if (c != '"' && c != '\'') name += c;
  }
  return name;
}

// Reads line after line. Indented lines belong to the key above them.
class Parser {
 public:
  explicit Parser(std::map<std::string, IniFile::Section, std::less<>>& sections)
      : sections_(sections) {}

  // What is wrong with the line; null: nothing.
  const char* take(std::string_view line);

 private:
  const char* take_section(std::string_view text);

  std::map<std::string, IniFile::Section, std::less<>>& sections_;
  IniFile::Section* section_ = nullptr;
  std::string key_;  // the last one that was not indented
};

const char* Parser::take(std::string_view line) {
  const std::string_view text = trimmed(line);
  if (text.empty() || text[0] == '#' || text[0] == ';') return nullptr;
  if (text[0] == '[') return take_section(text);
  if (section_ == nullptr) return "found a line before the first [section]";
  const bool indented = kBlanks.find(line[0]) != std::string_view::npos;
  const std::size_t equals = text.find('=');
  if (equals == std::string_view::npos)
    return indented ? nullptr : "found no '=', expected \"key = value\"";
  const std::string key = lower(trimmed(text.substr(0, equals)));
  if (key.empty()) return "found no key before '='";
  std::string value(trimmed(text.substr(equals + 1)));
  if (indented && !key_.empty()) {
    (*section_)[key_ + '.' + key] = std::move(value);
    return nullptr;
  }
  key_ = key;
  (*section_)[key] = std::move(value);
  return nullptr;
}

const char* Parser::take_section(std::string_view text) {
  const std::size_t end = text.find(']');
  if (end == std::string_view::npos) return "found a section without ']'";
  section_ = &sections_[section_name(text.substr(1, end - 1))];
  key_.clear();
  return nullptr;
}

}  // namespace

Result<IniFile> IniFile::parse(std::string_view text, std::string_view label) {
  IniFile file;
  Parser parser(file.sections_);
  std::size_t number = 0;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    number += 1;
    if (const char* wrong = parser.take(text.substr(0, end)); wrong != nullptr) {
      return Error{ErrorCode::invalid_argument,
                   std::string(label) + ": line " + std::to_string(number) + ": " + wrong};
    }
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return file;
}

Result<IniFile> IniFile::read(const std::filesystem::path& path) {
  FLATBED_ASSIGN(const std::optional<std::string> text, read_small_file(path));
  return parse(text.value_or(""), path.native());
}

const IniFile::Section* IniFile::find(std::string_view name) const {
  const auto found = sections_.find(name);
  return found == sections_.end() ? nullptr : &found->second;
}

std::optional<std::string> value_of(const IniFile::Section* section, std::string_view key) {
  if (section == nullptr) return std::nullopt;
  const auto found = section->find(key);
  if (found == section->end() || found->second.empty()) return std::nullopt;
  return found->second;
}

Result<std::optional<std::string>> read_small_file(const std::filesystem::path& path) {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "rbe"),
                                                             &std::fclose);
  if (!file) {
    const int failed = errno;
    if (failed == ENOENT || failed == ENOTDIR) return std::optional<std::string>();
    return Error{failed == EACCES ? ErrorCode::permission_denied : ErrorCode::io_error,
                 path.native() + ": cannot be opened: " + std::strerror(failed)};
  }
  std::string text(kMaxText + 1, '\0');
  text.resize(std::fread(text.data(), 1, text.size(), file.get()));
  if (std::ferror(file.get()) != 0)
    return Error{ErrorCode::io_error, path.native() + ": cannot be read"};
  if (text.size() > kMaxText)
    return Error{ErrorCode::limit_exceeded, path.native() + ": more than 1 MiB, the limit"};
  return std::optional<std::string>(std::move(text));
}

}  // namespace flatbed::tool
