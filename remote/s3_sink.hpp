// S3Sink: a new object as a ByteSink. Collects parts and sends them while others are written; a
// small file is one request. Visible when it is complete, or not at all: after an error, or without
// commit(), the parts are removed. A process that is killed leaves parts that nobody sees, which
// the rules of the bucket may remove (AbortIncompleteMultipartUpload).
//
// Memory: kSinkWindowBytes, 64 MiB of parts that are being sent, and those that the head touches. A
// part has 8 MiB, and more from 80,000 MiB on, because there are at most 10,000.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "flatbed/byte_sink.hpp"
#include "s3_upload.hpp"
#include "workers.hpp"

namespace flatbed::remote {

// What has been uploaded and waits for others, in a folder.
using Uploads = std::vector<std::unique_ptr<S3Upload>>;

class S3Sink final : public ByteSink {
 public:
  // `later`: commit() only sends all parts and puts the upload there, for whoever completes it.
  // Null: commit() completes it. Borrowed.
  S3Sink(std::unique_ptr<S3Upload> upload, Uploads* later);
  ~S3Sink() override;

  [[nodiscard]] std::string_view label() const noexcept override { return label_; }
  // Errors: limit_exceeded (5 TiB), file_exists, those of the requests.
  [[nodiscard]] Result<void> begin(const SinkLayout& layout) override;
  [[nodiscard]] Result<void> write_at(std::uint64_t offset,
                                      std::span<const std::byte> bytes) override;
  // Sends a part again, which S3 puts in the place of the one before.
  [[nodiscard]] std::uint64_t rewrite_nbytes() const noexcept override { return part_nbytes_; }
  [[nodiscard]] Result<void> rewrite_at(std::uint64_t offset,
                                        std::span<const std::byte> bytes) override;
  [[nodiscard]] Result<void> commit() override;

 private:
  struct Part {
    std::unique_ptr<std::byte[]> bytes;
    std::size_t nbytes = 0;
    std::atomic<std::size_t> filled = 0;
  };

  [[nodiscard]] bool is_one_request() const noexcept {
    return later_ == nullptr && nbytes_ <= part_nbytes_;
  }
  [[nodiscard]] Result<void> check_inside(std::uint64_t offset, std::size_t nbytes) const;
  [[nodiscard]] std::size_t nbytes_of(std::uint64_t index) const noexcept;
  [[nodiscard]] Result<std::shared_ptr<Part>> part_at(std::uint64_t index);
  [[nodiscard]] Result<std::shared_ptr<Part>> new_part(std::uint64_t index) const;
  [[nodiscard]] Result<void> send(std::uint64_t index);
  [[nodiscard]] Result<void> send(std::uint64_t index, std::shared_ptr<Part> part);

  std::unique_ptr<S3Upload> upload_;
  Uploads* later_;
  std::string label_;
  std::uint64_t nbytes_ = 0;
  std::size_t part_nbytes_ = 0;
  std::mutex mutex_;
  std::map<std::uint64_t, std::shared_ptr<Part>> parts_;  // not full yet; guarded
  std::mutex starting_;                                   // held by the thread that starts it
  std::unique_ptr<Workers> workers_;
};

}  // namespace flatbed::remote
