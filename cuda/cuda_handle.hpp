// Stream and Event: owned CUDA handles. Move-only. The destructor destroys the handle and consumes
// the status, so it must run on a thread where CUDA may be called. A handle may be destroyed while
// its work is under way: CUDA neither waits for the work nor drops it.
#pragma once

#include <utility>

#include "cuda_api.hpp"
#include "cuda_error.hpp"

namespace flatbed::cuda {

template <typename Handle, CudaApi::Call<Handle> CudaApi::*kDestroy>
class UniqueHandle {
 public:
  UniqueHandle() = default;
  UniqueHandle(const CudaApi& api, Handle handle) noexcept : api_(&api), handle_(handle) {}
  UniqueHandle(UniqueHandle&& other) noexcept
      : api_(other.api_), handle_(std::exchange(other.handle_, nullptr)) {}
  UniqueHandle& operator=(UniqueHandle&& other) noexcept {
    std::swap(api_, other.api_);
    std::swap(handle_, other.handle_);
    return *this;
  }
  ~UniqueHandle() {
    if (handle_ != nullptr) consume(*api_, (api_->*kDestroy)(handle_));
  }

  [[nodiscard]] Handle get() const noexcept { return handle_; }

 private:
  const CudaApi* api_ = nullptr;
  Handle handle_ = nullptr;
};

using Stream = UniqueHandle<cudaStream_t, &CudaApi::StreamDestroy>;
using Event = UniqueHandle<cudaEvent_t, &CudaApi::EventDestroy>;

}  // namespace flatbed::cuda
