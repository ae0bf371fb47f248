// Pickles written opcode by opcode, so that tests can also write what no pickler writes. Each
// function gives the bytes that leave one value on the stack; strings of them concatenate. Pure
// functions.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

namespace flatbed::test {

// `size` bytes, little endian.
inline std::string le(std::uint64_t value, int size) {
  std::string out;
  for (int i = 0; i < size; ++i) out += static_cast<char>(value >> (8 * i) & 0xFF);
  return out;
}

namespace pickle {

inline std::string text(std::string_view value) {
  return "X" + le(value.size(), 4) + std::string(value);
}

inline std::string integer(std::int64_t value) {
  return "\x8a\x08" + le(static_cast<std::uint64_t>(value), 8);  // LONG1
}

inline std::string global(std::string_view module, std::string_view name) {
  return "c" + std::string(module) + "\n" + std::string(name) + "\n";
}

inline std::string join(const std::vector<std::string>& values) {
  std::string out;
  for (const std::string& value : values) out += value;
  return out;
}

inline std::string tuple(const std::vector<std::string>& items) { return "(" + join(items) + "t"; }
inline std::string list(const std::vector<std::string>& items) { return "](" + join(items) + "e"; }
inline std::string dict(const std::vector<std::string>& keys_and_values) {
  return "}(" + join(keys_and_values) + "u";
}

inline std::string counts(const std::vector<std::int64_t>& values) {
  std::string out = "(";
  for (const std::int64_t value : values) out += integer(value);
  return out + "t";
}

inline std::string call(std::string_view callable, std::string_view arguments) {
  return std::string(callable) + std::string(arguments) + "R";
}

inline std::string ordered_dict() { return call(global("collections", "OrderedDict"), ")"); }

// Protocol 2, then STOP.
inline std::string finish(std::string_view body) { return "\x80\x02" + std::string(body) + "."; }

struct Storage {
  std::string type = global("torch", "FloatStorage");
  std::string key = text("0");
  std::string location = text("cpu");
  std::string count = integer(6);
};
inline std::string storage(const Storage& s = {}) {
  return tuple({text("storage"), s.type, s.key, s.location, s.count}) + "Q";
}

struct Tensor {
  std::string storage = pickle::storage();
  std::string offset = integer(0);
  std::string sizes = counts({2, 3});
  std::string strides = counts({3, 1});
  std::string requires_grad = "\x89";
  std::string hooks = ordered_dict();
  std::string metadata = {};  // also the dtype of version 3
  std::string function = global("torch._utils", "_rebuild_tensor_v2");
};
inline std::string tensor(const Tensor& t = {}) {
  return call(t.function, tuple({t.storage, t.offset, t.sizes, t.strides, t.requires_grad, t.hooks,
                                 t.metadata}));
}

}  // namespace pickle
}  // namespace flatbed::test
