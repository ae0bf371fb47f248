// The fake's counting of calls, its injected faults, its ledger and the errors of host threads.
#include <algorithm>
#include <atomic>

#include "support/fake_cuda_state.hpp"

namespace flatbed::fake_cuda {
namespace {

constexpr std::array<std::string_view, kCalls> kNames{
#define FLATBED_FAKE_CUDA_NAME(name) #name,
    FLATBED_FAKE_CUDA_CALLS(FLATBED_FAKE_CUDA_NAME)
#undef FLATBED_FAKE_CUDA_NAME
};

std::atomic<State*> g_current = nullptr;

// Calls that are about no device: they may come before SetDevice.
bool needs_device(Call call) {
  return can_fail(call) && call != Call::GetDeviceCount && call != Call::GetDeviceProperties &&
         call != Call::DeviceGetAttribute && call != Call::DeviceGetPCIBusId &&
         call != Call::SetDevice && call != Call::ThreadExchangeStreamCaptureMode;
}

}  // namespace

std::string_view name_of(Call call) { return kNames[static_cast<std::size_t>(call)]; }

State* current() { return g_current.load(std::memory_order_relaxed); }
void set_current(State* state) { g_current.store(state, std::memory_order_relaxed); }

ThreadState& thread_state(const State& state) {
  thread_local ThreadState mine;
  if (mine.fake != state.id) mine = {.fake = state.id};
  return mine;
}

void State::add(Entry entry, std::string sentence) {
  (entry == Entry::misuse ? misuse : notes).push_back(std::move(sentence));
}

Verdict State::begin_call(Call call) {
  ++call_counts[static_cast<std::size_t>(call)];
  if (unloaded) {
    add(Entry::misuse, text("cuda", name_of(call), " was called while CUDA unloads"));
    return {Injection::Fault::error, cudaErrorCudartUnloading};
  }
  if (!can_fail(call)) return {};
  if (options.devices > 1 && needs_device(call) && !thread_state(*this).device_set) {
    add(Entry::misuse,
        text("cuda", name_of(call), " was called by a thread that never called cudaSetDevice"));
  }
  if (spoils_graphs(call)) return {Injection::Fault::error, cudaErrorStreamCaptureUnsupported};
  Verdict verdict;
  for (Armed& armed : injections) {
    if (!armed.call.empty() && armed.call != name_of(call)) continue;
    ++armed.seen;
    const Injection& injection = armed.injection;
    const bool lasts = injection.forever && injection.fault != Injection::Fault::at_completion;
    if (armed.seen != injection.nth && !(lasts && armed.seen > injection.nth)) continue;
    armed.fired = true;
    verdict = {injection.fault, injection.code, injection.forever};
    if (injection.fault == Injection::Fault::sticky) sticky = injection.code;
    if (injection.fault == Injection::Fault::not_ready) verdict.code = cudaSuccess;
  }
  if (options.devices == 0) return {Injection::Fault::error, cudaErrorNoDevice};
  if (sticky != cudaSuccess) return {Injection::Fault::sticky, sticky};
  const bool queries = call == Call::StreamQuery || call == Call::EventQuery ||
                       call == Call::StreamSynchronize || call == Call::EventSynchronize;
  if (!queries) {
    if (verdict.fails_late()) next_fails = Failure{0, verdict.code, verdict.forever};
    if (verdict.never_ready()) next_is_stuck = true;
  } else if (verdict.fails_late()) {
    verdict.fault = Injection::Fault::error;
  }
  return verdict;
}

std::vector<std::string> State::leaks() {
  std::vector<std::string> out;
  if (unloaded) return out;  // the process ends and takes all with it
  for (const auto* memory : {&allocations, &registrations}) {
    for (const auto& [data, allocation] : *memory) {
      if (!allocation.live || allocation.engine || allocation.release_failed) continue;
      out.push_back(text(describe(allocation), " was never given back"));
    }
  }
  for (const auto& [handle, stream] : streams) {
    if (stream->live && !stream->engine && !stream->release_failed) {
      out.push_back(text("stream ", stream->number, " was never destroyed"));
    }
    for (const auto& op : stream->unseen) {
      out.push_back(text("nobody waited for copy ", op->number, " in stream ", stream->number));
    }
  }
  for (const auto& [handle, event] : events) {
    if (!event->live || event->engine || event->release_failed) continue;
    out.push_back(text("event ", event->number, " was never destroyed"));
  }
  std::sort(out.begin(), out.end());
  return out;
}

}  // namespace flatbed::fake_cuda
