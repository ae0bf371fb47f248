#include "base/sort_names.hpp"

#include <algorithm>
#include <cstddef>
#include <span>

namespace flatbed {

namespace {

constexpr std::size_t kKeyBytes = sizeof(std::uint64_t);
constexpr std::size_t kFew = 16;  // a range this short is sorted by whole names
constexpr std::size_t kMostRuns = 8;

struct Range {
  std::span<NumberedName> names;
  std::size_t offset;  // of bytes that they have in common
};

// The number of bytes that all names have in common. At least `least`.
std::size_t common_nbytes(std::span<const NumberedName> names, std::size_t least) {
  const std::string_view first = names.front().name;
  std::size_t common = first.size();
  for (const NumberedName& entry : names.subspan(1)) {
    const std::size_t most = std::min(common, entry.name.size());
    std::size_t same = least;
    while (same < most && entry.name[same] == first[same]) ++same;
    common = same;
  }
  return common;
}

// The bytes from `offset` on as a number that compares as they do; zeros after the end.
std::uint64_t key_of(std::string_view name, std::size_t offset) {
  std::uint64_t key = 0;
  for (std::size_t i = 0; i < kKeyBytes; ++i) {
    const auto byte = offset + i < name.size() ? static_cast<unsigned char>(name[offset + i]) : 0;
    key = key << 8 | static_cast<unsigned char>(byte);
  }
  return key;
}

// Adds the runs of equal keys to `ranges`. A run in which a name ends is sorted at once.
void split(const Range& range, std::vector<Range>& ranges) {
  std::span<NumberedName> rest = range.names;
  while (!rest.empty()) {
    const std::uint64_t key = rest.front().key;
    const auto other =
        std::ranges::find_if(rest, [key](const NumberedName& entry) { return entry.key != key; });
    const auto run = rest.first(static_cast<std::size_t>(other - rest.begin()));
    rest = rest.subspan(run.size());
    if (run.size() == 1) continue;
    const std::size_t offset = range.offset + kKeyBytes;
    const bool ends = std::ranges::any_of(
        run, [offset](const NumberedName& entry) { return entry.name.size() < offset; });
    if (ends || run.size() <= kFew) {
      std::ranges::sort(run, {}, &NumberedName::name);
    } else {
      ranges.push_back({run, offset});
    }
  }
}

// The numbers in names make a few ascending runs of them (9 is before 10), which are merged in
// linear time. False if there are more than a few.
bool merge_runs(std::vector<NumberedName>& names) {
  const auto before = [](const NumberedName& a, const NumberedName& b) { return a.name < b.name; };
  std::vector<std::vector<NumberedName>::iterator> runs{names.begin()};  // where they begin
  for (auto at = names.begin(); at != names.end(); runs.push_back(at)) {
    if (runs.size() > kMostRuns) return false;
    at = std::is_sorted_until(at, names.end(), before);
  }
  while (runs.size() > 2) {
    std::size_t kept = 1;
    for (std::size_t i = 2; i < runs.size(); i += 2) {
      std::inplace_merge(runs[i - 2], runs[i - 1], runs[i], before);
      runs[kept++] = runs[i];
    }
    if (runs.size() % 2 == 0) runs[kept++] = runs.back();  // the last run has no neighbour
    runs.resize(kept);
  }
  return true;
}

}  // namespace

void sort_names(std::vector<NumberedName>& names) {
  if (merge_runs(names)) return;
  std::vector<Range> ranges{{names, 0}};
  while (!ranges.empty()) {
    Range range = ranges.back();
    ranges.pop_back();
    range.offset = common_nbytes(range.names, range.offset);
    for (NumberedName& entry : range.names) entry.key = key_of(entry.name, range.offset);
    std::ranges::sort(range.names, {}, &NumberedName::key);
    split(range, ranges);
  }
}

}  // namespace flatbed
