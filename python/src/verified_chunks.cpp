#include "verified_chunks.hpp"

#include <sys/stat.h>

#include <algorithm>
#include <chrono>

namespace flatbed::python {

namespace {

constexpr std::int64_t kSecond = 1'000'000'000;

// Longer than the step of any file system's clock: FAT counts in two seconds.
constexpr std::int64_t kSettledAfter = 2 * kSecond;

std::int64_t to_ns(const timespec& time) { return time.tv_sec * kSecond + time.tv_nsec; }

}  // namespace

std::optional<FileIdentity> FileIdentity::of(const std::filesystem::path& path) {
  struct stat status = {};
  if (::stat(path.c_str(), &status) != 0) return std::nullopt;
  return FileIdentity{
      status.st_dev,         status.st_ino,         static_cast<std::uint64_t>(status.st_size),
      to_ns(status.st_mtim), to_ns(status.st_ctim), S_ISDIR(status.st_mode)};
}

bool FileIdentity::is_settled() const {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  const std::int64_t now_ns = std::chrono::duration_cast<std::chrono::nanoseconds>(now).count();
  return std::max(modified_ns, changed_ns) < now_ns - kSettledAfter;
}

std::shared_ptr<VerifiedChunks> VerifiedFiles::of(const FileIdentity& identity,
                                                  const std::string& content,
                                                  std::uint64_t chunks) {
  const std::lock_guard lock(mutex_);
  Key key(identity, content);
  if (const auto found = files_.find(key); found != files_.end()) return found->second;
  if (files_.size() == kMaxFiles) {
    files_.erase(oldest_first_.front());
    oldest_first_.pop_front();
  }
  oldest_first_.push_back(key);
  return files_.emplace(std::move(key), std::make_shared<VerifiedChunks>(chunks)).first->second;
}

void VerifiedFiles::clear() {
  const std::lock_guard lock(mutex_);
  files_.clear();
  oldest_first_.clear();
}

std::size_t VerifiedFiles::size() const {
  const std::lock_guard lock(mutex_);
  return files_.size();
}

}  // namespace flatbed::python
