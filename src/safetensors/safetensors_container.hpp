// SafetensorsContainer: a .safetensors file with the seal that it carries or that lies beside it
// (spec S1 to S7, C1 to C3). Thread-safe once open.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "base/json.hpp"
#include "io/container.hpp"
#include "safetensors/header.hpp"
#include "safetensors/seal.hpp"

namespace flatbed::safetensors {

class SafetensorsContainer final : public Container {
 public:
  // Errors: the container's rules (30-59), the seal's (60-69) as options.check_seal demands, those
  // of ByteSource::read_at().
  [[nodiscard]] static Result<std::unique_ptr<Container>> open(
      std::shared_ptr<const ByteSource> source, const ContainerOptions& options);

  explicit SafetensorsContainer(std::shared_ptr<const ByteSource> source)
      : Container(std::move(source)) {}

  [[nodiscard]] Layout layout() const noexcept override { return Layout::safetensors; }
  [[nodiscard]] Result<ByteBuffer> read_raw_header() const override;

 private:
  [[nodiscard]] Result<void> judge(const ContainerOptions& options);
  [[nodiscard]] std::vector<SealTensor> seal_tensors();
  void apply(const SealVerdict& verdict);
  void take_sealed_texts();
  void read_unsealed_aliases();
  [[nodiscard]] const TensorInfo* find_tensor(std::string_view name);

  std::optional<Header> header_;              // its tensors and names are those of contents()
  std::optional<JsonDocument> sidecar_json_;  // owns the texts of seal_pairs_ of a sidecar
  std::vector<MetadataPair> seal_pairs_;      // the flatbed.* pairs, of the file or its sidecar
};

}  // namespace flatbed::safetensors
