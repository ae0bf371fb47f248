// S3Upload: the requests that make one object: PutObject, or a multipart upload, of which nothing
// is visible until it is complete. Shares the transport. put_part() is thread-safe; of the others,
// one at a time.
//
//   POST   key?uploads=                            the upload's ID
//   PUT    key?partNumber=1&uploadId=ID            a part with its MD5; answers with its ETag
//   POST   key?uploadId=ID                         the list of parts: the object is there, whole
//   DELETE key?uploadId=ID                         or the parts are gone
#pragma once

#include <cstddef>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "digest.hpp"
#include "flatbed/result.hpp"
#include "s3_place.hpp"
#include "transport.hpp"

namespace flatbed::remote {

class S3Upload {
 public:
  // `replace`: whether an object that has the key is replaced; otherwise it is file_exists, and the
  // server is told so as well (If-None-Match).
  S3Upload(std::shared_ptr<const Transport> transport, S3Place place, bool replace)
      : transport_(std::move(transport)), place_(std::move(place)), replace_(replace) {}

  [[nodiscard]] const S3Place& place() const noexcept { return place_; }

  // Unless it would be replaced: errors: file_exists. Who may not list the bucket is told 403 of an
  // object that is not there. Then Amazon, which is known to refuse at the end, decides.
  [[nodiscard]] Result<void> check_absent() const;
  // The whole object. Errors, also of complete(): file_exists, and those of the requests. Where
  // the object cannot be looked at afterwards, they say that it may be this upload's.
  [[nodiscard]] Result<void> put_whole(std::span<const std::byte> bytes);

  [[nodiscard]] Result<void> start();
  [[nodiscard]] bool started() const noexcept { return !id_.empty(); }
  // Numbers begin with 1.
  [[nodiscard]] Result<void> put_part(std::size_t number, std::span<const std::byte> bytes);
  [[nodiscard]] Result<void> complete();

  // Ends the upload, after which none of its parts is kept, or removes the object that it made. Of
  // a bucket with versions that is the version that the server named. Elsewhere it is removed
  // unless another one was put there since. It is left if it may be another's that is equal: where
  // it was found there without the server saying that this upload made it, or with `replace`, which
  // may have replaced one, even if there was none at first. Failures are ignored: nobody is left to
  // tell. False: the server cannot be reached, and will not be for others either.
  bool discard();

 private:
  struct Part {
    std::string etag;
    Md5 md5{};
  };

  [[nodiscard]] Result<Call> run(Call call) const;
  [[nodiscard]] std::vector<std::string> conditions() const;
  [[nodiscard]] Result<void> try_part(std::size_t number, std::span<const std::byte> bytes);
  [[nodiscard]] Result<bool> try_complete(const std::string& list);
  [[nodiscard]] Result<void> judge_completion(Error error);
  void note_made(const AnswerHead& head);
  [[nodiscard]] bool discard_object();
  [[nodiscard]] Result<std::string> list_parts();
  [[nodiscard]] Result<bool> decides_at_the_end() const;
  // Whether the object is the one that this upload made, or an equal one.
  [[nodiscard]] Result<bool> is_ours() const;
  [[nodiscard]] bool abort_call(Call call) const;

  std::shared_ptr<const Transport> transport_;
  S3Place place_;
  bool replace_;
  std::string id_;
  std::mutex mutex_;
  std::vector<Part> parts_;    // guarded
  std::string expected_etag_;  // of the object; empty: it cannot be foretold
  bool made_ = false;          // the object is there, and the server said that it is this upload's
  std::string version_id_;     // of the object; empty: the bucket keeps no versions
};

}  // namespace flatbed::remote
