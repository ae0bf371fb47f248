// Case is a line of the corpus' manifest. judge() compares flatbed's result for its file with it.
// Pure but for the file that is read.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace flatbed::corpus {

struct WantedTensor {
  std::string name, dtype;
  std::vector<std::uint64_t> shape;
  std::string hex;  // of its bytes
};

struct Case {
  std::string id, file;
  std::uint64_t nbytes = 0;
  std::string expect;             // "ok", or the name of an error code
  std::vector<std::string> says;  // parts that the message must contain
  std::string tree;               // for a valid file: what show() makes of its object
  bool has_tensors = false;
  std::vector<WantedTensor> tensors;  // of a valid file, by name
};

// False: the manifest is not there or not one; it has been said on standard output.
[[nodiscard]] bool read_manifest(const std::string& path, std::vector<Case>& cases);

// Empty if the result is as the line says.
[[nodiscard]] std::string judge(const Case& one, const std::string& folder);

}  // namespace flatbed::corpus
