// What a checkpoint has, in forms that a test can compare.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "flatbed/checkpoint.hpp"

namespace flatbed::test {

inline std::vector<std::string> names_of(const Checkpoint& checkpoint) {
  std::vector<std::string> out;
  for (const TensorInfo& tensor : checkpoint.tensors()) out.emplace_back(tensor.name);
  return out;
}

// The bytes of a tensor that is there and readable.
inline std::string bytes_of(const Checkpoint& checkpoint, std::string_view name) {
  const TensorInfo tensor = checkpoint.tensor(name).value();
  std::string out(tensor.nbytes, '\0');
  static_cast<void>(checkpoint.read(tensor, 0, std::as_writable_bytes(std::span(out))).value());
  return out;
}

}  // namespace flatbed::test
