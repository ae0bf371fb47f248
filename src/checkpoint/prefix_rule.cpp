#include "checkpoint/prefix_rule.hpp"

#include <algorithm>
#include <array>
#include <string>
#include <vector>

#include "base/str_cat.hpp"

namespace flatbed {

namespace {

using Names = std::span<const std::string_view>;

constexpr std::array<std::string_view, 4> kReady{"module.", "_orig_mod.", "model.", "state_dict."};
constexpr std::size_t kMaxCommon = 8;   // prefixes that end in a dot and are common to most names
constexpr std::size_t kSample = 512;    // names that every rule is tried on
constexpr std::size_t kMaxCounted = 3;  // rules that are tried on all keys

struct Candidate {
  std::string_view strip;
  std::string_view add;
  std::size_t sampled = 0;  // names of the sample that are found with it
};

bool begins_any(Names names, std::string_view prefix) {
  return std::ranges::any_of(names,
                             [&](std::string_view name) { return name.starts_with(prefix); });
}

std::size_t count_beginning(Names names, std::string_view prefix) {
  return static_cast<std::size_t>(std::ranges::count_if(
      names, [&](std::string_view name) { return name.starts_with(prefix); }));
}

// The part up to the first dot, with it, that more than half of the names begin with, if there is
// one: the vote of Boyer and Moore. If there is none, any part.
std::string_view major_part(Names names) {
  std::string_view major;
  std::size_t votes = 0;
  for (const std::string_view name : names) {
    const std::string_view part = name.substr(0, name.find('.') + 1);  // no dot: empty
    if (votes == 0) major = part;
    part == major ? ++votes : --votes;
  }
  return major;
}

// The longest text that all names with the major part begin with: a head that the other side lacks
// must not hide what the rest has in common.
std::string_view common_prefix(Names names) {
  const std::string_view part = major_part(names);
  std::string_view common;
  for (const std::string_view name : names) {
    if (!name.starts_with(part)) continue;
    if (common.empty()) common = name;
    const auto [in_common, in_name] = std::ranges::mismatch(common, name);
    common = common.substr(0, static_cast<std::size_t>(in_common - common.begin()));
  }
  return part.empty() ? part : common;
}

// The prefixes that some of `names` begin with; the empty one, which changes nothing, is first.
std::vector<std::string_view> prefixes_of(Names names, PrefixSet prefixes) {
  std::vector<std::string_view> out{""};
  for (const std::string_view ready : kReady) {
    if (begins_any(names, ready)) out.push_back(ready);
  }
  if (prefixes == PrefixSet::ready || names.size() < 2) return out;
  const std::string_view common = common_prefix(names);
  std::size_t found = 0;
  for (std::size_t dot = common.find('.'); dot != common.npos && found < kMaxCommon;
       dot = common.find('.', dot + 1), ++found) {
    const std::string_view prefix = common.substr(0, dot + 1);
    if (std::ranges::find(out, prefix) == out.end()) out.push_back(prefix);
  }
  return out;
}

// `key` under the rule; `buffer` holds it where the rule adds something.
std::string_view changed(std::string_view key, const Candidate& rule, std::string& buffer) {
  if (key.starts_with(rule.strip)) key.remove_prefix(rule.strip.size());
  if (rule.add.empty() || key.empty()) return key;
  buffer.assign(rule.add).append(key);
  return buffer;
}

// Of a sample of the missing names, those that some key becomes under the rule. Few keys may be of
// interest, such as a model's beside an optimizer's, but all missing names are.
std::size_t count_sampled(const PrefixSearch& search, const Candidate& rule) {
  std::string key;
  std::size_t count = 0;
  const std::size_t step = std::max<std::size_t>(1, search.missing.size() / kSample);
  for (std::size_t i = 0; i < search.missing.size(); i += step) {
    std::string_view name = search.missing[i];
    if (!name.starts_with(rule.add)) continue;
    name.remove_prefix(rule.add.size());
    key.assign(rule.strip).append(name);
    if (search.is_key(key) || (!name.starts_with(rule.strip) && search.is_key(name))) ++count;
  }
  return count;
}

// The expected tensors that are found under the rule; 0 if it gives two keys one name.
std::size_t count_all(const PrefixSearch& search, const Candidate& rule) {
  std::string buffer;
  std::vector<bool> names(search.expected_names);
  std::vector<bool> tensors(search.expected);
  std::size_t count = 0;
  for (const std::string_view key : search.keys) {
    const auto number = search.name_number(changed(key, rule, buffer));
    if (!number) continue;
    if (names[*number]) return 0;
    names[*number] = true;
    const std::uint32_t tensor = search.owner(*number);
    count += tensors[tensor] ? 0 : 1;
    tensors[tensor] = true;
  }
  return count;
}

// "every name", or "3 of 4 names".
std::string who(Names names, std::string_view prefix, std::string_view kind) {
  const std::size_t count = count_beginning(names, prefix);
  return count == names.size() ? str_cat("every ", kind, "name begins")
                               : str_cat(count, " of ", names.size(), " ", kind, "names begin");
}

std::string reason_of(const PrefixSearch& search, const PrefixRule& rule) {
  const std::string counts = str_cat(rule.matches, " of ", search.expected, " match");
  const std::string keys = str_cat(who(search.keys, rule.strip, ""), " with ", quoted(rule.strip));
  if (rule.add.empty()) return str_cat(keys, ": ", counts, " without it");
  const std::string missing =
      str_cat(who(search.missing, rule.add, "missing "), " with ", quoted(rule.add));
  if (rule.strip.empty()) return str_cat(missing, ": ", counts, " with it in front");
  return str_cat(keys, " and ", missing, ": ", counts, " if the one replaces the other");
}

}  // namespace

std::optional<PrefixRule> find_prefix_rule(const PrefixSearch& search, PrefixSet prefixes) {
  if (search.missing.empty() || search.unexpected.empty()) return std::nullopt;
  std::vector<Candidate> candidates;
  const std::vector<std::string_view> adds = prefixes_of(search.missing, prefixes);
  for (const std::string_view strip : prefixes_of(search.unexpected, prefixes)) {
    for (const std::string_view add : adds) {
      if (strip == add) continue;
      Candidate candidate{strip, add};
      candidate.sampled = count_sampled(search, candidate);
      candidates.push_back(candidate);
    }
  }
  // Of equals the simpler one comes first.
  std::ranges::stable_sort(candidates, std::ranges::greater(), &Candidate::sampled);
  candidates.resize(std::min(candidates.size(), kMaxCounted));
  PrefixRule best;
  best.matches_before = best.matches = search.matches;
  for (const Candidate& candidate : candidates) {
    if (best.matches == search.expected) break;
    const std::size_t matches = count_all(search, candidate);
    if (matches <= best.matches) continue;
    best.matches = matches;
    best.strip = candidate.strip;
    best.add = candidate.add;
  }
  if (best.matches == best.matches_before) return std::nullopt;
  best.reason = reason_of(search, best);
  return best;
}

}  // namespace flatbed
