#include "xml.hpp"

#include <expat.h>

#include <climits>
#include <memory>
#include <string>
#include <type_traits>

#include "text.hpp"

namespace flatbed::remote {

namespace {

constexpr std::size_t kMaxDepth = 16;
constexpr std::size_t kMaxText = 64 << 10;

struct FreeParser {
  void operator()(XML_Parser parser) const noexcept { XML_ParserFree(parser); }
};
using Parser = std::unique_ptr<std::remove_pointer_t<XML_Parser>, FreeParser>;

// Gets what expat finds. Its functions are called by C, and let no exception out: strings of a
// bounded size may fail to grow only where the process is out of memory.
class LeafReader {
 public:
  LeafReader(XML_Parser parser, const OnLeaf& on_leaf) : parser_(parser), on_leaf_(on_leaf) {
    XML_SetUserData(parser, this);
    XML_SetElementHandler(parser, on_start, on_end);
    XML_SetCharacterDataHandler(parser, on_text);
    XML_SetStartDoctypeDeclHandler(parser, on_doctype);
  }

  [[nodiscard]] std::string_view refused() const noexcept { return refused_; }

 private:
  static void on_start(void* self, const char* name, const char**) {
    static_cast<LeafReader*>(self)->start(name);
  }
  static void on_end(void* self, const char*) { static_cast<LeafReader*>(self)->end(); }
  static void on_text(void* self, const char* text, int nbytes) {
    static_cast<LeafReader*>(self)->add({text, static_cast<std::size_t>(nbytes)});
  }
  static void on_doctype(void* self, const char*, const char*, const char*, int) {
    static_cast<LeafReader*>(self)->refuse("it has a DTD");
  }

  void refuse(std::string_view what) {
    refused_ = what;
    XML_StopParser(parser_, XML_FALSE);
  }
  void start(std::string_view name) {
    if (++depth_ > kMaxDepth || name.size() > kMaxText)
      return refuse("it nests more than 16 levels");
    if (!path_.empty()) path_ += '/';
    path_ += name;
    text_.clear();
    leaf_ = true;
  }
  void end() {
    if (leaf_) on_leaf_(path_, text_);
    leaf_ = false;
    --depth_;
    const std::size_t slash = path_.rfind('/');
    path_.resize(slash == std::string::npos ? 0 : slash);
  }
  void add(std::string_view text) {
    if (!leaf_) return;
    if (text_.size() + text.size() > kMaxText) return refuse("an element has more than 64 KiB");
    text_ += text;
  }

  XML_Parser parser_;
  const OnLeaf& on_leaf_;
  std::string path_;
  std::string text_;
  std::size_t depth_ = 0;
  bool leaf_ = false;
  std::string_view refused_;
};

}  // namespace

Result<void> read_leaves(std::string_view document, const OnLeaf& on_leaf) {
  const Parser parser(XML_ParserCreate("UTF-8"));
  if (!parser) return error_of(ErrorCode::resource_exhausted, "out of memory");
  if (document.size() > INT_MAX)
    return error_of(ErrorCode::http_protocol, "the XML of the answer is too long");
  const LeafReader reader(parser.get(), on_leaf);
  const XML_Status status =
      XML_Parse(parser.get(), document.data(), static_cast<int>(document.size()), XML_TRUE);
  if (status == XML_STATUS_OK) return {};
  const std::string_view why =
      reader.refused().empty() ? XML_ErrorString(XML_GetErrorCode(parser.get())) : reader.refused();
  return error_of(ErrorCode::http_protocol, "the XML of the answer is refused at byte ",
                  XML_GetCurrentByteIndex(parser.get()), ": ", why);
}

std::string escape_xml(std::string_view text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

}  // namespace flatbed::remote
