#include "flatbed/page_lock.hpp"

#include <sys/mman.h>
#include <sys/resource.h>

#include <cerrno>

#include "base/str_cat.hpp"
#include "io/system_error.hpp"

namespace flatbed {

namespace {

Error lock_error(int error_number, std::size_t nbytes) {
  const std::string place = str_cat("locking ", nbytes, " bytes of memory");
  rlimit limit = {};
  // EPERM: the limit is 0; EAGAIN and ENOMEM are about memory and the limit alike.
  if (error_number != EPERM && error_number != ENOMEM && error_number != EAGAIN)
    return system_error(error_number, place);
  if (::getrlimit(RLIMIT_MEMLOCK, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY)
    return make_error(ErrorCode::resource_exhausted, place, ": not enough memory");
  return make_error(ErrorCode::resource_exhausted, place, ": the limit RLIMIT_MEMLOCK (ulimit -l) ",
                    "allows ", std::uint64_t{limit.rlim_cur}, " bytes in all");
}

}  // namespace

Result<PageLock> PageLock::lock(std::span<const std::byte> bytes,
                                std::shared_ptr<const void> keeps_alive) {
  if (!bytes.empty() && ::mlock(bytes.data(), bytes.size()) != 0)
    return lock_error(errno, bytes.size());
  return PageLock(bytes, std::move(keeps_alive));
}

PageLock::~PageLock() {
  if (!bytes_.empty()) ::munlock(bytes_.data(), bytes_.size());
}

}  // namespace flatbed
