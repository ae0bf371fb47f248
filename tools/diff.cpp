// flatbed diff: what distinguishes two checkpoints, as lines, or as JSON.
#include "flatbed/diff.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>
#include <vector>

#include "commands.hpp"
#include "format_text.hpp"
#include "interrupt.hpp"
#include "json_out.hpp"
#include "open_input.hpp"
#include "progress.hpp"
#include "renames.hpp"
#include "seal_text.hpp"
#include "value_text.hpp"

namespace flatbed::tool {
namespace {

constexpr std::size_t kMaxNameColumns = 64;  // a longer name shifts only its own line
constexpr std::string_view kTree = "tree";   // begins the lines of values

Result<Checkpoint> open_part(const std::filesystem::path& path, const DiffCommandOptions& options) {
  FLATBED_ASSIGN(const Checkpoint checkpoint,
                 open_input(path, open_options(options.ignore_seal), options.remote));
  Selection selection;
  selection.path = options.select;
  selection.state_dict = !options.select.empty();
  selection.include = options.include;
  selection.exclude = options.exclude;
  return checkpoint.select(selection);
}

// Both checkpoints and what was found. The report borrows from them.
struct Compared {
  Checkpoint a;
  Checkpoint b;
  DiffReport report;
};

Result<Compared> compare(const DiffCommandOptions& options) {
  const auto open = [&](const std::filesystem::path& path) -> Result<Checkpoint> {
    Result<Checkpoint> opened = open_part(path, options);
    if (!opened) return about(path, with_way_out(std::move(opened).error()));
    return opened;
  };
  FLATBED_ASSIGN(const Checkpoint under_own_names, open(options.a));
  Result<Checkpoint> a = renamed(under_own_names, options.renames);
  if (!a) return about(options.a, std::move(a).error());
  FLATBED_ASSIGN(Checkpoint b, open(options.b));
  ProgressLine progress("comparing", 1, !options.quiet && options.form == Form::text);
  DiffOptions diff_options;
  diff_options.values = options.values;
  diff_options.threads = options.threads;
  diff_options.cancel = &interrupted();
  diff_options.progress = progress.callback(0);
  FLATBED_ASSIGN(DiffReport report, diff(*a, b, diff_options));
  return Compared{*std::move(a), std::move(b), std::move(report)};
}

std::string value_text(const std::optional<Value>& value, const Checkpoint& checkpoint) {
  if (!value) return "nothing";
  const TextContext context{checkpoint.tensors(), [](NodeId) { return false; }};
  return inline_text(*value, context).value_or(head_text(*value));
}

std::string change_text(const TensorDifference& difference) {
  if (!difference.b) return tensor_text(*difference.a);
  if (!difference.a) return tensor_text(*difference.b);
  const std::string a = tensor_text(*difference.a);
  if (difference.change != TensorChange::bytes)
    return fmt::format("{} -> {}", a, tensor_text(*difference.b));
  constexpr std::uint64_t kChunkBytes = 262'144;
  const std::uint64_t chunks = (difference.a->nbytes + kChunkBytes - 1) / kChunkBytes;
  if (chunks == 1) return a;
  return fmt::format("{}, {} of {}", a, number_text(difference.chunks),
                     count_text(chunks, "chunk"));
}

// "[3, 0]": an element counted in C order.
std::string element_place(std::uint64_t element, ShapeView shape) {
  std::vector<std::uint64_t> place(shape.size());
  for (std::size_t i = shape.size(); i-- != 0;) {
    place[i] = element % shape[i];
    element /= shape[i];
  }
  return shape_text(place);
}

std::string values_text(const ValueDifference& values, ShapeView shape) {
  std::string text = fmt::format("; {} {}", count_text(values.different, "value"),
                                 verb_text(values.different, "differs", "differ"));
  if (values.worst) {
    text += fmt::format(": max abs {:.4g} at {}, max rel {:.4g}, mean abs {:.4g}", values.max_abs,
                        element_place(*values.worst, shape), values.max_rel, values.mean_abs);
  }
  if (values.nans_a != 0 || values.nans_b != 0) {
    text += fmt::format("; {} NaN -> {}", number_text(values.nans_a), number_text(values.nans_b));
  }
  return text;
}

std::string place_text(const TreeDifference& difference) {
  return difference.path.empty() ? "(the root)" : safe_text(difference.path);
}

void write_lines(const Compared& compared, Output& output) {
  std::size_t width = 0;
  const auto widen = [&](const std::string& text) { width = std::max(width, columns(text)); };
  for (const TensorDifference& tensor : compared.report.tensors) widen(safe_text(tensor.name));
  for (const TreeDifference& place : compared.report.tree) widen(place_text(place));
  width = std::min(width, kMaxNameColumns);
  const auto write = [&](std::string_view kind, const std::string& what, const std::string& text) {
    const std::size_t blanks = width - std::min(width, columns(what)) + 2;
    output.write(fmt::format("{:<9}{}{:{}}{}\n", kind, what, "", blanks, text));
  };
  for (const TensorDifference& tensor : compared.report.tensors) {
    std::string text = change_text(tensor);
    if (tensor.values) text += values_text(*tensor.values, tensor.a->shape);
    write(name(tensor.change), safe_text(tensor.name), text);
  }
  for (const TreeDifference& place : compared.report.tree) {
    write(
        kTree, place_text(place),
        fmt::format("{} -> {}", value_text(place.a, compared.a), value_text(place.b, compared.b)));
  }
}

std::string summary_text(const DiffReport& report) {
  std::array<std::uint64_t, 5> counts{};
  for (const TensorDifference& tensor : report.tensors)
    ++counts[static_cast<std::size_t>(tensor.change)];
  std::string text = fmt::format("{} equal", count_text(report.equal_tensors, "tensor"));
  for (std::size_t i = 0; i < counts.size(); ++i) {
    const auto change = static_cast<TensorChange>(i);
    const bool one_sided = change == TensorChange::removed || change == TensorChange::added;
    if (counts[i] == 0) continue;
    text += fmt::format(", {} {}{}", number_text(counts[i]), one_sided ? "" : "with other ",
                        change == TensorChange::dtype   ? "dtypes"
                        : change == TensorChange::shape ? "shapes"
                                                        : name(change));
  }
  if (!report.trees_compared) return text + "; structure not compared: a file records none";
  if (report.tree.empty()) return text + "; the structure is the same";
  return text + fmt::format("; {}{} in the structure", report.tree_complete ? "" : "more than ",
                            count_text(report.tree.size(), "difference"));
}

void write_side(std::string_view key, const std::optional<TensorInfo>& tensor, JsonWriter& json) {
  json.key(key);
  if (!tensor) {
    json.null();
    return;
  }
  json.begin_object().key("dtype").text(name(tensor->dtype)).key("shape").begin_array();
  for (const std::uint64_t dimension : tensor->shape) json.number(dimension);
  json.end_array().key("nbytes").number(tensor->nbytes).end_object();
}

void write_real(double value, JsonWriter& json) {
  std::isfinite(value) ? json.real(value) : json.text("inf");
}

void write_values(const std::optional<ValueDifference>& values, JsonWriter& json) {
  json.key("values");
  if (!values) {
    json.null();
    return;
  }
  json.begin_object().key("different").number(values->different);
  json.key("max_abs");
  write_real(values->max_abs, json);
  json.key("max_rel").real(values->max_rel).key("mean_abs");
  write_real(values->mean_abs, json);
  json.key("worst");
  values->worst ? json.number(*values->worst) : json.null();
  json.key("nans_a").number(values->nans_a).key("nans_b").number(values->nans_b).end_object();
}

void write_json(const Compared& compared, JsonWriter& json) {
  const DiffReport& report = compared.report;
  json.key("same").boolean(report.same()).key("equal_tensors").number(report.equal_tensors);
  json.key("tensors").begin_array();
  for (const TensorDifference& tensor : report.tensors) {
    json.begin_object().named("name", tensor.name).key("change").text(name(tensor.change));
    write_side("a", tensor.a, json);
    write_side("b", tensor.b, json);
    json.key("chunks").number(tensor.chunks).key("first_chunk").number(tensor.first_chunk);
    write_values(tensor.values, json);
    json.end_object();
  }
  json.end_array().key("trees_compared").boolean(report.trees_compared);
  json.key("tree").begin_array();
  for (const TreeDifference& place : report.tree) {
    json.begin_object().named("path", place.path);
    json.key("a");
    place.a ? json.text(value_text(place.a, compared.a)) : json.null();
    json.key("b");
    place.b ? json.text(value_text(place.b, compared.b)) : json.null();
    json.end_object();
  }
  json.end_array().key("tree_complete").boolean(report.tree_complete);
  json.key("bytes_read").number(report.bytes_read);
}

// diff(1) and cmp(1) exit with 2 where they cannot compare, so that 1 always means a difference.
ExitCode code_of(const Result<Compared>& compared) {
  if (compared) return compared->report.same() ? ExitCode::ok : ExitCode::failure;
  return compared.error().code == ErrorCode::cancelled ? ExitCode::interrupted : ExitCode::usage;
}

}  // namespace

ExitCode run_diff(const DiffCommandOptions& options, Output& output) {
  catch_interrupts();
  const Result<Compared> compared = compare(options);
  const ExitCode code = code_of(compared);
  if (options.form == Form::json) {
    JsonWriter json(output);
    json.begin_result("diff").path("path_a", options.a).path("path_b", options.b);
    if (compared) write_json(*compared, json);
    json.end_result(code, compared ? std::nullopt : std::optional(compared.error()));
  }
  if (!compared) {
    print_error(compared.error());
  } else if (options.form == Form::text && !options.quiet) {
    write_lines(*compared, output);
    output.write(summary_text(compared->report) + "\n");
  }
  return code;
}

}  // namespace flatbed::tool
