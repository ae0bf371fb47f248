#include "io/private_mapping.hpp"

#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "base/str_cat.hpp"
#include "io/system_error.hpp"

namespace flatbed {

Result<PrivateMapping> PrivateMapping::map(const ByteSource& source, std::uint64_t offset,
                                           std::uint64_t nbytes) {
  if (nbytes == 0 || !source.memory().empty()) return PrivateMapping();
  FLATBED_ASSIGN(const DescriptorLease lease, source.descriptor());
  if (!lease) return PrivateMapping();
  const std::string place = quoted(source.label());
  struct stat status = {};
  if (::fstat(lease.get(), &status) != 0) return system_error(errno, place);
  const auto size = static_cast<std::uint64_t>(status.st_size);
  if (size < source.size()) {
    return make_error(ErrorCode::file_changed, place,
                      ": the size changed since it was opened: found ", size, " bytes, expected ",
                      source.size());
  }
  const std::uint64_t before = offset % static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  const std::uint64_t whole = before + nbytes;
  // MAP_NORESERVE: only pages that are written take memory, so a file may be larger than all of it.
  void* const data = ::mmap(nullptr, whole, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE,
                            lease.get(), static_cast<off_t>(offset - before));
  if (data == MAP_FAILED) {
    return system_error(errno, str_cat(place, ": cannot map ", nbytes, " bytes at ", offset));
  }
  return PrivateMapping({static_cast<std::byte*>(data), static_cast<std::size_t>(whole)},
                        static_cast<std::size_t>(before));
}

PrivateMapping::PrivateMapping(PrivateMapping&& other) noexcept
    : pages_(std::exchange(other.pages_, {})), before_(std::exchange(other.before_, 0)) {}

PrivateMapping& PrivateMapping::operator=(PrivateMapping&& other) noexcept {
  std::swap(pages_, other.pages_);
  std::swap(before_, other.before_);
  return *this;
}

PrivateMapping::~PrivateMapping() {
  if (!pages_.empty()) ::munmap(pages_.data(), pages_.size());
}

}  // namespace flatbed
