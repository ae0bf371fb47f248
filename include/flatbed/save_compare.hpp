// compare_output(): what a path holds, compared with what a save would write there. A program that
// asks first can run twice without doing the work twice, and never replaces an unrelated file.
//
//   FLATBED_ASSIGN(const SavePlan plan, make_plan(checkpoint));
//   FLATBED_ASSIGN(const OutputState found, compare_output(path, plan));
//   if (found.kind == OutputKind::up_to_date) return {};
//   FLATBED_TRY(save(path, plan, {.replace = false}));  // file_exists if something else is there
//
// Nothing is written, and times of files decide nothing. A symbolic link counts as what it leads
// to, and one that leads nowhere is `different`.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>

#include "flatbed/byte_source.hpp"
#include "flatbed/export.hpp"
#include "flatbed/result.hpp"
#include "flatbed/save.hpp"
#include "flatbed/save_plan.hpp"
#include "flatbed/save_torch.hpp"

namespace flatbed {

enum class OutputKind : std::uint8_t {
  absent,      // nothing has the name
  up_to_date,  // the size and the structure are equal, and so are the bytes that were compared
  different,
};

struct OutputState {
  OutputKind kind = OutputKind::absent;
  std::string difference;    // if different: the first one found, "found 8 bytes, expected 4160"
  std::uint64_t nbytes = 0;  // if up to date: size of the file
  std::string content;       // if up to date and sealed: the content digest
};

// How much tensor data to compare. sampled: at most 256 chunks of 256 KiB, spread over the tensors,
// which is everything in a small file.
enum class CompareData : std::uint8_t { sampled, all };

// Compares with what save(path, plan, options) would write: the header must be equal except for the
// digests, and the digests must match the header, the sealed sources and the chunks that are
// compared. Blocking. May be called from several threads. Uses seal, allow_large_header, threads
// and cancel of the options, and `progress` if all data is compared. Errors: those of save() for
// the plan and its sources, not_a_regular_file (a directory or a device has the name), cancelled.
[[nodiscard]] FLATBED_EXPORT Result<OutputState> compare_output(
    const std::filesystem::path& path, const SavePlan& plan, const SaveOptions& options = {},
    CompareData data = CompareData::sampled);

// The same for a file that is not local and was found to exist: never `absent`.
[[nodiscard]] FLATBED_EXPORT Result<OutputState> compare_output(
    std::shared_ptr<const ByteSource> file, const SavePlan& plan, const SaveOptions& options = {},
    CompareData data = CompareData::sampled);

// The same for save_torch(): every byte besides those of the storages must be equal, and the CRCs
// of the storages that are compared whole must match.
[[nodiscard]] FLATBED_EXPORT Result<OutputState> compare_torch_output(
    const std::filesystem::path& path, const SavePlan& plan, const SaveTorchOptions& options = {},
    CompareData data = CompareData::sampled);

// The same for a file that is not local and was found to exist: never `absent`.
[[nodiscard]] FLATBED_EXPORT Result<OutputState> compare_torch_output(
    std::shared_ptr<const ByteSource> file, const SavePlan& plan,
    const SaveTorchOptions& options = {}, CompareData data = CompareData::sampled);

// The same for save_sidecar(path): whether the sidecar of `path` seals the file as it is. If it
// does not match the file, the file may be damaged, and a new sidecar would hide that.
[[nodiscard]] FLATBED_EXPORT Result<OutputState> compare_sidecar(
    const std::filesystem::path& path, const SaveOptions& options = {},
    CompareData data = CompareData::sampled);

}  // namespace flatbed
