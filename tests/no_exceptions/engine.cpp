// An engine built with -fno-exceptions -fno-rtti: saves a checkpoint, opens it, reads and views a
// tensor, verifies, and handles an error by its code. Argument: the file to write.
// Exit status 0: everything was as expected.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdio>
#include <filesystem>
#include <span>
#include <utility>

#include "flatbed/flatbed.hpp"

#if defined(__cpp_exceptions) || defined(__cpp_rtti)
#error "this file shows that flatbed can be used without exceptions and RTTI"
#endif

namespace {

constexpr std::array<float, 6> kWeights{0.5F, -1.0F, 2.0F, 3.25F, -4.0F, 5.0F};

flatbed::Result<void> save_weights(const std::filesystem::path& path) {
  flatbed::SavePlan plan;
  plan.items.push_back(
      {"fc.weight", flatbed::Dtype::f32, {2, 3}, std::as_bytes(std::span(kWeights))});
  FLATBED_TRY(flatbed::save(path, plan));
  return {};
}

flatbed::Result<bool> weights_are_back(const flatbed::Checkpoint& checkpoint) {
  FLATBED_ASSIGN(const flatbed::TensorInfo weight, checkpoint.tensor("fc.weight"));
  std::array<float, kWeights.size()> loaded{};
  FLATBED_TRY(checkpoint.read(weight, 0, std::as_writable_bytes(std::span(loaded))));
  FLATBED_ASSIGN(const flatbed::TensorView view, checkpoint.view(weight));
  return loaded == kWeights && std::ranges::equal(view.bytes, std::as_bytes(std::span(kWeights)));
}

flatbed::Result<bool> run(const std::filesystem::path& path) {
  FLATBED_TRY(save_weights(path));
  FLATBED_ASSIGN(const flatbed::Checkpoint checkpoint, flatbed::Checkpoint::open(path));
  FLATBED_ASSIGN(const flatbed::VerifyReport report, flatbed::verify(checkpoint));
  FLATBED_ASSIGN(const bool same, weights_are_back(checkpoint));
  const auto absent = checkpoint.tensor("fc.bias");
  return same && report.damaged.empty() && checkpoint.seal() == flatbed::SealState::sealed &&
         !absent && absent.error().code == flatbed::ErrorCode::tensor_not_found;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  const auto good = run(argv[1]);
  if (!good) std::fprintf(stderr, "%s\n", good.error().message.c_str());
  return good && *good ? 0 : 1;
}
