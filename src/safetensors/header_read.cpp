// Reads and checks a safetensors header: the rules R1 to R22 of spec/FORMAT.md, in order.
#include <algorithm>
#include <cstring>
#include <optional>
#include <string>

#include "base/bytes.hpp"
#include "base/checked.hpp"
#include "base/str_cat.hpp"
#include "safetensors/header.hpp"

namespace flatbed::safetensors {

namespace {

constexpr JsonRules kJsonRules{ErrorCode::header_not_utf8, ErrorCode::header_not_json,
                               ErrorCode::header_not_json, ErrorCode::header_too_deep, kMaxDepth};
constexpr std::uint64_t kMaxInteger = (std::uint64_t{1} << 63) - 1;

template <typename... Parts>
Error tensor_error(ErrorCode code, std::string_view name, const Parts&... parts) {
  return make_error(code, "tensor ", quoted(name), ": ", parts...);
}

// R1, R2, R3: the length field and the header must lie within the file.
Result<std::uint64_t> check_length(const ByteSource& file) {
  if (file.size() < 8) {
    return make_error(
        ErrorCode::file_too_short, "the file ",
        file.size() == 0 ? "is empty" : str_cat("has only ", counted(file.size(), "byte")),
        " (incomplete download?)");
  }
  std::byte field[8];
  FLATBED_TRY(file.read_at(0, field));
  const std::uint64_t length = load_le64(field);
  if (length > kMaxHeader) {
    return make_error(ErrorCode::header_too_large, "the header is too large: found ", length,
                      " bytes, the limit is ", kMaxHeader);
  }
  if (!in_bounds(8, length, file.size())) {
    return make_error(ErrorCode::header_truncated, "the header is cut off: found ", file.size() - 8,
                      " of ", counted(length, "byte"), " (incomplete download?)");
  }
  return length;
}

// R4 to R6. The format has no integer -0. simdjson would read it as 0, so it is parsed as -1.
Result<JsonDocument> parse_json(std::span<std::byte> padded_json, SetMemory* set) {
  std::byte* text = padded_json.data();
  const std::size_t size = padded_json.size() - JsonDocument::kPadding;
  const std::vector<std::size_t> zeros = find_negative_zeros(as_text({text, size}));
  for (const std::size_t at : zeros) text[at + 1] = std::byte{'1'};
  JsonScratch* const scratch = set == nullptr ? nullptr : &set->scratch;
  Result<JsonDocument> document =
      JsonDocument::parse(padded_json, kJsonRules, {prefer_huge_pages, scratch});
  for (const std::size_t at : zeros) text[at + 1] = std::byte{'0'};
  return document;
}

// The passes over the parsed JSON. Borrows the header that it fills.
class Checker {
 public:
  Checker(Header& header, std::uint64_t data_nbytes) : header_(header), data_nbytes_(data_nbytes) {}

  Result<void> run() {
    const Result<void> read = read_members();
    FLATBED_TRY(index_names());  // a name that appears twice comes before what ended the reading
    FLATBED_TRY(read);
    sort_by_offset();
    FLATBED_TRY(place_tensors());
    FLATBED_TRY(check_sizes());
    return check_file_size();
  }

 private:
  // The fields of an entry that were seen so far.
  struct Entry {
    std::optional<JsonValue> dtype, shape, offsets;
  };

  Result<void> read_members() {
    const JsonValue root = header_.json.root();
    if (!root.is_object() && root.depth() > kMaxDepth) {
      return make_error(ErrorCode::header_too_deep, "the header nests more than ", kMaxDepth,
                        " levels");
    }
    if (!root.is_object())
      return make_error(ErrorCode::header_not_object, "the header is not a JSON object");
    header_.tensors.reserve(root.size_hint());
    for (JsonValue key = root.first(); !key.at_end();) {
      const JsonValue value = key.member();
      if (key.text() == "__metadata__") {
        FLATBED_TRY(read_metadata(value));
      } else {
        FLATBED_TRY(read_entry(key.text(), value));
      }
      key = value.next();
    }
    return {};
  }

  // R8, R9: an object of strings, or null.
  Result<void> read_metadata(JsonValue value) {
    if (metadata_seen_)
      return make_error(ErrorCode::duplicate_metadata, "__metadata__ appears twice");
    metadata_seen_ = true;
    if (value.is_null()) return {};
    if (!value.is_object())
      return make_error(ErrorCode::metadata_invalid, "__metadata__ is neither an object nor null");
    auto& pairs = header_.metadata;
    NameIndex keys(value.size_hint());
    for (JsonValue key = value.first(); !key.at_end();) {
      const JsonValue text = key.member();
      if (!text.is_string()) {
        return make_error(ErrorCode::metadata_invalid, "__metadata__: the value of ",
                          quoted(key.text()), " is not a string");
      }
      const auto number = static_cast<std::uint32_t>(pairs.size());
      if (keys.insert(key.text(), number, [&](std::uint32_t i) { return pairs[i].first; })) {
        return make_error(ErrorCode::duplicate_metadata, "__metadata__: key ", quoted(key.text()),
                          " appears twice");
      }
      pairs.emplace_back(key.text(), text.text());
      key = text.next();
    }
    return {};
  }

  Result<void> read_entry(std::string_view name, JsonValue value) {
    TensorInfo& tensor = header_.tensors.emplace_back(blank_);
    tensor.name = name;
    Entry entry;
    FLATBED_TRY(read_fields(name, value, entry));
    FLATBED_TRY(read_dtype(*entry.dtype, tensor));
    FLATBED_TRY(read_shape(*entry.shape, tensor));
    FLATBED_TRY(read_offsets(*entry.offsets, tensor));
    note(tensor);
    return {};
  }

  // What spares passes over many tensors, while this one is in the processor's cache: whether it
  // comes after the one before it, and has the right size.
  void note(const TensorInfo& tensor) {
    const auto count = header_.tensors.size();
    sorted_ = sorted_ && (count < 2 || !comes_before(tensor, header_.tensors[count - 2]));
    sizes_match_ = sizes_match_ && has_right_size(tensor);
  }

  static bool comes_before(const TensorInfo& a, const TensorInfo& b) {
    if (a.where.offset != b.where.offset) return a.where.offset < b.where.offset;
    if (a.nbytes != b.nbytes) return a.nbytes < b.nbytes;
    return a.name < b.name;
  }

  // R10
  Result<void> index_names() {
    const std::optional<std::uint32_t> twice = insert_names();
    if (!twice) return {};
    return tensor_error(ErrorCode::duplicate_name, header_.tensors[*twice].name,
                        "the name appears twice");
  }

  std::optional<std::uint32_t> insert_names() {
    const TensorList& tensors = header_.tensors;
    return header_.names.insert_all(static_cast<std::uint32_t>(tensors.size()),
                                    [&](std::uint32_t i) { return tensors[i].name; });
  }

  // R11, R12: an object with each of the three fields once. Other fields are ignored.
  Result<void> read_fields(std::string_view name, JsonValue value, Entry& entry) const {
    if (!value.is_object()) {
      return tensor_error(ErrorCode::entry_invalid, name, "the entry is not an object");
    }
    for (JsonValue key = value.first(); !key.at_end();) {
      const JsonValue field = key.member();
      std::optional<JsonValue>* const slot = slot_of(key.text(), entry);
      if (slot == nullptr) {
        FLATBED_TRY(check_ignored(name, key.text(), field));
      } else if (slot->has_value()) {
        return tensor_error(ErrorCode::duplicate_field, name, "the field ", quoted(key.text()),
                            " appears twice");
      } else {
        slot->emplace(field);
      }
      key = field.next();
    }
    for (const auto& [field, missing] :
         {std::pair{&entry.dtype, "dtype"}, std::pair{&entry.shape, "shape"},
          std::pair{&entry.offsets, "data_offsets"}}) {
      if (!field->has_value()) {
        return tensor_error(ErrorCode::entry_invalid, name, "the entry has no ", missing);
      }
    }
    return {};
  }

  static std::optional<JsonValue>* slot_of(std::string_view field, Entry& entry) {
    if (field == "dtype") return &entry.dtype;
    if (field == "shape") return &entry.shape;
    return field == "data_offsets" ? &entry.offsets : nullptr;
  }

  static Result<void> check_ignored(std::string_view name, std::string_view key, JsonValue field) {
    if (field.depth() + 2 <= kMaxDepth) return {};
    return tensor_error(ErrorCode::header_too_deep, name, "the field ", quoted(key),
                        " nests more than ", kMaxDepth, " levels");
  }

  // R13. Neighbours mostly share a dtype, so the last one is tried first.
  Result<void> read_dtype(JsonValue value, TensorInfo& tensor) {
    if (flatbed::name(last_dtype_) != value.text()) {
      const std::optional<Dtype> dtype = parse_dtype(value.text());
      if (!dtype) {
        return tensor_error(ErrorCode::unknown_dtype, tensor.name, "unknown dtype ",
                            value.is_string() ? quoted(value.text()) : "(not a string)");
      }
      last_dtype_ = *dtype;
    }
    tensor.dtype = last_dtype_;
    return {};
  }

  // R14
  Result<void> read_shape(JsonValue value, TensorInfo& tensor) {
    const auto wrong = [&] {
      return tensor_error(ErrorCode::shape_invalid, tensor.name,
                          "shape is not an array of integers in [0, 2^63)");
    };
    if (!value.is_array()) return wrong();
    const std::size_t rank = value.size();
    const std::span<std::uint64_t> dims = header_.dims.add(rank);
    std::size_t at = 0;
    for (JsonValue dim = value.first(); !dim.at_end(); dim = dim.next()) {
      const std::optional<std::uint64_t> size = dim.as_unsigned();
      if (!size || *size > kMaxInteger) return wrong();
      dims[at++] = *size;
    }
    tensor.shape = dims;
    return {};
  }

  // R15
  static Result<void> read_offsets(JsonValue value, TensorInfo& tensor) {
    const auto wrong = [&] {
      return tensor_error(ErrorCode::offsets_invalid, tensor.name,
                          "data_offsets is not [begin, end] with 0 <= begin <= end < 2^63");
    };
    if (!value.is_array()) return wrong();
    std::uint64_t offsets[2] = {0, 0};
    std::size_t count = 0;
    for (JsonValue offset = value.first(); !offset.at_end(); offset = offset.next()) {
      const std::optional<std::uint64_t> number = offset.as_unsigned();
      if (count == 2 || !number || *number > kMaxInteger) return wrong();
      offsets[count++] = *number;
    }
    if (count != 2 || offsets[0] > offsets[1]) return wrong();
    tensor.where = {0, offsets[0], offsets[1] - offsets[0]};
    tensor.nbytes = tensor.where.nbytes;
    return {};
  }

  void sort_by_offset() {
    if (sorted_) return;
    std::sort(header_.tensors.begin(), header_.tensors.end(), comes_before);
    header_.names = NameIndex();
    static_cast<void>(insert_names());  // there is no name twice
  }

  // R16, R17: in (begin, end) order, each tensor begins where the previous one ends. In the same
  // pass they get their numbers and their offsets in the file. No sum can wrap: no offset in the
  // data buffer reaches 2^63.
  Result<void> place_tensors() {
    std::uint64_t expected = 0;
    std::uint32_t number = 0;
    for (TensorInfo& tensor : header_.tensors) {
      const std::uint64_t begin = tensor.where.offset;
      if (begin > expected) {
        return tensor_error(ErrorCode::offsets_gap, tensor.name,
                            "gap before its data: found it at ", begin, ", expected ", expected);
      }
      if (begin < expected) {
        return tensor_error(ErrorCode::offsets_overlap, tensor.name,
                            "overlaps the previous tensor: found its data at ", begin,
                            ", expected ", expected);
      }
      expected = begin + tensor.nbytes;
      tensor.where.offset += header_.nbytes;
      tensor.index = tensor.storage = number++;
    }
    data_end_ = expected;
    return {};
  }

  // R18, R19, R20: dtype * shape, multiplied from left to right without overflow and in whole
  // bytes, must equal the span of the offsets.
  Result<void> check_sizes() const {
    if (sizes_match_) return {};
    for (const TensorInfo& tensor : header_.tensors) FLATBED_TRY(check_size(tensor));
    return {};
  }

  static std::optional<std::uint64_t> count_bits(const TensorInfo& tensor) {
    std::optional<std::uint64_t> count = 1;
    for (const std::uint64_t dim : tensor.shape) {
      if (count) count = checked_mul(*count, dim);
    }
    return count ? checked_mul(*count, bits(tensor.dtype)) : std::nullopt;
  }

  static bool has_right_size(const TensorInfo& tensor) {
    const std::optional<std::uint64_t> nbits = count_bits(tensor);
    return nbits && *nbits == tensor.nbytes * 8 && tensor.nbytes < (std::uint64_t{1} << 60);
  }

  Result<void> check_size(const TensorInfo& tensor) const {
    if (has_right_size(tensor)) return {};
    const std::optional<std::uint64_t> nbits = count_bits(tensor);
    const std::string what =
        str_cat(name(tensor.dtype), " ", shape_text(tensor.shape.data(), tensor.shape.size()));
    if (!nbits)
      return tensor_error(ErrorCode::size_overflow, tensor.name, what, " does not fit 64 bits");
    if (*nbits % 8 != 0) {
      return tensor_error(ErrorCode::partial_byte, tensor.name, what, " is ", *nbits,
                          " bits, not whole bytes");
    }
    if (*nbits / 8 == tensor.nbytes) return {};
    const std::uint64_t begin = tensor.where.offset - header_.nbytes;  // as the header has it
    return tensor_error(ErrorCode::size_mismatch, tensor.name, "offsets [", begin, ",",
                        begin + tensor.nbytes, ") hold ", tensor.nbytes, " bytes, ", what,
                        " needs ", *nbits / 8);
  }

  // R21, R22: the data must end where the file ends.
  Result<void> check_file_size() const {
    if (data_end_ > data_nbytes_) {
      return make_error(ErrorCode::data_truncated, "the data is cut off: found ", data_nbytes_,
                        " of ", counted(data_end_, "byte"), " (incomplete download?)");
    }
    if (data_end_ < data_nbytes_) {
      return make_error(ErrorCode::trailing_data, "data after the last tensor: found ",
                        data_nbytes_, " bytes of data, expected ", data_end_);
    }
    return {};
  }

  Header& header_;
  std::uint64_t data_nbytes_;
  std::uint64_t data_end_ = 0;
  bool metadata_seen_ = false;
  bool sorted_ = true;
  bool sizes_match_ = true;
  Dtype last_dtype_ = Dtype::f32;
  const TensorInfo blank_;  // copying it is faster than filling a tensor with zeros
};

// Names and metadata are half of a header's texts. In the pool they share few pages, and the next
// file is parsed into the memory of this one.
void move_texts(Header& header, SetMemory& set) {
  for (auto& [key, value] : header.metadata) {
    key = set.texts->add(key);
    value = set.texts->add(value);
  }
  for (TensorInfo& tensor : header.tensors) tensor.name = set.texts->add(tensor.name);
  header.texts = set.texts;
  header.json.recycle(set.scratch);
}

}  // namespace

Result<Header> read_header(const ByteSource& file, SetMemory* set) {
  FLATBED_ASSIGN(const std::uint64_t length, check_length(file));
  const std::size_t nbytes = 8 + static_cast<std::size_t>(length);
  ByteBuffer bytes(nbytes + JsonDocument::kPadding);
  FLATBED_TRY(file.read_at(0, std::span(bytes).first(nbytes)));
  if (load_le64(bytes.data()) != length) {
    return make_error(ErrorCode::file_changed,
                      "the length field changed while the header was read");
  }
  std::memset(bytes.data() + nbytes, 0, JsonDocument::kPadding);
  FLATBED_ASSIGN(JsonDocument json, parse_json(std::span(bytes).subspan(8), set));
  Header header{.json = std::move(json),
                .texts = nullptr,
                .bytes = std::move(bytes),
                .nbytes = nbytes,
                .metadata = {},
                .tensors = {},
                .names = NameIndex(),
                .dims = {}};
  FLATBED_TRY(Checker(header, file.size() - nbytes).run());
  if (set == nullptr) {
    header.json.keep_texts_only();
  } else {
    move_texts(header, *set);
  }
  return header;
}

}  // namespace flatbed::safetensors
