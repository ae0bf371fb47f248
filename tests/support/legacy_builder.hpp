// Legacy streams and tars in the form that torch wrote, in which every part can be made to lie.
// Parts left alone are right. Pure functions.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "support/pickle_asm.hpp"

namespace flatbed::test {

// A persistent id of a legacy stream: that of pickle_asm.hpp and the view.
inline std::string legacy_storage(const pickle::Storage& s = {}, const std::string& view = "N") {
  return pickle::tuple({pickle::text("storage"), s.type, s.key, s.location, s.count, view}) + "Q";
}

inline std::string legacy_tensor(pickle::Tensor t = {.storage = legacy_storage()}) {
  return pickle::tensor(t);
}

struct LegacyStorage {
  std::string key = "0";
  std::int64_t count = 6;
  std::string data = std::string(24, '\1');
};

struct LegacyStream {
  std::string magic = pickle::finish("\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19");
  std::string protocol = pickle::finish("M\xe9\x03");
  std::string machine = pickle::finish(pickle::dict({pickle::text("little_endian"), "\x88"}));
  std::string object = pickle::finish(legacy_tensor());
  std::vector<LegacyStorage> storages = {{}};
  std::optional<std::string> keys = {};  // the list, if it differs from that of the storages
};

inline std::string legacy_stream(const LegacyStream& stream = {}) {
  std::vector<std::string> keys;
  std::string data;
  for (const LegacyStorage& storage : stream.storages) {
    keys.push_back(pickle::text(storage.key));
    data += le(static_cast<std::uint64_t>(storage.count), 8) + storage.data;
  }
  return stream.magic + stream.protocol + stream.machine + stream.object +
         stream.keys.value_or(pickle::finish(pickle::list(keys))) + data;
}

// A call of torch.storage._load_from_bytes.
inline std::string load_from_bytes(std::string_view bytes) {
  return pickle::call(pickle::global("torch.storage", "_load_from_bytes"),
                      "B" + le(bytes.size(), 4) + std::string(bytes) + "\x85");
}

// One storage as pickle.dump writes it: a stream whose object is the storage.
inline std::string nested_storage(const LegacyStorage& storage = {}) {
  return legacy_stream(
      {.object = pickle::finish(legacy_storage(
           {.key = pickle::text(storage.key), .count = pickle::integer(storage.count)})),
       .storages = {storage}});
}

struct TarItem {
  std::string name = {};
  std::string data = {};
  char kind = '0';
  std::optional<std::string> size = {};  // the 12 bytes of the field
  std::optional<std::string> sum = {};   // the 8 bytes of the field
  std::string magic = std::string("ustar\0", 6) + "00";
  std::string prefix = {};
};

inline std::string octal(std::uint64_t value, std::size_t digits) {
  std::string out(digits, '0');
  for (std::size_t i = digits; i-- > 0; value /= 8) out[i] = static_cast<char>('0' + value % 8);
  return out + '\0';
}

inline std::string tar_header(const TarItem& item) {
  std::string block(512, '\0');
  block.replace(0, item.name.size(), item.name);
  block.replace(124, 12, item.size.value_or(octal(item.data.size(), 11)));
  block.replace(148, 8, std::string(8, ' '));
  block[156] = item.kind;
  block.replace(257, 8, item.magic);
  block.replace(345, item.prefix.size(), item.prefix);
  std::uint64_t sum = 0;
  for (const char c : block) sum += static_cast<unsigned char>(c);
  block.replace(148, 8, item.sum.value_or(octal(sum, 6) + ' '));
  return block;
}

inline std::string build_tar(const std::vector<TarItem>& items) {
  std::string out;
  for (const TarItem& item : items)
    out += tar_header(item) + item.data + std::string((512 - item.data.size() % 512) % 512, '\0');
  return out + std::string(1024, '\0');
}

// The members of a tar of torch.save; the object is tensor 101: [2,3] on storage 1.
struct TorchTar {
  std::string machine =
      pickle::finish(pickle::dict({pickle::text("protocol_version"), "M\xe8\x03"}));
  std::string object = pickle::finish(pickle::text("101") + "Q");
  std::string tensors;
  std::string storages;
};

// A row of a table: (key, second, class).
inline std::string tar_row(std::int64_t key, const std::string& second, std::string_view type) {
  return pickle::finish(
      pickle::tuple({pickle::integer(key), second, pickle::global("torch", type)}));
}

inline std::string tar_count(std::int64_t count) { return pickle::finish(pickle::integer(count)); }

inline std::string tar_tensor(std::int64_t key, std::int64_t storage,
                              const std::vector<std::int64_t>& sizes_strides_offset) {
  std::string out = tar_row(key, pickle::integer(storage), "FloatTensor") +
                    le((sizes_strides_offset.size() - 1) / 2, 8);
  for (const std::int64_t number : sizes_strides_offset)
    out += le(static_cast<std::uint64_t>(number), 8);
  return out;
}

inline std::string tar_storage(std::int64_t key, std::int64_t count, const std::string& data) {
  return tar_row(key, pickle::text("cpu"), "FloatStorage") +
         le(static_cast<std::uint64_t>(count), 8) + data;
}

inline TorchTar torch_tar_parts() {
  TorchTar tar;
  tar.tensors = tar_count(1) + tar_tensor(101, 1, {2, 3, 3, 1, 0});
  tar.storages =
      tar_count(1) + tar_storage(1, 6, std::string(24, '\1')) + pickle::finish(pickle::list({}));
  return tar;
}

inline std::string torch_tar(const TorchTar& tar = torch_tar_parts()) {
  return build_tar({{.name = "sys_info", .data = tar.machine},
                    {.name = "pickle", .data = tar.object},
                    {.name = "tensors", .data = tar.tensors},
                    {.name = "storages", .data = tar.storages}});
}

}  // namespace flatbed::test
