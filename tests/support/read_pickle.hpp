// read_bytes(): the bytes of a legacy stream or a pickle, opened as a file; contents(): those of
// one tensor in it.
#pragma once

#include <string>
#include <string_view>

#include "base/bytes.hpp"
#include "io/file.hpp"
#include "support/bytes_source.hpp"
#include "torch/torch_pickle.hpp"
#include "torch/torch_reader.hpp"

namespace flatbed::pth {

inline Result<TorchFile> read_bytes(std::string_view bytes) {
  const test::BytesSource file{std::string(bytes)};
  return read_torch_pickle(file);
}

// The bytes of a tensor, or the error's name.
inline std::string contents(const std::string& bytes, std::size_t number) {
  const test::BytesSource file{std::string(bytes)};
  const Result<TorchFile> torch = read_torch_pickle(file);
  if (!torch) return std::string(name(torch.error().code));
  const TorchTensor& tensor = torch->tensors[number];
  std::string out(tensor.nbytes, '?');
  if (tensor.storage == kNoStorage) return std::string(as_text(held_bytes(*torch, tensor)));
  TorchReader reader(file, *torch);
  static_cast<void>(reader.read(tensor, 0, std::as_writable_bytes(std::span(out))).value());
  return out;
}

}  // namespace flatbed::pth
