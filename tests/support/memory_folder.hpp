// MemoryFolder: a folder whose files are in memory, which can fail. Fill it before it is opened;
// then it is thread-safe.
#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/str_cat.hpp"
#include "flatbed/source_folder.hpp"
#include "support/bytes_source.hpp"
#include "support/meeting.hpp"

namespace flatbed::test {

class MemoryFolder final : public SourceFolder {
 public:
  std::map<std::string, std::string, std::less<>> files;
  std::map<std::string, Error, std::less<>> errors;  // of opening these
  std::vector<std::string> below = {};               // names of folders in it
  bool listed = true;
  bool listed_whole = true;
  bool gives_nothing = false;
  std::shared_ptr<Meeting> meeting = nullptr;  // of those that open a shard

  [[nodiscard]] std::string_view label() const noexcept override { return "mem://m/"; }

  [[nodiscard]] Result<std::shared_ptr<const ByteSource>> open(
      std::string_view name) const override {
    ++opens_;
    if (meeting != nullptr && name.ends_with(".safetensors")) meeting->arrive();
    if (gives_nothing) return std::shared_ptr<const ByteSource>();
    if (const auto error = errors.find(name); error != errors.end()) return error->second;
    const auto file = files.find(name);
    if (file == files.end()) return make_error(ErrorCode::file_not_found, "no ", name);
    return std::shared_ptr<const ByteSource>(
        std::make_shared<const BytesSource>(file->second, str_cat("mem://m/", name)));
  }

  [[nodiscard]] Result<std::vector<std::string>> names() const override {
    if (!listed) return SourceFolder::names();
    std::vector<std::string> names;
    for (const auto& [name, bytes] : files) names.push_back(name);
    return names;
  }

  [[nodiscard]] Result<std::vector<std::string>> folders() const override { return below; }
  [[nodiscard]] bool lists_all() const noexcept override { return listed_whole; }

  [[nodiscard]] int opens() const { return opens_; }

 private:
  mutable std::atomic<int> opens_ = 0;
};

}  // namespace flatbed::test
