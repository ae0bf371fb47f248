// match(): compares what an engine expects (names, shapes, dtypes) with what a checkpoint has.
//
//   FLATBED_ASSIGN(const auto expected, read_expectations("model.json"));
//   FLATBED_ASSIGN(const MatchReport report, match(checkpoint, expected));
//   for (const std::string& key : report.missing_keys) use(key);
//
// load_matched.hpp turns a report into a LoadPlan.
//
// A report owns its texts, so it stays valid without the checkpoint. Functions here may be called
// from several threads at once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "flatbed/checkpoint.hpp"
#include "flatbed/dtype.hpp"
#include "flatbed/export.hpp"
#include "flatbed/result.hpp"

namespace flatbed {

// A tensor that is expected.
struct Expected {
  std::string name;
  std::optional<std::vector<std::uint64_t>> shape = {};  // unset: any; likewise for dtype
  std::optional<Dtype> dtype = {};
  // Further names of the same tensor (tied weights). MatchMeaning::checkpoint takes the tensor from
  // the first of all names that is found; MatchMeaning::torch expects a key for each name.
  std::vector<std::string> other_names = {};
};

// All tensors of a checkpoint, in its order, with their aliases as other names.
[[nodiscard]] FLATBED_EXPORT std::vector<Expected> expectations(const Checkpoint& checkpoint);

// Expectations as JSON: {"fc.weight": {"shape": [8, 5], "dtype": "F32"}, ...}. A shape or dtype
// that is null or left out means any, and so does null in place of an object. Errors:
// invalid_argument, with the entry's name; limit_exceeded (over 100,000,000 bytes);
// read_expectations() also those of the system.
[[nodiscard]] FLATBED_EXPORT Result<std::vector<Expected>> parse_expectations(
    std::string_view json);
[[nodiscard]] FLATBED_EXPORT Result<std::vector<Expected>> read_expectations(
    const std::filesystem::path& path);

// checkpoint: aliases of the checkpoint are names like others.
// torch: the keys that load_state_dict() of torch 2.14 reports for what torch or safetensors load
// from the file:
//   - Of a PyTorch file, aliases are keys, and so is what the outermost dict holds besides tensors.
//     In a .safetensors file only tensors are keys.
//   - Tensors in further dicts and lists are keys by the names that they have here. torch has the
//     key of the outermost dict only: select() the state dict of a training checkpoint first.
//   - A tensor of shape [1] fits an expected scalar. (torch 2.9 and older give a scalar the first
//     element of any tensor of one dimension.)
//   - A missing num_batches_tracked beside an expected running_mean and running_var is forgiven if
//     the checkpoint's _metadata gives its module no version or one below 2. Files without
//     _metadata (.safetensors, sets, and views that select() or rename() made) give none.
enum class MatchMeaning : std::uint8_t { checkpoint, torch };

// cast: any dtype matches, as in torch. exact: another dtype is a mismatch.
enum class DtypePolicy : std::uint8_t { cast, exact };

struct MatchOptions {
  MatchMeaning meaning = MatchMeaning::checkpoint;
  DtypePolicy dtypes = DtypePolicy::cast;
  // Another shape is reported in `mismatched`, but does not count against complete().
  bool ignore_mismatched_sizes = false;
  // Strip or add `module.`, `_orig_mod.`, `model.` or `state_dict.` if more names match then.
  // Otherwise such a rule is only suggested.
  bool ready_sets = false;
};

struct MatchedPair {
  std::uint32_t expected = 0;  // index into what is expected
  std::uint32_t tensor = 0;    // index into Checkpoint::tensors(), also after a rule was applied
};

// A tensor that is there with another shape or dtype.
struct Mismatch {
  MatchedPair pair;
  std::string name;  // the expected one
  std::vector<std::uint64_t> shape;
  std::optional<std::vector<std::uint64_t>> expected_shape;
  Dtype dtype = Dtype::u8;
  std::optional<Dtype> expected_dtype;
  bool ignored = false;  // by ignore_mismatched_sizes
};

// A change of the checkpoint's names with which more of them match: first `strip` is removed from
// the names that begin with it, then `add` is put before all. One of the two may be empty.
struct PrefixRule {
  std::string strip;
  std::string add;
  std::size_t matches_before = 0;  // expected names that are found
  std::size_t matches = 0;         // with the rule
  std::string reason;  // "every name begins with 'module.': 214 of 214 match without it"
};

struct NearName {
  std::string missing;
  std::string near;  // the unexpected key that has most in common with it
};

struct MatchReport {
  std::vector<std::string> missing_keys;  // in the order of what is expected
  // In the order of the checkpoint, and as a rule that was applied leaves them: tensors, then
  // aliases, then other keys.
  std::vector<std::string> unexpected_keys;
  std::vector<Mismatch> mismatched;     // in the order of what is expected; likewise for `matched`
  std::vector<MatchedPair> matched;     // names, shapes, and with DtypePolicy::exact dtypes
  std::vector<std::string> forgiven;    // missing keys that MatchMeaning::torch forgives
  std::optional<PrefixRule> applied;    // by ready_sets
  std::optional<PrefixRule> suggested;  // if at least half of what is expected is missing
  std::vector<NearName> near_names;     // of the first missing keys, if no rule is suggested

  // Nothing is missing, unexpected or mismatched, except what was to be ignored.
  [[nodiscard]] FLATBED_EXPORT bool complete() const noexcept;
  // Something matches, and nothing is mismatched, except what was to be ignored.
  [[nodiscard]] FLATBED_EXPORT bool partial() const noexcept;
};

// Errors: invalid_argument if two expected tensors have the same name.
[[nodiscard]] FLATBED_EXPORT Result<MatchReport> match(const Checkpoint& checkpoint,
                                                       std::span<const Expected> expected,
                                                       const MatchOptions& options = {});

}  // namespace flatbed
