#include "cuda_api.hpp"

#ifdef FLATBED_CUDART_LINKED
#include "runtime_api.hpp"
#else
#include "driver_api.hpp"
#endif

namespace flatbed::cuda {

Result<std::shared_ptr<const CudaApi>> open_cuda_api() {
#ifdef FLATBED_CUDART_LINKED
  return runtime_api();
#else
  return open_driver_api();
#endif
}

}  // namespace flatbed::cuda
