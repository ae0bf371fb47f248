// What a scan of a file can find: plain data for every layer. scan.hpp has the scan itself.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "flatbed/export.hpp"

namespace flatbed {

// From good to bad.
enum class ScanVerdict : std::uint8_t {
  plain,      // nothing but what torch.load(weights_only=True) allows
  unknown,    // other classes or functions, or what cannot be judged
  dangerous,  // what runs commands or code, reaches files, the network or other modules' attributes
};

enum class ScanKind : std::uint8_t {
  imported,     // a class or function is imported, and not called in the pickle
  called,       // a class or function is called, or objects of it are made
  computed,     // what is imported or called cannot be told from the file
  changed,      // an imported class, function or module is changed
  opcode,       // opcodes that torch.load(weights_only=True) refuses
  malformed,    // what no pickler writes: readers may differ in what they make of it
  unseen,       // bytes that could not be followed, and may hold anything
  hidden,       // pickles where none is expected
  trailing,     // bytes after the end
  container,    // an archive that readers read in different ways
  torchscript,  // code that torch.jit.load runs
};

inline constexpr std::array<std::string_view, 3> kScanVerdictNames{"plain", "unknown", "dangerous"};
inline constexpr std::array<std::string_view, 11> kScanKindNames{
    "imported", "called", "computed", "changed",   "opcode",     "malformed",
    "unseen",   "hidden", "trailing", "container", "torchscript"};
static_assert(kScanKindNames.size() == static_cast<std::size_t>(ScanKind::torchscript) + 1);

[[nodiscard]] constexpr std::string_view name(ScanVerdict verdict) noexcept {
  return kScanVerdictNames[static_cast<std::size_t>(verdict)];
}
[[nodiscard]] constexpr std::string_view name(ScanKind kind) noexcept {
  return kScanKindNames[static_cast<std::size_t>(kind)];
}

// One name, or one kind of oddity, of one record. Texts from the file are not escaped in `module`,
// `qualname` and `record`; in `text` they are.
struct ScanFinding {
  ScanVerdict severity = ScanVerdict::unknown;
  ScanKind kind = ScanKind::called;
  std::string module = {};    // as Python 3 calls it; empty: the finding is about no name
  std::string qualname = {};  // of the class or function in it
  std::string record = {};    // of an archive; empty: the file itself
  std::uint64_t offset = 0;   // of the first place, in the record; in the file for `container`
  std::uint64_t opcode = 0;   // which opcode of its pickle that is, from 0 on
  std::uint64_t count = 1;    // places
  std::uint32_t file = 0;     // index into ScanReport::files
  std::string text = {};      // why, in half a sentence
};

}  // namespace flatbed
