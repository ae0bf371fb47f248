// S3Folder: the objects below a prefix of a bucket, as a SourceFolder. Shares the transport.
// Thread-safe.
#pragma once

#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "flatbed/source_folder.hpp"
#include "s3_place.hpp"
#include "transport.hpp"

namespace flatbed::remote {

class S3Folder final : public SourceFolder {
 public:
  // The key of `place` is the prefix, and ends with "/" or is empty.
  S3Folder(std::shared_ptr<const Transport> transport, S3Place place)
      : transport_(std::move(transport)), place_(std::move(place)), label_(place_.name()) {}

  [[nodiscard]] std::string_view label() const noexcept override { return label_; }
  [[nodiscard]] Result<std::shared_ptr<const ByteSource>> open(
      std::string_view name) const override;
  // Directly below the prefix. Errors: limit_exceeded (100,000 names, 100,000 folders), those of
  // the requests.
  [[nodiscard]] Result<std::vector<std::string>> names() const override;
  // The next components of longer keys, of the list that names() fetched last. One is empty where a
  // key has two slashes. Errors: as of names().
  [[nodiscard]] Result<std::vector<std::string>> folders() const override;
  [[nodiscard]] unsigned parallel_opens() const noexcept override {
    return transport_->options().max_connections;
  }

 private:
  struct Listing {
    std::vector<std::string> names, folders;
  };
  [[nodiscard]] Result<Listing> list() const;

  std::shared_ptr<const Transport> transport_;
  S3Place place_;
  std::string label_;
  mutable std::mutex mutex_;
  mutable std::optional<std::vector<std::string>> folders_;  // what names() found; guarded
};

// The object of `place` as a source. Errors: those of RemoteSource::open().
[[nodiscard]] Result<std::shared_ptr<const ByteSource>> open_s3(
    std::shared_ptr<const Transport> transport, const S3Place& place);

}  // namespace flatbed::remote
