#include "io/available_memory.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <string>
#include <string_view>
#include <system_error>

#include "base/checked.hpp"
#include "io/descriptor.hpp"

namespace flatbed {

namespace {

// The first 16 KiB, which none of the files read here exceeds before the line that counts. Empty
// if the file cannot be read.
std::string read_start(const std::filesystem::path& path) {
  const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  std::string text(16 << 10, '\0');
  const ssize_t got = file.get() < 0 ? -1 : ::read(file.get(), text.data(), text.size());
  text.resize(got < 0 ? 0 : static_cast<std::size_t>(got));
  return text;
}

std::optional<std::uint64_t> leading_number(std::string_view text) {
  text.remove_prefix(std::min(text.find_first_not_of(' '), text.size()));
  std::uint64_t number = 0;
  const auto read = std::from_chars(text.data(), text.data() + text.size(), number);
  return read.ec == std::errc() ? std::optional(number) : std::nullopt;
}

// The number in the line that begins with `key`: "MemAvailable:   22714452 kB".
std::optional<std::uint64_t> number_after(std::string_view key, std::string_view text) {
  while (!text.empty()) {
    if (text.starts_with(key)) return leading_number(text.substr(key.size()));
    text.remove_prefix(std::min(text.find('\n'), text.size() - 1) + 1);
  }
  return std::nullopt;
}

// How the two versions of control groups name their files below /sys/fs/cgroup.
struct GroupFiles {
  std::string_view mount;
  std::string_view limit;
  std::string_view used;
  std::array<std::string_view, 2> cached;  // in memory.stat: files' pages, which can be dropped
};
constexpr GroupFiles kVersion1{"/memory",
                               "memory.limit_in_bytes",
                               "memory.usage_in_bytes",
                               {"total_inactive_file ", "total_active_file "}};
constexpr GroupFiles kVersion2{
    "", "memory.max", "memory.current", {"inactive_file ", "active_file "}};

// What the limit of one group leaves; nullopt if it has none ("max").
std::optional<std::uint64_t> left_in(const std::filesystem::path& folder, const GroupFiles& files) {
  const auto limit = leading_number(read_start(folder / files.limit));
  const auto used = leading_number(read_start(folder / files.used));
  if (!limit || !used) return std::nullopt;
  const std::string stat = read_start(folder / "memory.stat");
  std::uint64_t kept = *used;
  for (const std::string_view key : files.cached)
    kept -= std::min(kept, number_after(key, stat).value_or(0));
  return *limit - std::min(*limit, kept);
}

// The least that a group and those above it leave. `group` is as /proc/self/cgroup has it: "/a/b".
// Inside a container it may be a path of the host: then only the container's own group is found, at
// the mount.
std::uint64_t left_in_all(std::filesystem::path mount, std::string_view group,
                          const GroupFiles& files) {
  std::uint64_t least = left_in(mount, files).value_or(UINT64_MAX);
  while (!group.empty()) {
    group.remove_prefix(1);
    const std::string_view name = group.substr(0, group.find('/'));
    group.remove_prefix(name.size());
    mount /= name;
    least = std::min(least, left_in(mount, files).value_or(UINT64_MAX));
  }
  return least;
}

// A line is "4:memory:/group", with the controllers of that hierarchy; of version 2, "0::/group".
std::uint64_t left_in_groups(const std::filesystem::path& root) {
  const std::string text = read_start(root / "proc/self/cgroup");
  std::uint64_t least = UINT64_MAX;
  for (std::string_view rest = text; !rest.empty();) {
    const std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(line.size() + 1, rest.size()));
    const std::size_t controllers = line.find(':');
    const std::size_t group = line.find(":/");
    if (group == std::string_view::npos) continue;
    const bool second = controllers + 1 == group;
    const std::string_view names = line.substr(controllers, group - controllers);
    if (!second && names != ":memory") continue;
    const GroupFiles& files = second ? kVersion2 : kVersion1;
    std::filesystem::path mount = root / "sys/fs/cgroup";
    mount += files.mount;
    least = std::min(least, left_in_all(std::move(mount), line.substr(group + 1), files));
  }
  return least;
}

}  // namespace

std::optional<std::uint64_t> available_memory(const std::filesystem::path& root) {
  const auto kib = number_after("MemAvailable:", read_start(root / "proc/meminfo"));
  const std::optional<std::uint64_t> machine = kib ? checked_mul(*kib, 1024) : std::nullopt;
  const std::uint64_t least = std::min(machine.value_or(UINT64_MAX), left_in_groups(root));
  return least == UINT64_MAX ? std::nullopt : std::optional(least);
}

std::optional<std::uint64_t> available_memory() { return available_memory("/"); }

}  // namespace flatbed
