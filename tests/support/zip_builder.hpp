// Zip files in the form that torch writes, in which every field can be made to lie. Fields left
// alone are right.
#pragma once

#include <zlib.h>

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "support/pickle_asm.hpp"

namespace flatbed::test {

// The wrong fields of one of an entry's two headers.
struct ZipHeader {
  std::optional<std::string> name = {};
  std::optional<std::uint16_t> flags = {}, method = {}, disk = {};
  std::optional<std::uint32_t> crc = {}, stored_nbytes = {}, nbytes = {}, offset = {},
                               signature = {};
  std::string extra = {};
};

struct ZipItem {
  std::string name = {};
  std::string data = {};  // as stored
  std::uint16_t flags = 0x0808;
  std::uint16_t method = 0;
  std::optional<std::uint64_t> nbytes = {};  // when inflated
  std::optional<std::uint32_t> crc = {};     // when inflated
  ZipHeader local = {}, central = {};
  bool zeros = true;   // local crc and sizes 0, with a descriptor after the data
  bool padded = true;  // data at a multiple of 64
  bool listed = true;  // false: not in the central directory
  std::optional<std::string> descriptor = {};
};

struct ZipEnding {
  bool zip64 = true;
  // Of the end record, of the zip64 one, and in the locator of that.
  std::optional<std::uint64_t> count = {}, directory_nbytes = {}, directory_offset = {};
  std::optional<std::uint64_t> count64 = {}, directory_nbytes64 = {}, directory_offset64 = {},
                               size64 = {};
  std::optional<std::uint64_t> end64_offset = {};
  std::uint16_t disk = 0;
  std::optional<std::uint16_t> comment_nbytes = {};
  std::string comment = {};
  std::string before_end = {};  // between the directory and the end records
  std::string after = {};       // after the comment
};

inline std::string deflated(const std::string& data) {
  z_stream stream{};
  deflateInit2(&stream, 9, Z_DEFLATED, -MAX_WBITS, 9, Z_DEFAULT_STRATEGY);
  std::string out(deflateBound(&stream, data.size()), '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(data.data()));
  stream.avail_in = static_cast<uInt>(data.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  deflate(&stream, Z_FINISH);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return out;
}

inline std::uint32_t crc_of(const std::string& data) {
  return static_cast<std::uint32_t>(
      crc32(0, reinterpret_cast<const Bytef*>(data.data()), static_cast<uInt>(data.size())));
}

inline ZipItem deflated_item(const std::string& name, const std::string& data) {
  return {.name = name,
          .data = deflated(data),
          .method = 8,
          .nbytes = data.size(),
          .crc = crc_of(data)};
}

namespace zip_internal {

inline std::uint32_t crc_of(const ZipItem& item) {
  return item.crc ? *item.crc : test::crc_of(item.data);
}

inline std::string local_header(const ZipItem& item, std::size_t at) {
  const std::string name = item.local.name.value_or(item.name);
  std::string extra = item.local.extra;
  if (item.padded) {
    const std::size_t end = at + 30 + name.size() + extra.size() + 4;
    const std::size_t padding = (64 - end % 64) % 64;
    extra += "FB" + le(padding, 2) + std::string(padding, 'Z');
  }
  const bool zeros = item.zeros;
  const std::uint64_t nbytes = item.nbytes.value_or(item.data.size());
  return le(item.local.signature.value_or(0x04034B50), 4) + le(0, 2) +
         le(item.local.flags.value_or(item.flags), 2) +
         le(item.local.method.value_or(item.method), 2) + le(0, 4) +
         le(item.local.crc.value_or(zeros ? 0 : crc_of(item)), 4) +
         le(item.local.stored_nbytes.value_or(zeros ? 0
                                                    : static_cast<std::uint32_t>(item.data.size())),
            4) +
         le(item.local.nbytes.value_or(zeros ? 0 : static_cast<std::uint32_t>(nbytes)), 4) +
         le(name.size(), 2) + le(extra.size(), 2) + name + extra;
}

inline std::string central_header(const ZipItem& item, std::size_t offset) {
  const std::string name = item.central.name.value_or(item.name);
  const std::uint64_t nbytes = item.nbytes.value_or(item.data.size());
  return le(item.central.signature.value_or(0x02014B50), 4) + le(0, 4) +
         le(item.central.flags.value_or(item.flags), 2) +
         le(item.central.method.value_or(item.method), 2) + le(0, 4) +
         le(item.central.crc.value_or(crc_of(item)), 4) +
         le(item.central.stored_nbytes.value_or(static_cast<std::uint32_t>(item.data.size())), 4) +
         le(item.central.nbytes.value_or(static_cast<std::uint32_t>(nbytes)), 4) +
         le(name.size(), 2) + le(item.central.extra.size(), 2) + le(0, 2) +
         le(item.central.disk.value_or(0), 2) + le(0, 6) +
         le(item.central.offset.value_or(static_cast<std::uint32_t>(offset)), 4) + name +
         item.central.extra;
}

}  // namespace zip_internal

inline std::string build_zip(const std::vector<ZipItem>& items, const ZipEnding& ending = {}) {
  std::string file, directory;
  std::uint64_t count = 0;
  for (const ZipItem& item : items) {
    if (item.listed) {
      directory += zip_internal::central_header(item, file.size());
      ++count;
    }
    file += zip_internal::local_header(item, file.size()) + item.data;
    if (item.descriptor)
      file += *item.descriptor;
    else if (item.zeros)
      file += le(0x08074B50, 4) + le(zip_internal::crc_of(item), 4) + le(item.data.size(), 4) +
              le(item.nbytes.value_or(item.data.size()), 4);
  }
  const std::uint64_t directory_offset = file.size();
  file += directory + ending.before_end;
  if (ending.zip64) {
    const std::uint64_t count64 = ending.count64.value_or(count);
    const std::uint64_t end64 = file.size();
    file += le(0x06064B50, 4) + le(ending.size64.value_or(44), 8) + le(0x031E, 2) + le(0x2D, 2) +
            le(0, 8) + le(count64, 8) + le(count64, 8) +
            le(ending.directory_nbytes64.value_or(directory.size()), 8) +
            le(ending.directory_offset64.value_or(directory_offset), 8);
    file += le(0x07064B50, 4) + le(0, 4) + le(ending.end64_offset.value_or(end64), 8) + le(1, 4);
  }
  file += le(0x06054B50, 4) + le(ending.disk, 2) + le(ending.disk, 2) +
          le(ending.count.value_or(count), 2) + le(ending.count.value_or(count), 2) +
          le(ending.directory_nbytes.value_or(directory.size()), 4) +
          le(ending.directory_offset.value_or(directory_offset), 4) +
          le(ending.comment_nbytes.value_or(static_cast<std::uint16_t>(ending.comment.size())), 2) +
          ending.comment;
  return file + ending.after;
}

struct TorchZip {
  std::string pickle = pickle::finish(pickle::tensor());
  std::vector<std::pair<std::string, std::string>> storages = {{"0", std::string(24, '\1')}};
  std::string folder = "archive";
  std::optional<std::string> byteorder = "little";
  std::optional<std::string> version = "3\n";
};

// The records that torch.save writes, in its order.
inline std::vector<ZipItem> torch_items(const TorchZip& zip = {}) {
  std::vector<ZipItem> items;
  items.push_back({.name = zip.folder + "/data.pkl", .data = zip.pickle});
  if (zip.byteorder) items.push_back({.name = zip.folder + "/byteorder", .data = *zip.byteorder});
  for (const auto& [key, data] : zip.storages)
    items.push_back({.name = zip.folder + "/data/" + key, .data = data});
  if (zip.version) items.push_back({.name = zip.folder + "/version", .data = *zip.version});
  return items;
}

inline std::string torch_zip(const TorchZip& zip = {}) { return build_zip(torch_items(zip)); }

}  // namespace flatbed::test
