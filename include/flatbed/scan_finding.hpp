// The findings of a scan: plain data for every layer. The scan itself is in scan.hpp.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "flatbed/export.hpp"

namespace flatbed {

// From best to worst.
enum class ScanVerdict : std::uint8_t {
  plain,      // only what torch.load(weights_only=True) allows
  unknown,    // other classes or functions, or something that cannot be judged
  dangerous,  // runs commands or code, or reaches files, the network or other modules' attributes
};

enum class ScanKind : std::uint8_t {
  imported,     // a class or function is imported but not called in the pickle
  called,       // a class or function is called, or objects of it are made
  computed,     // the file does not determine what is imported or called
  changed,      // an imported class, function or module is changed
  opcode,       // opcodes that torch.load(weights_only=True) refuses
  malformed,    // forms that no pickler writes; readers may disagree on them
  unseen,       // bytes that could not be followed and may hold anything
  hidden,       // pickles in an unexpected place
  trailing,     // bytes after the end
  container,    // an archive that readers interpret differently
  torchscript,  // code that torch.jit.load runs
  code,         // a file of code, which Python or the system runs
};

inline constexpr std::array<std::string_view, 3> kScanVerdictNames{"plain", "unknown", "dangerous"};
inline constexpr std::array<std::string_view, 12> kScanKindNames{
    "imported", "called", "computed", "changed",   "opcode",      "malformed",
    "unseen",   "hidden", "trailing", "container", "torchscript", "code"};
static_assert(kScanKindNames.size() == static_cast<std::size_t>(ScanKind::code) + 1);

[[nodiscard]] constexpr std::string_view name(ScanVerdict verdict) noexcept {
  return kScanVerdictNames[static_cast<std::size_t>(verdict)];
}
[[nodiscard]] constexpr std::string_view name(ScanKind kind) noexcept {
  return kScanKindNames[static_cast<std::size_t>(kind)];
}

// One name, or one kind of irregularity, in one record. Texts from the file are not escaped in
// `module`, `qualname` and `record`, but they are in `text`.
struct ScanFinding {
  ScanVerdict severity = ScanVerdict::unknown;
  ScanKind kind = ScanKind::called;
  std::string module = {};    // Python 3's name; empty if the finding is not about a name
  std::string qualname = {};  // of the class or function in the module
  std::string record = {};    // in an archive; empty for the file itself
  std::uint64_t offset = 0;   // of the first place, in the record; for `container`, in the file
  std::uint64_t opcode = 0;   // the number of the opcode in its pickle, from 0
  std::uint64_t count = 1;    // number of places
  std::uint32_t file = 0;     // index into ScanReport::files
  std::string text = {};      // the reason, in half a sentence
};

}  // namespace flatbed
