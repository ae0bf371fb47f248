#include "flatbed/match.hpp"

#include <algorithm>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/str_cat.hpp"
#include "checkpoint/closest_name.hpp"
#include "checkpoint/match_keys.hpp"
#include "checkpoint/prefix_rule.hpp"
#include "flatbed/key_map.hpp"
#include "io/name_index.hpp"

namespace flatbed {

namespace {

constexpr std::size_t kMaxNear = 8;  // missing names for which the nearest is looked for
constexpr std::string_view kBatches = "num_batches_tracked";

// All names of what is expected, by number, and the tensor that each belongs to. Empty until
// build(): where all is found, which is the usual case, no index is needed.
class ExpectedNames {
 public:
  // Once. Errors: invalid_argument if two names are equal.
  Result<void> build(std::span<const Expected> expected) {
    index_ = NameIndex(expected.size());
    names_.reserve(expected.size());
    owners_.reserve(expected.size());
    for (std::uint32_t i = 0; i < expected.size(); ++i) {
      FLATBED_TRY(add(expected[i].name, i));
      for (const std::string& other : expected[i].other_names) FLATBED_TRY(add(other, i));
    }
    return {};
  }

  [[nodiscard]] bool is_built() const { return !names_.empty(); }

  [[nodiscard]] std::size_t size() const { return names_.size(); }
  [[nodiscard]] std::uint32_t owner(std::uint32_t number) const { return owners_[number]; }
  [[nodiscard]] std::optional<std::uint32_t> find(std::string_view name) const {
    return index_.find(name, [this](std::uint32_t n) { return names_[n]; });
  }

 private:
  Result<void> add(std::string_view name, std::uint32_t owner) {
    const auto number = static_cast<std::uint32_t>(names_.size());
    names_.push_back(name);
    owners_.push_back(owner);
    if (!index_.insert(name, number, [this](std::uint32_t n) { return names_[n]; })) return {};
    return make_error(ErrorCode::invalid_argument, "two expected tensors are called ",
                      quoted(name));
  }

  NameIndex index_;
  std::vector<std::string_view> names_;
  std::vector<std::uint32_t> owners_;
};

class Matcher {
 public:
  // `names` must be built for MatchMeaning::torch.
  Matcher(const Checkpoint& checkpoint, std::span<const Expected> expected,
          const ExpectedNames& names, const MatchOptions& options)
      : expected_(expected),
        names_(names),
        options_(options),
        keys_(checkpoint, options.meaning),
        used_(checkpoint.tensors().size()) {}

  MatchReport run() {
    report_.matched.reserve(std::min(expected_.size(), used_.size()));
    for (std::uint32_t i = 0; i < expected_.size(); ++i) match_one(i);
    list_unexpected();
    return std::move(report_);
  }

  // After run(): whether each expected tensor has one name, which is that of a tensor of its own.
  // Then no two names can be equal.
  [[nodiscard]] bool all_distinct() const { return distinct_ == expected_.size(); }

  // After run(), with the names built; null if no rule helps.
  [[nodiscard]] std::optional<PrefixRule> find_rule(PrefixSet prefixes, std::size_t found) const {
    const std::vector<std::string_view> keys = keys_.all();
    PrefixSearch search{keys, unexpected_, missing_, names_.size(), expected_.size(), found,
                        {},   {},          {}};
    search.name_number = [this](std::string_view name) { return names_.find(name); };
    search.owner = [this](std::uint32_t number) { return names_.owner(number); };
    search.is_key = [this](std::string_view name) { return keys_.find(name) != nullptr; };
    return find_prefix_rule(search, prefixes);
  }

  // After run().
  [[nodiscard]] std::vector<NearName> find_near() const {
    std::vector<NearName> near;
    // Of the first few only: each is compared with every unexpected name.
    for (const std::string_view name :
         std::span(missing_).first(std::min(missing_.size(), kMaxNear))) {
      const std::string_view closest =
          closest_name(name, unexpected_.size(), [this](std::size_t i) { return unexpected_[i]; });
      // At least half must be common: any two names share something.
      if (!closest.empty() &&
          common_ends(name, closest) * 2 >= std::max(name.size(), closest.size()))
        near.push_back({std::string(name), std::string(closest)});
    }
    return near;
  }

 private:
  void match_one(std::uint32_t number) {
    const Expected& expected = expected_[number];
    const TensorInfo* found = keys_.find(expected.name);
    const bool torch = options_.meaning == MatchMeaning::torch;
    if (found == nullptr && torch) add_missing(expected.name);
    for (const std::string& name : expected.other_names) {
      if (found != nullptr && !torch) break;
      const TensorInfo* other = keys_.find(name);
      if (other == nullptr && torch) add_missing(name);
      if (found == nullptr) found = other;
    }
    if (found == nullptr) {
      if (!torch) add_missing(expected.name);
      return;
    }
    const bool own = expected.other_names.empty() && found->name == expected.name;
    distinct_ += own && !used_[found->index] ? 1 : 0;
    used_[found->index] = true;
    const bool fits = shape_fits(expected, *found);
    const bool same =
        options_.dtypes == DtypePolicy::cast || !expected.dtype || *expected.dtype == found->dtype;
    if (fits && same) {
      report_.matched.push_back({number, found->index});
      return;
    }
    report_.mismatched.push_back({{number, found->index},
                                  expected.name,
                                  {found->shape.begin(), found->shape.end()},
                                  expected.shape,
                                  found->dtype,
                                  expected.dtype,
                                  same && options_.ignore_mismatched_sizes});
  }

  [[nodiscard]] bool shape_fits(const Expected& expected, const TensorInfo& found) const {
    if (!expected.shape || std::ranges::equal(*expected.shape, found.shape)) return true;
    return options_.meaning == MatchMeaning::torch && expected.shape->empty() &&
           found.shape.size() == 1 && found.shape[0] == 1;
  }

  void add_missing(std::string_view name) {
    if (is_forgiven(name)) {
      report_.forgiven.emplace_back(name);
      return;
    }
    missing_.push_back(name);
    report_.missing_keys.emplace_back(name);
  }

  // Only normalization that tracks statistics has all three buffers.
  [[nodiscard]] bool is_forgiven(std::string_view name) const {
    if (options_.meaning != MatchMeaning::torch || !name.ends_with(kBatches)) return false;
    const std::string_view prefix = name.substr(0, name.size() - kBatches.size());
    if (!prefix.empty() && prefix.back() != '.') return false;
    return names_.find(str_cat(prefix, "running_mean")) &&
           names_.find(str_cat(prefix, "running_var")) &&
           keys_.forgives_batches(prefix.substr(0, prefix.size() - (prefix.empty() ? 0 : 1)));
  }

  void list_unexpected() {
    if (options_.meaning == MatchMeaning::torch) {
      for (const std::string_view key : keys_.all()) {
        if (!names_.find(key)) add_unexpected(key);
      }
      return;
    }
    // An alias leads to a tensor, which was counted under its own name.
    for (std::size_t i = 0; i < used_.size(); ++i) {
      if (!used_[i]) add_unexpected(keys_.tensor_name(i));
    }
  }

  void add_unexpected(std::string_view key) {
    unexpected_.push_back(key);
    report_.unexpected_keys.emplace_back(key);
  }

  std::span<const Expected> expected_;
  const ExpectedNames& names_;
  const MatchOptions& options_;
  MatchKeys keys_;
  std::vector<bool> used_;  // for each tensor of the checkpoint
  std::size_t distinct_ = 0;
  std::vector<std::string_view> missing_;
  std::vector<std::string_view> unexpected_;
  MatchReport report_;
};

std::size_t found_count(const MatchReport& report) {
  return report.matched.size() + report.mismatched.size();
}

Result<Checkpoint> apply(const Checkpoint& checkpoint, const PrefixRule& rule) {
  KeyMap map;
  if (!rule.strip.empty()) FLATBED_TRY(map.strip_prefix(rule.strip, Unmatched::allow));
  if (!rule.add.empty()) FLATBED_TRY(map.add_prefix(rule.add));
  return checkpoint.rename(map);
}

Result<MatchReport> match_as_it_is(const Checkpoint& checkpoint, std::span<const Expected> expected,
                                   ExpectedNames& names, const MatchOptions& options) {
  Matcher matcher(checkpoint, expected, names, options);
  MatchReport report = matcher.run();
  if (!names.is_built() && !matcher.all_distinct()) FLATBED_TRY(names.build(expected));
  if (report.missing_keys.empty()) return report;
  const std::size_t found = found_count(report);
  if (found * 2 <= expected.size()) report.suggested = matcher.find_rule(PrefixSet::all, found);
  if (!report.suggested) report.near_names = matcher.find_near();
  return report;
}

bool counts(const Mismatch& mismatch) { return !mismatch.ignored; }

}  // namespace

bool MatchReport::complete() const noexcept {
  return missing_keys.empty() && unexpected_keys.empty() &&
         std::ranges::none_of(mismatched, counts);
}

bool MatchReport::partial() const noexcept {
  return !matched.empty() && std::ranges::none_of(mismatched, counts);
}

Result<MatchReport> match(const Checkpoint& checkpoint, std::span<const Expected> expected,
                          const MatchOptions& options) {
  ExpectedNames names;
  if (options.ready_sets || options.meaning == MatchMeaning::torch)
    FLATBED_TRY(names.build(expected));
  if (options.ready_sets) {
    Matcher matcher(checkpoint, expected, names, options);
    const std::size_t found = found_count(matcher.run());
    if (std::optional<PrefixRule> rule = matcher.find_rule(PrefixSet::ready, found)) {
      // A rule that gives two tensors one name is no help.
      if (const Result<Checkpoint> renamed = apply(checkpoint, *rule)) {
        FLATBED_ASSIGN(MatchReport report, match_as_it_is(*renamed, expected, names, options));
        report.applied = std::move(rule);
        return report;
      }
    }
  }
  return match_as_it_is(checkpoint, expected, names, options);
}

}  // namespace flatbed
