// show(): a value as text, for expectations written by hand; and the ways in which these tests read
// bytes.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "base/bytes.hpp"
#include "base/str_cat.hpp"
#include "flatbed/value.hpp"
#include "support/bytes_source.hpp"
#include "torch/torch_file.hpp"
#include "torch/torch_objects.hpp"
#include "torch/unpickler.hpp"

namespace flatbed::pth {

// Python's notation where there is one; objects as callable(arguments)+[appended]{pairs}|state,
// tensors as T<number>.
inline std::string show(Value value, int depth = 0);

namespace show_internal {

inline std::string items(Value value, int depth) {
  std::string out;
  for (std::size_t i = 0; i < value.size(); ++i)
    out += (i == 0 ? "" : ", ") + show(value.item(i), depth + 1);
  return out;
}

inline std::string pairs(Value value, int depth) {
  std::string out = "{";
  for (std::size_t i = 0; i < value.size(); ++i)
    out += (i == 0 ? "" : ", ") + show(value.key(i), depth + 1) + ": " +
           show(value.item(i), depth + 1);
  return out + "}";
}

inline std::string object(Value value, int depth) {
  std::string out = show(value.callable(), depth + 1) + show(value.arguments(), depth + 1);
  if (value.appended_size() != 0) {
    out += "+[";
    for (std::size_t i = 0; i < value.appended_size(); ++i)
      out += (i == 0 ? "" : ", ") + show(value.appended(i), depth + 1);
    out += "]";
  }
  if (value.size() != 0) out += pairs(value, depth);
  if (value.state()) out += "|" + show(*value.state(), depth + 1);
  return out;
}

inline std::string tensor(Value value) {
  const TensorAttributes& attributes = value.attributes();
  std::string out = str_cat("T", *value.tensor());
  if (attributes.parameter) out += " parameter";
  if (attributes.requires_grad) out += " grad";
  if (!attributes.device.empty()) out += " " + attributes.device;
  if (!attributes.dtype.empty()) out += " " + attributes.dtype;
  if (attributes.stride)
    out += " stride" + shape_text(attributes.stride->data(), attributes.stride->size());
  if (attributes.shape)
    out += " shape" + shape_text(attributes.shape->data(), attributes.shape->size());
  if (attributes.quantizer != kNoNode) out += " quant" + show(value.node(attributes.quantizer));
  return out;
}

}  // namespace show_internal

inline std::string show(Value value, int depth) {
  if (depth > 20) return "...";
  switch (value.kind()) {
    case Kind::none:
      return "None";
    case Kind::boolean:
      return *value.as_bool() ? "True" : "False";
    case Kind::integer:
      return str_cat(*value.as_int());
    case Kind::big_integer:
      return str_cat("0x", value.text());
    case Kind::real:
      return std::to_string(*value.as_real());
    case Kind::string:
      return quoted(value.text());
    case Kind::bytes:
      return value.tensor() ? str_cat("b@T", *value.tensor()) : "b" + quoted(value.text());
    case Kind::list:
      return "[" + show_internal::items(value, depth) + "]";
    case Kind::tuple:
      return "(" + show_internal::items(value, depth) + ")";
    case Kind::dict:
      return show_internal::pairs(value, depth);
    case Kind::global:
      return str_cat(value.text(), ".", value.qualname());
    case Kind::object:
      return show_internal::object(value, depth);
    case Kind::tensor:
      return show_internal::tensor(value);
    case Kind::array:
      return str_cat("A", *value.tensor(), " ", value.text());
    case Kind::scalar:
      return str_cat(value.text(), " ", quoted(value.raw()));
  }
  return "?";
}

// The tree and tensors of a bare pickle. Storages have no records here.
inline Result<TorchFile> unpickle(std::string_view pickle, ByteOrder order = ByteOrder::little) {
  TorchFile out;
  TorchObjects objects(out, order);
  Unpickler unpickler(as_bytes(pickle), out.tree, objects);
  FLATBED_ASSIGN(const NodeId root, unpickler.run());
  out.tree.set_root(root);
  FLATBED_TRY(objects.finish());
  return out;
}

// What the pickle "protocol 2, body, STOP" holds, or the error's name.
inline std::string shown(std::string_view body) {
  const Result<TorchFile> file = unpickle("\x80\x02" + std::string(body) + ".");
  return file ? show(file->tree.root()) : std::string(name(file.error().code));
}

// read_torch_zip() of bytes.
inline Result<TorchFile> read_zip(std::string_view bytes) {
  return read_torch_zip(test::BytesSource(std::string(bytes)));
}

}  // namespace flatbed::pth
