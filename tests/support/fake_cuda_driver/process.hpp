// The fake of a whole process: made at the first call, as FLATBED_FAKE_CUDA says (config.hpp). At
// the end of the process its ledger goes to the file that FLATBED_FAKE_CUDA_LEDGER names, one
// sentence a line, "MISUSE", "LEAK" or "NOTE" before it, and "FAILED" before one that says that an
// injected fault took place. The file is written even when it is empty.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "support/fake_cuda_driver/config.hpp"

namespace flatbed::fake_cuda {

[[nodiscard]] const Config& process_config();
[[nodiscard]] const cuda::CudaApi& process_calls();
void add_misuse(std::string sentence);

// The function of that name, in the form that a release of CUDA brought; null if there is none.
[[nodiscard]] void* find_function(std::string_view name, int version, std::uint64_t flags);

}  // namespace flatbed::fake_cuda
