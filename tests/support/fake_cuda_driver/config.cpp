#include "support/fake_cuda_driver/config.hpp"

#include <charconv>
#include <optional>
#include <utility>

namespace flatbed::fake_cuda {
namespace {

// The part before the separator; `rest` keeps the part after it.
std::string_view take(std::string_view& rest, char separator) {
  const std::size_t end = rest.find(separator);
  const std::string_view part = rest.substr(0, end);
  rest = end == std::string_view::npos ? std::string_view() : rest.substr(end + 1);
  return part;
}

std::optional<std::uint64_t> parse_number(std::string_view text) {
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}

bool parse_schedule(std::string_view text, FakeSchedule& out) {
  constexpr std::pair<std::string_view, FakeSchedule> kSchedules[] = {
      {"lazy", FakeSchedule::lazy},
      {"eager", FakeSchedule::eager},
      {"random", FakeSchedule::random},
      {"threads", FakeSchedule::threads}};
  for (const auto& [name, schedule] : kSchedules) {
    if (name != text) continue;
    out = schedule;
    return true;
  }
  return false;
}

bool parse_injection(std::string_view text, Injection& out) {
  out.call = take(text, ':');
  const auto nth = parse_number(take(text, ':'));
  if (!nth || *nth == 0) return false;
  out.nth = *nth;
  const std::string_view how = take(text, ':');
  if (how == "forever") {
    out.forever = true;
  } else if (how == "at_completion") {
    out.fault = Injection::Fault::at_completion;
  } else if (how == "sticky") {
    out.fault = Injection::Fault::sticky;
  } else if (how == "not_ready") {
    out.fault = Injection::Fault::not_ready;
  } else if (!how.empty() && how != "once") {
    return false;
  }
  if (text.empty()) return true;
  const auto code = parse_number(text);
  if (!code || *code == 0 || *code > 9999) return false;
  out.code = static_cast<cudaError_t>(*code);
  return true;
}

bool parse_option(std::string_view key, std::uint64_t value, FakeCudaOptions& out) {
  const std::pair<std::string_view, bool*> flags[] = {{"register", &out.host_register_supported},
                                                      {"guard", &out.guard_sources},
                                                      {"protect", &out.protect_sources},
                                                      {"last_first", &out.last_first},
                                                      {"backtraces", &out.backtraces},
                                                      {"track", &out.track_writes},
                                                      {"move", &out.move_bytes}};
  for (const auto& [name, flag] : flags) {
    if (name != key) continue;
    *flag = value != 0;
    return value <= 1;
  }
  if (key == "devices") {
    out.devices = static_cast<int>(value);
    return value <= 64;
  }
  if (key == "not_ready") {
    out.not_ready_queries = static_cast<unsigned>(value);
    return value <= 1'000'000;
  }
  const std::pair<std::string_view, std::uint64_t*> numbers[] = {
      {"seed", &out.seed},
      {"piece", &out.piece_nbytes},
      {"pinned_limit", &out.pinned_limit_nbytes},
      {"device_limit", &out.device_limit_nbytes}};
  for (const auto& [name, number] : numbers) {
    if (name != key) continue;
    *number = value;
    return true;
  }
  return false;
}

bool parse_driver(std::string_view key, std::string_view value, Config& out) {
  if (key == "missing") {
    out.missing.push_back(value);
    return !value.empty();
  }
  const std::pair<std::string_view, int*> numbers[] = {
      {"driver", &out.driver_version}, {"init", &out.init_status}, {"retain", &out.retain_status}};
  for (const auto& [name, number] : numbers) {
    if (name != key) continue;
    const auto parsed = parse_number(value);
    if (!parsed || *parsed > 99'999) return false;
    *number = static_cast<int>(*parsed);
    return true;
  }
  return false;
}

}  // namespace

Config parse_config(std::string_view text) {
  Config out;
  while (!text.empty()) {
    const std::string_view item = take(text, ',');
    std::string_view value = item;
    const std::string_view key = take(value, '=');
    bool understood = false;
    if (key == "schedule") {
      understood = parse_schedule(value, out.options.schedule);
    } else if (key == "fail") {
      Injection injection;
      understood = parse_injection(value, injection);
      if (understood) out.injections.push_back(injection);
    } else if (parse_driver(key, value, out)) {
      understood = true;
    } else if (const auto number = parse_number(value)) {
      understood = parse_option(key, *number, out.options);
    }
    if (!understood) {
      out.mistakes.push_back("FLATBED_FAKE_CUDA: '" + std::string(item) + "' means nothing");
    }
  }
  return out;
}

}  // namespace flatbed::fake_cuda
