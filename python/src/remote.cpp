#include "remote.hpp"

#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <cstddef>
#include <exception>
#include <string>
#include <string_view>

#include "errors.hpp"
#include "gil.hpp"
#if FLATBED_PYTHON_REMOTE
#include <atomic>
#include <memory>
#include <utility>
#include <vector>

#include "flatbed/remote.hpp"
#endif

namespace flatbed::python {

#if FLATBED_PYTHON_REMOTE

namespace {

template <typename T>
T take(const nb::dict& options, const char* key, T otherwise) {
  const nb::object value = options.attr("get")(key, nb::none());
  return value.is_none() ? otherwise : nb::cast<T>(value);
}

RemoteCredentials credentials_of(const nb::dict& options) {
  RemoteCredentials credentials;
  credentials.bearer_token = take(options, "token", std::string());
  credentials.headers = take(options, "headers", std::vector<std::string>());
  credentials.access_key_id = take(options, "access_key_id", std::string());
  credentials.secret_access_key = take(options, "secret_access_key", std::string());
  credentials.session_token = take(options, "session_token", std::string());
  return credentials;
}

// What the transfers of one checkpoint share with Python, for as long as there are any.
struct Shared {
  explicit Shared(const nb::dict& options)
      : fixed(credentials_of(options)), callback(options.attr("get")("credentials", nb::none())) {}
  Shared(const Shared&) = delete;
  Shared& operator=(const Shared&) = delete;
  ~Shared() {
    const GilHeld held;
    callback.reset();
  }

  // On any thread, without the GIL.
  Result<RemoteCredentials> get(const CredentialsQuery& query) {
    const GilHeld held;
    if (callback.is_none()) return fixed;
    try {
      const nb::object normal = import_python("flatbed._remote", "credentials_of");
      return credentials_of(nb::cast<nb::dict>(
          call_python(normal, callback, nb::str(query.origin.data(), query.origin.size()),
                      nb::bool_(query.refused))));
    } catch (nb::python_error& error) {
      return Error{ErrorCode::permission_denied,
                   std::string("the callable for credentials raised ") + error.what()};
    } catch (const std::exception&) {  // what nanobind throws itself, of a value of the wrong kind
      return Error{ErrorCode::invalid_argument,
                   "the callable for credentials returned what they cannot be"};
    }
  }

  const RemoteCredentials fixed;
  nb::object callback;  // None: `fixed` are the credentials
  std::atomic<bool> cancel = false;
};

RemoteOptions remote_options(const nb::dict& options, const std::shared_ptr<Shared>& shared) {
  RemoteOptions remote;
  remote.ca_file = take(options, "ca_file", std::string());
  remote.system_ca_file = take(options, "system_ca_file", std::string());
  remote.system_ca_dir = take(options, "system_ca_dir", std::string());
  remote.proxy = take(options, "proxy", std::string());
  const auto http_proxy = take(options, "http_proxy", std::string());
  if (!http_proxy.empty()) remote.http_proxy = http_proxy;
  remote.no_proxy = take(options, "no_proxy", std::string());
  remote.hub_endpoint = take(options, "hub_endpoint", remote.hub_endpoint);
  remote.s3.endpoint = take(options, "endpoint", std::string());
  remote.s3.region = take(options, "region", std::string());
  remote.cache_dir = take(options, "cache", std::string());
  remote.cache_nbytes = take(options, "cache_nbytes", remote.cache_nbytes);
  remote.retries = take(options, "retries", remote.retries);
  remote.cancel = &shared->cancel;  // which the next line keeps
  remote.credentials = [shared](const CredentialsQuery& query) { return shared->get(query); };
  return remote;
}

// A Remote, and what its transfers share with Python.
struct Opened {
  std::shared_ptr<Shared> shared;
  RemoteOptions options;
};

Opened prepare(const nb::handle& options) {
  const nb::dict checked = nb::cast<nb::dict>(
      call_python(import_python("flatbed._remote", "options_of"), nb::borrow(options)));
  auto shared = std::make_shared<Shared>(checked);
  RemoteOptions remote = remote_options(checked, shared);
  return {std::move(shared), std::move(remote)};
}

// Calls `work` with the Remote on a thread of its own.
template <typename Work>
auto run(const nb::handle& options, Work&& work) {
  Opened opened = prepare(options);
  const std::shared_ptr<Shared> shared = opened.shared;
  auto running = std::async(
      std::launch::async, [&]() -> decltype(work(std::declval<const Remote&>(), shared->cancel)) {
        FLATBED_ASSIGN(const Remote remote, Remote::make(std::move(opened.options)));
        return work(remote, shared->cancel);
      });
  Interruptible::wait(running, shared->cancel);
  return value_or_raise(running.get());
}

}  // namespace

Checkpoint open_url(const nb::handle& url, const nb::handle& options, const OpenOptions& open) {
  const std::string text = nb::cast<std::string>(url);
  return run(options, [&](const Remote& remote, const std::atomic<bool>&) {
    return remote.open(text, open);
  });
}

ScanReport scan_url(const nb::handle& url, const nb::handle& options) {
  const std::string text = nb::cast<std::string>(url);
  return run(
      options, [&](const Remote& remote, const std::atomic<bool>& cancel) -> Result<ScanReport> {
        FLATBED_ASSIGN(const std::shared_ptr<const ByteSource> source, remote.open_source(text));
        return scan(*source, {.cancel = &cancel});
      });
}

struct RemoteOutput::State {
  std::string url;
  bool replace;
  RemoteOptions options;
};

RemoteOutput::RemoteOutput(const nb::handle& url, const nb::handle& options, bool replace)
    : state_(new State{nb::cast<std::string>(url), replace, prepare(options).options}) {}
RemoteOutput::~RemoteOutput() = default;

Result<SaveReport> RemoteOutput::save(const SavePlan& plan, const SaveOptions& options) const {
  FLATBED_ASSIGN(const Remote remote, Remote::make(state_->options));
  FLATBED_ASSIGN(const std::unique_ptr<ByteSink> sink,
                 remote.create(state_->url, {.replace = state_->replace}));
  return flatbed::save(*sink, plan, options);
}

Result<SaveSetReport> RemoteOutput::save_set(const SavePlan& plan,
                                             const SaveSetOptions& options) const {
  FLATBED_ASSIGN(const Remote remote, Remote::make(state_->options));
  FLATBED_ASSIGN(const std::unique_ptr<SinkFolder> folder,
                 remote.create_folder(state_->url, {.replace = state_->replace}));
  return flatbed::save_set(*folder, plan, options);
}

#else

namespace {

[[noreturn]] void raise_no_remote() {
  raise_error({ErrorCode::unsupported_format,
               "this flatbed was built without flatbed::remote, which URLs need"});
}

}  // namespace

Checkpoint open_url(const nb::handle&, const nb::handle&, const OpenOptions&) { raise_no_remote(); }
ScanReport scan_url(const nb::handle&, const nb::handle&) { raise_no_remote(); }

struct RemoteOutput::State {};
RemoteOutput::RemoteOutput(const nb::handle&, const nb::handle&, bool) { raise_no_remote(); }
RemoteOutput::~RemoteOutput() = default;
Result<SaveReport> RemoteOutput::save(const SavePlan&, const SaveOptions&) const {
  return SaveReport{};
}
Result<SaveSetReport> RemoteOutput::save_set(const SavePlan&, const SaveSetOptions&) const {
  return SaveSetReport{};
}

#endif

// "scheme://" and something.
bool is_url(const nb::handle& source) {
  if (!nb::isinstance<nb::str>(source)) return false;
  Py_ssize_t nbytes = 0;
  const char* const bytes = PyUnicode_AsUTF8AndSize(source.ptr(), &nbytes);
  if (bytes == nullptr) {  // a path that is not UTF-8
    PyErr_Clear();
    return false;
  }
  const std::string_view text(bytes, static_cast<std::size_t>(nbytes));
  const std::size_t end = text.find("://");
  if (end == std::string::npos || end == 0 || end + 3 == text.size()) return false;
  const auto is_letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); };
  return is_letter(text[0]) &&
         std::all_of(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(end), [&](char c) {
           return is_letter(c) || (c >= '0' && c <= '9') || c == '+' || c == '-' || c == '.';
         });
}

}  // namespace flatbed::python
