#include "list_message.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>

namespace flatbed::tool {
namespace {

static_assert(std::endian::native == std::endian::little, "numbers are copied as they are");

class Writer {
 public:
  void number(std::uint64_t value) {
    const auto bytes = std::bit_cast<std::array<std::byte, sizeof value>>(value);
    bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
  }
  void text(std::string_view value) {
    number(value.size());
    const auto bytes = std::as_bytes(std::span(value));
    bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
  }
  [[nodiscard]] std::vector<std::byte> take() { return std::move(bytes_); }

 private:
  std::vector<std::byte> bytes_;
};

class Reader {
 public:
  explicit Reader(std::span<const std::byte> bytes) : bytes_(bytes) {}

  std::uint64_t number() {
    std::uint64_t value = 0;
    if (bytes_.size() < sizeof value) return fail();
    std::memcpy(&value, bytes_.data(), sizeof value);
    bytes_ = bytes_.subspan(sizeof value);
    return value;
  }
  std::string text() {
    const std::uint64_t nbytes = number();
    if (nbytes > bytes_.size()) {
      fail();
      return {};
    }
    std::string value(reinterpret_cast<const char*>(bytes_.data()),
                      static_cast<std::size_t>(nbytes));
    bytes_ = bytes_.subspan(static_cast<std::size_t>(nbytes));
    return value;
  }
  // Whether all was there, and nothing else.
  [[nodiscard]] Result<void> finish() const {
    if (good_ && bytes_.empty()) return {};
    return Error{ErrorCode::collective_mismatch,
                 "a rank sent a message that is not understood: do all ranks run one flatbed?"};
  }

 private:
  std::uint64_t fail() {
    good_ = false;
    bytes_ = {};
    return 0;
  }

  std::span<const std::byte> bytes_;
  bool good_ = true;
};

}  // namespace

std::vector<std::byte> job_message(const JobLine& line) {
  Writer writer;
  writer.number(line.number);
  writer.number(line.too_long ? 1 : 0);
  writer.text(line.text);
  return writer.take();
}

std::vector<std::byte> result_message(const ListResult& result) {
  Writer writer;
  writer.number(result.line);
  writer.number(static_cast<std::uint64_t>(result.status));
  writer.number(result.tensors);
  writer.number(result.nbytes);
  writer.number(result.error ? static_cast<std::uint64_t>(result.error->code) : 0);
  writer.text(result.error ? result.error->message : "");
  for (const std::string* text :
       {&result.input, &result.output, &result.said, &result.warnings, &result.report}) {
    writer.text(*text);
  }
  return writer.take();
}

Result<JobLine> read_job(std::span<const std::byte> message) {
  Reader reader(message);
  JobLine line;
  line.number = reader.number();
  line.too_long = reader.number() != 0;
  line.text = reader.text();
  FLATBED_TRY(reader.finish());
  return line;
}

Result<ListResult> read_result(std::span<const std::byte> message) {
  Reader reader(message);
  ListResult result;
  result.line = reader.number();
  result.status =
      static_cast<Status>(std::min(reader.number(), static_cast<std::uint64_t>(Status::failed)));
  result.tensors = reader.number();
  result.nbytes = reader.number();
  const std::uint64_t code = reader.number();
  std::string text = reader.text();
  if (code != 0) result.error = Error{static_cast<ErrorCode>(code), std::move(text)};
  for (std::string* out :
       {&result.input, &result.output, &result.said, &result.warnings, &result.report}) {
    *out = reader.text();
  }
  FLATBED_TRY(reader.finish());
  return result;
}

}  // namespace flatbed::tool
