// S3SinkFolder: a prefix of a bucket as a SinkFolder. Its files are uploaded and become visible one
// after the other in commit(), the index last: a process that is killed before leaves nothing that
// anybody sees, and one that is killed while it commits leaves shards without an index. Shares the
// transport. Not thread-safe.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "flatbed/byte_sink.hpp"
#include "s3_sink.hpp"

namespace flatbed::remote {

class S3SinkFolder final : public SinkFolder {
 public:
  // The key of `place` is the prefix, and ends with "/" or is empty. `replace`: whether the files
  // of an old set are replaced, and those that the new set does not have are removed after it.
  S3SinkFolder(std::shared_ptr<const Transport> transport, S3Place place, bool replace)
      : transport_(std::move(transport)),
        place_(std::move(place)),
        replace_(replace),
        label_(place_.name()) {}
  ~S3SinkFolder() override;

  [[nodiscard]] std::string_view label() const noexcept override { return label_; }
  // Errors: file_exists (there are objects that are not to be replaced), those of the requests.
  [[nodiscard]] Result<void> begin(std::uint64_t nbytes) override;
  [[nodiscard]] Result<std::unique_ptr<ByteSink>> create(std::string_view file_name) override;
  [[nodiscard]] Result<void> commit() override;

 private:
  void remove_old() const;

  std::shared_ptr<const Transport> transport_;
  S3Place place_;
  bool replace_;
  std::string label_;
  std::vector<std::string> old_;  // files of a set that were there
  std::vector<std::string> new_;
  Uploads uploads_;  // sent, and not completed until commit()
};

}  // namespace flatbed::remote
