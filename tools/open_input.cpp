#include "open_input.hpp"

#include <fmt/format.h>

#include <string>
#include <string_view>
#include <utility>

#include "format_text.hpp"
#include "remote_session.hpp"
#include "url_text.hpp"

namespace flatbed::tool {

namespace {

// A name that indexes have, in a URL without a query, which the files beside it would lack.
bool is_index_url(std::string_view url) {
  return url.find_first_of("?#") == std::string_view::npos && url.ends_with(".json") &&
         url_name(url).find(".index.") != std::string::npos;
}

// "s3:/bucket" is the name of a local file, and mostly a URL with a slash too few.
Error with_hint(const std::filesystem::path& input, Error error) {
  if (error.code != ErrorCode::file_not_found) return error;
  for (const std::string_view scheme : {"http", "https", "s3", "hf"}) {
    if (input.native().starts_with(std::string(scheme) + ':'))
      error.message += fmt::format("; a URL begins with {}://", scheme);
  }
  return error;
}

}  // namespace

void begin_session(RemoteChoice& remote) {
  remote.session = std::make_shared<RemoteSession>(remote);
}

std::shared_ptr<RemoteSession> session_of(const RemoteChoice& remote) {
  return remote.session ? remote.session : std::make_shared<RemoteSession>(remote);
}

Result<Checkpoint> open_input(const std::filesystem::path& input, const OpenOptions& options,
                              const RemoteChoice& remote) {
  if (!is_url(input.native())) {
    Result<Checkpoint> opened = Checkpoint::open(input, options);
    if (!opened) return with_hint(input, std::move(opened).error());
    return opened;
  }
  return session_of(remote)->open(input, options);
}

Result<ScanReport> scan_input(const std::filesystem::path& input, const ScanOptions& options,
                              const RemoteChoice& remote) {
  if (!is_url(input.native())) {
    Result<ScanReport> report = scan(input, options);
    if (!report) return with_hint(input, std::move(report).error());
    return report;
  }
  const std::shared_ptr<RemoteSession> session = session_of(remote);
  if (!is_folder_url(input.native()) && !is_index_url(input.native())) {
    FLATBED_ASSIGN(const std::shared_ptr<const ByteSource> source, session->open_source(input));
    return scan(*source, options);
  }
  const std::string name = is_folder_url(input.native()) ? "" : url_name(input.native());
  FLATBED_ASSIGN(const std::shared_ptr<const SourceFolder> folder,
                 session->open_folder(name.empty() ? input : input.parent_path()));
  return scan(*folder, name, options);
}

Result<void> check_is_local(const std::filesystem::path& path, std::string_view use) {
  if (!is_url(path.native())) return {};
  return Error{ErrorCode::invalid_argument,
               fmt::format("{}: {} takes local files: found a URL", path_text(path), use)};
}

}  // namespace flatbed::tool
