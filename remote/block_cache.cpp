#include "block_cache.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <system_error>
#include <vector>

#include "digest.hpp"
#include "text.hpp"

namespace flatbed::remote {

namespace {

namespace fs = std::filesystem;

constexpr std::string_view kMagic = "FBCACHE1";
constexpr std::string_view kTemporary = "new-";
constexpr std::size_t kHeadNbytes = 16;
constexpr std::size_t kKeyDigits = 40;
constexpr auto kForgotten = std::chrono::hours(1);     // of temporary files
constexpr auto kTouchAfter = std::chrono::minutes(1);  // so that not every read writes

// Closes it.
class OpenFile {
 public:
  explicit OpenFile(int descriptor) : descriptor_(descriptor) {}
  OpenFile(const OpenFile&) = delete;
  OpenFile& operator=(const OpenFile&) = delete;
  ~OpenFile() {
    if (descriptor_ >= 0) ::close(descriptor_);
  }
  [[nodiscard]] int get() const noexcept { return descriptor_; }
  [[nodiscard]] bool is_open() const noexcept { return descriptor_ >= 0; }

 private:
  int descriptor_;
};

using Head = std::array<char, kHeadNbytes>;

Head head_of(std::uint64_t block, std::span<const std::byte> bytes) {
  Head head{};
  std::memcpy(head.data(), kMagic.data(), kMagic.size());
  const std::uint64_t digest = XXH3_64bits_withSeed(bytes.data(), bytes.size(), block);
  for (std::size_t i = 0; i < sizeof digest; ++i)
    head[kMagic.size() + i] = static_cast<char>(digest >> (8 * i));
  return head;
}

bool read_all(int descriptor, std::span<std::byte> out, std::uint64_t offset) {
  while (!out.empty()) {
    const ssize_t got = ::pread(descriptor, out.data(), out.size(), static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return false;
    out = out.subspan(static_cast<std::size_t>(got));
    offset += static_cast<std::uint64_t>(got);
  }
  return true;
}

bool write_all(int descriptor, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t put = ::write(descriptor, bytes.data(), bytes.size());
    if (put < 0 && errno == EINTR) continue;
    if (put <= 0) return false;
    bytes = bytes.subspan(static_cast<std::size_t>(put));
  }
  return true;
}

std::string hex_number(std::uint64_t number) {
  constexpr std::string_view kHex = "0123456789abcdef";
  std::string out;
  do {
    out.insert(out.begin(), kHex[number % 16]);
    number /= 16;
  } while (number != 0);
  return out;
}

struct Found {
  fs::path path;
  std::uint64_t nbytes = 0;
  fs::file_time_type read;
};

// Whether store() gives such names: 40 digits below their first two. The folder may be one in which
// a user has other files, which are left alone.
bool is_ours(const fs::path& path) {
  constexpr std::string_view kHex = "0123456789abcdef";
  const std::string name = path.filename().native();
  const std::string key = path.parent_path().filename().native();
  const std::string front = path.parent_path().parent_path().filename().native();
  return front.size() == 2 && key.size() == kKeyDigits && key.starts_with(front) &&
         key.find_first_not_of(kHex) == key.npos &&
         (name.starts_with(kTemporary) || name.find_first_not_of(kHex) == name.npos);
}

// The blocks of the folder. Temporary files that their process forgot are removed.
std::vector<Found> find_blocks(const fs::path& folder) {
  std::vector<Found> blocks;
  std::error_code failed;
  const auto now = fs::file_time_type::clock::now();
  for (fs::recursive_directory_iterator at(folder, failed), end; !failed && at != end;
       at.increment(failed)) {
    std::error_code gone;  // removed meanwhile
    if (at.depth() != 2 || !is_ours(at->path()) || !at->is_regular_file(gone) || gone) continue;
    const std::uint64_t nbytes = at->file_size(gone);
    const fs::file_time_type read = at->last_write_time(gone);
    if (gone) continue;
    if (!at->path().filename().native().starts_with(kTemporary)) {
      blocks.push_back({at->path(), nbytes, read});
    } else if (now - read > kForgotten) {
      fs::remove(at->path(), gone);
    }
  }
  return blocks;
}

}  // namespace

Result<std::unique_ptr<BlockCache>> BlockCache::open(const fs::path& folder,
                                                     std::uint64_t most_nbytes) {
  std::error_code failed;
  if (fs::create_directories(folder, failed) && !failed)
    fs::permissions(folder, fs::perms::owner_all, failed);
  if (!failed && ::access(folder.c_str(), R_OK | W_OK | X_OK) != 0)
    failed.assign(errno, std::generic_category());
  if (failed) {
    const bool denied =
        failed == std::errc::permission_denied || failed == std::errc::read_only_file_system;
    return error_of(denied ? ErrorCode::permission_denied : ErrorCode::io_error,
                    shown(folder.native()), ": cannot be a cache: ", failed.message());
  }
  return std::unique_ptr<BlockCache>(new (std::nothrow) BlockCache(folder, most_nbytes));
}

Result<std::string> BlockCache::key_of(std::string_view url, std::string_view etag,
                                       std::uint64_t nbytes) {
  const std::string text = text_of(url, "\n", etag, "\n", nbytes);
  FLATBED_ASSIGN(const std::string digest, sha256_hex_of(std::as_bytes(std::span(text))));
  return digest.substr(0, kKeyDigits);
}

fs::path BlockCache::path_of(const std::string& key, std::uint64_t block) const {
  return folder_ / key.substr(0, 2) / key / hex_number(block);
}

bool BlockCache::load(const std::string& key, std::uint64_t block, std::span<std::byte> out) const {
  const fs::path path = path_of(key, block);
  const OpenFile file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  struct stat state = {};
  if (!file.is_open() || ::fstat(file.get(), &state) != 0) return false;
  Head head{};
  const bool sound = static_cast<std::uint64_t>(state.st_size) == kHeadNbytes + out.size() &&
                     read_all(file.get(), std::as_writable_bytes(std::span(head)), 0) &&
                     read_all(file.get(), out, kHeadNbytes) && head == head_of(block, out);
  if (!sound) {
    ::unlink(path.c_str());
    return false;
  }
  loaded_ += out.size();
  const auto age = std::chrono::system_clock::now() -
                   std::chrono::system_clock::from_time_t(state.st_mtim.tv_sec);
  if (age > kTouchAfter) ::futimens(file.get(), nullptr);
  return true;
}

void BlockCache::store(const std::string& key, std::uint64_t block,
                       std::span<const std::byte> bytes) {
  const fs::path path = path_of(key, block);
  std::error_code failed;
  fs::create_directories(path.parent_path(), failed);
  const fs::path temporary =
      path.parent_path() / text_of(kTemporary, ::getpid(), "-", names_.fetch_add(1));
  {
    constexpr mode_t kOwnerAlone = 0600;
    const OpenFile file(
        ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, kOwnerAlone));
    if (!file.is_open()) return;
    const Head head = head_of(block, bytes);
    const bool written = write_all(file.get(), std::as_bytes(std::span(head))) &&
                         write_all(file.get(), bytes) &&
                         ::rename(temporary.c_str(), path.c_str()) == 0;
    if (!written) {
      ::unlink(temporary.c_str());
      return;
    }
  }
  const std::uint64_t stored = unchecked_.fetch_add(bytes.size()) + bytes.size();
  if (stored >= most_nbytes_ / 16) make_room();
}

void BlockCache::drop(const std::string& key, std::uint64_t block) const {
  ::unlink(path_of(key, block).c_str());
}

// One thread of one process does it; the others go on.
void BlockCache::make_room() {
  const std::unique_lock one(making_room_, std::try_to_lock);
  if (!one.owns_lock()) return;
  unchecked_ = 0;
  constexpr mode_t kOwnerAlone = 0600;
  const OpenFile lock(
      ::open((folder_ / "lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, kOwnerAlone));
  if (!lock.is_open() || ::flock(lock.get(), LOCK_EX | LOCK_NB) != 0) return;
  std::vector<Found> blocks = find_blocks(folder_);
  std::uint64_t nbytes = 0;
  for (const Found& block : blocks) nbytes += block.nbytes;
  if (nbytes <= most_nbytes_) return;
  std::ranges::sort(blocks, {}, &Found::read);
  for (const Found& block : blocks) {
    if (nbytes <= most_nbytes_ / 10 * 9) break;
    if (::unlink(block.path.c_str()) == 0) nbytes -= block.nbytes;
    ::rmdir(block.path.parent_path().c_str());  // if it was the last one
  }
}

}  // namespace flatbed::remote
