#include "hex_dump.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <string>
#include <vector>

#include "describe.hpp"
#include "element_text.hpp"
#include "format_text.hpp"

namespace flatbed::tool {
namespace {

constexpr std::size_t kRowBytes = 8;     // shown in hex on each row
constexpr std::size_t kTextLimit = 160;  // bytes of header text on a row
constexpr std::size_t kMaxTypeColumns = 24;
constexpr std::uint64_t kMaxHeader = 100'000'000;  // the format's limit, which open() has checked

struct Row {
  std::uint64_t offset = 0;
  std::string bytes;
  std::string type;
  std::string meaning;
};

std::string hex_bytes(std::span<const std::byte> bytes) {
  std::string out;
  for (const std::byte byte : bytes.first(std::min(bytes.size(), kRowBytes))) {
    fmt::format_to(std::back_inserter(out), "{}{:02x}", out.empty() ? "" : " ",
                   static_cast<unsigned>(byte));
  }
  return out;
}

std::string hex_bytes(std::string_view bytes) { return hex_bytes(std::as_bytes(std::span(bytes))); }

// The first 8 + N bytes of the file, including the length field.
Result<std::string> read_header(const std::filesystem::path& path) {
  std::ifstream stream(path, std::ios::binary);
  std::uint64_t header_nbytes = 0;
  std::string bytes(sizeof header_nbytes, '\0');
  if (stream.read(bytes.data(), sizeof header_nbytes)) {
    std::memcpy(&header_nbytes, bytes.data(), sizeof header_nbytes);
    if (header_nbytes <= kMaxHeader) {
      bytes.resize(sizeof header_nbytes + header_nbytes);
      stream.read(bytes.data() + sizeof header_nbytes, static_cast<std::streamsize>(header_nbytes));
      if (stream) return bytes;
    }
  }
  return Error{ErrorCode::file_changed,
               fmt::format("{}: cannot read the header again", path_text(path))};
}

// Splits header text that open() has accepted into runs. Each run is an entry or a pair of
// __metadata__, with the comma after it.
std::vector<std::string_view> split_json(std::string_view json) {
  std::vector<std::string_view> runs;
  std::size_t begin = 0;
  int depth = 0;
  bool in_string = false;
  bool in_metadata = false;
  for (std::size_t i = 0; i < json.size(); ++i) {
    const char c = json[i];
    if (in_string) {
      if (c == '\\') ++i;
      in_string = c != '"';
    } else if (c == '"') {
      in_string = true;
    } else if (c == '{' || c == '[') {
      in_metadata = json.substr(0, i).ends_with("\"__metadata__\":");
      ++depth;
    } else if (c == '}' || c == ']') {
      --depth;
    } else if (c == ',' && (depth == 1 || in_metadata)) {
      runs.push_back(json.substr(begin, i + 1 - begin));
      begin = i + 1;
    }
  }
  runs.push_back(json.substr(begin));
  return runs;
}

std::string cut_text(std::string_view text) {
  std::string out = safe_text(text.substr(0, kTextLimit));
  if (text.size() <= kTextLimit) return out;
  return fmt::format("{}… {} bytes more", out, number_text(text.size() - kTextLimit));
}

void add_header_rows(std::string_view header, std::vector<Row>& rows) {
  constexpr std::size_t kLengthField = sizeof(std::uint64_t);
  const std::size_t end = header.find_last_not_of(' ') + 1;
  rows.push_back({0, hex_bytes(header.substr(0, kLengthField)), "u64 LE",
                  fmt::format("{} | N, bytes of header", header.size() - kLengthField)});
  std::uint64_t offset = kLengthField;
  for (const std::string_view run : split_json(header.substr(kLengthField, end - kLengthField))) {
    rows.push_back({offset, hex_bytes(run), "JSON", cut_text(run)});
    offset += run.size();
  }
  if (end == header.size()) return;
  rows.push_back({end, fmt::format("20 x {}", header.size() - end), "pad",
                  fmt::format("spaces; 8 + N = {}", header.size())});
}

Result<Row> tensor_row(const Checkpoint& checkpoint, const TensorInfo& tensor) {
  std::vector<std::byte> bytes(std::min<std::uint64_t>(tensor.nbytes, kRowBytes));
  FLATBED_TRY(checkpoint.read(tensor, 0, bytes, Verify::no));
  const std::size_t element_nbytes = std::max<std::size_t>(bits(tensor.dtype) / 8, 1);
  std::string values;
  for (std::size_t at = 0; at + element_nbytes <= bytes.size(); at += element_nbytes) {
    values += at == 0 ? "" : ", ";
    values += element_text(tensor.dtype, std::span(bytes).subspan(at, element_nbytes));
  }
  if (tensor.nbytes > kRowBytes) values += ", …";
  return Row{tensor.where.offset, hex_bytes(bytes), tensor_text(tensor),
             fmt::format("{}{}tensor {}", values, values.empty() ? "" : "   ",
                         quoted_text(tensor.name, kTextLimit))};
}

void write_rows(const std::vector<Row>& rows, Output& output) {
  std::size_t type_columns = 0;
  for (const Row& row : rows) type_columns = std::max(type_columns, row.type.size());
  type_columns = std::min(type_columns, kMaxTypeColumns);
  for (const Row& row : rows) {
    output.write(fmt::format("+0x{:04x} | {:<23} | {} | {}\n", row.offset, row.bytes,
                             padded(row.type, type_columns), row.meaning));
  }
}

Result<void> write_file(const Checkpoint& checkpoint, std::uint32_t file, Output& output) {
  FLATBED_ASSIGN(const std::string header, read_header(checkpoint.files()[file].path));
  std::vector<const TensorInfo*> tensors;
  for (const TensorInfo& tensor : checkpoint.tensors()) {
    if (tensor.where.file == file) tensors.push_back(&tensor);
  }
  std::stable_sort(tensors.begin(), tensors.end(), [](const TensorInfo* a, const TensorInfo* b) {
    return a->where.offset < b->where.offset;
  });
  std::vector<Row> rows;
  add_header_rows(header, rows);
  for (const TensorInfo* tensor : tensors) {
    FLATBED_ASSIGN(Row row, tensor_row(checkpoint, *tensor));
    rows.push_back(std::move(row));
  }
  write_rows(rows, output);
  return {};
}

}  // namespace

Result<void> write_hex(const Checkpoint& checkpoint, Output& output) {
  if (checkpoint.layout() != Layout::safetensors) {
    return Error{ErrorCode::unsupported_format,
                 fmt::format("{}: --hex needs a safetensors file: found a {}",
                             path_text(checkpoint.files()[0].path), container_text(checkpoint))};
  }
  for (std::uint32_t file = 0; file < checkpoint.files().size(); ++file) {
    if (checkpoint.files().size() > 1) {
      output.write(
          fmt::format("{}{}\n", file == 0 ? "" : "\n", path_text(checkpoint.files()[file].path)));
    }
    FLATBED_TRY(write_file(checkpoint, file, output));
  }
  return {};
}

}  // namespace flatbed::tool
