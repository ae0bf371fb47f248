#include "save/local_sink.hpp"

#include <utility>

#include "base/str_cat.hpp"

namespace flatbed {

Result<void> LocalSink::begin(const SinkLayout& layout) {
  FLATBED_ASSIGN(AtomicFile file, create_file(target_, options_, layout.nbytes));
  file_.emplace(std::move(file));
  return {};
}

Result<void> LocalSink::write_at(std::uint64_t offset, std::span<const std::byte> bytes) {
  FLATBED_TRY(file_->write_at(offset, bytes));
  file_->start_writeback(offset, bytes.size());
  return {};
}

Result<void> LocalSink::commit() { return commit_file(*file_, report_); }

Result<void> LocalFolder::begin(std::uint64_t nbytes) {
  FLATBED_ASSIGN(AtomicFolder folder,
                 AtomicFolder::create(target_, {options_.replace, options_.file.sync, nbytes}));
  folder_.emplace(std::move(folder));
  if (!permissions_) permissions_ = folder_->old_permissions();  // the plan reads only memory
  return {};
}

Result<std::unique_ptr<ByteSink>> LocalFolder::create(std::string_view file_name) {
  SaveOptions options = options_.file;
  options.replace = false;
  const std::filesystem::path path = folder_->path() / file_name;
  const NewFile target{path, permissions_, true, folder_->target() / file_name};
  return std::unique_ptr<ByteSink>(std::make_unique<LocalSink>(target, options, report_.files));
}

Result<void> LocalFolder::commit() {
  FLATBED_ASSIGN(FolderReport committed, folder_->commit());
  if (!committed.commit.durable()) {
    report_.files.durability = Durability::durability_unknown;
    report_.files.durability_note = std::move(committed.commit.note);
  }
  if (committed.old.empty()) return {};
  report_.notes.push_back(
      str_cat("the old set could not be removed and is now ", quoted(committed.old.native())));
  return {};
}

}  // namespace flatbed
