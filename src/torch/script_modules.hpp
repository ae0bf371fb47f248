// TorchScript archives: reads the declarations in their code, and gives the modules in their pickle
// the form of a pickled nn.Module.
// torch's C++ pickler writes a module as an object whose state is one dict of all attributes. Only
// the class in code/ tells which of them are parameters and buffers. It is found by this rule:
//   global  __torch__.a.b.___torch_mangle_3 Net
//   record  code/__torch__/a/b/___torch_mangle_3.py, which has "class Net(Module):"
// None of that code is run. Not thread-safe.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "archive/zip_archive.hpp"
#include "flatbed/byte_source.hpp"
#include "flatbed/result.hpp"
#include "flatbed/value.hpp"
#include "torch/script_code.hpp"
#include "torch/torch_objects.hpp"

namespace flatbed::pth {

// Limit on all code that is read. The text is many times longer than its deflated form, but never
// as long as deflation allows.
inline constexpr std::uint64_t kMaxScriptCode = 1ULL << 28;
inline constexpr std::uint64_t kFreeScriptCode = 16 * 1024 * 1024;
inline constexpr std::uint64_t kMaxScriptCodeRatio = 64;

// The classes of an archive. Borrows the file and the archive. Each record is read once.
class ScriptCode {
 public:
  ScriptCode(const ByteSource& file, const ZipArchive& archive, std::string_view folder)
      : file_(file), archive_(archive), folder_(folder) {}

  // The class that a global of the tree names, or null if no readable record declares it. Valid as
  // long as this object. Errors: limit_exceeded, zip_deflate_malformed, and those of File::read_at.
  [[nodiscard]] Result<const ScriptClass*> find(Value global);

 private:
  [[nodiscard]] Result<void> read_module(std::string_view module);

  const ByteSource& file_;
  const ZipArchive& archive_;
  std::string folder_;
  std::uint64_t allowed_nbytes_ = kFreeScriptCode;
  std::set<std::string, std::less<>> modules_;                          // those already looked up
  std::map<std::pair<std::string, std::string>, ScriptClass> classes_;  // by module and name
  std::unordered_map<NodeId, const ScriptClass*> found_;                // by global
};

// Gives each module of the tree a state that begins with `_parameters`, `_buffers` and `_modules`
// (OrderedDicts, in the order of the attributes), followed by the other attributes. Objects of
// classes without a declaration stay as they are, and so do objects whose own code makes their
// state; notes count them. Errors: those of ScriptCode, pickle_duplicate_key.
[[nodiscard]] Result<void> arrange_modules(ScriptCode& code, TorchObjects& objects);

}  // namespace flatbed::pth
