#include "io/file_permissions.hpp"

#include <sys/stat.h>

#include <cerrno>

#include "base/str_cat.hpp"
#include "io/system_error.hpp"

namespace flatbed {

void narrow(std::optional<FilePermissions>& common, const FilePermissions& more) noexcept {
  if (!common) common = more;
  common->bits &= more.bits;
  if (common->group != more.group) common->group.reset();
}

Result<std::optional<FilePermissions>> permissions_of(const ByteSource& source) {
  FLATBED_ASSIGN(const DescriptorLease lease, source.descriptor());
  if (!lease) return std::optional<FilePermissions>();
  struct stat status = {};
  if (::fstat(lease.get(), &status) != 0) return system_error(errno, quoted(source.label()));
  return std::optional(FilePermissions{status.st_mode & kPermissionBits, status.st_gid});
}

}  // namespace flatbed
