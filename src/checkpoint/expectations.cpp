// expectations(): what another checkpoint has; and the reader of expectations as JSON.
#include <cstdint>
#include <filesystem>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/json.hpp"
#include "base/str_cat.hpp"
#include "flatbed/match.hpp"
#include "io/file.hpp"
#include "io/name_index.hpp"
#include "io/read_text.hpp"

namespace flatbed {

namespace {

constexpr std::uint64_t kMaxNbytes = 100'000'000;
constexpr JsonRules kRules{ErrorCode::invalid_argument, ErrorCode::invalid_argument,
                           ErrorCode::invalid_argument, ErrorCode::invalid_argument, 3};

template <typename... Parts>
Error malformed(std::string_view name, const Parts&... parts) {
  return make_error(ErrorCode::invalid_argument, "expected tensor ", quoted(name), ": ", parts...);
}

Result<void> check_size(std::uint64_t nbytes) {
  if (nbytes <= kMaxNbytes) return {};
  return make_error(ErrorCode::limit_exceeded, "too many bytes of expectations: found ", nbytes,
                    ", the limit is ", kMaxNbytes);
}

Result<std::vector<std::uint64_t>> parse_shape(JsonValue value, std::string_view name) {
  constexpr std::string_view kWhat = "the shape is not null or an array of integers in [0, 2^63)";
  if (!value.is_array()) return malformed(name, kWhat);
  std::vector<std::uint64_t> shape;
  shape.reserve(value.size_hint());
  for (JsonValue item = value.first(); !item.at_end(); item = item.next()) {
    const std::optional<std::uint64_t> size = item.as_unsigned();
    if (!size || *size > std::numeric_limits<std::int64_t>::max()) return malformed(name, kWhat);
    shape.push_back(*size);
  }
  return shape;
}

Result<Dtype> parse_dtype_of(JsonValue value, std::string_view name) {
  if (!value.is_string()) return malformed(name, "the dtype is not null or a text");
  if (const std::optional<Dtype> dtype = parse_dtype(value.text())) return *dtype;
  return malformed(name, "unknown dtype: found ", quoted(value.text()),
                   ", expected a name of safetensors such as 'F32' or 'BF16'");
}

Result<void> parse_entry(JsonValue value, Expected& expected) {
  if (value.is_null()) return {};
  if (!value.is_object()) return malformed(expected.name, "the entry is not null or an object");
  bool has_shape = false;
  bool has_dtype = false;
  for (JsonValue key = value.first(); !key.at_end();) {
    const JsonValue member = key.member();
    bool* const seen = key.text() == "shape"   ? &has_shape
                       : key.text() == "dtype" ? &has_dtype
                                               : nullptr;
    if (seen == nullptr) {
      return malformed(expected.name, "unknown member: found ", quoted(key.text()),
                       ", expected 'shape' or 'dtype'");
    }
    if (std::exchange(*seen, true))
      return malformed(expected.name, "has ", quoted(key.text()), " twice");
    if (!member.is_null() && seen == &has_shape) {
      FLATBED_ASSIGN(expected.shape, parse_shape(member, expected.name));
    } else if (!member.is_null()) {
      FLATBED_ASSIGN(expected.dtype, parse_dtype_of(member, expected.name));
    }
    key = member.next();
  }
  return {};
}

}  // namespace

std::vector<Expected> expectations(const Checkpoint& checkpoint) {
  std::vector<Expected> out;
  out.reserve(checkpoint.tensors().size());
  for (const TensorInfo& tensor : checkpoint.tensors()) {
    out.push_back({std::string(tensor.name),
                   std::vector<std::uint64_t>(tensor.shape.begin(), tensor.shape.end()),
                   tensor.dtype});
  }
  for (const Alias& alias : checkpoint.aliases()) {
    if (const TensorInfo* target = checkpoint.find(alias.target))
      out[target->index].other_names.push_back(alias.name);
  }
  return out;
}

Result<std::vector<Expected>> parse_expectations(std::string_view json) {
  FLATBED_TRY(check_size(json.size()));
  FLATBED_ASSIGN(const JsonDocument document, JsonDocument::parse_copy(json, kRules));
  const JsonValue root = document.root();
  if (!root.is_object()) {
    return make_error(ErrorCode::invalid_argument,
                      "the expectations are not a JSON object of names");
  }
  std::vector<Expected> out;
  out.reserve(root.size_hint());
  NameIndex names(root.size_hint());
  for (JsonValue key = root.first(); !key.at_end();) {
    const JsonValue value = key.member();
    const auto number = static_cast<std::uint32_t>(out.size());
    out.push_back({std::string(key.text())});
    const auto name_of = [&](std::uint32_t i) { return std::string_view(out[i].name); };
    if (names.insert(key.text(), number, name_of))
      return malformed(key.text(), "the name is there twice");
    FLATBED_TRY(parse_entry(value, out.back()));
    key = value.next();
  }
  return out;
}

Result<std::vector<Expected>> read_expectations(const std::filesystem::path& path) {
  FLATBED_ASSIGN(const File file, File::open(path));
  const Result<std::string> text = read_text(file, {kMaxNbytes, "the file of expectations"});
  if (!text) return with_context(path.native(), text.error());
  Result<std::vector<Expected>> parsed = parse_expectations(*text);
  if (!parsed) return with_context(path.native(), std::move(parsed).error());
  return parsed;
}

}  // namespace flatbed
