#include "s3_upload.hpp"

#include <chrono>
#include <thread>
#include <utility>

#include "s3_answer.hpp"
#include "text.hpp"
#include "xml.hpp"

namespace flatbed::remote {

namespace {

constexpr int kTries = 4;  // for what the server received, but damaged
// Of requests that clean up, or find out what became of others: what they follow has mostly failed
// after many attempts.
constexpr unsigned kFewRetries = 2;

std::string quoted_hex(const Md5& md5) { return text_of("\"", hex_of(md5), "\""); }

// Whether the ETag is an MD5. That of an object that is encrypted with keys of the user's is not.
bool is_md5(std::string_view etag) {
  constexpr std::size_t kQuotedMd5 = 34;
  return etag.size() == kQuotedMd5 && etag.front() == '"' && etag.back() == '"' &&
         etag.find_first_not_of("0123456789abcdef", 1) == kQuotedMd5 - 1;
}
bool is_plain(const AnswerHead& head) {
  const std::string_view encryption = head.find("x-amz-server-side-encryption");
  return (encryption.empty() || encryption == "AES256") && is_md5(head.find("etag"));
}

bool is_reached(const Error& error) {
  return error.code != ErrorCode::connection_failed && error.code != ErrorCode::timed_out;
}

Error already_there() {
  return error_of(ErrorCode::file_exists, "there is already an object with this key");
}

// Of a request after which the object could not be looked at. It may have done its work and been
// sent again, also by libcurl, which says nothing of it: then it is refused because of itself. Who
// may not write has made nothing.
Error doubtful(Error error, const Error& unseen) {
  if (error.code == ErrorCode::permission_denied) return error;
  if (error.code == ErrorCode::file_exists) error.code = unseen.code;
  error.message +=
      text_of("; this upload may have made the object, which cannot be seen: ", unseen.message);
  return error;
}

// Which the object keeps. libcurl's own would be that of a form.
std::string content_type_of(std::string_view key) {
  return key.ends_with(".json") ? "Content-Type: application/json"
                                : "Content-Type: application/octet-stream";
}

// Spaces may come before the document, while the server is at work.
std::string_view document_of(std::string_view body) { return trimmed(body); }

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text));
}

}  // namespace

Result<Call> S3Upload::run(Call call) const {
  if (Result<void> ran = transport_->run({&call, 1}); !ran)
    return with_context(shown(place_.name()), std::move(ran).error());
  return call;
}

std::vector<std::string> S3Upload::conditions() const {
  if (replace_) return {};
  return {"If-None-Match: *"};
}

Result<void> S3Upload::check_absent() const {
  if (replace_) return {};
  Call call = place_.call(Method::head, place_.url());
  call.accept = {404};
  Result<Call> answer = run(std::move(call));
  if (!answer && answer.error().code == ErrorCode::permission_denied) {
    FLATBED_ASSIGN(const bool decides, decides_at_the_end());
    if (decides) return {};
  }
  if (!answer) return std::move(answer).error();
  if (answer->head.status == 404) return {};
  return with_context(shown(place_.name()), already_there());
}

// A server that does not know If-None-Match would replace what is there without a word, and so do
// earlier versions of those that know it now. Amazon has one version.
Result<bool> S3Upload::decides_at_the_end() const {
  Call call = place_.call(Method::head, place_.url());
  call.accept = {403, 404};
  FLATBED_ASSIGN(const Call answer, run(std::move(call)));
  if (answer.head.status != 403) return answer.head.status == 404;
  return answer.head.find("server") == "AmazonS3";
}

Result<void> S3Upload::put_whole(std::span<const std::byte> bytes) {
  FLATBED_ASSIGN(const Md5 md5, md5_of(bytes));
  expected_etag_ = quoted_hex(md5);
  Call call = place_.call(Method::put, place_.url());
  call.headers = conditions();
  call.headers.push_back(content_type_of(place_.key));
  call.headers.push_back(text_of("Content-MD5: ", base64_of(md5)));
  call.body = bytes;
  if (!replace_) call.accept = {412};
  const Result<void> ran = transport_->run({&call, 1});
  if (ran && call.head.status != 412) {
    note_made(call.head);
    return {};
  }
  // A request that was sent again may find what the first one has put there, and what went wrong
  // may be the answer alone.
  const Result<bool> ours = is_ours();
  if (ours && *ours) return {};
  Error error = ran ? already_there() : ran.error();
  if (!ours) error = doubtful(std::move(error), ours.error());
  return with_context(shown(place_.name()), std::move(error));
}

// Not interrupted while it is under way: an upload whose ID is lost could not be removed.
Result<void> S3Upload::start() {
  const std::atomic<bool>* const cancel = transport_->options().cancel;
  if (cancel != nullptr && *cancel)
    return error_of(ErrorCode::cancelled, shown(place_.name()), ": interrupted");
  Call call = place_.call(Method::post, place_.url_with(place_.key, {{"uploads", ""}}));
  call.headers = {content_type_of(place_.key)};
  call.despite_cancel = true;
  FLATBED_ASSIGN(const Call answer, run(std::move(call)));
  std::string id;
  const Result<void> read =
      read_leaves(document_of(answer.text), [&](std::string_view path, std::string_view text) {
        if (path == "InitiateMultipartUploadResult/UploadId") id = text;
      });
  if (!read || id.empty())
    return error_of(ErrorCode::http_protocol, shown(place_.name()),
                    ": the server names no ID of the upload");
  id_ = std::move(id);
  return {};
}

Result<void> S3Upload::put_part(std::size_t number, std::span<const std::byte> bytes) {
  for (int tries = 1;; ++tries) {
    Result<void> done = try_part(number, bytes);
    if (done || tries == kTries || done.error().code != ErrorCode::http_protocol) return done;
  }
}

Result<void> S3Upload::try_part(std::size_t number, std::span<const std::byte> bytes) {
  FLATBED_ASSIGN(const Md5 md5, md5_of(bytes));
  Call call = place_.call(Method::put, place_.url_with(place_.key, {{"partNumber", text_of(number)},
                                                                    {"uploadId", id_}}));
  call.headers = {text_of("Content-MD5: ", base64_of(md5))};
  call.body = bytes;
  FLATBED_ASSIGN(const Call answer, run(std::move(call)));
  std::string etag(answer.head.find("etag"));
  if (etag.empty())
    return error_of(ErrorCode::http_protocol, shown(place_.name()), ": part ", number,
                    ": the server states no ETag");
  if (is_plain(answer.head) && etag != quoted_hex(md5))
    return error_of(ErrorCode::http_protocol, shown(place_.name()), ": part ", number,
                    ": the server has other bytes: found the ETag ", shown(etag), ", expected ",
                    shown(quoted_hex(md5)));
  const std::lock_guard lock(mutex_);
  if (parts_.size() < number) parts_.resize(number);
  parts_[number - 1] = {std::move(etag), md5};
  return {};
}

Result<std::string> S3Upload::list_parts() {
  std::string list = "<CompleteMultipartUpload>";
  std::vector<std::byte> sums;
  bool plain = true;
  const std::lock_guard lock(mutex_);
  for (std::size_t i = 0; i < parts_.size(); ++i) {
    const Part& part = parts_[i];
    list += text_of("<Part><PartNumber>", i + 1, "</PartNumber><ETag>", escape_xml(part.etag),
                    "</ETag></Part>");
    sums.insert(sums.end(), part.md5.begin(), part.md5.end());
    plain = plain && part.etag == quoted_hex(part.md5);
  }
  FLATBED_ASSIGN(const Md5 md5, md5_of(sums));
  if (plain) expected_etag_ = text_of("\"", hex_of(md5), "-", parts_.size(), "\"");
  return list + "</CompleteMultipartUpload>";
}

Result<void> S3Upload::complete() {
  FLATBED_ASSIGN(const std::string list, list_parts());
  std::chrono::milliseconds wait = transport_->options().backoff;
  for (int tries = 1;; ++tries) {
    Result<bool> done = try_complete(list);
    if (done && *done) return {};
    if (!done) return judge_completion(std::move(done).error());
    if (tries == kTries)
      return error_of(ErrorCode::http_status, shown(place_.name()),
                      ": the server did not complete the upload, after ", tries, " attempts");
    std::this_thread::sleep_for(wait);
    wait *= 2;
  }
}

// What went wrong may be the answer alone, after the object was made.
Result<void> S3Upload::judge_completion(Error error) {
  const Result<bool> ours = is_ours();
  if (ours && *ours) {
    static_cast<void>(discard());  // the parts, if the object is of another upload
    return {};
  }
  if (!ours) error = doubtful(std::move(error), ours.error());
  return with_context(shown(place_.name()), std::move(error));
}

// False: try again.
Result<bool> S3Upload::try_complete(const std::string& list) {
  Call call = place_.call(Method::post, place_.url_with(place_.key, {{"uploadId", id_}}));
  call.headers = conditions();
  call.headers.emplace_back("Content-Type: application/xml");
  call.body = bytes_of(list);
  if (!replace_) call.accept = {412};
  FLATBED_TRY(transport_->run({&call, 1}));
  if (call.head.status == 412) return already_there();
  // The status was sent before the work was done: an error comes with 200, too.
  bool whole = false;
  const std::string_view body = document_of(call.text);
  const Result<void> read = read_leaves(body, [&](std::string_view path, std::string_view) {
    whole = whole || path == "CompleteMultipartUploadResult/ETag";
  });
  if (read && whole) {
    note_made(call.head);
    return true;
  }
  const std::optional<S3Error> found = parse_s3_error(body);
  if (!found)
    return error_of(ErrorCode::http_protocol,
                    "the server does not say that the upload is complete");
  if (found->transient()) return false;
  return s3_status_error(call.head, found,
                         error_of(ErrorCode::http_status, "the upload was not completed"));
}

Result<bool> S3Upload::is_ours() const {
  if (expected_etag_.empty()) return false;
  Call call = place_.call(Method::head, place_.url());
  call.accept = {404};
  call.despite_cancel = true;
  call.most_retries = kFewRetries;
  FLATBED_TRY(transport_->run({&call, 1}));
  return call.head.status == 200 && call.head.find("etag") == expected_etag_;
}

void S3Upload::note_made(const AnswerHead& head) {
  made_ = true;
  id_.clear();
  version_id_ = head.find("x-amz-version-id");
  if (version_id_ == "null") version_id_.clear();  // versions are suspended
}

bool S3Upload::discard_object() {
  if (!version_id_.empty())
    return abort_call(
        place_.call(Method::remove, place_.url_with(place_.key, {{"versionId", version_id_}})));
  if (replace_) return true;
  const Result<bool> ours = is_ours();
  if (!ours) return is_reached(ours.error());
  return !*ours || abort_call(place_.call(Method::remove, place_.url()));
}

bool S3Upload::discard() {
  if (std::exchange(made_, false)) return discard_object();
  if (!started()) return true;
  const std::string id = std::exchange(id_, {});
  return abort_call(place_.call(Method::remove, place_.url_with(place_.key, {{"uploadId", id}})));
}

bool S3Upload::abort_call(Call call) const {
  call.accept = {404};
  call.despite_cancel = true;
  call.most_retries = kFewRetries;
  const Result<void> ran = transport_->run({&call, 1});
  return ran || is_reached(ran.error());
}

}  // namespace flatbed::remote
