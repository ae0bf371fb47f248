// What libcuda.so.1 exports that a program needs which asks it for its functions, and the process's
// fake.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "support/fake_cuda_driver/process.hpp"
#include "support/fake_cuda_state.hpp"

namespace flatbed::fake_cuda {
namespace {

// CUDA unloads when the process's exit handlers run; calls of static destructors come later than
// that, and are in the ledger, which is written when this library ends.
struct Process {
  std::string text;
  Config config;  // has views of the text
  std::unique_ptr<FakeCuda> fake;
  std::vector<std::string> leaks;
};
Process* g_process = nullptr;

void write_ledger() {
  const char* const path = std::getenv("FLATBED_FAKE_CUDA_LEDGER");
  FILE* const file = path == nullptr ? nullptr : std::fopen(path, "we");
  if (file == nullptr) return;
  const auto write = [file](const char* kind, const std::vector<std::string>& sentences) {
    for (const std::string& sentence : sentences) {
      std::fprintf(file, "%s %s\n", kind, sentence.c_str());
    }
  };
  write("MISUSE", g_process->config.mistakes);
  write("MISUSE", g_process->fake->misuse());
  write("LEAK", g_process->leaks);
  write("NOTE", g_process->fake->notes());
  if (g_process->fake->injection_fired()) write("FAILED", {"a call, as FLATBED_FAKE_CUDA says"});
  std::fclose(file);
}

[[gnu::destructor]] void end() {
  if (g_process == nullptr) return;
  write_ledger();
  delete g_process;
  g_process = nullptr;
}

void unload() {
  g_process->leaks = g_process->fake->leaks();
  g_process->fake->unload();
}

Process* begin() {
  const char* const text = std::getenv("FLATBED_FAKE_CUDA");
  g_process = new Process;
  g_process->text = text == nullptr ? "" : text;
  g_process->config = parse_config(g_process->text);
  g_process->fake = std::make_unique<FakeCuda>(g_process->config.options);
  for (const Injection& injection : g_process->config.injections) g_process->fake->fail(injection);
  std::atexit(unload);
  return g_process;
}

const Process& process() {
  static const Process* const made = begin();
  return *made;
}

int get_proc_address(const char* name, void** out, int version, std::uint64_t flags) {
  const std::vector<std::string_view>& missing = process_config().missing;
  const bool is_missing = std::find(missing.begin(), missing.end(), name) != missing.end();
  *out = is_missing ? nullptr : find_function(name, version, flags);
  return cudaSuccess;
}

}  // namespace

const Config& process_config() { return process().config; }

const cuda::CudaApi& process_calls() {
  static_cast<void>(process());
  return table();
}

void add_misuse(std::string sentence) {
  static_cast<void>(process());
  State* const state = current();
  const std::lock_guard lock(state->mutex);
  state->add(Entry::misuse, std::move(sentence));
}

}  // namespace flatbed::fake_cuda

#pragma GCC visibility push(default)
extern "C" {

int cuDriverGetVersion(int* version);
int cuDriverGetVersion(int* version) {
  *version = flatbed::fake_cuda::process_config().driver_version;
  return 0;
}

// The newer form, which drivers before 12.0 do not have, says in `status` why it found nothing.
int cuGetProcAddress_v2(const char* name, void** out, int version, std::uint64_t flags,
                        int* status);
int cuGetProcAddress_v2(const char* name, void** out, int version, std::uint64_t flags,
                        int* status) {
  const int result = flatbed::fake_cuda::get_proc_address(name, out, version, flags);
  *status = *out == nullptr ? 1 : 0;
  return result;
}

int cuGetProcAddress(const char* name, void** out, int version, std::uint64_t flags);
int cuGetProcAddress(const char* name, void** out, int version, std::uint64_t flags) {
  static_cast<void>(flatbed::fake_cuda::get_proc_address(name, out, version, flags));
  return *out == nullptr ? 500 : 0;  // CUDA_ERROR_NOT_FOUND
}

}  // extern "C"
#pragma GCC visibility pop
