#include "io/mapped_file.hpp"

#include <sys/mman.h>
#include <sys/stat.h>

#include <cerrno>
#include <utility>

#include "base/str_cat.hpp"
#include "io/system_error.hpp"

namespace flatbed {

Result<MappedFile> MappedFile::map(const ByteSource& source) {
  const std::string place = quoted(source.label());
  FLATBED_ASSIGN(const DescriptorLease lease, source.descriptor());
  if (!lease) {
    return make_error(ErrorCode::not_viewable, place,
                      ": cannot map a source without memory or a descriptor: use read()");
  }
  struct stat status = {};
  if (::fstat(lease.get(), &status) != 0) return system_error(errno, place);
  const auto size = static_cast<std::uint64_t>(status.st_size);
  if (size < source.size()) {
    return make_error(ErrorCode::file_changed, place,
                      ": the size changed since it was opened: found ", size, " bytes, expected ",
                      source.size());
  }
  if (source.size() == 0) return MappedFile(nullptr, 0);  // the kernel maps no empty range
  void* data = ::mmap(nullptr, source.size(), PROT_READ, MAP_SHARED, lease.get(), 0);
  if (data == MAP_FAILED) {
    return system_error(errno, str_cat(place, ": cannot map ", source.size(), " bytes"));
  }
  return MappedFile(static_cast<const std::byte*>(data), source.size());
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), size_);
}

}  // namespace flatbed
