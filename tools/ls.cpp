// flatbed ls: lists the contents of checkpoints as text, as a tree, as bytes or as JSON.
#include <fmt/format.h>

#include <optional>

#include "commands.hpp"
#include "format_text.hpp"
#include "hex_dump.hpp"
#include "interrupt.hpp"
#include "json_out.hpp"
#include "listing.hpp"
#include "ls_json.hpp"
#include "ls_map.hpp"
#include "ls_text.hpp"
#include "progress.hpp"
#include "totals.hpp"
#include "tree_text.hpp"

namespace flatbed::tool {
namespace {

constexpr std::size_t kManyLines = 1000;     // more than anyone reads
constexpr std::size_t kDefaultColumns = 80;  // of bars where there is no terminal

class LsRun {
 public:
  LsRun(const LsOptions& options, Output& output)
      : options_(options),
        output_(output),
        json_(output),
        width_(stdout_is_terminal() ? terminal_columns(Stream::output) : 0) {}

  ExitCode run() {
    const bool several = options_.paths.size() > 1;
    if (options_.json) {
      json_.begin_result("ls");
      if (several) json_.key("checkpoints").begin_array();
    }
    for (std::size_t i = 0; i < options_.paths.size() && output_.wanted() && !interrupted(); ++i) {
      if (options_.json && several) json_.begin_object();
      show(options_.paths[i]);
      if (options_.json && several) json_.end_object();
    }
    if (interrupted()) code_ = ExitCode::interrupted;
    if (options_.json) {
      if (several) json_.end_array();
      json_.end_result(code_, error_);
    } else {
      write_end();
    }
    return code_;
  }

 private:
  void show(const std::filesystem::path& path) {
    const Result<Listing> listing = make_listing(path, options_);
    Result<void> shown;
    if (!listing) {
      shown = listing.error();
    } else {
      shown = show(*listing);
    }
    if (!shown) {
      fail(path, about(path, shown.error()));
    } else if (options_.json && options_.paths.size() > 1) {
      json_.key("error").null();
    }
  }

  Result<void> show(const Listing& listing) {
    totals_.add(listing.checkpoint);
    if (options_.json) {
      write_json(listing, options_.summary, json_);
      return {};
    }
    if (shown_++ != 0) output_.write("\n");
    if (options_.hex) {
      if (options_.paths.size() > 1) output_.write(path_text(listing.path) + ":\n");
      return write_hex(listing.checkpoint, output_);
    }
    if (options_.map) {
      write_heading(listing, output_);
      output_.write("\n");
      write_bars(listing, width_ == 0 ? kDefaultColumns : width_, output_);
      output_.write("\n");
      Totals totals;
      totals.add(listing.checkpoint);
      output_.write(totals.text());
      return {};
    }
    if (options_.tree) {
      write_heading(listing, output_);
      output_.write("\n");
      return write_tree(listing.checkpoint, options_.all ? Fold::no : Fold::yes, output_);
    }
    lines_ += write_text(listing, options_.summary, width_, output_);
    return {};
  }

  void fail(const std::filesystem::path& path, const Error& error) {
    const bool stopped = error.code == ErrorCode::cancelled;
    code_ = stopped ? ExitCode::interrupted : ExitCode::failure;
    if (options_.json) {
      json_.path("path", path);
      if (options_.paths.size() > 1) json_.key("error").error(error);
    }
    if (!error_) error_ = error;
    static_cast<void>(output_.flush());  // what was written comes before the error
    print_error(error);
  }

  // What concerns all the files comes last, where a long listing leaves it on the screen.
  void write_end() {
    const bool tables = !options_.tree && !options_.hex;
    if (tables && shown_ > 1)
      output_.write(
          fmt::format("\n{} together: {}", count_text(shown_, "checkpoint"), totals_.text()));
    if (lines_ > kManyLines)
      output_.write(
          fmt::format("{} entries; --tree and --include show less\n", number_text(lines_)));
  }

  const LsOptions& options_;
  Output& output_;
  JsonWriter json_;
  std::size_t width_;
  ExitCode code_ = ExitCode::ok;
  std::optional<Error> error_;  // the first
  Totals totals_;
  std::size_t shown_ = 0;
  std::size_t lines_ = 0;
};

}  // namespace

ExitCode run_ls(const LsOptions& options, Output& output) {
  if (options.stats) catch_interrupts();
  return LsRun(options, output).run();
}

}  // namespace flatbed::tool
