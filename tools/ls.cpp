// flatbed ls: lists the contents of a checkpoint as text, as a tree or as JSON.
#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "commands.hpp"
#include "describe.hpp"
#include "flatbed/checkpoint.hpp"
#include "format_text.hpp"
#include "hex_dump.hpp"
#include "json_out.hpp"
#include "picks.hpp"
#include "tree_text.hpp"

namespace flatbed::tool {
namespace {

constexpr std::size_t kMaxNameColumns = 64;  // a longer name shifts only its own line's columns
constexpr std::size_t kMaxShapeColumns = 20;
constexpr std::size_t kDtypeColumns = 11;
constexpr std::size_t kSizeColumns = 10;

std::string_view stored_text(Stored stored) {
  switch (stored) {
    case Stored::plain:
      return "plain";
    case Stored::strided:
      return "strided";
    case Stored::byteswapped:
      return "byteswapped";
    case Stored::deflated:
      return "deflated";
    case Stored::held:
      return "held";
  }
  return "";
}

std::uint64_t tensor_nbytes(const Checkpoint& checkpoint) {
  std::uint64_t sum = 0;
  for (const TensorInfo& tensor : checkpoint.tensors()) sum += tensor.nbytes;
  return sum;
}

std::uint64_t file_nbytes(const Checkpoint& checkpoint) {
  std::uint64_t sum = 0;
  for (const FileInfo& file : checkpoint.files()) sum += file.nbytes;
  return sum;
}

std::string seal_text(const FileInfo& file) {
  std::string text(name(file.seal));
  if (!file.content.empty()) text += fmt::format(", content {}", file.content);
  if (file.sidecar) text += ", from its sidecar";
  if (!file.seal_note.empty()) text += fmt::format(" ({})", safe_text(file.seal_note));
  return text;
}

void write_heading(const LsOptions& options, const Checkpoint& checkpoint, Output& output) {
  const std::string kind = describe(checkpoint);
  const std::string container = container_text(checkpoint);
  output.write(fmt::format("{}: {}{}\n", path_text(options.path), container,
                           kind == container ? "" : ", " + kind));
  if (checkpoint.files().size() == 1) {
    output.write(fmt::format("seal: {}\n", seal_text(checkpoint.files()[0])));
  } else {
    output.write(fmt::format("seal: {}\n", name(checkpoint.seal())));
  }
}

// The columns of safe_text(name), without that text where the name is its own.
std::size_t safe_columns(std::string_view name) {
  return printable_ascii(name) == name.size() ? name.size() : columns(safe_text(name));
}

// The error of a tree that cannot be read. A file without a tree has none, and then no tree is
// made of its names only to learn that.
std::optional<Error> tree_error(const Checkpoint& checkpoint) {
  if (!checkpoint.has_tree() && checkpoint.seal() != SealState::newer) return std::nullopt;
  const Result<Value> tree = checkpoint.tree();
  return tree ? std::nullopt : std::optional(tree.error());
}

void write_tensors(const Checkpoint& checkpoint, Output& output) {
  if (checkpoint.tensors().empty()) return;
  std::size_t name_columns = 4;
  std::size_t shape_columns = 5;
  for (const TensorInfo& tensor : checkpoint.tensors()) {
    name_columns = std::max(name_columns, safe_columns(tensor.name));
    shape_columns = std::max(shape_columns, columns(shape_text(tensor.shape)));
  }
  name_columns = std::min(name_columns, kMaxNameColumns);
  shape_columns = std::min(shape_columns, kMaxShapeColumns);

  std::string line;
  const auto row = [&](std::string_view name, std::string_view dtype, std::string_view shape,
                       std::string_view size) {
    line = "  ";
    append_padded(line, name, name_columns);
    line += "  ";
    append_padded(line, dtype, kDtypeColumns);
    line += "  ";
    append_padded(line, shape, shape_columns);
    line += "  ";
    line.append(kSizeColumns - std::min(kSizeColumns, size.size()), ' ').append(size) += '\n';
    output.write(line);
  };
  output.write("\n");
  row("NAME", "DTYPE", "SHAPE", "SIZE");
  for (const TensorInfo& tensor : checkpoint.tensors()) {
    row(safe_text(tensor.name), name(tensor.dtype), shape_text(tensor.shape),
        size_text(tensor.nbytes));
  }
}

void write_aliases(const Checkpoint& checkpoint, Output& output) {
  if (checkpoint.aliases().empty()) return;
  output.write("\nALIASES\n");
  for (const Alias& alias : checkpoint.aliases()) {
    output.write(fmt::format("  {} -> {}\n", safe_text(alias.name), safe_text(alias.target)));
  }
}

void write_files(const Checkpoint& checkpoint, Output& output) {
  if (checkpoint.files().size() < 2) return;
  output.write("\nFILES\n");
  for (const FileInfo& file : checkpoint.files()) {
    output.write(fmt::format("  {}  {}  {}\n", path_text(file.path.filename()),
                             size_text(file.nbytes), seal_text(file)));
  }
}

void write_notes(const Checkpoint& checkpoint, Output& output) {
  std::vector<std::string> notes(checkpoint.notes().begin(), checkpoint.notes().end());
  if (const std::optional<Error> error = tree_error(checkpoint)) {
    notes.push_back(fmt::format("{} [{}]", error->message, name(error->code)));
  }
  if (!notes.empty()) output.write("\nNOTES\n");
  for (const std::string& note : notes) output.write(fmt::format("  {}\n", safe_text(note)));
}

void write_text(const LsOptions& options, const Checkpoint& checkpoint, Output& output) {
  write_heading(options, checkpoint, output);
  write_tensors(checkpoint, output);
  write_aliases(checkpoint, output);
  write_files(checkpoint, output);
  write_notes(checkpoint, output);
  output.write(fmt::format(
      "\n{}, {} of data in {} on disk\n", count_text(checkpoint.tensors().size(), "tensor"),
      size_text(tensor_nbytes(checkpoint)), size_text(file_nbytes(checkpoint))));
}

void write_json_tensor(const TensorInfo& tensor, JsonWriter& json) {
  json.begin_object().key("name").text(tensor.name).key("dtype").text(name(tensor.dtype));
  json.key("shape").begin_array();
  for (const std::uint64_t dimension : tensor.shape) json.number(dimension);
  json.end_array().key("nbytes").number(tensor.nbytes);
  json.key("stored").text(stored_text(tensor.stored)).key("storage").number(tensor.storage);
  if (tensor.stored != Stored::held) {
    json.key("file").number(tensor.where.file).key("offset").number(tensor.where.offset);
  }
  json.end_object();
}

void write_json_files(const Checkpoint& checkpoint, JsonWriter& json) {
  json.key("files").begin_array();
  for (const FileInfo& file : checkpoint.files()) {
    json.begin_object().key("path").text(file.path.native()).key("nbytes").number(file.nbytes);
    json.key("seal").text(name(file.seal)).key("content");
    file.content.empty() ? json.null() : json.text(file.content);
    json.key("sidecar").boolean(file.sidecar).key("seal_note").text(file.seal_note).end_object();
  }
  json.end_array();
}

void write_json_metadata(const Checkpoint& checkpoint, JsonWriter& json) {
  json.key("metadata").begin_object();
  for (const auto& [key, value] : checkpoint.metadata()) {
    if (key != "flatbed" && !key.starts_with("flatbed.")) json.key(key).text(value);
  }
  json.end_object();
}

void write_json(const LsOptions& options, const Checkpoint& checkpoint, Output& output) {
  JsonWriter json(output);
  json.begin_object().key("path").text(options.path.native());
  json.key("container").text(container_text(checkpoint));
  json.key("kind").text(describe(checkpoint)).key("seal").text(name(checkpoint.seal()));
  json.key("tensor_count").number(checkpoint.tensors().size());
  json.key("nbytes").number(tensor_nbytes(checkpoint));
  json.key("file_nbytes").number(file_nbytes(checkpoint));
  json.key("tensors").begin_array();
  for (const TensorInfo& tensor : checkpoint.tensors()) write_json_tensor(tensor, json);
  json.end_array().key("aliases").begin_array();
  for (const Alias& alias : checkpoint.aliases()) {
    json.begin_object().key("name").text(alias.name).key("target").text(alias.target).end_object();
  }
  json.end_array();
  write_json_files(checkpoint, json);
  write_json_metadata(checkpoint, json);
  json.key("weights");
  write_picks(find_picks(checkpoint), json);
  json.key("has_tree").boolean(checkpoint.has_tree()).key("tree_error");
  const std::optional<Error> error = tree_error(checkpoint);
  error ? json.error(*error) : json.null();
  json.key("notes").begin_array();
  for (const std::string& note : checkpoint.notes()) json.text(note);
  json.end_array().end_object();
  output.write("\n");
}

Result<void> list(const LsOptions& options, Output& output) {
  // Listing reads no data, so a broken seal does not prevent it.
  FLATBED_ASSIGN(Checkpoint checkpoint,
                 Checkpoint::open(options.path, {.check_seal = CheckSeal::off}));
  if (!options.select.empty()) {
    FLATBED_ASSIGN(checkpoint, checkpoint.select({.path = options.select, .state_dict = true}));
  }
  if (options.hex) return write_hex(checkpoint, output);
  if (options.json) {
    write_json(options, checkpoint, output);
    return {};
  }
  if (options.tree) {
    write_heading(options, checkpoint, output);
    output.write("\n");
    return write_tree(checkpoint, options.all ? Fold::no : Fold::yes, output);
  }
  write_text(options, checkpoint, output);
  return {};
}

}  // namespace

ExitCode run_ls(const LsOptions& options, Output& output) {
  const Result<void> listed = list(options, output);
  if (listed) return ExitCode::ok;
  const Error error = about(options.path, listed.error());
  if (options.json) {
    JsonWriter(output).begin_object().key("error").error(error).end_object();
    output.write("\n");
  }
  print_error(error);
  return ExitCode::failure;
}

}  // namespace flatbed::tool
