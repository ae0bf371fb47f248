#include "save/output_file.hpp"

#include <algorithm>
#include <cstring>
#include <system_error>
#include <utility>

#include "base/bytes.hpp"
#include "base/str_cat.hpp"
#include "io/file.hpp"
#include "safetensors/seal.hpp"

namespace flatbed {

namespace {

using safetensors::chunk_count;
using safetensors::kChunkBytes;

// The numbers 0 .. count-1 reduced to at most `most` of them, with the first and the last.
std::vector<std::uint64_t> spread(std::uint64_t count, std::uint64_t most) {
  std::vector<std::uint64_t> numbers;
  const std::uint64_t taken = std::min(count, most);
  numbers.reserve(taken);
  for (std::uint64_t i = 0; i < taken; ++i) {
    // No overflow: count is below 2^46, the number of chunks in a file.
    numbers.push_back(taken == 1 ? 0 : i * (count - 1) / (taken - 1));
  }
  return numbers;
}

// The places that have bytes, as indices.
std::vector<std::uint32_t> filled_places(std::span<const Run> places) {
  std::vector<std::uint32_t> filled;
  for (std::uint32_t i = 0; i < places.size(); ++i) {
    if (places[i].nbytes != 0) filled.push_back(i);
  }
  return filled;
}

Sample one_chunk(std::span<const Run> places, std::uint32_t place, std::uint64_t chunk) {
  const std::uint64_t skip = chunk * kChunkBytes;
  return {place, chunk, places[place].offset + skip,
          std::min<std::uint64_t>(kChunkBytes, places[place].nbytes - skip)};
}

}  // namespace

Result<std::optional<OutputFile>> OutputFile::open(const std::filesystem::path& path,
                                                   OutputState& state) {
  std::error_code failed;
  const std::filesystem::file_status status = std::filesystem::symlink_status(path, failed);
  // Where the name cannot be looked up, the save will say why.
  if (!std::filesystem::exists(status)) return std::optional<OutputFile>();
  Result<File> file = File::open(path);
  if (file) return std::optional<OutputFile>(std::make_shared<File>(*std::move(file)));
  const ErrorCode code = file.error().code;
  if (code == ErrorCode::not_a_regular_file) {
    return make_error(code, file.error().message, ", which cannot be replaced by a file");
  }
  state.kind = OutputKind::different;
  state.difference = code == ErrorCode::file_not_found && std::filesystem::is_symlink(status)
                         ? "found a symbolic link that leads nowhere"
                         : str_cat("cannot be compared: ", file.error().message);
  return std::optional<OutputFile>();
}

Result<std::string> OutputFile::read(std::uint64_t offset, std::uint64_t nbytes) const {
  std::string bytes(static_cast<std::size_t>(nbytes), '\0');
  FLATBED_TRY(file_->read_at(offset, std::as_writable_bytes(std::span(bytes))));
  return bytes;
}

Result<bool> OutputFile::holds(std::uint64_t offset, std::span<const std::byte> expected) const {
  std::vector<std::byte> found(std::min<std::size_t>(expected.size(), kChunkBytes));
  while (!expected.empty()) {
    const std::size_t nbytes = std::min(found.size(), expected.size());
    FLATBED_TRY(file_->read_at(offset, std::span(found).first(nbytes)));
    if (std::memcmp(found.data(), expected.data(), nbytes) != 0) return false;
    expected = expected.subspan(nbytes);
    offset += nbytes;
  }
  return true;
}

std::vector<Sample> choose_samples(std::span<const Run> places, CompareData data) {
  std::vector<std::uint32_t> filled = filled_places(places);
  std::vector<Sample> samples;
  std::vector<std::uint64_t> chunks_before;  // for each filled place, in the order of the file
  std::uint64_t chunks = 0;
  std::ranges::sort(filled, {}, [&](std::uint32_t i) { return places[i].offset; });
  for (const std::uint32_t i : filled) {
    chunks_before.push_back(chunks);
    chunks += chunk_count(places[i].nbytes);
    samples.push_back({i, 0, places[i].offset, places[i].nbytes});
  }
  if (data == CompareData::all || chunks <= kMaxSampledChunks) return samples;

  samples.clear();
  for (const std::uint64_t chunk : spread(chunks, kMaxSampledChunks / 2)) {
    const auto after = std::ranges::upper_bound(chunks_before, chunk);
    const auto at = static_cast<std::size_t>(after - chunks_before.begin()) - 1;
    samples.push_back(one_chunk(places, filled[at], chunk - chunks_before[at]));
  }
  std::ranges::sort(filled, {}, [&](std::uint32_t i) { return places[i].tensor; });
  for (const std::uint64_t at : spread(filled.size(), kMaxSampledChunks / 2)) {
    samples.push_back(one_chunk(places, filled[at], 0));
  }
  std::ranges::sort(samples, {}, &Sample::offset);
  const auto same_place = [](const Sample& a, const Sample& b) { return a.offset == b.offset; };
  samples.erase(std::unique(samples.begin(), samples.end(), same_place), samples.end());
  return samples;
}

Error data_difference(std::string_view tensor, std::uint64_t begin, std::uint64_t nbytes) {
  return difference(
      str_cat("tensor ", quoted(tensor), ": bytes [", begin, ",", begin + nbytes, ") differ"));
}

Result<OutputState> conclude(const OutputFile& file, const Result<void>& compared) {
  OutputState state;
  if (compared) {
    FLATBED_TRY(file.check_unchanged());
    state.kind = OutputKind::up_to_date;
    state.nbytes = file.size();
    return state;
  }
  if (compared.error().code != ErrorCode::file_exists) return compared.error();
  state.kind = OutputKind::different;
  state.difference = compared.error().message;
  return state;
}

}  // namespace flatbed
