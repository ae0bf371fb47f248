// plan_zip(): the structure of the file that save_torch() writes for a plan, which is everything
// but the bytes of the storages. compare_torch_output() compares it with that of a file that
// exists.
//
//   archive/data.pkl, archive/byteorder, archive/data/0, archive/data/1, ..., archive/version
#pragma once

#include <cstddef>
#include <string_view>
#include <vector>

#include "archive/zip_writer.hpp"
#include "flatbed/result.hpp"
#include "flatbed/save_torch.hpp"
#include "torch/pickle_writer.hpp"

namespace flatbed {

struct PlannedZip {
  static constexpr std::size_t kFirstData = 2;  // the entries before the first storage
  static constexpr std::string_view kByteOrder = "little";
  static constexpr std::string_view kVersion = "3\n";

  pth::TorchPickle pickle;
  pth::ZipLayout layout;
};

// `written` has a place for each item of the plan, and gets a mark for each whose contents the
// pickle holds. Errors: those of save_torch() for a plan that no such file can hold.
[[nodiscard]] Result<PlannedZip> plan_zip(const SavePlan& plan, const SaveTorchOptions& options,
                                          std::vector<bool>& written);

}  // namespace flatbed
