#include "flatbed/save_text.hpp"

#include <optional>

#include "base/bytes.hpp"
#include "base/str_cat.hpp"
#include "save/output_file.hpp"
#include "save/write_file.hpp"

namespace flatbed {

Result<SaveReport> save_text(const std::filesystem::path& path, std::string_view text,
                             const SaveOptions& options) {
  SaveReport report;
  report.nbytes = text.size();
  FLATBED_TRY(write_file({path, std::nullopt}, options, report,
                         [&](AtomicFile& file) { return file.write_at(0, as_bytes(text)); }));
  return report;
}

Result<OutputState> compare_text_output(const std::filesystem::path& path, std::string_view text) {
  OutputState state;
  FLATBED_ASSIGN(const std::optional<OutputFile> file, OutputFile::open(path, state));
  return file ? compare_text(*file, text) : state;
}

Result<OutputState> compare_text(const OutputFile& file, std::string_view text) {
  OutputState state;
  state.kind = OutputKind::different;
  if (file.size() != text.size()) {
    state.difference = str_cat("found ", counted(file.size(), "byte"), ", expected ", text.size());
    return state;
  }
  FLATBED_ASSIGN(const bool equal, file.holds(0, as_bytes(text)));
  if (!equal) {
    state.difference = "the text differs";
    return state;
  }
  state.kind = OutputKind::up_to_date;
  state.nbytes = file.size();
  return state;
}

}  // namespace flatbed
