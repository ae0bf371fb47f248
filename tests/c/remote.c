// flatbed_remote.h, over the server of remote_main.cpp.
#include <pthread.h>

#include "check.h"
#include "flatbed/flatbed_remote.h"

enum { kThreads = 4, kLargeNbytes = 3 << 20 };

static const char* server_url = NULL;

int test_remote(const char* url, const char* output);

static const char* url_of(const char* path) { return path_in(server_url, path); }

// Retries are quick, so that none takes long.
static flatbed_remote_options quick(void) {
  flatbed_remote_options options = FLATBED_INIT(flatbed_remote_options);
  options.backoff_ms = 1;
  return options;
}

static flatbed_remote* new_remote(const flatbed_remote_options* options) {
  flatbed_error error;
  flatbed_remote* remote = NULL;
  CHECK_OK(flatbed_remote_new(options, &remote, &error));
  return remote;
}

static void check_is_small_model(const flatbed_checkpoint* model) {
  flatbed_error error;
  flatbed_tensor tensor = FLATBED_INIT(flatbed_tensor);
  float values[6] = {0};
  CHECK_NUMBER(flatbed_tensor_count(model), 3);
  CHECK_OK(flatbed_tensor_find(model, flatbed_text("a.weight"), &tensor, &error));
  CHECK_OK(flatbed_read(model, tensor.index, 0, values, sizeof values, FLATBED_VERIFY_YES, &error));
  CHECK(values[0] == 0 && values[5] == 5);
}

// A remote with these options opens the model.
static void check_opens(const flatbed_remote_options* options, const char* url) {
  flatbed_error error;
  flatbed_checkpoint* model = NULL;
  flatbed_remote* const remote = new_remote(options);
  CHECK_OK(flatbed_remote_open_url(remote, url, NULL, &model, &error));
  check_is_small_model(model);
  flatbed_checkpoint_free(model);
  flatbed_remote_free(remote);
}

static void check_does_not_open(const flatbed_remote_options* options, const char* url,
                                int32_t expected, const char* part) {
  flatbed_error error;
  flatbed_checkpoint* model = wrong_kind();
  flatbed_remote* const remote = new_remote(options);
  CHECK_ERROR(flatbed_remote_open_url(remote, url, NULL, &model, &error), expected, part);
  CHECK(model == NULL && strstr(error.message, "secret") == NULL);
  flatbed_remote_free(remote);
}

// ---- Opening ------------------------------------------------------------------------------------

static void opens_and_counts(void) {
  flatbed_error error;
  flatbed_checkpoint* model = NULL;
  flatbed_remote_stats stats = FLATBED_INIT(flatbed_remote_stats);
  flatbed_open_options open = FLATBED_INIT(flatbed_open_options);
  flatbed_remote* const remote = new_remote(NULL);
  CHECK_OK(flatbed_remote_stats_of(remote, &stats, &error));
  CHECK_NUMBER(stats.requests, 0);
  CHECK_OK(flatbed_remote_open_url(remote, url_of("model.safetensors"), &open, &model, &error));
  CHECK_OK(flatbed_remote_stats_of(remote, &stats, &error));
  CHECK(stats.requests > 0 && stats.retries == 0 && stats.redirects == 0);
  CHECK(stats.nbytes > 200 && stats.cached_nbytes == 0 && stats.struct_size == sizeof stats);
  flatbed_remote_free(remote);
  check_is_small_model(model);  // which keeps what it needs of the remote
  flatbed_file file = FLATBED_INIT(flatbed_file);
  CHECK_OK(flatbed_file_at(model, 0, &file, &error));
  CHECK_TEXT(file.path, url_of("model.safetensors"));
  flatbed_checkpoint_free(model);
  flatbed_remote_free(NULL);
}

static void names_what_it_cannot_open(void) {
  flatbed_error error;
  flatbed_checkpoint* model = NULL;
  check_does_not_open(NULL, "ftp://host/a.safetensors", FLATBED_ERROR_URL_INVALID, "'ftp'");
  check_does_not_open(NULL, "https://user:secret@host/a", FLATBED_ERROR_URL_INVALID, "password");
  check_does_not_open(NULL, "", FLATBED_ERROR_URL_INVALID, "");
  check_does_not_open(NULL, url_of("missing.safetensors?key=secret"), FLATBED_ERROR_FILE_NOT_FOUND,
                      "/missing.safetensors");
  flatbed_open_options sealed = FLATBED_INIT(flatbed_open_options);
  sealed.check_seal = FLATBED_CHECK_SEAL_REQUIRED;
  flatbed_remote* const remote = new_remote(NULL);
  CHECK_ERROR(flatbed_remote_open_url(remote, url_of("model.safetensors"), &sealed, &model, &error),
              FLATBED_ERROR_NOT_SEALED, "model.safetensors");
  sealed.check_seal = 3;
  CHECK_INVALID(
      flatbed_remote_open_url(remote, url_of("model.safetensors"), &sealed, &model, &error),
      "'check_seal'");
  flatbed_remote_free(remote);
}

static void refuses_wrong_arguments(void) {
  flatbed_error error;
  flatbed_checkpoint* model = NULL;
  flatbed_remote* const wrong = (flatbed_remote*)wrong_kind();
  flatbed_remote_stats stats = FLATBED_INIT(flatbed_remote_stats);
  flatbed_remote* const remote = new_remote(NULL);
  const char* const url = url_of("model.safetensors");
  CHECK_INVALID(flatbed_remote_new(NULL, NULL, &error), "'out'");
  CHECK_INVALID(flatbed_remote_open_url(NULL, url, NULL, &model, &error), "'remote'");
  CHECK_INVALID(flatbed_remote_open_url(wrong, url, NULL, &model, &error), "a flatbed_remote");
  CHECK_INVALID(flatbed_remote_open_url(remote, NULL, NULL, &model, &error), "'url'");
  CHECK_INVALID(flatbed_remote_open_url(remote, url, NULL, NULL, &error), "'out'");
  CHECK_INVALID(flatbed_remote_stats_of(NULL, &stats, &error), "'remote'");
  CHECK_INVALID(flatbed_remote_stats_of(remote, NULL, &error), "'out'");
  stats.struct_size = 40;
  CHECK_INVALID(flatbed_remote_stats_of(remote, &stats, &error), "struct_size");
  flatbed_remote_free(wrong);  // is left alone
  flatbed_remote_free(remote);
}

static void tells_urls_from_paths(void) {
  CHECK_NUMBER(flatbed_is_url("https://host/a"), 1);
  CHECK_NUMBER(flatbed_is_url("s3://bucket/a"), 1);
  CHECK_NUMBER(flatbed_is_url("hf://owner/name"), 1);
  CHECK_NUMBER(flatbed_is_url("models/a.safetensors"), 0);
  CHECK_NUMBER(flatbed_is_url("file:///a"), 0);
  CHECK_NUMBER(flatbed_is_url(NULL), 0);
}

static void* open_on_a_thread(void* remote) {
  flatbed_error error;
  flatbed_checkpoint* model = NULL;
  char url[256];  // the buffers of path_in() are not for threads
  snprintf(url, sizeof url, "%s/model.safetensors", server_url);
  for (int i = 0; i < 5; ++i) {
    CHECK_OK(flatbed_remote_open_url(remote, url, NULL, &model, &error));
    check_is_small_model(model);
    flatbed_checkpoint_free(model);
  }
  return NULL;
}

static void serves_several_threads(void) {
  pthread_t threads[kThreads];
  flatbed_remote* const remote = new_remote(NULL);
  for (int i = 0; i < kThreads; ++i) {
    CHECK(pthread_create(&threads[i], NULL, open_on_a_thread, remote) == 0);
  }
  for (int i = 0; i < kThreads; ++i) CHECK(pthread_join(threads[i], NULL) == 0);
  flatbed_remote_free(remote);
}

// ---- Options ------------------------------------------------------------------------------------

// The options are refused, with a message that contains the part.
static void check_refused(const flatbed_remote_options* options, const char* part) {
  flatbed_error error;
  flatbed_remote* remote = (flatbed_remote*)wrong_kind();
  CHECK_INVALID(flatbed_remote_new(options, &remote, &error), part);
  CHECK(remote == NULL);
}

static void count(void* context) { ++*(int*)context; }

static void refuses_options(void) {
  flatbed_remote_options options = quick();
  options.struct_size = 232;
  check_refused(&options, "struct_size");
  options = quick();
  options.range_nbytes = 1;
  check_refused(&options, "range_nbytes");
  options = quick();
  options.head_nbytes = UINT64_MAX;
  check_refused(&options, "head_nbytes");
  options = quick();
  options.whole_nbytes = UINT64_MAX;
  check_refused(&options, "whole_nbytes");
  options = quick();
  options.max_connections = 257;
  check_refused(&options, "max_connections");
  options = quick();
  options.retries = 1001;
  check_refused(&options, "retries");
  options = quick();
  options.no_retries = 2;
  check_refused(&options, "'options.no_retries'");
  options.no_retries = 1;
  options.retries = 1;
  check_refused(&options, "'options.no_retries': found 1 with 1 retries");
  options = quick();
  options.s3_addressing = 3;
  check_refused(&options, "'options.s3_addressing'");
  options = quick();
  options.proxy.size = 1;
  check_refused(&options, "'options.proxy'");
  options = quick();
  options.cancel = (flatbed_cancel*)wrong_kind();
  check_refused(&options, "'cancel'");
  options = quick();
  options.close = count;
  check_refused(&options, "'options.close'");
}

// Each time, of which none may be longer than a day.
static void refuses_long_times(void) {
  static const size_t kTimes[] = {offsetof(flatbed_remote_options, connect_timeout_ms),
                                  offsetof(flatbed_remote_options, first_byte_timeout_ms),
                                  offsetof(flatbed_remote_options, stall_timeout_ms),
                                  offsetof(flatbed_remote_options, backoff_ms),
                                  offsetof(flatbed_remote_options, longest_wait_ms)};
  static const uint64_t kTooLong[] = {86400001, UINT64_MAX};
  static const uint64_t kDay = 86400000;
  for (size_t i = 0; i < sizeof kTimes / sizeof kTimes[0]; ++i) {
    flatbed_remote_options options = quick();
    for (int k = 0; k < 2; ++k) {
      memcpy((char*)&options + kTimes[i], &kTooLong[k], 8);
      check_refused(&options, "expected 0 to 86400000");
    }
    memcpy((char*)&options + kTimes[i], &kDay, 8);
    flatbed_remote_free(new_remote(&options));
  }
}

static void reads_files_of_certificates(void) {
  flatbed_error error;
  flatbed_remote* remote = NULL;
  flatbed_remote_options options = quick();
  options.ca_file = "/absent/ca.pem";
  CHECK_ERROR(flatbed_remote_new(&options, &remote, &error), FLATBED_ERROR_FILE_NOT_FOUND,
              "/absent/ca.pem");
  options = quick();
  options.system_ca_file = "/absent/system.pem";
  CHECK_ERROR(flatbed_remote_new(&options, &remote, &error), FLATBED_ERROR_FILE_NOT_FOUND,
              "/absent/system.pem");
  options = quick();
  options.system_ca_dir = output_folder;
  check_opens(&options, url_of("model.safetensors"));
}

static void passes_texts_on(void) {
  flatbed_remote_options options = quick();
  check_does_not_open(&options, url_of("agent.safetensors"), FLATBED_ERROR_HTTP_STATUS, "400");
  options.user_agent = flatbed_text("engine/1");
  check_opens(&options, url_of("agent.safetensors"));
  options = quick();
  options.hub_endpoint = flatbed_text(server_url);
  check_opens(&options, "hf://owner/name/model.safetensors");
  options = quick();
  options.proxy = flatbed_text(server_url);
  check_opens(&options, "http://models.invalid/model.safetensors");
  options.proxy = flatbed_text("http://127.0.0.1:9");  // where nobody listens
  options.http_proxy = flatbed_text(server_url);
  check_opens(&options, "http://models.invalid/model.safetensors");
  options.http_proxy = flatbed_text("");
  options.no_proxy = flatbed_text("127.0.0.1");
  check_opens(&options, url_of("model.safetensors"));
}

static uint64_t retries_of(const flatbed_remote* remote) {
  flatbed_error error;
  flatbed_remote_stats stats = FLATBED_INIT(flatbed_remote_stats);
  CHECK_OK(flatbed_remote_stats_of(remote, &stats, &error));
  return stats.retries;
}

static void retries_what_may_pass(void) {
  flatbed_error error;
  flatbed_checkpoint* model = NULL;
  const flatbed_remote_options options = quick();
  flatbed_remote* const remote = new_remote(&options);
  CHECK_OK(flatbed_remote_open_url(remote, url_of("flaky.safetensors"), NULL, &model, &error));
  CHECK_NUMBER(retries_of(remote), 1);
  flatbed_checkpoint_free(model);
  flatbed_remote_free(remote);
}

static void retries_as_often_as_it_is_told(void) {
  flatbed_error error;
  flatbed_checkpoint* model = NULL;
  flatbed_remote_options options = quick();
  for (uint32_t retries = 0; retries < 3; ++retries) {
    options.retries = retries;
    options.no_retries = retries == 0;
    flatbed_remote* const remote = new_remote(&options);
    CHECK_ERROR(flatbed_remote_open_url(remote, url_of("down.safetensors"), NULL, &model, &error),
                FLATBED_ERROR_HTTP_STATUS, "503");
    CHECK_NUMBER(retries_of(remote), retries);
    flatbed_remote_free(remote);
  }
}

// The bytes of the large file that came from the cache.
static uint64_t read_large_file(const flatbed_remote_options* options) {
  static unsigned char bytes[kLargeNbytes];
  flatbed_error error;
  flatbed_checkpoint* model = NULL;
  flatbed_remote_stats stats = FLATBED_INIT(flatbed_remote_stats);
  flatbed_remote* const remote = new_remote(options);
  CHECK_OK(flatbed_remote_open_url(remote, url_of("large.safetensors"), NULL, &model, &error));
  CHECK_OK(flatbed_read(model, 0, 0, bytes, sizeof bytes, FLATBED_VERIFY_YES, &error));
  CHECK_OK(flatbed_remote_stats_of(remote, &stats, &error));
  flatbed_checkpoint_free(model);
  flatbed_remote_free(remote);
  return stats.cached_nbytes;
}

static void keeps_blocks_in_a_cache(void) {
  char folder[4096];  // the buffers of path_in() go to URLs
  flatbed_remote_options options = quick();
  snprintf(folder, sizeof folder, "%s/remote_cache", output_folder);
  remove_all(folder);
  options.cache_dir = folder;
  options.cache_nbytes = 64 << 20;
  CHECK_NUMBER(read_large_file(&options), 0);
  CHECK(read_large_file(&options) >= 1 << 20);
  CHECK_NUMBER(read_large_file(NULL), 0);
  remove_all(folder);
  options.cache_nbytes = 1;  // no room for a block
  CHECK_NUMBER(read_large_file(&options), 0);
  CHECK_NUMBER(read_large_file(&options), 0);
  remove_all(folder);
}

// ---- Credentials --------------------------------------------------------------------------------

// What the function below gives, and what it saw. Its calls come one at a time in these tests.
typedef struct account {
  const char* first;  // the token, until it is refused
  const char* later;
  const char* message;
  int32_t code;
  flatbed_cancel* cancel;
  int calls;
  int refused;
  int closed;
  char origin[128];
} account;

static int32_t give_token(void* context, flatbed_string origin, uint32_t refused,
                          flatbed_credentials* out, flatbed_error* said) {
  flatbed_error error;
  account* const self = context;
  char token[32];
  snprintf(token, sizeof token, "%s", refused ? self->later : self->first);
  snprintf(self->origin, sizeof self->origin, "%.*s", (int)origin.size, origin.data);
  ++self->calls;
  self->refused += refused != 0;
  if (self->cancel != NULL) flatbed_cancel_set(self->cancel);
  CHECK_OK(flatbed_credentials_set_token(out, flatbed_text(token), &error));
  memset(token, 'x', sizeof token);  // what was given was copied
  if (self->message != NULL) snprintf(said->message, sizeof said->message, "%s", self->message);
  return self->code;
}

static void close_account(void* context) { ++((account*)context)->closed; }

static flatbed_remote_options with_account(account* self) {
  flatbed_remote_options options = quick();
  options.context = self;
  options.credentials = give_token;
  options.close = close_account;
  return options;
}

static void sends_tokens(void) {
  account self = {.first = "good", .later = "none"};
  const flatbed_remote_options options = with_account(&self);
  const flatbed_remote_options none = quick();
  check_opens(&options, url_of("token.safetensors"));
  CHECK(self.calls > 0 && self.refused == 0);
  CHECK(strcmp(self.origin, server_url) == 0);
  check_does_not_open(&none, url_of("token.safetensors"), FLATBED_ERROR_PERMISSION_DENIED,
                      "no credentials were given");
  self = (account){.first = "secret", .later = "secret"};
  check_does_not_open(&options, url_of("token.safetensors"), FLATBED_ERROR_PERMISSION_DENIED,
                      "401");
  CHECK_NUMBER(self.refused, 1);
}

static void asks_again_after_a_refusal(void) {
  account self = {.first = "secret", .later = "good"};
  const flatbed_remote_options options = with_account(&self);
  check_opens(&options, url_of("token.safetensors"));
  CHECK(self.refused > 0);
}

static void passes_errors_of_credentials_on(void) {
  account self = {.first = "secret", .later = "secret", .code = -7};
  const flatbed_remote_options options = with_account(&self);
  const char* const url = url_of("token.safetensors");
  check_does_not_open(&options, url, FLATBED_ERROR_PERMISSION_DENIED,
                      "the caller's credentials returned -7");
  self.message = "the vault is closed";
  check_does_not_open(&options, url, FLATBED_ERROR_PERMISSION_DENIED, "the vault is closed");
  self.code = FLATBED_ERROR_RESOURCE_EXHAUSTED;
  check_does_not_open(&options, url, FLATBED_ERROR_RESOURCE_EXHAUSTED, "the vault is closed");
}

static void closes_the_context_once(void) {
  flatbed_error error;
  flatbed_checkpoint* model = NULL;
  flatbed_checkpoint* view = NULL;
  flatbed_remote* none = NULL;
  account self = {.first = "good", .later = "none"};
  flatbed_remote_options options = with_account(&self);
  flatbed_remote* const remote = new_remote(&options);
  CHECK_OK(flatbed_remote_open_url(remote, url_of("token.safetensors"), NULL, &model, &error));
  CHECK_OK(flatbed_rename(model, flatbed_text("add-prefix m."), &view, &error));
  flatbed_remote_free(remote);
  flatbed_checkpoint_free(model);
  CHECK_NUMBER(self.closed, 0);
  flatbed_checkpoint_free(view);
  CHECK_NUMBER(self.closed, 1);
  options.max_connections = 257;
  CHECK_INVALID(flatbed_remote_new(&options, &none, &error), "max_connections");
  CHECK_NUMBER(self.closed, 1);
}

static int32_t give_header(void* context, flatbed_string origin, uint32_t refused,
                           flatbed_credentials* out, flatbed_error* said) {
  flatbed_error error;
  (void)context, (void)origin, (void)refused;
  CHECK_INVALID(flatbed_credentials_add_header(NULL, flatbed_text("a: b"), &error),
                "'credentials'");
  CHECK_INVALID(flatbed_credentials_set_token(NULL, flatbed_text("a"), &error), "'credentials'");
  CHECK_INVALID(flatbed_credentials_set_token(out, (flatbed_string){NULL, 1}, &error), "'token'");
  return flatbed_credentials_add_header(out, flatbed_text("X-Key: good"), said);
}

static int32_t give_keys(void* context, flatbed_string origin, uint32_t refused,
                         flatbed_credentials* out, flatbed_error* said) {
  flatbed_error error;
  const flatbed_string id = flatbed_text("AKID");
  const flatbed_string session = flatbed_text("session");
  (void)context, (void)refused;
  CHECK_TEXT(origin, "s3");
  CHECK_INVALID(
      flatbed_credentials_set_keys((flatbed_credentials*)wrong_kind(), id, id, id, &error),
      "a flatbed_credentials");
  return flatbed_credentials_set_keys(out, id, flatbed_text("secret"), session, said);
}

static void sends_headers_and_signatures(void) {
  flatbed_remote_options options = quick();
  options.credentials = give_header;
  check_opens(&options, url_of("header.safetensors"));
  options = quick();
  options.s3_endpoint = flatbed_text(server_url);
  options.s3_region = flatbed_text("eu-west-1");
  check_does_not_open(&options, "s3://bucket/model.safetensors", FLATBED_ERROR_PERMISSION_DENIED,
                      "bucket");
  options.credentials = give_keys;
  options.s3_addressing = FLATBED_S3_ADDRESSING_PATH;
  check_opens(&options, "s3://bucket/model.safetensors");
}

// ---- Cancelling ---------------------------------------------------------------------------------

static void is_cancelled(void) {
  flatbed_error error;
  flatbed_remote_options options = quick();
  flatbed_cancel* cancel = NULL;
  CHECK_OK(flatbed_cancel_new(&cancel, &error));
  options.cancel = cancel;
  check_opens(&options, url_of("model.safetensors"));
  flatbed_cancel_set(cancel);
  check_does_not_open(&options, url_of("model.safetensors"), FLATBED_ERROR_CANCELLED,
                      "interrupted");
  flatbed_cancel_reset(cancel);
  check_opens(&options, url_of("model.safetensors"));
  account self = {.first = "good", .later = "none", .cancel = cancel};
  options = with_account(&self);  // which asks for the stop as the first request begins
  options.cancel = cancel;
  check_does_not_open(&options, url_of("stalled.safetensors"), FLATBED_ERROR_CANCELLED,
                      "interrupted");
  CHECK_NUMBER(self.calls, 1);
  flatbed_cancel_free(cancel);
}

int test_remote(const char* url, const char* output) {
  server_url = url;
  output_folder = output;
  opens_and_counts();
  names_what_it_cannot_open();
  refuses_wrong_arguments();
  tells_urls_from_paths();
  serves_several_threads();
  refuses_options();
  refuses_long_times();
  reads_files_of_certificates();
  passes_texts_on();
  retries_what_may_pass();
  retries_as_often_as_it_is_told();
  keeps_blocks_in_a_cache();
  sends_tokens();
  asks_again_after_a_refusal();
  passes_errors_of_credentials_on();
  closes_the_context_once();
  sends_headers_and_signatures();
  is_cancelled();
  if (failed_checks() != 0) fprintf(stderr, "%d checks failed\n", failed_checks());
  return failed_checks() == 0 ? 0 : 1;
}
