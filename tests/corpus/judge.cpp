#include "corpus/judge.hpp"

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <map>
#include <optional>

#include "base/json.hpp"
#include "base/str_cat.hpp"
#include "flatbed/checkpoint.hpp"
#include "flatbed/verify.hpp"
#include "support/show.hpp"

namespace flatbed::corpus {

namespace {

constexpr std::size_t kPiece = 1 << 20;
constexpr std::uint64_t kReadInFull = 64 << 20;  // of a larger tensor the ends are read
constexpr JsonRules kRules{ErrorCode::header_not_utf8, ErrorCode::header_not_json,
                           ErrorCode::header_not_json, ErrorCode::header_too_deep, 8};

std::string hex_of(const std::vector<std::byte>& bytes) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string out;
  for (const std::byte b : bytes) {
    out += kDigits[static_cast<unsigned>(b) >> 4];
    out += kDigits[static_cast<unsigned>(b) & 15];
  }
  return out;
}

void read_tensors(JsonValue list, Case& one) {
  one.has_tensors = true;
  for (JsonValue row = list.first(); !row.at_end(); row = row.next()) {
    WantedTensor tensor;
    JsonValue item = row.first();
    tensor.name = item.text();
    item = item.next();
    tensor.dtype = item.text();
    item = item.next();
    for (JsonValue size = item.first(); !size.at_end(); size = size.next())
      tensor.shape.push_back(size.as_unsigned().value_or(0));
    tensor.hex = item.next().text();
    one.tensors.push_back(std::move(tensor));
  }
}

std::optional<Case> read_case(const std::string& line) {
  const Result<JsonDocument> json = JsonDocument::parse_copy(line, kRules);
  if (!json || !json->root().is_object()) return std::nullopt;
  Case one;
  for (JsonValue key = json->root().first(); !key.at_end(); key = key.member().next()) {
    const JsonValue value = key.member();
    if (key.text() == "id") one.id = value.text();
    if (key.text() == "file") one.file = value.text();
    if (key.text() == "size") one.nbytes = value.as_unsigned().value_or(0);
    if (key.text() == "expect") one.expect = value.text();
    if (key.text() == "tensors") read_tensors(value, one);
    if (key.text() == "tree") one.tree = value.text();
    if (key.text() != "says") continue;
    for (JsonValue part = value.first(); !part.at_end(); part = part.next())
      one.says.emplace_back(part.text());
  }
  return one.id.empty() || one.file.empty() || one.expect.empty() ? std::nullopt
                                                                  : std::optional(std::move(one));
}

// All bytes of a tensor, or of a very large one its first and its last.
Result<std::vector<std::byte>> read_all(const Checkpoint& checkpoint, const TensorInfo& tensor) {
  std::vector<std::byte> bytes;
  if (tensor.nbytes > kReadInFull) {
    bytes.resize(kPiece);
    FLATBED_TRY(checkpoint.read(tensor, 0, bytes));
    FLATBED_TRY(checkpoint.read(tensor, tensor.nbytes - kPiece, bytes));
    return bytes;
  }
  bytes.resize(static_cast<std::size_t>(tensor.nbytes));
  FLATBED_TRY(checkpoint.read(tensor, 0, bytes));
  return bytes;
}

std::string compare(const WantedTensor& wanted, const TensorInfo& tensor,
                    const std::vector<std::byte>& bytes) {
  const std::vector<std::uint64_t> shape(tensor.shape.begin(), tensor.shape.end());
  if (wanted.dtype != name(tensor.dtype) || wanted.shape != shape)
    return str_cat("tensor ", wanted.name, " is ", name(tensor.dtype), ", expected ", wanted.dtype,
                   ", or of another shape");
  if (const std::string hex = hex_of(bytes); hex != wanted.hex)
    return str_cat("tensor ", wanted.name, " has ", hex);
  return {};
}

// Everything that a file has is asked for: its tree, all tensors, its seal.
Result<std::string> read_file(const Case& one, const std::string& path) {
  FLATBED_ASSIGN(const Checkpoint checkpoint, Checkpoint::open(path));
  FLATBED_ASSIGN(const Value tree, checkpoint.tree());
  if (!one.tree.empty() && pth::show(tree) != one.tree)
    return str_cat("holds ", pth::show(tree), ", expected ", one.tree);
  std::string wrong;
  std::map<std::string, const WantedTensor*> wanted;
  for (const WantedTensor& tensor : one.tensors) wanted[tensor.name] = &tensor;
  for (const TensorInfo& tensor : checkpoint.tensors()) {
    FLATBED_ASSIGN(const std::vector<std::byte> bytes, read_all(checkpoint, tensor));
    if (!one.has_tensors) continue;
    const auto found = wanted.find(std::string(tensor.name));
    if (found == wanted.end()) return str_cat("a tensor ", tensor.name, " that nobody wants");
    wrong = compare(*found->second, tensor, bytes);
    if (!wrong.empty()) return wrong;
  }
  if (one.has_tensors && checkpoint.tensors().size() != wanted.size())
    return str_cat(checkpoint.tensors().size(), " tensors, expected ", wanted.size());
  FLATBED_TRY(verify(checkpoint, {.threads = 1}));
  return wrong;
}

}  // namespace

bool read_manifest(const std::string& path, std::vector<Case>& cases) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    std::optional<Case> one = read_case(line);
    if (!one) {
      std::printf("not a line of a manifest: %s\n", line.c_str());
      return false;
    }
    cases.push_back(std::move(*one));
  }
  if (cases.empty()) std::printf("%s is not there or empty\n", path.c_str());
  return !cases.empty();
}

std::string judge(const Case& one, const std::string& folder) {
  const Result<std::string> found = read_file(one, str_cat(folder, "/", one.file));
  if (found) {
    if (one.expect == "ok") return *found;
    return str_cat("is accepted, expected ", one.expect);
  }
  const Error& error = found.error();
  const std::string_view code = name(error.code);
  if (code != one.expect) return str_cat(code, ", expected ", one.expect, ": ", error.message);
  for (const std::string& part : one.says) {
    if (error.message.find(part) == std::string::npos)
      return str_cat("does not say '", part, "': ", error.message);
  }
  const bool printable =
      std::ranges::all_of(error.message, [](unsigned char c) { return c >= 0x20 && c != 0x7F; });
  if (!printable) return str_cat("a message with control characters: ", error.message);
  if (error.message.size() > 1500)
    return str_cat("a message of ", error.message.size(), " bytes: ", error.message);
  return {};
}

}  // namespace flatbed::corpus
