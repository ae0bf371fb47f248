// LocalSink: a file on disk as a ByteSink. LocalFolder: a folder on disk as a SinkFolder. So that
// the writers know one kind of target. Both borrow what they are made of, and note in the report
// why durability is unknown. Threads: those of the seams.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "flatbed/byte_sink.hpp"
#include "flatbed/save.hpp"
#include "flatbed/save_set.hpp"
#include "io/atomic_folder.hpp"
#include "save/write_file.hpp"

namespace flatbed {

// An AtomicFile, which begin() creates. Errors: those of AtomicFile.
class LocalSink final : public ByteSink {
 public:
  LocalSink(const NewFile& target, const SaveOptions& options, SaveReport& report)
      : path_(target.path), target_(target), options_(options), report_(report) {}

  [[nodiscard]] std::string_view label() const noexcept override { return path_.native(); }
  [[nodiscard]] bool in_order() const noexcept override { return false; }
  [[nodiscard]] Result<void> begin(const SinkLayout& layout) override;
  // Writing back starts at once: the device works while the next bytes are read, and commit() has
  // little left to wait for.
  [[nodiscard]] Result<void> write_at(std::uint64_t offset,
                                      std::span<const std::byte> bytes) override;
  [[nodiscard]] Result<void> commit() override;

 private:
  std::filesystem::path path_;
  NewFile target_;
  SaveOptions options_;
  SaveReport& report_;
  std::optional<AtomicFile> file_;
};

// An AtomicFolder, which begin() creates. Errors: those of AtomicFolder.
class LocalFolder final : public SinkFolder {
 public:
  LocalFolder(const std::filesystem::path& folder, const SaveSetOptions& options,
              SaveSetReport& report)
      : target_(folder), options_(options), report_(report) {}

  // What all files that the plan reads permit. nullopt: as the folder that is replaced.
  void set_permissions(std::optional<FilePermissions> permissions) { permissions_ = permissions; }

  [[nodiscard]] std::string_view label() const noexcept override { return target_.native(); }
  [[nodiscard]] Result<void> begin(std::uint64_t nbytes) override;
  [[nodiscard]] Result<std::unique_ptr<ByteSink>> create(std::string_view file_name) override;
  [[nodiscard]] Result<void> commit() override;

 private:
  std::filesystem::path target_;
  const SaveSetOptions& options_;
  SaveSetReport& report_;
  std::optional<FilePermissions> permissions_;
  std::optional<AtomicFolder> folder_;
};

}  // namespace flatbed
