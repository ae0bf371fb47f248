#include "checkpoint/folder_shards.hpp"

#include <algorithm>
#include <atomic>
#include <mutex>
#include <optional>
#include <utility>

#include "base/ascii.hpp"
#include "base/str_cat.hpp"
#include "io/file_error.hpp"
#include "io/guarded_source.hpp"
#include "io/thread_pool.hpp"

namespace flatbed {

namespace {

constexpr unsigned kMostThreads = 64;
constexpr std::string_view kBin = ".bin";

Result<std::unique_ptr<Container>> open_shard(const SourceFolder& folder, const std::string& name,
                                              const OpenOptions& options) {
  auto source = open_in(folder, name);
  if (!source && source.error().code == ErrorCode::file_not_found)
    return make_error(ErrorCode::shard_missing,
                      "the set needs this file, but it does not exist: ", source.error().message);
  if (!source) return std::move(source).error();
  FLATBED_ASSIGN(const Content content, sniff_as_named(**source, name));
  return open_container(*std::move(source), content, {options.check_seal, name, nullptr, &folder});
}

}  // namespace

Result<Content> sniff_as_named(const ByteSource& file, std::string_view name) {
  FLATBED_ASSIGN(const Content content, sniff(file));
  const bool bin = has_ending(name, kBin);
  if (content == Content::json || is_torch(content) != bin) {
    return make_error(ErrorCode::unsupported_format,
                      "the content does not match the file's name: expected ",
                      bin ? "a PyTorch file" : "a safetensors file");
  }
  return content;
}

Result<std::shared_ptr<const ByteSource>> open_in(const SourceFolder& folder,
                                                  const std::string& name) {
  FLATBED_ASSIGN(std::shared_ptr<const ByteSource> source, folder.open(name));
  return GuardedSource::wrap(std::move(source));
}

Result<std::vector<std::unique_ptr<Container>>> open_shards_of(
    const SourceFolder& folder, const std::vector<std::string>& names, const OpenOptions& options) {
  std::vector<std::unique_ptr<Container>> opened(names.size());
  std::atomic<std::size_t> next = 0;
  std::atomic<std::size_t> failed = names.size();  // the first that did
  std::mutex mutex;
  std::optional<Error> error;
  // Files are begun in order, so that all before the first failing one are opened to the end.
  const auto work = [&](unsigned) -> Result<void> {
    for (std::size_t i = next++; i < names.size() && i < failed; i = next++) {
      Result<std::unique_ptr<Container>> shard = open_shard(folder, names[i], options);
      if (shard) {
        opened[i] = *std::move(shard);
        continue;
      }
      const std::lock_guard lock(mutex);
      if (i >= failed) continue;
      failed = i;
      error = in_file(names[i], std::move(shard).error());
    }
    return {};
  };
  const auto threads = static_cast<unsigned>(std::clamp<std::size_t>(
      names.size(), 1, std::clamp(folder.parallel_opens(), 1U, kMostThreads)));
  FLATBED_TRY(run_parallel(threads, work));
  if (error) return *std::move(error);
  return opened;
}

}  // namespace flatbed
