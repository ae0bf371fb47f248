#include "save/write_file.hpp"

#include <utility>

namespace flatbed {

Result<void> write_file(const NewFile& target, const SaveOptions& options, SaveReport& report,
                        const std::function<Result<void>(AtomicFile&)>& write) {
  FLATBED_ASSIGN(AtomicFile file,
                 AtomicFile::create(target.path, report.nbytes,
                                    {options.replace, options.sync, target.permissions}));
  // The file has room reserved and no name yet, so a dry run ends here as the run would.
  if (options.dry_run) return {};
  FLATBED_TRY(write(file));
  FLATBED_ASSIGN(CommitReport commit, file.commit());
  if (!commit.durable()) report.durability = Durability::durability_unknown;
  report.durability_note = std::move(commit.note);
  return {};
}

}  // namespace flatbed
