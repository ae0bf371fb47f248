#include "ls_text.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "describe.hpp"
#include "format_text.hpp"
#include "totals.hpp"

namespace flatbed::tool {
namespace {

constexpr std::size_t kMaxNameColumns = 64;  // a longer name shifts only its own line's columns
constexpr std::size_t kMinNameColumns = 16;  // narrower terminals break the lines
constexpr std::size_t kMaxShapeColumns = 20;
constexpr std::size_t kDtypeColumns = 11;
constexpr std::size_t kSizeColumns = 10;
constexpr std::size_t kValueColumns = 10;
constexpr std::size_t kValues = 5;  // of --stats
constexpr std::size_t kGap = 2;

std::string seal_text(const FileInfo& file) {
  std::string text(name(file.seal));
  if (!file.content.empty()) text += fmt::format(", content {}", file.content);
  if (file.sidecar) text += ", from its sidecar";
  if (!file.seal_note.empty()) text += fmt::format(" ({})", safe_text(file.seal_note));
  return text;
}

// The columns of safe_text(name), without that text where the name is its own.
std::size_t safe_columns(std::string_view name) {
  return printable_ascii(name) == name.size() ? name.size() : columns(safe_text(name));
}

std::array<std::string, kValues> stats_texts(const std::optional<TensorStats>& stats) {
  std::array<std::string, kValues> texts;
  texts.fill("-");
  if (!stats) return texts;
  texts[3] = number_text(stats->nans);
  texts[4] = number_text(stats->infinities);
  if (stats->finite == 0) return texts;
  const auto value = [&](long double number) {
    return stats->integral ? fmt::format("{:.0f}", number)
                           : fmt::format("{:.4g}", static_cast<double>(number));
  };
  texts[0] = value(stats->min);
  texts[1] = value(stats->max);
  texts[2] = fmt::format("{:.4g}", stats->mean);
  return texts;
}

// Writes the rows of the table through one buffer.
class Table {
 public:
  Table(const Listing& listing, std::size_t width, Output& output)
      : listing_(listing), width_(width), output_(output) {
    for (const TensorInfo& tensor : listing.checkpoint.tensors()) {
      name_columns_ = std::max(name_columns_, safe_columns(tensor.name));
      shape_columns_ = std::max(shape_columns_, columns(shape_text(tensor.shape)));
    }
    shape_columns_ = std::min(shape_columns_, kMaxShapeColumns);
    std::size_t others = 4 * kGap + kDtypeColumns + shape_columns_ + kSizeColumns;
    if (!listing.stats.empty()) others += kValues * (kGap + kValueColumns);
    if (width_ != 0) width_ = std::max(width_ - std::min(width_, others), kMinNameColumns);
    name_columns_ = std::min(name_columns_, width_ == 0 ? kMaxNameColumns : width_);
  }

  void write() {
    begin("NAME", "DTYPE", "SHAPE", "SIZE");
    if (!listing_.stats.empty())
      for (const std::string_view title : {"MIN", "MAX", "MEAN", "NAN", "INF"}) add_right(title);
    end();
    for (const std::uint32_t i : listing_.order) {
      const TensorInfo& tensor = listing_.checkpoint.tensors()[i];
      begin(name_text(tensor.name), name(tensor.dtype), shape_text(tensor.shape),
            size_text(tensor.nbytes));
      if (!listing_.stats.empty())
        for (const std::string& text : stats_texts(listing_.stats[i])) add_right(text);
      end();
    }
  }

 private:
  std::string name_text(std::string_view name) const {
    std::string text = safe_text(name);
    return width_ == 0 ? text : shortened(text, width_);
  }

  void begin(std::string_view name, std::string_view dtype, std::string_view shape,
             std::string_view size) {
    line_ = "  ";
    append_padded(line_, name, name_columns_);
    line_ += "  ";
    append_padded(line_, dtype, kDtypeColumns);
    line_ += "  ";
    append_padded(line_, shape, shape_columns_);
    add_right(size);
  }

  void add_right(std::string_view text) {
    line_.append(kGap + kSizeColumns - std::min(kSizeColumns, text.size()), ' ').append(text);
  }

  void end() {
    line_ += '\n';
    output_.write(line_);
  }

  const Listing& listing_;
  std::size_t width_;  // of names; 0: as they are
  Output& output_;
  std::size_t name_columns_ = 4;
  std::size_t shape_columns_ = 5;
  std::string line_;
};
static_assert(kValueColumns == kSizeColumns, "add_right() aligns both");

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

void write_notes(const Listing& listing, Output& output) {
  const std::span<const std::string> given = listing.checkpoint.notes();
  std::vector<std::string> notes(given.begin(), given.end());
  if (const std::optional<Error> error = listing.tree_error()) {
    notes.push_back(fmt::format("{} [{}]", error->message, name(error->code)));
  }
  if (!notes.empty()) output.write("\nNOTES\n");
  for (const std::string& note : notes) output.write(fmt::format("  {}\n", safe_text(note)));
}

}  // namespace

void write_heading(const Listing& listing, Output& output) {
  const Checkpoint& checkpoint = listing.checkpoint;
  const std::string kind = describe(checkpoint);
  const std::string container = container_text(checkpoint);
  output.write(fmt::format("{}: {}{}\n", path_text(listing.path), container,
                           kind == container ? "" : ", " + kind));
  if (checkpoint.files().size() == 1) {
    output.write(fmt::format("seal: {}\n", seal_text(checkpoint.files()[0])));
  } else {
    output.write(fmt::format("seal: {}\n", name(checkpoint.seal())));
  }
}

std::size_t write_text(const Listing& listing, bool summary, std::size_t width, Output& output) {
  const Checkpoint& checkpoint = listing.checkpoint;
  std::size_t lines = 0;
  write_heading(listing, output);
  if (!summary) {
    if (!checkpoint.tensors().empty()) {
      output.write("\n");
      Table(listing, width, output).write();
    }
    write_aliases(checkpoint, output);
    write_files(checkpoint, output);
    write_notes(listing, output);
    output.write("\n");
    lines = checkpoint.tensors().size() + checkpoint.aliases().size() + checkpoint.notes().size();
  }
  Totals totals;
  totals.add(checkpoint);
  output.write(totals.text());
  return lines;
}

}  // namespace flatbed::tool
