// BlockCache: blocks of remote files in a folder, shared by all processes that name it.
//
//   <dir>/3f/3f9a...e1/1c          block 28 of the file that is 3f9a...e1
//   <dir>/lock                     held by whoever removes blocks
//
//   bytes  0..7   "FBCACHE1"
//          8..15  u64 XXH3-64 of what follows, with the number of the block as its seed
//         16..    the block: 1 MiB, less at the end of the file
//
// A file is known by its URL without a signature, its ETag and its size, which are hashed
// (SHA-256): neither URLs nor credentials are in the folder. A block is written under a temporary
// name and then renamed, and checked each time it is read; one that is damaged or short is removed
// and counts as missing. When there are more bytes than the limit, those that were not read for
// longest go, to nine tenths of it; between such times it may be exceeded by a sixteenth for each
// process. Other files in the folder are left alone.
// Failures to write, such as a full disk, are not errors: the block is not kept.
// Thread-safe.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "flatbed/result.hpp"

namespace flatbed::remote {

class BlockCache {
 public:
  static constexpr std::size_t kBlock = std::size_t{1} << 20;

  // Makes the folder, for its owner alone. Errors: permission_denied, not_a_regular_file (no
  // folder), io_error.
  [[nodiscard]] static Result<std::unique_ptr<BlockCache>> open(const std::filesystem::path& folder,
                                                                std::uint64_t most_nbytes);

  // What the file is called here. Errors: resource_exhausted.
  [[nodiscard]] static Result<std::string> key_of(std::string_view url, std::string_view etag,
                                                  std::uint64_t nbytes);

  // Fills all of `out`, which has the size of the block. False: it is not here.
  [[nodiscard]] bool load(const std::string& key, std::uint64_t block,
                          std::span<std::byte> out) const;
  void store(const std::string& key, std::uint64_t block, std::span<const std::byte> bytes);
  void drop(const std::string& key, std::uint64_t block) const;

  // Of the blocks that were loaded.
  [[nodiscard]] std::uint64_t loaded_nbytes() const noexcept { return loaded_; }

 private:
  BlockCache(std::filesystem::path folder, std::uint64_t most_nbytes)
      : folder_(std::move(folder)), most_nbytes_(most_nbytes) {}
  [[nodiscard]] std::filesystem::path path_of(const std::string& key, std::uint64_t block) const;
  void make_room();

  std::filesystem::path folder_;
  std::uint64_t most_nbytes_;
  mutable std::atomic<std::uint64_t> loaded_ = 0;
  std::atomic<std::uint64_t> names_ = 0;      // of temporary files
  std::atomic<std::uint64_t> unchecked_ = 0;  // bytes that were stored since make_room()
  std::mutex making_room_;
};

}  // namespace flatbed::remote
