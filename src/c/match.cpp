// Matching, in flatbed.h: what is expected, and what a checkpoint has of it.
#include "flatbed/match.hpp"

#include "base/str_cat.hpp"
#include "c/callbacks.hpp"
#include "c/checkpoints.hpp"
#include "c/guard.hpp"

namespace flatbed::c {

namespace {

std::uint32_t number_of(const std::optional<Dtype>& dtype) {
  return dtype ? dtype_number(*dtype) : std::uint32_t{FLATBED_DTYPE_NONE};
}

flatbed_mismatch mismatch_to_c(const Mismatch& from) {
  flatbed_mismatch mismatch{};
  mismatch.struct_size = sizeof mismatch;
  mismatch.name = to_c(std::string_view(from.name));
  mismatch.expected = from.pair.expected;
  mismatch.tensor = from.pair.tensor;
  mismatch.shape = from.shape.data();
  mismatch.rank = from.shape.size();
  if (from.expected_shape) {
    mismatch.expected_shape = from.expected_shape->data();
    mismatch.expected_rank = from.expected_shape->size();
  }
  mismatch.dtype = dtype_number(from.dtype);
  mismatch.expected_dtype = number_of(from.expected_dtype);
  mismatch.ignored = from.ignored ? 1 : 0;
  return mismatch;
}

flatbed_prefix_rule rule_to_c(const PrefixRule& from, bool applied) {
  flatbed_prefix_rule rule{};
  rule.struct_size = sizeof rule;
  rule.strip = to_c(std::string_view(from.strip));
  rule.add = to_c(std::string_view(from.add));
  rule.reason = to_c(std::string_view(from.reason));
  rule.matches_before = from.matches_before;
  rule.matches = from.matches;
  rule.applied = applied ? 1 : 0;
  return rule;
}

using NameFunction = int32_t (*)(void* context, flatbed_string name);

Result<void> tell_names(const std::vector<std::string>& names, NameFunction function,
                        void* context) {
  if (function == nullptr) return {};
  for (const std::string& name : names) {
    FLATBED_TRY(callback_result(function(context, to_c(std::string_view(name))),
                                "the caller's function for names", ErrorCode::cancelled));
  }
  return {};
}

Result<void> tell_rule(const std::optional<PrefixRule>& found, bool applied,
                       const flatbed_match_options& options) {
  if (options.rule == nullptr || !found) return {};
  const flatbed_prefix_rule rule = rule_to_c(*found, applied);
  return callback_result(options.rule(options.context, &rule), "the caller's rule",
                         ErrorCode::cancelled);
}

Result<void> tell(const MatchReport& found, const flatbed_match_options& options) {
  void* const context = options.context;
  FLATBED_TRY(tell_rule(found.applied, true, options));
  FLATBED_TRY(tell_rule(found.suggested, false, options));
  if (options.matched != nullptr) {
    for (const MatchedPair& pair : found.matched) {
      FLATBED_TRY(callback_result(options.matched(context, pair.expected, pair.tensor),
                                  "the caller's matched", ErrorCode::cancelled));
    }
  }
  if (options.mismatched != nullptr) {
    for (const Mismatch& entry : found.mismatched) {
      const flatbed_mismatch mismatch = mismatch_to_c(entry);
      FLATBED_TRY(callback_result(options.mismatched(context, &mismatch), "the caller's mismatched",
                                  ErrorCode::cancelled));
    }
  }
  FLATBED_TRY(tell_names(found.missing_keys, options.missing, context));
  FLATBED_TRY(tell_names(found.unexpected_keys, options.unexpected, context));
  return tell_names(found.forgiven, options.forgiven, context);
}

Result<MatchOptions> to_cpp(const flatbed_match_options& read) {
  MatchOptions options;
  FLATBED_ASSIGN(const bool torch_keys, read_flag(read.torch_keys, "torch_keys"));
  FLATBED_ASSIGN(const bool exact, read_flag(read.exact_dtypes, "exact_dtypes"));
  if (torch_keys) options.meaning = MatchMeaning::torch;
  if (exact) options.dtypes = DtypePolicy::exact;
  FLATBED_ASSIGN(options.ignore_mismatched_sizes,
                 read_flag(read.ignore_mismatched_sizes, "ignore_mismatched_sizes"));
  FLATBED_ASSIGN(options.ready_sets, read_flag(read.ready_sets, "ready_sets"));
  return options;
}

flatbed_match_report report_to_c(const MatchReport& found) {
  flatbed_match_report report{};
  report.matched = found.matched.size();
  report.missing = found.missing_keys.size();
  report.unexpected = found.unexpected_keys.size();
  report.mismatched = found.mismatched.size();
  report.forgiven = found.forgiven.size();
  report.complete = found.complete() ? 1 : 0;
  report.partial = found.partial() ? 1 : 0;
  return report;
}

Result<void> give_expected(std::vector<Expected> list, flatbed_expected** out) {
  *out = std::make_unique<flatbed_expected>(std::move(list)).release();
  return {};
}

}  // namespace

}  // namespace flatbed::c

using flatbed::Result;
using flatbed::c::check;
using flatbed::c::clear_out;
using flatbed::c::give_expected;
using flatbed::c::guarded;
using flatbed::c::read_string;

int32_t flatbed_expected_new(flatbed_expected** out, flatbed_error* error) {
  return guarded(error, [&]() -> Result<void> {
    FLATBED_TRY(clear_out(out));
    return give_expected({}, out);
  });
}

int32_t flatbed_expected_parse(flatbed_string json, flatbed_expected** out, flatbed_error* error) {
  return guarded(error, [&]() -> Result<void> {
    FLATBED_TRY(clear_out(out));
    FLATBED_ASSIGN(const std::string_view text, read_string(json, "json"));
    FLATBED_ASSIGN(std::vector<flatbed::Expected> list, flatbed::parse_expectations(text));
    return give_expected(std::move(list), out);
  });
}

int32_t flatbed_expected_of(const flatbed_checkpoint* checkpoint, flatbed_expected** out,
                            flatbed_error* error) {
  return guarded(error, [&]() -> Result<void> {
    FLATBED_TRY(clear_out(out));
    FLATBED_TRY(check(checkpoint, "checkpoint"));
    return give_expected(flatbed::expectations(checkpoint->checkpoint), out);
  });
}

void flatbed_expected_free(flatbed_expected* expected) { flatbed::c::free_handle(expected); }

uint64_t flatbed_expected_count(const flatbed_expected* expected) {
  return flatbed::c::is_handle(expected) ? expected->list.size() : 0;
}

int32_t flatbed_expected_add(flatbed_expected* expected, flatbed_string name, uint32_t dtype,
                             const uint64_t* shape, uint64_t rank, flatbed_error* error) {
  return guarded(error, [&]() -> Result<void> {
    FLATBED_TRY(check(expected, "expected"));
    flatbed::Expected entry;
    FLATBED_ASSIGN(entry.name, read_string(name, "name"));
    if (dtype != FLATBED_DTYPE_NONE) {
      FLATBED_ASSIGN(entry.dtype, flatbed::c::read_dtype(dtype, "dtype"));
    }
    FLATBED_TRY(flatbed::c::check_bytes(shape, rank, "shape"));
    if (shape != nullptr) entry.shape.emplace(shape, shape + rank);
    expected->list.push_back(std::move(entry));
    return {};
  });
}

int32_t flatbed_expected_add_name(flatbed_expected* expected, flatbed_string name,
                                  flatbed_error* error) {
  return guarded(error, [&]() -> Result<void> {
    FLATBED_TRY(check(expected, "expected"));
    FLATBED_ASSIGN(const std::string_view text, read_string(name, "name"));
    if (expected->list.empty()) {
      return flatbed::make_error(flatbed::ErrorCode::invalid_argument,
                                 "argument 'expected': found no tensor, expected one before its "
                                 "further names");
    }
    expected->list.back().other_names.emplace_back(text);
    return {};
  });
}

int32_t flatbed_match(const flatbed_checkpoint* checkpoint, const flatbed_expected* expected,
                      const flatbed_match_options* options, flatbed_match_report* report,
                      flatbed_error* error) {
  return guarded(error, [&]() -> Result<void> {
    FLATBED_TRY(check(checkpoint, "checkpoint"));
    FLATBED_TRY(check(expected, "expected"));
    if (report != nullptr) FLATBED_TRY(flatbed::c::check_report(report, "report"));
    FLATBED_ASSIGN(const flatbed_match_options read, flatbed::c::read_options(options));
    FLATBED_ASSIGN(const flatbed::MatchOptions match_options, flatbed::c::to_cpp(read));
    FLATBED_ASSIGN(const flatbed::MatchReport found,
                   flatbed::match(checkpoint->checkpoint, expected->list, match_options));
    if (report != nullptr) flatbed::c::fill_report(flatbed::c::report_to_c(found), report);
    return flatbed::c::tell(found, read);
  });
}
