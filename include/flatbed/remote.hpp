// Remote checkpoints, component flatbed::remote: files on servers, read in place over HTTP.
//
//   FLATBED_ASSIGN(const Checkpoint model, open_url("https://host/models/a.safetensors"));
//   FLATBED_ASSIGN(const Checkpoint other, open_url("hf://owner/name@main"));
//
// Only what is wanted is fetched: headers, the index, then tensors or slices in ranges, several at
// once over connections that are kept. All bytes of a file are of one version, or the error is
// file_changed: the ETag of the first answer is compared with that of every later one, and goes
// into every later request to the server that stated it. A server that sends none is held to the
// time of the last change and the size.
//
// What URLs may be: http and https with a host, hf://owner/name@revision/path, s3://bucket/key. A
// URL that ends with "/" is a folder. Those of s3:// are listed, and those of hf:// where the hub
// has an API for it; in others the usual names of models are tried. The key of an s3:// URL stands
// as it is, without percent-encoding. User names and passwords in a URL are refused. Redirects are
// followed to http and https, never from https to http, and credentials go only to the origin
// (scheme, host and port) that they were given for. Messages and labels never contain credentials,
// nor what comes after "?" in a URL.
//
// Servers' certificates are always verified. The library reads no environment variable, so it uses
// a proxy only if the options name one.
//
// A Remote is thread-safe, and cheap to copy: copies share connections, counters and one thread
// that drives the transfers. Sources and folders that it made share it. A child of fork() may use
// what was made before, over connections and a thread of its own, if no other thread was inside
// flatbed at that moment. Before libcurl 7.84, call curl_global_init() before the first Remote is
// made while other threads run. The first Remote has glibc's malloc() keep freed blocks of up to 8
// MiB for the process, unless it was told otherwise (M_MMAP_THRESHOLD in mallopt(3)).
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "flatbed/byte_sink.hpp"
#include "flatbed/byte_source.hpp"
#include "flatbed/checkpoint.hpp"
#include "flatbed/export.hpp"
#include "flatbed/result.hpp"
#include "flatbed/source_folder.hpp"

namespace flatbed {

// What proves to one origin who asks. Empty members are not sent.
struct RemoteCredentials {
  std::string bearer_token;          // "Authorization: Bearer <token>"
  std::vector<std::string> headers;  // further headers, each "Name: value"
  // For s3:// only.
  std::string access_key_id;
  std::string secret_access_key;
  std::string session_token;

  bool operator==(const RemoteCredentials&) const = default;
};

struct CredentialsQuery {
  std::string_view origin;  // "https://host" or "https://host:port"; "s3" for s3://
  bool refused = false;     // the server refused the last ones: get new ones, if there are any
};

// Called before requests, on the threads that read, from several at once. An error ends the read.
// It is never asked for the origin of a redirect.
using CredentialsProvider = std::function<Result<RemoteCredentials>(const CredentialsQuery&)>;

// Where the bucket is in the URL: "bucket.host" or "host/bucket". automatic: the first, but for an
// endpoint of one's own, and for buckets whose names no host can have.
enum class S3Addressing : std::uint8_t { automatic, path, virtual_host };

// How s3:// is reached. Requests are signed (SigV4) if the credentials of "s3" have keys, and
// anonymous otherwise. Signing needs libcurl 7.87 or newer.
struct S3Options {
  std::string region = {};    // empty: us-east-1
  std::string endpoint = {};  // "https://host:port" of a server of one's own; empty: Amazon's
  S3Addressing addressing = S3Addressing::automatic;
};

struct RemoteOptions {
  // To connect, TLS included; from the request to the first byte of the answer; between bytes.
  std::chrono::milliseconds connect_timeout{10'000};
  std::chrono::milliseconds first_byte_timeout{30'000};
  std::chrono::milliseconds stall_timeout{30'000};
  // How often a request is sent again after a cut connection, a timeout, where the host has no
  // address, or after the statuses 408, 429, 500, 502, 503 and 504. What has arrived of a range is
  // kept. The first wait is `backoff`, each later one twice as long up to 10 s, and no shorter than
  // the server's Retry-After. A Retry-After longer than `longest_wait` ends the request.
  unsigned retries = 5;
  std::chrono::milliseconds backoff{200};
  std::chrono::milliseconds longest_wait{60'000};
  unsigned max_connections = 32;  // at once, 1 to 256; more requests wait
  // Large reads are split into requests of one to two times this size, 64 KiB to 1 GiB.
  std::size_t range_nbytes = std::size_t{8} << 20;
  // The first request of a file reads this much, 4 KiB to 16 MiB: mostly all of its header.
  std::size_t head_nbytes = std::size_t{128} << 10;
  // Files of servers that know no ranges are read whole, into memory, up to this size, at most
  // 4 GiB.
  std::size_t whole_nbytes = std::size_t{48} << 20;
  // Certificates (PEM) to trust besides the system's, and what stands for the system's: a file, and
  // folders with hashes as names (separated by ":"). Without the last two, the system's are those
  // that libcurl was built to use; if they do not exist, the file where the Linux distributions
  // have it.
  std::filesystem::path ca_file;
  std::filesystem::path system_ca_file;
  std::filesystem::path system_ca_dir;
  // As libcurl takes them: "http://user:password@host:port"; empty: none. A proxy of http://
  // tunnels to https:// URLs (CONNECT). `no_proxy` has hosts and domains, separated by commas, that
  // are reached without a proxy; "*": all.
  std::string proxy;
  std::optional<std::string> http_proxy;  // of http:// URLs; nullopt: `proxy`
  std::string no_proxy;
  std::string user_agent;                               // empty: "flatbed/<version>"
  CredentialsProvider credentials;                      // empty: none are sent
  std::string hub_endpoint = "https://huggingface.co";  // of hf://
  S3Options s3;
  // A folder that keeps blocks of files with a strong ETag, shared by processes, checked whenever
  // they are read, up to `cache_nbytes`. Every open still asks the server for the version. Empty:
  // nothing is kept.
  std::filesystem::path cache_dir;
  std::uint64_t cache_nbytes = std::uint64_t{20} << 30;
  // Ends what is under way with the error cancelled once it is true. Borrowed: must outlive the
  // Remote and all that it made.
  const std::atomic<bool>* cancel = nullptr;
};

// Since the Remote was made.
struct RemoteStats {
  std::uint64_t requests = 0;   // sent, repeated and redirected ones included
  std::uint64_t retries = 0;    // of those, repeated after an error
  std::uint64_t redirects = 0;  // of those, after a redirect
  std::uint64_t bytes = 0;      // of bodies, received
  std::uint64_t cached = 0;     // bytes of blocks that came from the cache
};

struct UploadOptions {
  bool replace = false;  // whether what is there is replaced
};

class Transport;  // internal

class FLATBED_EXPORT Remote {
 public:
  // Starts the thread. Errors: invalid_argument (options out of range, files of certificates that
  // are too long), file_not_found (ca_file, system_ca_file), io_error (they cannot be read),
  // resource_exhausted, and those of making cache_dir.
  [[nodiscard]] static Result<Remote> make(RemoteOptions options = {});

  // Opens the checkpoint behind the URL: a file, an index with its shards, or a folder. Errors:
  // url_invalid, those of the network (200-209), permission_denied (401, 403), file_not_found (404,
  // 410), those of Checkpoint::open().
  [[nodiscard]] Result<Checkpoint> open(std::string_view url,
                                        const OpenOptions& options = {}) const;
  // The file behind the URL, of any kind, after one request for its beginning. Errors: as above,
  // without those of Checkpoint::open().
  [[nodiscard]] Result<std::shared_ptr<const ByteSource>> open_source(std::string_view url) const;
  // The folder, without any request. The URL counts as a folder with or without "/" at its end.
  // Errors: url_invalid.
  [[nodiscard]] Result<std::shared_ptr<const SourceFolder>> open_folder(std::string_view url) const;

  // A new object, for save(): "s3://bucket/key". It is visible when commit() has succeeded, and
  // then whole. Without `replace`, an object of this key is file_exists, at begin() and, where the
  // server knows If-None-Match, at commit(). Errors: url_invalid (also for other schemes).
  [[nodiscard]] Result<std::unique_ptr<ByteSink>> create(std::string_view url,
                                                         const UploadOptions& options = {}) const;
  // A new set, for save_set(): "s3://bucket/prefix/". Nothing of it is visible before commit(), and
  // the index last. Without `replace`, the prefix must have no objects; with it, files of an old
  // set are replaced or removed, and no others. Errors: as above.
  [[nodiscard]] Result<std::unique_ptr<SinkFolder>> create_folder(
      std::string_view url, const UploadOptions& options = {}) const;

  [[nodiscard]] RemoteStats stats() const noexcept;

 private:
  explicit Remote(std::shared_ptr<Transport> transport) : transport_(std::move(transport)) {}
  std::shared_ptr<Transport> transport_;
};

// Whether the text is a URL of a kind that Remote opens, by its scheme: "https://...". No error in
// the rest of it counts here.
[[nodiscard]] FLATBED_EXPORT bool is_url(std::string_view text) noexcept;

// Remote::open() of a Remote of its own, which the checkpoint's files share.
[[nodiscard]] FLATBED_EXPORT Result<Checkpoint> open_url(std::string_view url,
                                                         RemoteOptions options = {},
                                                         const OpenOptions& open_options = {});

}  // namespace flatbed
