#include "flatbed/save_compare.hpp"

#include <algorithm>
#include <optional>
#include <span>
#include <utility>
#include <variant>
#include <vector>

#include "base/ascii.hpp"
#include "base/bytes.hpp"
#include "base/str_cat.hpp"
#include "io/digest.hpp"
#include "save/compare_data.hpp"
#include "save/compare_planned.hpp"
#include "save/output_file.hpp"
#include "save/planned_header.hpp"
#include "save/save_source.hpp"

namespace flatbed {

namespace {

using safetensors::kContentDigestOffset;
using safetensors::kDigestDigits;
using safetensors::kHeaderDigestOffset;

class HeaderComparison {
 public:
  HeaderComparison(const SavePlan& plan, const SaveOptions& options, PlannedHeader& planned)
      : plan_(plan), options_(options), planned_(planned) {}

  // Returns a difference() or success. Afterwards the planned header is that of the file.
  Result<void> compare(std::string_view found);

  [[nodiscard]] std::string_view digest(std::uint32_t item, std::uint64_t chunk) const {
    return digests(item).substr(chunk * kDigestDigits, kDigestDigits);
  }
  [[nodiscard]] std::string content() const {
    return planned_.header.bytes.substr(kContentDigestOffset, kDigestDigits);
  }

 private:
  [[nodiscard]] std::string_view digests(std::uint32_t item) const {
    const std::uint64_t begin = planned_.header.digests_begin + planned_.header.digests.begin[item];
    const std::uint64_t chunks = safetensors::chunk_count(planned_.tensors[item].nbytes);
    return std::string_view(planned_.header.bytes).substr(begin, chunks * kDigestDigits);
  }
  [[nodiscard]] bool differs_in_seal_alone(std::string_view found) const;
  Result<void> compare_with_sources() const;

  const SavePlan& plan_;
  const SaveOptions& options_;
  PlannedHeader& planned_;
};

Result<void> HeaderComparison::compare(std::string_view found) {
  safetensors::NewHeader& header = planned_.header;
  if (options_.seal) {
    // With the digests of the file in their slots, sealing gives the file's own header, if the rest
    // is equal and its seal fits.
    const std::string_view digests = found.substr(header.digests_begin, header.digests.size);
    if (!is_hex(digests)) return difference("the header differs");
    header.bytes.replace(header.digests_begin, digests.size(), digests);
    seal_header(header, planned_.tensors, planned_.metadata);
  }
  if (header.bytes != found) {
    return difference(differs_in_seal_alone(found) ? "the seal does not match the header"
                                                   : "the header differs");
  }
  return options_.seal ? compare_with_sources() : Result<void>();
}

bool HeaderComparison::differs_in_seal_alone(std::string_view found) const {
  const auto without_seal = [](std::string_view bytes) {
    std::string text(bytes);
    text.replace(kHeaderDigestOffset, kDigestDigits, kDigestDigits, '0');
    return text.replace(kContentDigestOffset, kDigestDigits, kDigestDigits, '0');
  };
  return options_.seal && without_seal(found) == without_seal(planned_.header.bytes);
}

// Unless they are to be ignored, the digests of a sealed source say for every chunk whether it is
// equal, without reading any.
Result<void> HeaderComparison::compare_with_sources() const {
  for (std::uint32_t i = 0; i < plan_.items.size(); ++i) {
    const auto* ref = std::get_if<TensorRef>(&plan_.items[i].from);
    if (ref == nullptr || !is_verified(plan_.items[i], options_)) continue;
    const DigestView& source = ref->checkpoint.tensors()[ref->tensor].digests;
    for (std::size_t chunk = 0; chunk < source.size(); ++chunk) {
      if (source.hex(chunk) == digest(i, chunk)) continue;
      const std::uint64_t begin = chunk * safetensors::kChunkBytes;
      return data_difference(
          plan_.items[i].name, begin,
          std::min<std::uint64_t>(safetensors::kChunkBytes, planned_.tensors[i].nbytes - begin));
    }
  }
  return {};
}

// Returns a difference() or success, and in `content` the content digest of a sealed file.
Result<void> compare_file(const OutputFile& file, const PlannedOutput& output,
                          std::string& content) {
  const SavePlan& plan = output.plan;
  const SaveOptions& options = output.options;
  FLATBED_ASSIGN(PlannedHeader planned, output.make_header());
  const safetensors::NewHeader& header = planned.header;
  if (file.size() != header.file_nbytes) {
    return difference(
        str_cat("found ", counted(file.size(), "byte"), ", expected ", header.file_nbytes));
  }
  HeaderComparison headers(plan, options, planned);
  FLATBED_ASSIGN(const std::string found, file.read(0, header.bytes.size()));
  FLATBED_TRY(headers.compare(found));

  std::vector<Run> places;
  places.reserve(plan.items.size());
  for (std::uint32_t i = 0; i < plan.items.size(); ++i) {
    places.push_back({i, 0, header.offsets[i], planned.tensors[i].nbytes});
  }
  const auto check_digest = [&](std::uint32_t item, std::uint64_t chunk,
                                std::span<const std::byte> bytes) -> Result<void> {
    if (!options.seal || headers.digest(item, chunk) == hex16(xxh3(bytes))) return {};
    return difference(str_cat("tensor ", quoted(plan.items[item].name), ": the digest of chunk ",
                              chunk, " does not match"));
  };
  SaveOptions reading = options;
  if (output.data == CompareData::sampled) reading.progress = {};
  FLATBED_TRY(compare_data({plan, reading, file, places, check_digest},
                           choose_samples(places, output.data)));
  if (options.seal) content = headers.content();
  return {};
}

}  // namespace

Result<OutputState> compare_output(const std::filesystem::path& path, const SavePlan& plan,
                                   const SaveOptions& options, CompareData data) {
  return compare_planned(path, {plan, options, data, [&] { return plan_header(plan, options); }});
}

Result<OutputState> compare_output(std::shared_ptr<const ByteSource> file, const SavePlan& plan,
                                   const SaveOptions& options, CompareData data) {
  return compare_planned(OutputFile(std::move(file)),
                         {plan, options, data, [&] { return plan_header(plan, options); }});
}

Result<OutputState> compare_planned(const std::filesystem::path& path,
                                    const PlannedOutput& output) {
  OutputState state;
  FLATBED_ASSIGN(const std::optional<OutputFile> file, OutputFile::open(path, state));
  if (!file) return state;
  return compare_planned(*file, output);
}

Result<OutputState> compare_planned(const OutputFile& file, const PlannedOutput& output) {
  std::string content;
  FLATBED_ASSIGN(OutputState state, conclude(file, compare_file(file, output, content)));
  if (state.kind == OutputKind::up_to_date) state.content = std::move(content);
  return state;
}

}  // namespace flatbed
