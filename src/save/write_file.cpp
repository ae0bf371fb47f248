#include "save/write_file.hpp"

#include <utility>

namespace flatbed {

Result<AtomicFile> create_file(const NewFile& target, const SaveOptions& options,
                               std::uint64_t nbytes) {
  return AtomicFile::create(
      target.path, nbytes,
      {options.replace, options.sync, target.permissions, target.in_new_folder, target.shown});
}

Result<void> commit_file(AtomicFile& file, SaveReport& report) {
  FLATBED_ASSIGN(CommitReport commit, file.commit());
  if (commit.durable()) return {};
  report.durability = Durability::durability_unknown;
  report.durability_note = std::move(commit.note);
  return {};
}

Result<void> write_file(const NewFile& target, const SaveOptions& options, SaveReport& report,
                        const std::function<Result<void>(AtomicFile&)>& write) {
  FLATBED_ASSIGN(AtomicFile file, create_file(target, options, report.nbytes));
  // The file has room reserved and no name yet, so a dry run ends here as the run would.
  if (options.dry_run) return {};
  FLATBED_TRY(write(file));
  return commit_file(file, report);
}

}  // namespace flatbed
