// Deflated records of blocks that are stored: a test knows which of their bytes are data, and which
// belong to the header of a block, without which nothing after it inflates.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>

#include "support/pickle_asm.hpp"
#include "support/zip_builder.hpp"

namespace flatbed::test {

// | last block? | size | inverted size | data | and so on
constexpr std::size_t kStoredBlockNbytes = 65'535;
constexpr std::size_t kStoredBlockHeader = 5;

inline std::string stored_blocks(const std::string& data) {
  std::string out;
  for (std::size_t at = 0; at < data.size(); at += kStoredBlockNbytes) {
    const std::size_t nbytes = std::min(kStoredBlockNbytes, data.size() - at);
    out += at + nbytes == data.size() ? '\1' : '\0';
    out += le(nbytes, 2) + le(nbytes ^ 0xFFFF, 2);
    out.append(data, at, nbytes);
  }
  return out;
}

// Where the stream has the size of the block that holds this byte of the data, and the byte itself.
inline std::uint64_t stored_block_size_at(std::uint64_t byte) {
  return byte / kStoredBlockNbytes * (kStoredBlockNbytes + kStoredBlockHeader) + 1;
}
inline std::uint64_t stored_byte_at(std::uint64_t byte) {
  return byte + (byte / kStoredBlockNbytes + 1) * kStoredBlockHeader;
}

inline ZipItem stored_blocks_item(const std::string& name, const std::string& data) {
  return {.name = name,
          .data = stored_blocks(data),
          .method = 8,
          .nbytes = data.size(),
          .crc = crc_of(data)};
}

}  // namespace flatbed::test
