#include "io/available_memory.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <charconv>
#include <string_view>
#include <system_error>

#include "base/checked.hpp"
#include "io/descriptor.hpp"

namespace flatbed {

// A line of /proc/meminfo: "MemAvailable:   22714452 kB", among the first.
std::optional<std::uint64_t> available_memory() {
  constexpr std::string_view kKey = "MemAvailable:";
  const Descriptor file(::open("/proc/meminfo", O_RDONLY | O_CLOEXEC));
  char buffer[4096];
  const ssize_t got = file.get() < 0 ? -1 : ::read(file.get(), buffer, sizeof buffer);
  if (got <= 0) return std::nullopt;
  std::string_view text(buffer, static_cast<std::size_t>(got));
  const std::size_t key = text.find(kKey);
  if (key == std::string_view::npos) return std::nullopt;
  text.remove_prefix(key + kKey.size());
  const std::size_t digits = text.find_first_not_of(' ');
  if (digits == std::string_view::npos) return std::nullopt;
  std::uint64_t kib = 0;
  const auto read = std::from_chars(text.data() + digits, text.data() + text.size(), kib);
  if (read.ec != std::errc()) return std::nullopt;
  return checked_mul(kib, 1024);
}

}  // namespace flatbed
