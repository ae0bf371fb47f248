// plan_header(): the header that save() writes for a plan, with zeros for its digests.
// compare_output() compares it with that of a file that exists.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "flatbed/result.hpp"
#include "flatbed/save.hpp"
#include "safetensors/header_write.hpp"

namespace flatbed {

// Borrows the names and shapes of the plan. Move-only.
struct PlannedHeader {
  // The values of the flatbed.* keys that the plan requires, and of flatbed.series, which the
  // caller adds; empty for a key that is not written.
  struct Texts {
    std::string tree;
    std::string aliases;
    std::string series;
  };

  std::unique_ptr<const Texts> texts;  // borrowed by `metadata`
  std::vector<safetensors::SealTensor> tensors;
  std::vector<safetensors::MetadataPair> metadata;
  safetensors::NewHeader header;
};

// Errors: those of save() for a plan that no file can hold.
[[nodiscard]] Result<PlannedHeader> plan_header(const SavePlan& plan, const SaveOptions& options);

// The two steps of it, for a file that speaks for other files too: its tree and aliases are those
// of `whole`, and its tensors are those of `plan`.
[[nodiscard]] Result<PlannedHeader::Texts> plan_texts(const SavePlan& whole,
                                                      const SaveOptions& options);
[[nodiscard]] Result<PlannedHeader> plan_header(const SavePlan& plan, PlannedHeader::Texts texts,
                                                const SaveOptions& options);

}  // namespace flatbed
