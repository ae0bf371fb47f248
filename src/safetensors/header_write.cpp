#include "safetensors/header_write.hpp"

#include <algorithm>
#include <bit>
#include <cstring>
#include <functional>
#include <utility>

#include "base/bytes.hpp"
#include "base/json_write.hpp"
#include "base/str_cat.hpp"
#include "base/utf8.hpp"
#include "safetensors/header.hpp"

namespace flatbed::safetensors {

namespace {

constexpr std::uint64_t kMaxInteger = std::uint64_t{1}
                                      << 53;  // exclusive: what every JSON reader keeps exact
constexpr std::size_t kAlignment = 4096;
constexpr std::size_t kReferenceAlignment = 8;
constexpr unsigned kMaxAlignmentBits = 12;
// The largest N below the reference's limit for which 8 + N is a multiple of a page.
constexpr std::size_t kMaxHeaderBytes = 99'999'736;
constexpr std::size_t kLargeHeaderBytes = 25'000'000;
constexpr std::size_t kLongText = 64 * 1024;
constexpr std::size_t kEntryNbytes = 128;  // of a tensor's entry, about
constexpr std::string_view kMetadataName = "__metadata__";
constexpr std::string_view kFormatKey = "format";
constexpr std::string_view kDefaultFormat = "pt";
constexpr std::string_view kEmptySeal = "0000000000000000/1/0000000000000000";

Result<void> check_tensors(std::span<const SealTensor> tensors,
                           std::span<const std::uint32_t> name_order) {
  for (const SealTensor& tensor : tensors) {
    if (!is_utf8(tensor.name)) {
      return make_error(ErrorCode::invalid_argument, "tensor ", quoted(tensor.name),
                        ": the name is not UTF-8");
    }
    if (tensor.name == kMetadataName) {
      return make_error(ErrorCode::invalid_argument,
                        "tensor '__metadata__': this name is reserved by the format");
    }
    if (std::ranges::any_of(tensor.shape, [](std::uint64_t n) { return n >= kMaxInteger; })) {
      return make_error(
          ErrorCode::invalid_argument, "tensor ", quoted(tensor.name),
          ": a dimension is 2^53 or more: ", shape_text(tensor.shape.data(), tensor.shape.size()));
    }
  }
  for (std::size_t i = 1; i < name_order.size(); ++i) {
    const std::string_view name = tensors[name_order[i]].name;
    if (name == tensors[name_order[i - 1]].name) {
      return make_error(ErrorCode::name_collision, "tensor ", quoted(name),
                        ": the name appears twice");
    }
  }
  return {};
}

// L4: the log2 of v(nbytes).
unsigned alignment_bits(std::uint64_t nbytes) noexcept {
  return std::min(kMaxAlignmentBits, static_cast<unsigned>(std::countr_zero(nbytes)));
}

// L4: by v, descending, stable. Thirteen passes are less work than a sort.
std::vector<std::uint32_t> file_order(std::span<const SealTensor> tensors) {
  std::vector<std::uint32_t> order;
  order.reserve(tensors.size());
  for (unsigned bits = kMaxAlignmentBits + 1; bits-- > 0;) {
    for (std::uint32_t i = 0; i < tensors.size(); ++i) {
      if (alignment_bits(tensors[i].nbytes) == bits) order.push_back(i);
    }
  }
  return order;
}

// The reference's order. `names` is name order.
std::vector<std::uint32_t> reference_order(std::span<const SealTensor> tensors,
                                           std::vector<std::uint32_t> names) {
  std::ranges::stable_sort(names, std::greater(),
                           [&](std::uint32_t i) { return tensors[i].dtype; });
  return names;
}

Error too_large(std::size_t limit, std::string_view what, std::string_view or_what = {}) {
  return make_error(ErrorCode::header_over_limit, what, " would be longer than ", limit, " bytes",
                    limit == kLargeHeaderBytes ? ", which common readers refuse" : "",
                    "; split the tensors over several files (shards)", or_what);
}

// The length as a JSON string, about: control characters take more.
std::size_t escaped_nbytes(std::string_view text) {
  const auto escaped = std::ranges::count_if(text, [](char c) { return c == '"' || c == '\\'; });
  return text.size() + static_cast<std::size_t>(escaped) + kEntryNbytes;
}

class Builder {
 public:
  Builder(std::span<const SealTensor> tensors, std::span<const MetadataPair> metadata,
          const HeaderOptions& options)
      : tensors_(tensors), metadata_(metadata.begin(), metadata.end()), options_(options) {}

  Result<NewHeader> build() {
    header_.name_order = name_order(tensors_);
    FLATBED_TRY(check_tensors(tensors_, header_.name_order));
    header_.file_order =
        is_reference() ? reference_order(tensors_, header_.name_order) : file_order(tensors_);
    header_.bytes.assign(sizeof(std::uint64_t), '\0');
    header_.bytes += '{';
    FLATBED_TRY(append_metadata());
    FLATBED_TRY(append_tensors());
    return finish();
  }

 private:
  [[nodiscard]] bool is_reference() const noexcept {
    return options_.layout == HeaderLayout::reference;
  }
  [[nodiscard]] std::size_t limit() const noexcept { return max_header_nbytes(options_); }
  // Called before a text is appended, so that no text much longer than the limit is ever built.
  Result<void> check_room(std::uint64_t nbytes) const {
    const std::size_t most = sizeof(std::uint64_t) + limit();
    if (nbytes > most || header_.bytes.size() > most - nbytes) return too_large(limit(), what());
    return {};
  }
  [[nodiscard]] std::string what() const {
    return str_cat("the header of ", counted(tensors_.size(), "tensor"));
  }

  Result<void> append_metadata();
  Result<void> append_digests();
  Result<void> append_tensors();
  void append_entry(const SealTensor& tensor, std::uint64_t begin);
  Result<NewHeader> finish();

  std::span<const SealTensor> tensors_;
  std::vector<MetadataPair> metadata_;
  HeaderOptions options_;
  NewHeader header_;
};

Result<void> Builder::append_metadata() {
  if (is_reference() && metadata_.empty() && !options_.empty_metadata) return {};
  if (!is_reference() &&
      std::ranges::find(metadata_, kFormatKey, &MetadataPair::first) == metadata_.end()) {
    metadata_.emplace_back(kFormatKey, kDefaultFormat);
  }
  if (options_.seal) metadata_.emplace_back(kDigestsKey, "");
  // L2: in name order, but for the key that a listing of a folder reads.
  std::ranges::sort(metadata_, {}, [](const MetadataPair& pair) {
    return std::pair(pair.first != kSeriesKey, pair.first);
  });

  std::string& out = header_.bytes;
  out += "\"__metadata__\":{";
  if (options_.seal) out += str_cat("\"flatbed\":\"", kEmptySeal, "\",");
  bool first = true;
  for (const auto& [key, value] : metadata_) {
    if (!is_utf8(key) || !is_utf8(value)) {
      return make_error(ErrorCode::invalid_argument, "metadata ", quoted(key),
                        ": key or value is not UTF-8");
    }
    FLATBED_TRY(check_room(key.size() + value.size()));
    // A long text is appended without moving what is there, or the header after it.
    if (value.size() > kLongText)
      out.reserve(out.size() + escaped_nbytes(value) + tensors_.size() * kEntryNbytes + kAlignment);
    if (!first) out += ',';
    first = false;
    append_json_string(out, key);
    out += ':';
    if (options_.seal && key == kDigestsKey) {
      FLATBED_TRY(append_digests());
    } else {
      append_json_string(out, value);
    }
  }
  out += '}';
  return {};
}

Result<void> Builder::append_digests() {
  header_.digests = digest_slots(tensors_, header_.name_order);
  if (!check_room(header_.digests.size)) {
    return too_large(limit(),
                     str_cat(what(), ", with ", header_.digests.size, " bytes of digests,"),
                     ", or write no digests");
  }
  header_.bytes += '"';
  header_.digests_begin = header_.bytes.size();
  header_.bytes.append(header_.digests.size, '0');
  header_.bytes += '"';
  return {};
}

Result<void> Builder::append_tensors() {
  header_.offsets.resize(tensors_.size());
  std::uint64_t begin = 0;
  for (const std::uint32_t index : header_.file_order) {
    const SealTensor& tensor = tensors_[index];
    if (tensor.nbytes >= kMaxInteger - begin) {
      return make_error(ErrorCode::limit_exceeded, "tensor ", quoted(tensor.name),
                        ": ends at byte ", begin, " + ", tensor.nbytes,
                        " of the data; a file holds less than 2^53 bytes");
    }
    FLATBED_TRY(check_room(tensor.name.size()));
    header_.offsets[index] = begin;
    append_entry(tensor, begin);
    begin += tensor.nbytes;
  }
  header_.file_nbytes = begin;
  header_.bytes += '}';
  return {};
}

void Builder::append_entry(const SealTensor& tensor, std::uint64_t begin) {
  std::string& out = header_.bytes;
  if (out.back() != '{') out += ',';
  append_json_string(out, tensor.name);
  out += ":{\"dtype\":\"";
  out += name(tensor.dtype);
  out += "\",\"shape\":[";
  for (std::size_t i = 0; i < tensor.shape.size(); ++i) {
    if (i != 0) out += ',';
    out += str_cat(tensor.shape[i]);
  }
  out += "],\"data_offsets\":[";
  out += str_cat(begin, ',', begin + tensor.nbytes);
  out += "]}";
}

// Pads the header and converts offsets in the data to offsets in the file.
Result<NewHeader> Builder::finish() {
  const std::size_t alignment = is_reference() ? kReferenceAlignment : kAlignment;
  const std::size_t end = (header_.bytes.size() + alignment - 1) / alignment * alignment;
  const std::uint64_t length = end - sizeof(std::uint64_t);
  if (length > limit()) return too_large(limit(), what());
  header_.bytes.resize(end, ' ');
  std::memcpy(header_.bytes.data(), &length, sizeof length);
  for (std::uint64_t& offset : header_.offsets) offset += end;
  header_.file_nbytes += end;
  return std::move(header_);
}

}  // namespace

Result<NewHeader> build_header(std::span<const SealTensor> tensors,
                               std::span<const MetadataPair> metadata,
                               const HeaderOptions& options) {
  if (options.seal && options.layout == HeaderLayout::reference) {
    return make_error(ErrorCode::invalid_argument,
                      "a sealed file cannot have the layout of the safetensors library");
  }
  return Builder(tensors, metadata, options).build();
}

std::size_t max_header_nbytes(const HeaderOptions& options) noexcept {
  if (!options.allow_large) return kLargeHeaderBytes;
  return options.layout == HeaderLayout::reference ? kMaxHeader : kMaxHeaderBytes;
}

void put_digest(NewHeader& header, std::uint32_t tensor, std::uint64_t chunk,
                std::uint64_t digest) noexcept {
  const std::string digits = hex16(digest);
  std::memcpy(header.bytes.data() + header.digests_begin + header.digests.begin[tensor] +
                  chunk * kDigestDigits,
              digits.data(), digits.size());
}

std::string seal_header(NewHeader& header, std::span<const SealTensor> tensors,
                        std::span<const MetadataPair> metadata) {
  std::vector<MetadataPair> pairs(metadata.begin(), metadata.end());
  pairs.emplace_back(
      kDigestsKey,
      std::string_view(header.bytes).substr(header.digests_begin, header.digests.size));
  std::string content = hex16(content_digest(tensors, header.name_order, pairs));
  header.bytes.replace(kContentDigestOffset, kDigestDigits, content);
  header.bytes.replace(kHeaderDigestOffset, kDigestDigits,
                       hex16(header_digest(as_bytes(header.bytes))));
  return content;
}

}  // namespace flatbed::safetensors
