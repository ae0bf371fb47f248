#include "io/leased_file.hpp"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include <algorithm>
#include <array>
#include <csignal>

#include "io/pages.hpp"
#include "io/reopen.hpp"

namespace flatbed {

namespace {

constexpr unsigned kTries = 8;  // before it is judged whether the way pays
constexpr std::uint64_t kMostMappedNbytes = 8 << 20;
// The kernel may map pages beside those that are asked for, at most the rest of their folio.
constexpr std::uint64_t kMostBesideNbytes = 2 << 20;

// The file systems whose files change only by way of this kernel, by their numbers in statfs(2).
// Not overlayfs: it shows files of others, which may be changed there.
bool obeys_leases(int descriptor) noexcept {
  constexpr std::array<std::uint64_t, 5> kKnown{
      0xef53,      // ext2, ext3, ext4
      0x58465342,  // XFS
      0x9123683e,  // Btrfs
      0xf2f52010,  // F2FS
      0x01021994,  // tmpfs
  };
  struct statfs found = {};
  if (::fstatfs(descriptor, &found) != 0) return false;
  const auto type = static_cast<std::uint64_t>(found.f_type);
  return std::ranges::find(kKnown, type) != kKnown.end();
}

// Whether the mappings of all threads would take from a limit (RLIMIT_AS) that memory also needs.
bool addresses_are_limited() noexcept {
  rlimit limit = {};
  return ::getrlimit(RLIMIT_AS, &limit) != 0 || limit.rlim_cur != RLIM_INFINITY;
}

}  // namespace

std::optional<LeasedFile> LeasedFile::open(const ByteSource& source) {
  Descriptor descriptor = reopen(source, 0);
  if (descriptor.get() < 0 || !obeys_leases(descriptor.get())) return std::nullopt;
  // The kernel tells the owner of a lease by a signal that somebody waits for it. The usual one,
  // SIGIO, would end the process.
  if (::fcntl(descriptor.get(), F_SETSIG, SIGURG) != 0) return std::nullopt;
  if (new_mappings_are_locked() || addresses_are_limited()) return std::nullopt;
  Result<MappedFile> mapping = MappedFile::map(source);
  if (!mapping) return std::nullopt;
  return LeasedFile(std::move(descriptor), *std::move(mapping));
}

std::optional<LeasedFile::Pages> LeasedFile::pages(const FileRange& range) {
  if (refused_ || range.end > mapping_.bytes().size()) return std::nullopt;
  const Pages::Time asked = std::chrono::steady_clock::now();
  refused_ = !take_lease();
  if (refused_) return std::nullopt;
  Pages pages(*this, range, asked);
  // The size is what it was when the lease was granted.
  struct stat status = {};
  refused_ = ::fstat(descriptor_.get(), &status) != 0 ||
             static_cast<std::uint64_t>(status.st_size) < range.end || !map(range);
  if (refused_) return std::nullopt;
  pages.times_.mapped = std::chrono::steady_clock::now();
  return pages;
}

// No signal is wanted, and for the moment between the two calls it is one that is ignored unless
// the program handles it. The kernel sets an owner with each lease.
bool LeasedFile::take_lease() noexcept {
  if (::fcntl(descriptor_.get(), F_SETLEASE, F_RDLCK) != 0) return false;
  ::fcntl(descriptor_.get(), F_SETOWN, 0);
  return true;
}

LeasedFile::Pages::~Pages() {
  if (file_ == nullptr) return;
  const Time done = std::chrono::steady_clock::now();
  ::fcntl(file_->descriptor_.get(), F_SETLEASE, F_UNLCK);
  if (file_->mapped_nbytes_ >= kMostMappedNbytes) file_->unmap();
  if (!file_->way_.is_chosen()) return;
  const Time end = std::chrono::steady_clock::now();
  ++file_->times_held_;
  file_->mapping_time_ += (times_.mapped - times_.asked) + (end - done);
  file_->held_time_ += end - times_.asked;
}

bool LeasedFile::map(const FileRange& range) noexcept {
  mapped_ = mapped_nbytes_ == 0
                ? range
                : FileRange{std::min(mapped_.begin, range.begin), std::max(mapped_.end, range.end)};
  mapped_nbytes_ += range.nbytes();
  const auto begin = std::chrono::steady_clock::now();
  const bool are_mapped = map_pages(bytes(range), static_cast<MapBy>(way_.way()));
  way_.took(std::chrono::steady_clock::now() - begin, range.nbytes());
  return are_mapped;
}

void LeasedFile::unmap() noexcept {
  const std::uint64_t begin = mapped_.begin - std::min(mapped_.begin, kMostBesideNbytes);
  const std::uint64_t end =
      mapped_.end + std::min(mapping_.bytes().size() - mapped_.end, kMostBesideNbytes);
  // It would do no harm if some stayed.
  static_cast<void>(release_pages(bytes({begin, end}), ""));
  mapped_nbytes_ = 0;
}

bool LeasedFile::pays() const noexcept {
  return !refused_ && (times_held_ < kTries || 2 * mapping_time_ <= held_time_);
}

std::span<const std::byte> LeasedFile::bytes(const FileRange& range) const noexcept {
  return mapping_.bytes().subspan(static_cast<std::size_t>(range.begin),
                                  static_cast<std::size_t>(range.nbytes()));
}

}  // namespace flatbed
