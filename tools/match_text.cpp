#include "match_text.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "format_text.hpp"
#include "json_out.hpp"

namespace flatbed::tool {
namespace {

constexpr std::size_t kShown = 20;  // rows of each kind without --all
constexpr std::size_t kStateColumns = 10;
constexpr std::size_t kMaxNameColumns = 64;  // a longer name shifts only its own line's columns
constexpr std::size_t kMinNameColumns = 16;  // narrower terminals break the lines
constexpr std::size_t kMaxTensorColumns = 24;
constexpr std::size_t kGap = 2;

struct Row {
  std::string_view state;
  std::string name;
  std::string expected;
  std::string found;
};

std::string tensor_text(const std::optional<std::vector<std::uint64_t>>& shape,
                        const std::optional<Dtype>& dtype) {
  if (!shape && !dtype) return "any";
  return fmt::format("{}{}", dtype ? name(*dtype) : "any", shape ? shape_text(*shape) : "");
}

// The rows of a report.
class Rows {
 public:
  Rows(const Comparison& comparison, bool all) : comparison_(comparison), all_(all) {
    for (const Expected& expected : comparison.expected) {
      by_name_.emplace(expected.name, &expected);
      for (const std::string& other : expected.other_names) by_name_.emplace(other, &expected);
    }
    const MatchReport& report = comparison.report;
    add_expected("missing", report.missing_keys);
    add_mismatched(report.mismatched);
    add_unexpected(report.unexpected_keys);
    add_expected("forgiven", report.forgiven);
  }

  [[nodiscard]] const std::vector<Row>& rows() const { return rows_; }
  [[nodiscard]] const std::vector<std::string>& left_out() const { return left_out_; }

 private:
  // The number of rows that are shown of `count`.
  std::size_t shown(std::size_t count, std::string_view state) {
    if (all_ || count <= kShown) return count;
    left_out_.push_back(fmt::format("{} more {}", number_text(count - kShown), state));
    return kShown;
  }

  void add_expected(std::string_view state, const std::vector<std::string>& names) {
    const std::size_t count = shown(names.size(), state);
    for (std::size_t i = 0; i < count; ++i) {
      const auto found = by_name_.find(names[i]);
      const std::string text =
          found == by_name_.end() ? "any" : tensor_text(found->second->shape, found->second->dtype);
      rows_.push_back({state, names[i], text, "-"});
    }
  }

  void add_mismatched(const std::vector<Mismatch>& mismatched) {
    const std::size_t count = shown(mismatched.size(), "mismatched");
    for (std::size_t i = 0; i < count; ++i) {
      const Mismatch& mismatch = mismatched[i];
      rows_.push_back({mismatch.ignored ? "ignored" : "mismatched", mismatch.name,
                       tensor_text(mismatch.expected_shape, mismatch.expected_dtype),
                       tensor_text(mismatch.shape, mismatch.dtype)});
    }
  }

  void add_unexpected(const std::vector<std::string>& names) {
    const std::size_t count = shown(names.size(), "unexpected");
    for (std::size_t i = 0; i < count; ++i) {
      const TensorInfo* found = comparison_.checkpoint.find(names[i]);
      rows_.push_back({"unexpected", names[i], "-",
                       found == nullptr ? "no tensor" : flatbed::tool::tensor_text(*found)});
    }
  }

  const Comparison& comparison_;
  bool all_;
  std::map<std::string_view, const Expected*> by_name_;
  std::vector<Row> rows_;
  std::vector<std::string> left_out_;
};

void write_rows(const std::vector<Row>& rows, std::size_t width, Output& output) {
  std::size_t name_columns = 4;
  std::size_t expected_columns = 8;
  std::size_t found_columns = 5;
  for (const Row& row : rows) {
    name_columns = std::max(name_columns, columns(safe_text(row.name)));
    expected_columns = std::max(expected_columns, columns(row.expected));
    found_columns = std::max(found_columns, columns(row.found));
  }
  expected_columns = std::min(expected_columns, kMaxTensorColumns);
  found_columns = std::min(found_columns, kMaxTensorColumns);
  const std::size_t others = 4 * kGap + kStateColumns + expected_columns + found_columns;
  if (width != 0) width = std::max(width - std::min(width, others), kMinNameColumns);
  name_columns = std::min(name_columns, width == 0 ? kMaxNameColumns : width);
  const auto write_row = [&](const Row& row) {
    const std::string text = safe_text(row.name);
    std::string line(kGap, ' ');
    append_padded(line, row.state, kStateColumns + kGap);
    append_padded(line, width == 0 ? text : shortened(text, width), name_columns);
    line.append(kGap, ' ');
    append_padded(line, row.expected, expected_columns);
    line.append(kGap, ' ');
    output.write(line + row.found + "\n");
  };
  write_row({"STATE", "NAME", "EXPECTED", "FOUND"});
  for (const Row& row : rows) write_row(row);
}

// "--strip-prefix module. --add-prefix model."
std::string options_text(const PrefixRule& rule) {
  std::string text;
  if (!rule.strip.empty()) text += fmt::format("--strip-prefix {}", safe_text(rule.strip));
  if (!rule.add.empty())
    text += fmt::format("{}--add-prefix {}", text.empty() ? "" : " ", safe_text(rule.add));
  return text;
}

std::string summary_text(const Comparison& comparison) {
  const MatchReport& report = comparison.report;
  std::string text = fmt::format("{} of {} {}", number_text(report.matched.size()),
                                 count_text(comparison.expected.size(), "expected tensor"),
                                 verb_text(report.matched.size(), "matches", "match"));
  const auto add = [&](std::size_t count, std::string_view what) {
    if (count != 0) text += fmt::format(", {} {}", number_text(count), what);
  };
  add(report.missing_keys.size(), "missing");
  add(report.mismatched.size(), "mismatched");
  add(report.unexpected_keys.size(), "unexpected");
  add(report.forgiven.size(), "forgiven");
  return text;
}

void write_shape(const std::optional<std::vector<std::uint64_t>>& shape, JsonWriter& json) {
  json.key("shape");
  if (!shape) {
    json.null();
    return;
  }
  json.begin_array();
  for (const std::uint64_t size : *shape) json.number(size);
  json.end_array();
}

void write_tensor(std::string_view key, const std::optional<std::vector<std::uint64_t>>& shape,
                  const std::optional<Dtype>& dtype, JsonWriter& json) {
  json.key(key).begin_object();
  write_shape(shape, json);
  json.key("dtype");
  dtype ? json.text(name(*dtype)) : json.null();
  json.end_object();
}

void write_texts(std::string_view key, const std::vector<std::string>& texts, JsonWriter& json) {
  json.key(key).begin_array();
  for (const std::string& text : texts) json.text(text);
  json.end_array();
}

void write_rule(std::string_view key, const std::optional<PrefixRule>& rule, JsonWriter& json) {
  json.key(key);
  if (!rule) {
    json.null();
    return;
  }
  json.begin_object().key("strip").text(rule->strip).key("add").text(rule->add);
  json.key("matches_before").number(rule->matches_before).key("matches").number(rule->matches);
  json.key("reason").text(rule->reason).end_object();
}

}  // namespace

void write_match(const Comparison& comparison, const MatchCommandOptions& options,
                 std::size_t width, Output& output) {
  const MatchReport& report = comparison.report;
  const Rows rows(comparison, options.all);
  if (!rows.rows().empty()) {
    write_rows(rows.rows(), width, output);
    if (!rows.left_out().empty()) {
      std::string text = "  ... ";
      for (const std::string& more : rows.left_out())
        text += (more == rows.left_out().front() ? "" : ", ") + more;
      output.write(text + "; --all shows them\n");
    }
    output.write("\n");
  }
  if (report.applied)
    output.write(fmt::format("applied {}: {}\n", options_text(*report.applied),
                             safe_text(report.applied->reason)));
  for (const NearName& near : report.near_names)
    output.write(fmt::format("{} is missing; did you mean {}?\n", quoted_text(near.missing, 80),
                             quoted_text(near.near, 80)));
  output.write(fmt::format("{}: {}\n", path_text(options.path), summary_text(comparison)));
  if (report.suggested)
    output.write(fmt::format("{}; use {}\n", safe_text(report.suggested->reason),
                             options_text(*report.suggested)));
}

void write_match_json(const Comparison& comparison, JsonWriter& json) {
  const MatchReport& report = comparison.report;
  json.key("expected").number(comparison.expected.size());
  json.key("matched").number(report.matched.size()).key("complete").boolean(report.complete());
  write_texts("missing_keys", report.missing_keys, json);
  write_texts("unexpected_keys", report.unexpected_keys, json);
  json.key("mismatched").begin_array();
  for (const Mismatch& mismatch : report.mismatched) {
    json.begin_object().key("name").text(mismatch.name);
    write_tensor("expected", mismatch.expected_shape, mismatch.expected_dtype, json);
    write_tensor("found", mismatch.shape, mismatch.dtype, json);
    json.key("ignored").boolean(mismatch.ignored).end_object();
  }
  json.end_array();
  write_texts("forgiven", report.forgiven, json);
  write_rule("applied", report.applied, json);
  write_rule("suggested", report.suggested, json);
  json.key("near_names").begin_array();
  for (const NearName& near : report.near_names)
    json.begin_object().key("missing").text(near.missing).key("near").text(near.near).end_object();
  json.end_array();
}

}  // namespace flatbed::tool
