// RemoteSource: a file on a server as a ByteSource. Shares the transport. Thread-safe.
//
// The first request reads the file's beginning, which is kept until megabytes are read from after
// it. Small reads elsewhere fetch a block around them, of which the last few are kept. Everything
// else is fetched as it is asked for, in several ranges at once where it is large.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "flatbed/byte_source.hpp"
#include "transport.hpp"

namespace flatbed::remote {

// Which file it is.
struct RemoteFile {
  Url url;
  std::string label;
  // For s3://: see Call.
  std::string credentials_name = {};
  std::string sigv4 = {};
};

class RemoteSource final : public ByteSource {
 public:
  // Errors: those of Transport::run(), preceded by the label.
  [[nodiscard]] static Result<std::shared_ptr<const RemoteSource>> open(
      std::shared_ptr<const Transport> transport, RemoteFile file);

  [[nodiscard]] std::string_view label() const noexcept override { return file_.label; }
  [[nodiscard]] std::uint64_t size() const noexcept override { return nbytes_; }
  [[nodiscard]] Result<void> read_at(std::uint64_t offset, std::span<std::byte> out) const override;
  [[nodiscard]] Result<void> read_parts(std::uint64_t offset,
                                        std::span<const std::span<std::byte>> parts) const override;
  // Of a file that is cached, or is in memory because the server knows no ranges, all at the end.
  [[nodiscard]] Result<void> read_with_progress(std::uint64_t offset,
                                                std::span<const std::span<std::byte>> parts,
                                                const ReadProgress& progress) const override;
  [[nodiscard]] std::size_t preferred_read_nbytes() const noexcept override;
  [[nodiscard]] unsigned max_rereads() const noexcept override { return 3; }
  [[nodiscard]] Result<void> reread_at(std::uint64_t offset,
                                       std::span<std::byte> out) const override;

  // Of the first answer, and of the redirects before it.
  [[nodiscard]] const Version& version() const noexcept { return version_; }
  [[nodiscard]] const AnswerHead& head() const noexcept { return head_; }
  [[nodiscard]] const std::vector<AnswerHead>& redirects() const noexcept { return redirects_; }

 private:
  // Bytes that are kept. Shared with those who copy from it.
  struct Block {
    std::uint64_t offset = 0;
    std::string bytes;
    [[nodiscard]] std::span<std::byte> memory() { return std::as_writable_bytes(std::span(bytes)); }
  };
  using BlockPointer = std::shared_ptr<const Block>;

  RemoteSource(std::shared_ptr<const Transport> transport, RemoteFile file)
      : transport_(std::move(transport)), file_(std::move(file)) {}
  [[nodiscard]] Result<void> open_file();
  [[nodiscard]] Call new_call() const;
  [[nodiscard]] BlockPointer find_block(std::uint64_t offset) const;
  void keep_block(BlockPointer block) const;
  void forget_blocks(std::uint64_t offset, std::uint64_t nbytes) const;
  // From blocks, one of which is fetched if need be, as far as one reaches.
  [[nodiscard]] Result<std::size_t> read_kept(std::uint64_t offset, std::span<std::byte> out,
                                              bool fetch_block) const;
  // These tell `progress` unless it is empty.
  [[nodiscard]] Result<void> read(std::uint64_t offset, std::span<const std::span<std::byte>> parts,
                                  const ReadProgress& progress) const;
  [[nodiscard]] Result<void> fetch_anew(std::uint64_t offset,
                                        std::span<const std::span<std::byte>> parts,
                                        const ReadProgress& progress) const;
  [[nodiscard]] Result<void> fetch_from(const Url& url, std::uint64_t offset,
                                        std::span<const std::span<std::byte>> parts,
                                        const ReadProgress& progress) const;
  // From the cache, and what is not there from the server.
  [[nodiscard]] Result<void> fetch_cached(std::uint64_t offset,
                                          std::span<const std::span<std::byte>> parts) const;
  [[nodiscard]] Result<void> read_whole(std::uint64_t offset,
                                        std::span<const std::span<std::byte>> parts) const;
  [[nodiscard]] Result<void> reread_whole(std::uint64_t offset, std::span<std::byte> out) const;
  [[nodiscard]] Result<void> fetch_whole() const;

  std::shared_ptr<const Transport> transport_;
  RemoteFile file_;
  std::uint64_t nbytes_ = 0;
  Version version_;
  std::string version_origin_;  // whose answer stated it
  AnswerHead head_;
  std::vector<AnswerHead> redirects_;
  // The server knows no ranges: all is in blocks_[0], which whole_mutex_ guards then.
  bool whole_ = false;
  std::string cache_key_;  // empty: nothing is kept
  static constexpr std::uint64_t kFirstCopy = ~std::uint64_t{0};
  mutable std::mutex whole_mutex_;
  // Where the last reread of the copy in blocks_[0] ended. kFirstCopy: it was not fetched for one.
  // Guarded by whole_mutex_.
  mutable std::uint64_t reread_to_ = kFirstCopy;
  mutable std::mutex mutex_;
  mutable std::string final_url_;               // where redirects led; guarded
  mutable std::array<BlockPointer, 9> blocks_;  // the first is the file's beginning; guarded
  mutable std::size_t next_block_ = 0;          // guarded
};

}  // namespace flatbed::remote
