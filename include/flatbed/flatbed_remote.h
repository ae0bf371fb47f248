// Checkpoints on servers for flatbed.h: part of the component flatbed_remote, which reads them in
// place with libcurl. What holds for flatbed.h holds here.
//
//   flatbed_remote* remote = NULL;
//   if (flatbed_remote_new(NULL, &remote, &error) != 0) return fail(error.message);
//   flatbed_remote_open_url(remote, "https://host/a.safetensors", NULL, &model, &error);
//   flatbed_remote_free(remote);  // the model stays open
//
// remote.hpp says what URLs may be, what is fetched, how one version of a file is held to, and what
// a program that calls fork() or uses libcurl itself has to know. Here URLs are NUL-terminated, as
// paths are. Messages and labels never contain credentials, nor what comes after "?" in a URL.
//
// Writing to s3:// has no functions in C; it is there in C++ and in the tool.
#ifndef FLATBED_FLATBED_REMOTE_H
#define FLATBED_FLATBED_REMOTE_H

#include "flatbed/flatbed.h"

#ifdef __cplusplus
extern "C" {
#endif

// 1 if the text is a URL of a kind that is opened here, by its scheme, "https://..."; otherwise,
// and for NULL, 0. No error in the rest of it counts. Thread-safe.
FLATBED_API uint32_t flatbed_is_url(const char* text);

// ---- Credentials --------------------------------------------------------------------------------

// What proves to one origin who asks; empty at first. It is valid during the call of the
// `credentials` of flatbed_remote_options that it was given to, on that thread. These functions
// copy what they are given, which need not outlive them. Errors: invalid_argument.
typedef struct flatbed_credentials flatbed_credentials;

// Sent as "Authorization: Bearer <token>".
FLATBED_API int32_t flatbed_credentials_set_token(flatbed_credentials* credentials,
                                                  flatbed_string token, flatbed_error* error);
// A further header, "Name: value".
FLATBED_API int32_t flatbed_credentials_add_header(flatbed_credentials* credentials,
                                                   flatbed_string header, flatbed_error* error);
// The keys that requests to s3:// are signed with. `session_token` belongs to temporary keys, and
// is empty otherwise.
FLATBED_API int32_t flatbed_credentials_set_keys(flatbed_credentials* credentials,
                                                 flatbed_string access_key_id,
                                                 flatbed_string secret_access_key,
                                                 flatbed_string session_token,
                                                 flatbed_error* error);

// ---- Remotes ------------------------------------------------------------------------------------

// Connections, options and one thread that drives the transfers, shared by all that is opened with
// it. Checkpoints keep what they need of it, so it may be freed before them.
typedef struct flatbed_remote flatbed_remote;

// Where the bucket is in the URL: "bucket.host" or "host/bucket". AUTOMATIC: the first, but for an
// endpoint of one's own, and for buckets whose names no host can have.
enum {
  FLATBED_S3_ADDRESSING_AUTOMATIC = 0,
  FLATBED_S3_ADDRESSING_PATH = 1,
  FLATBED_S3_ADDRESSING_VIRTUAL_HOST = 2
};

// Everything is copied but `context` and `cancel`. Strings may be empty and paths NULL. Zero stands
// for the default, also of sizes and times.
typedef struct flatbed_remote_options {
  uint64_t struct_size;
  void* context;
  // NULL: no credentials are sent. Called before requests, on the threads that read, from several
  // at once. Puts what `origin` gets into `out`, or leaves it empty. `origin` is "https://host" or
  // "https://host:port", or "s3" for s3://, and never that of a redirect; borrowed for the call.
  // `refused` is 1 if the server refused the last ones, and others are asked for. May describe a
  // failure in error->message (NUL-terminated), which must not contain secrets. Unknown numbers
  // become permission_denied.
  int32_t (*credentials)(void* context, flatbed_string origin, uint32_t refused,
                         flatbed_credentials* out, flatbed_error* error);
  // May be NULL, and is without `credentials`. Called once, when neither the remote nor anything
  // that was made from it needs the context any more, on the thread that frees the last of them.
  // Not called if flatbed_remote_new() fails.
  void (*close)(void* context);
  // Ends what is under way with the error cancelled, in this remote and in all that was made from
  // it, which it must outlive.
  const flatbed_cancel* cancel;
  const char* ca_file;          // certificates (PEM) to trust besides the system's
  const char* system_ca_file;   // a file that stands for the system's
  const char* system_ca_dir;    // folders that do, separated by ":", with hashes as names
  const char* cache_dir;        // a folder that keeps blocks of what was read; NULL: none are kept
  // As libcurl takes them: "http://user:password@host:port"; empty: none. A proxy of http://
  // tunnels to https:// URLs (CONNECT). `no_proxy` has hosts and domains, separated by commas, that
  // are reached without a proxy; "*": all.
  flatbed_string proxy;
  flatbed_string http_proxy;  // of http:// URLs; empty: `proxy`
  flatbed_string no_proxy;
  flatbed_string user_agent;    // empty: "flatbed/<version>"
  flatbed_string hub_endpoint;  // of hf://; empty: "https://huggingface.co"
  flatbed_string s3_region;     // empty: "us-east-1"
  flatbed_string s3_endpoint;   // "https://host:port"; empty: Amazon's
  uint64_t cache_nbytes;        // of the cache, at most; 0: 20 GiB
  // Large reads are split into requests of one to two times this size, 64 KiB to 1 GiB. 0: 8 MiB.
  uint64_t range_nbytes;
  uint64_t head_nbytes;   // of the first request of a file, 4 KiB to 16 MiB; 0: 128 KiB
  uint64_t whole_nbytes;  // of files that are read whole, where a server knows no ranges; 0: 48 MiB
  // In milliseconds, at most a day.
  uint64_t connect_timeout_ms;     // TLS included; 0: 10,000
  uint64_t first_byte_timeout_ms;  // from the request on; 0: 30,000
  uint64_t stall_timeout_ms;       // between bytes; 0: 30,000
  uint64_t backoff_ms;             // before the first retry, later twice as long; 0: 200
  uint64_t longest_wait_ms;        // that a server may ask for; 0: 60,000
  uint32_t retries;                // of one request, at most 1000; 0: 5
  uint32_t no_retries;             // 1: none; `retries` is 0
  uint32_t max_connections;        // at once, 1 to 256; 0: 32
  uint32_t s3_addressing;          // FLATBED_S3_ADDRESSING_*
} flatbed_remote_options;

// Starts the thread. Free *out with flatbed_remote_free(). Errors: invalid_argument (also options
// out of range), file_not_found (ca_file, system_ca_file), io_error, resource_exhausted, and those
// of making cache_dir.
FLATBED_API int32_t flatbed_remote_new(const flatbed_remote_options* options, flatbed_remote** out,
                                       flatbed_error* error);
FLATBED_API void flatbed_remote_free(flatbed_remote* remote);

// Opens the checkpoint behind the URL: a file, an index with its shards, or a folder. Only metadata
// is fetched. Everything takes the result as it takes any other checkpoint, but flatbed_view(): it
// is not_viewable. Free *out with flatbed_checkpoint_free(). Errors: url_invalid, those of the
// network (200-209), permission_denied (401, 403), file_not_found (404, 410), cancelled, those of
// flatbed_open().
FLATBED_API int32_t flatbed_remote_open_url(const flatbed_remote* remote, const char* url,
                                            const flatbed_open_options* options,
                                            flatbed_checkpoint** out, flatbed_error* error);

// What was sent and received since the remote was made, also for what it opened.
typedef struct flatbed_remote_stats {
  uint64_t struct_size;
  uint64_t requests;       // sent, repeated and redirected ones included
  uint64_t retries;        // of those, repeated after an error
  uint64_t redirects;      // of those, after a redirect
  uint64_t nbytes;         // of bodies, received
  uint64_t cached_nbytes;  // of blocks that came from the cache
} flatbed_remote_stats;

FLATBED_API int32_t flatbed_remote_stats_of(const flatbed_remote* remote, flatbed_remote_stats* out,
                                            flatbed_error* error);

#ifdef __cplusplus
}  // extern "C"
#endif

#endif  // FLATBED_FLATBED_REMOTE_H
