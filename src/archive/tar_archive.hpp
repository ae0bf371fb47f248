// TarArchive: the checked members of a tar file, as torch.save wrote them before 0.1.10. Owns the
// names. Not thread-safe while it opens; const members are thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "flatbed/byte_source.hpp"
#include "flatbed/result.hpp"

namespace flatbed::pth {

inline constexpr std::size_t kMaxTarMembers = 64;  // torch writes four

struct TarMember {
  std::string name;
  std::uint64_t offset = 0;  // of its first byte in the file
  std::uint64_t nbytes = 0;
};

class TarArchive {
 public:
  // Errors: tar_malformed, unsupported_layout (more members than torch writes), and those of
  // File::read_at.
  [[nodiscard]] static Result<TarArchive> open(const ByteSource& file);

  [[nodiscard]] std::span<const TarMember> members() const noexcept { return members_; }
  [[nodiscard]] const TarMember* find(std::string_view name) const;  // exact match, or null

 private:
  TarArchive() = default;
  std::vector<TarMember> members_;
};

}  // namespace flatbed::pth
