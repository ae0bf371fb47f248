#include "state_source.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

namespace flatbed::python {

StateSource::StateSource(std::string label, std::string head,
                         const std::vector<StateStorage>& storages)
    : label_(std::move(label)), head_(std::move(head)), counts_(storages.size() * 8) {
  add(std::as_bytes(std::span(head_)));
  std::span<std::byte> counts(counts_);
  for (const StateStorage& storage : storages) {
    const std::span<std::byte> count = counts.first(8);
    for (std::size_t i = 0; i < 8; ++i)
      count[i] = static_cast<std::byte>(storage.count >> (8 * i) & 0xFF);
    add(count);
    add(storage.bytes);
    counts = counts.subspan(8);
  }
}

void StateSource::add(std::span<const std::byte> bytes) {
  if (bytes.empty()) return;
  parts_.push_back({nbytes_, bytes});
  nbytes_ += bytes.size();
}

// The last part that begins at or before `offset`.
std::size_t StateSource::part_at(std::uint64_t offset) const {
  const auto after =
      std::upper_bound(parts_.begin(), parts_.end(), offset,
                       [](std::uint64_t at, const Part& part) { return at < part.begin; });
  return static_cast<std::size_t>(after - parts_.begin()) - 1;
}

Result<void> StateSource::read_at(std::uint64_t offset, std::span<std::byte> out) const {
  if (out.empty()) return {};
  for (std::size_t i = part_at(offset); !out.empty(); ++i) {
    const Part& part = parts_[i];
    const std::span<const std::byte> from =
        part.bytes.subspan(static_cast<std::size_t>(offset - part.begin));
    const std::size_t taken = std::min(from.size(), out.size());
    std::memcpy(out.data(), from.data(), taken);
    out = out.subspan(taken);
    offset += taken;
  }
  return {};
}

std::span<const std::byte> StateSource::find(std::uint64_t offset, std::uint64_t nbytes) const {
  if (nbytes == 0 || offset >= nbytes_) return {};
  const Part& part = parts_[part_at(offset)];
  const std::uint64_t skip = offset - part.begin;
  if (nbytes > part.bytes.size() - skip) return {};
  return part.bytes.subspan(static_cast<std::size_t>(skip), static_cast<std::size_t>(nbytes));
}

}  // namespace flatbed::python
