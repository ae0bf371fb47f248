#include "io/numa.hpp"

#include <fcntl.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <string>
#include <string_view>
#include <system_error>

#include "io/descriptor.hpp"

namespace flatbed {

namespace {

// A number at the start of the text, which it then no longer has. False if there is none, or one
// that cpu_set_t has no room for.
bool take_number(std::string_view& text, unsigned& out) {
  const auto read = std::from_chars(text.data(), text.data() + text.size(), out);
  if (read.ec != std::errc() || out >= CPU_SETSIZE) return false;
  text.remove_prefix(static_cast<std::size_t>(read.ptr - text.data()));
  return true;
}

bool take(std::string_view& text, char expected) {
  if (!text.starts_with(expected)) return false;
  text.remove_prefix(1);
  return true;
}

// A list as sysfs has them: "0-15,32-47\n". An empty one is a node without processors.
Processors parse_list(std::string_view text) {
  Processors out;
  do {
    unsigned first = 0;
    if (!take_number(text, first)) return {};
    unsigned last = first;
    if (take(text, '-') && !take_number(text, last)) return {};
    if (last < first || (!out.empty() && first <= out.back())) return {};
    for (unsigned each = first; each <= last; ++each) out.push_back(each);
  } while (take(text, ','));
  return text.empty() || text == "\n" ? out : Processors{};
}

}  // namespace

Processors processors_of_node(int node, const std::filesystem::path& sysfs) {
  if (node < 0) return {};
  const std::filesystem::path path =
      sysfs / "devices/system/node" / ("node" + std::to_string(node)) / "cpulist";
  const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  char buffer[4096];
  const ssize_t got = file.get() < 0 ? -1 : ::read(file.get(), buffer, sizeof buffer);
  if (got <= 0 || got == sizeof buffer) return {};
  return parse_list({buffer, static_cast<std::size_t>(got)});
}

Processors processors_of_thread() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (::sched_getaffinity(0, sizeof set, &set) != 0) return {};
  Processors out;
  for (unsigned each = 0; each < CPU_SETSIZE; ++each) {
    if (CPU_ISSET(each, &set)) out.push_back(each);
  }
  return out;
}

Processors processors_to_stay_on(int node, unsigned threads, const std::filesystem::path& sysfs) {
  Processors of_node = processors_of_node(node, sysfs);
  if (of_node.size() < threads) return {};
  const Processors allowed = processors_of_thread();
  return std::ranges::includes(allowed, of_node) ? of_node : Processors{};
}

bool stay_on(const Processors& processors) noexcept {
  cpu_set_t set;
  CPU_ZERO(&set);
  for (const unsigned each : processors) CPU_SET(each, &set);
  return ::sched_setaffinity(0, sizeof set, &set) == 0;
}

}  // namespace flatbed
