// The fake's graphs: which calls and streams spoil one that is being captured.
#include <algorithm>
#include <array>

#include "support/fake_cuda_state.hpp"

namespace flatbed::fake_cuda {
namespace {

// Calls that CUDA permits on every thread during a capture. It says of few that they are not, such
// as cudaMalloc() and cudaEventQuery(); of the others the fake thinks the worst.
constexpr std::array kPermitted{
    Call::GetDeviceCount,    Call::GetDeviceProperties, Call::DeviceGetAttribute,
    Call::DeviceGetPCIBusId, Call::SetDevice,           Call::EventRecord,
    Call::StreamWaitEvent,   Call::StreamIsCapturing,   Call::ThreadExchangeStreamCaptureMode};

bool is_permitted(Call call) {
  return std::find(kPermitted.begin(), kPermitted.end(), call) != kPermitted.end();
}

// A blocking stream of the legacy stream's device that is captured.
Stream* find_captured(const State& state, const Stream& legacy) {
  for (Stream* const stream : state.streams_by_number) {
    if (stream->kind == Stream::Kind::blocking && stream->device == legacy.device &&
        stream->graph) {
      return stream;
    }
  }
  return nullptr;
}

}  // namespace

bool State::spoils_graphs(Call call) {
  const cudaStreamCaptureMode mine = thread_state(*this).capture_mode;
  if (mine == cudaStreamCaptureModeRelaxed || is_permitted(call)) return false;
  bool spoils = false;
  for (Stream* const stream : streams_by_number) {
    if (!stream->graph || stream->graph->mode == cudaStreamCaptureModeRelaxed) continue;
    const bool of_this_thread = stream->graph->thread == std::this_thread::get_id();
    const bool global =
        mine == cudaStreamCaptureModeGlobal && stream->graph->mode == cudaStreamCaptureModeGlobal;
    if (!of_this_thread && !global) continue;
    spoils = stream->graph->spoilt = true;
    add(Entry::misuse, text("cuda", name_of(call),
                            " spoilt the graph that the engine captures in "
                            "stream ",
                            stream->number));
  }
  return spoils;
}

cudaError_t State::use_uncaptured(const Stream& stream, std::string_view call) {
  Stream* spoilt = nullptr;
  if (stream.graph) spoilt = streams_by_number[static_cast<std::size_t>(stream.number - 1)];
  if (stream.kind == Stream::Kind::legacy) spoilt = find_captured(*this, stream);
  if (spoilt == nullptr) return cudaSuccess;
  spoilt->graph->spoilt = true;
  add(Entry::misuse, text("cuda", call, " in stream ", stream.number,
                          " spoilt the graph that the "
                          "engine captures in stream ",
                          spoilt->number));
  return stream.graph ? cudaErrorStreamCaptureUnsupported : cudaErrorStreamCaptureImplicit;
}

cudaError_t State::is_capturing(const Stream& stream, cudaStreamCaptureStatus& out) const {
  out = cudaStreamCaptureStatusNone;
  if (stream.kind == Stream::Kind::legacy && find_captured(*this, stream) != nullptr) {
    return cudaErrorStreamCaptureImplicit;
  }
  if (!stream.graph) return cudaSuccess;
  out = stream.graph->spoilt ? cudaStreamCaptureStatusInvalidated : cudaStreamCaptureStatusActive;
  return cudaSuccess;
}

}  // namespace flatbed::fake_cuda
