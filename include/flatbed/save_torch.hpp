// save_torch(): the same plans that save() writes, as the zip files that torch.save writes.
//
//   FLATBED_ASSIGN(const SavePlan plan, make_plan(checkpoint));
//   FLATBED_ASSIGN(const SaveTorchReport report, save_torch("out.pth", plan));
//
// torch 1.13 and later load them, with weights_only=True and mmap=True where they have it. Tensors
// that are one, or share their bytes, do so again. The plan's tree is the object that torch.load
// gives; without one it is a dict of all names and aliases. Metadata has no place in such files.
// Written without a name, synced and then given its name, as by save(); memory is bounded in the
// same way, by 64 MiB and 1 KiB per tensor, beside the pickle itself.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "flatbed/byte_sink.hpp"
#include "flatbed/export.hpp"
#include "flatbed/save.hpp"
#include "flatbed/unsafe_objects.hpp"

namespace flatbed {

struct SaveTorchOptions {
  SaveOptions file;  // seal and allow_large_header say nothing here
  UnsafeObjects unsafe_objects = UnsafeObjects::refuse;
  // true: keep the device of every tensor; false: save it on the cpu, so that any machine can load
  // the file.
  bool keep_device = false;
};

struct SaveTorchReport {
  SaveReport file;
  std::vector<std::string> notes;  // what was converted or left out, one sentence each
  // Tensors in the file, and the size of their contents. Both are lower than in the plan if an
  // object that held tensors was converted.
  std::uint64_t tensors = 0;
  std::uint64_t tensor_nbytes = 0;
};

// Blocking. May be called from several threads for different targets. Errors: those of save(),
// weights_only_refused, not_in_torch (a dtype or name that PyTorch does not have),
// tree_not_representable (a tuple that contains itself, a dict with keys that are equal in Python),
// limit_exceeded; these name the place in the tree.
[[nodiscard]] FLATBED_EXPORT Result<SaveTorchReport> save_torch(
    const std::filesystem::path& path, const SavePlan& plan, const SaveTorchOptions& options = {});

// The same into a sink, where the file is there when commit() has succeeded. Its layout has_gaps.
// `replace` and `sync` say nothing here, and durability is the sink's. A dry run calls begin()
// alone. Errors: as above, those of the sink.
[[nodiscard]] FLATBED_EXPORT Result<SaveTorchReport> save_torch(
    ByteSink& sink, const SavePlan& plan, const SaveTorchOptions& options = {});

}  // namespace flatbed
