// A tar of torch <= 0.1.9.
#include "fuzz/check.hpp"
#include "fuzz/targets.hpp"
#include "torch/torch_tar.hpp"

namespace flatbed::fuzz {

void tar(std::string_view bytes) {
  const MemorySource file = source_of(bytes);
  const Result<pth::TorchFile> torch = pth::read_torch_tar(file);
  if (!torch) check_error(torch.error());
}

}  // namespace flatbed::fuzz
