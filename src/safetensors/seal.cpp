#include "safetensors/seal.hpp"

#include <algorithm>
#include <array>
#include <utility>

#include "base/ascii.hpp"
#include "base/bytes.hpp"
#include "base/sort_names.hpp"
#include "base/str_cat.hpp"
#include "io/digest.hpp"

namespace flatbed::safetensors {

namespace {

constexpr std::string_view kSealPrefix = "flatbed.";
constexpr std::string_view kWhatHappened = "; the file was damaged, or changed after it was sealed";

// The value of the key `flatbed`: <header>/<version>/<rest>.
struct SealText {
  std::string_view header;  // 16 digits
  unsigned version = 0;
  std::string_view rest;
};

// Decimal 1..9999 without leading zero.
std::optional<unsigned> parse_version(std::string_view text) noexcept {
  if (text.empty() || text.size() > 4 || text.front() == '0') return std::nullopt;
  unsigned version = 0;
  for (const char c : text) {
    if (c < '0' || c > '9') return std::nullopt;
    version = version * 10 + static_cast<unsigned>(c - '0');
  }
  return version;
}

std::optional<SealText> parse_seal_text(std::string_view value) noexcept {
  if (value.size() < kDigestDigits || !is_hex(value.substr(0, kDigestDigits))) return std::nullopt;
  std::string_view tail = value.substr(kDigestDigits);
  if (!tail.starts_with('/')) return std::nullopt;
  tail.remove_prefix(1);
  const std::size_t slash = tail.find('/');
  if (slash == std::string_view::npos) return std::nullopt;
  const std::optional<unsigned> version = parse_version(tail.substr(0, slash));
  if (!version) return std::nullopt;
  return SealText{value.substr(0, kDigestDigits), *version, tail.substr(slash + 1)};
}

const MetadataPair* find_pair(std::span<const MetadataPair> pairs, std::string_view key) noexcept {
  const auto found = std::ranges::find(pairs, key, &MetadataPair::first);
  return found == pairs.end() ? nullptr : &*found;
}

SealVerdict broken(ErrorCode code, std::string note) {
  SealVerdict verdict;
  verdict.state = SealState::broken;
  verdict.error = code;
  verdict.note = std::move(note);
  return verdict;
}

// Collects the content digest's input in a buffer, because most parts have only a few bytes.
class ContentHasher {
 public:
  ContentHasher() { buffer_.reserve(kBufferBytes); }

  void add_number(std::uint64_t value) {
    std::array<std::byte, 8> bytes;
    store_le64(bytes.data(), value);
    add(as_text(bytes));
  }
  void add_string(std::string_view text) {
    add_number(text.size());
    add(text);
  }
  void add(std::string_view bytes) {
    if (bytes.size() > kBufferBytes - buffer_.size()) flush();
    if (bytes.size() > kBufferBytes) return stream_.update(as_bytes(bytes));
    buffer_ += bytes;
  }
  [[nodiscard]] std::uint64_t digest() {
    flush();
    return stream_.digest();
  }

 private:
  static constexpr std::size_t kBufferBytes = 65'536;

  void flush() {
    stream_.update(as_bytes(buffer_));
    buffer_.clear();
  }

  Xxh3Stream stream_;
  std::string buffer_;
};

// Whether the header digest is right: the seal is at the place that S2 requires and its digits
// match.
bool header_matches(std::span<const std::byte> header, std::string_view digits) {
  if (header.size() < kHeaderDigestOffset + kDigestDigits) return false;
  const std::string_view text = as_text(header);
  return text.substr(8).starts_with(kSealEnvelope) &&
         text.substr(kHeaderDigestOffset, kDigestDigits) == digits &&
         hex16(header_digest(header)) == digits;
}

// Fills verdict.digests. Returns false if the value is not exactly one digest for each chunk.
bool split_digests(std::string_view hex, std::span<const SealTensor> tensors,
                   std::span<const std::uint32_t> order, SealVerdict& verdict) {
  const DigestSlots slots = digest_slots(tensors, order);
  if (hex.size() != slots.size || !is_hex(hex)) return false;
  verdict.digests.reserve(tensors.size());
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    verdict.digests.push_back(
        hex.substr(slots.begin[i], chunk_count(tensors[i].nbytes) * kDigestDigits));
  }
  return true;
}

// Rows 6 to 8: a seal of version 1.
SealVerdict judge_version_1(const SealText& seal, bool header_right,
                            std::span<const MetadataPair> metadata,
                            std::span<const SealTensor> tensors) {
  if (seal.rest.size() != kDigestDigits || !is_hex(seal.rest)) {
    return broken(ErrorCode::seal_malformed, "the seal's content digest is not 16 hex digits");
  }
  const std::vector<std::uint32_t> order = name_order(tensors);
  const std::string content = hex16(content_digest(tensors, order, metadata));
  if (content != seal.rest) {
    return broken(
        ErrorCode::seal_content_mismatch,
        str_cat("names, dtypes, shapes or flatbed keys do not match the seal: found digest ",
                content, ", expected ", seal.rest, kWhatHappened));
  }
  SealVerdict verdict;
  const MetadataPair* digests = find_pair(metadata, kDigestsKey);
  if (digests == nullptr || !split_digests(digests->second, tensors, order, verdict)) {
    return broken(ErrorCode::seal_digests_malformed,
                  "flatbed.digests is not there, or is not one digest per chunk");
  }
  verdict.state = header_right ? SealState::sealed : SealState::annotated;
  verdict.content = content;
  if (!header_right) verdict.note = "other metadata or the JSON's form changed after sealing";
  return verdict;
}

}  // namespace

bool is_seal_key(std::string_view key) noexcept {
  return key == kSealKey || key.starts_with(kSealPrefix);
}

std::vector<std::uint32_t> name_order(std::span<const SealTensor> tensors) {
  std::vector<NumberedName> names;
  names.reserve(tensors.size());
  for (std::uint32_t i = 0; i < tensors.size(); ++i) names.push_back({tensors[i].name, i});
  sort_names(names);
  std::vector<std::uint32_t> order(names.size());
  std::ranges::transform(names, order.begin(), &NumberedName::number);
  return order;
}

DigestSlots digest_slots(std::span<const SealTensor> tensors,
                         std::span<const std::uint32_t> order) {
  DigestSlots slots;
  slots.begin.resize(tensors.size());
  for (const std::uint32_t index : order) {
    slots.begin[index] = slots.size;
    slots.size += chunk_count(tensors[index].nbytes) * kDigestDigits;
  }
  return slots;
}

std::uint64_t content_digest(std::span<const SealTensor> tensors,
                             std::span<const std::uint32_t> order,
                             std::span<const MetadataPair> metadata) {
  ContentHasher hasher;
  hasher.add({"flatbed seal 1\n", 16});  // including its NUL
  hasher.add_number(order.size());
  for (std::size_t i = 0; i < order.size(); ++i) {
    // Name order is any order in memory: of 100,000 tensors most are in no cache.
    if (i + 16 < order.size()) __builtin_prefetch(&tensors[order[i + 16]]);
    if (i + 8 < order.size()) {
      __builtin_prefetch(tensors[order[i + 8]].name.data());
      __builtin_prefetch(tensors[order[i + 8]].shape.data());
    }
    const SealTensor& tensor = tensors[order[i]];
    hasher.add_string(tensor.name);
    hasher.add_string(name(tensor.dtype));
    hasher.add_number(tensor.shape.size());
    for (const std::uint64_t dimension : tensor.shape) hasher.add_number(dimension);
  }

  std::vector<MetadataPair> pairs;
  std::ranges::copy_if(metadata, std::back_inserter(pairs), [](const MetadataPair& pair) {
    return pair.first.starts_with(kSealPrefix);
  });
  std::ranges::sort(pairs, {}, &MetadataPair::first);
  hasher.add_number(pairs.size());
  for (const auto& [key, value] : pairs) {
    hasher.add_string(key);
    hasher.add_string(value);
  }
  return hasher.digest();
}

std::uint64_t header_digest(std::span<const std::byte> header) {
  static constexpr std::string_view kZeros = "0000000000000000";
  Xxh3Stream stream;
  stream.update(header.first(kHeaderDigestOffset));
  stream.update(as_bytes(kZeros));
  stream.update(header.subspan(kHeaderDigestOffset + kDigestDigits));
  return stream.digest();
}

SealVerdict judge_seal(std::span<const std::byte> header, std::span<const MetadataPair> metadata,
                       std::span<const SealTensor> tensors) {
  if (std::ranges::none_of(metadata, is_seal_key, &MetadataPair::first)) return {};
  const MetadataPair* pair = find_pair(metadata, kSealKey);
  if (pair == nullptr) {
    return broken(ErrorCode::seal_malformed, "the file has flatbed.* keys, but no key 'flatbed'");
  }
  const std::optional<SealText> seal = parse_seal_text(pair->second);
  if (!seal) {
    return broken(ErrorCode::seal_malformed,
                  str_cat("the seal ", quoted(pair->second), " is not <16 digits>/<version>/..."));
  }
  const bool header_right = header_matches(header, seal->header);
  if (seal->version == 1) return judge_version_1(*seal, header_right, metadata, tensors);
  if (!header_right) {
    return broken(ErrorCode::seal_header_mismatch,
                  str_cat("the header does not match its digest ", seal->header, kWhatHappened));
  }
  SealVerdict verdict;
  verdict.state = SealState::newer;
  verdict.note =
      str_cat("sealed by version ", seal->version, " of the format; only the tensors are read");
  return verdict;
}

SealVerdict judge_sidecar(std::span<const std::byte> header, std::span<const MetadataPair> sidecar,
                          std::span<const SealTensor> tensors) {
  const MetadataPair* pair = find_pair(sidecar, kSealKey);
  if (sidecar.size() != 2 || pair == nullptr || find_pair(sidecar, kDigestsKey) == nullptr) {
    return broken(ErrorCode::sidecar_malformed,
                  "the sidecar has other keys than 'flatbed' and 'flatbed.digests'");
  }
  const std::optional<SealText> seal = parse_seal_text(pair->second);
  if (!seal || seal->version != 1) {
    return broken(ErrorCode::sidecar_malformed, str_cat("the sidecar's seal ", quoted(pair->second),
                                                        " is not <16 digits>/1/..."));
  }
  return judge_version_1(*seal, hex16(xxh3(header)) == seal->header, sidecar, tensors);
}

}  // namespace flatbed::safetensors
