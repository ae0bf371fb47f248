// Remote: what a URL is, and who opens it.
#include "flatbed/remote.hpp"

#include <utility>

#include "remote_folder.hpp"
#include "remote_source.hpp"
#include "s3_folder.hpp"
#include "s3_place.hpp"
#include "s3_sink.hpp"
#include "s3_sink_folder.hpp"
#include "text.hpp"
#include "transport.hpp"
#include "url.hpp"

namespace flatbed {

using remote::error_of;
using remote::PlacedFile;
using remote::RemoteFolder;
using remote::RemoteSource;
using remote::Url;

namespace {

std::shared_ptr<const RemoteFolder> folder_of(const std::shared_ptr<Transport>& transport,
                                              remote::FolderPlace place) {
  return std::make_shared<const RemoteFolder>(transport, std::move(place));
}

bool is_hub(std::string_view url) { return remote::scheme_of(url) == "hf"; }

// The folder of an object, whose key becomes the prefix, and the name in it.
std::string split_key(remote::S3Place& place) {
  const std::size_t slash = place.key.rfind('/');
  const std::size_t begin = slash == place.key.npos ? 0 : slash + 1;
  std::string name = place.key.substr(begin);
  place.key.resize(begin);
  return name;
}

// A file of a folder, or the folder where the name is empty.
Result<Checkpoint> open_named(std::shared_ptr<const SourceFolder> folder, const std::string& name,
                              const OpenOptions& options) {
  Result<Checkpoint> opened = Checkpoint::open(std::move(folder), name, options);
  if (opened) return opened;
  Error error = std::move(opened).error();
  // Most files have a dot in their names, and most folders have none.
  const bool may_be_folder = !name.empty() && name.find('.') == name.npos;
  if (may_be_folder &&
      (error.code == ErrorCode::file_not_found || error.code == ErrorCode::unsupported_format))
    error.message += "; the URL of a folder ends with '/'";
  return error;
}

Result<Checkpoint> open_in_s3(const std::shared_ptr<Transport>& transport, std::string_view url,
                              const OpenOptions& options) {
  FLATBED_ASSIGN(remote::S3Place place, remote::place_s3(url, transport->options().s3));
  // One version of an object: of its neighbours, no version is known.
  if (!place.version_id.empty()) {
    FLATBED_ASSIGN(std::shared_ptr<const ByteSource> source, remote::open_s3(transport, place));
    return Checkpoint::open(std::move(source), options);
  }
  const std::string name = split_key(place);
  return open_named(std::make_shared<const remote::S3Folder>(transport, std::move(place)), name,
                    options);
}

// Those of S3 and the Hub have places of their own.
Result<Url> parse_web(std::string_view url) {
  const std::string scheme = remote::scheme_of(url);
  if (!scheme.empty() && !is_url(url))
    return error_of(ErrorCode::url_invalid, "the URL is refused: found the scheme ",
                    remote::shown(scheme), ", expected https, http, s3 or hf");
  return remote::parse_url(url);
}

// Without a name it is a usual one, or the library chooses by all that are listed.
Result<Checkpoint> open_placed(const std::shared_ptr<Transport>& transport, PlacedFile placed,
                               const OpenOptions& options) {
  const std::shared_ptr<const RemoteFolder> folder = folder_of(transport, std::move(placed.folder));
  if (placed.name.empty()) {
    FLATBED_ASSIGN(placed.name, folder->usual_name());
  }
  return open_named(folder, placed.name, options);
}

Result<Checkpoint> open_on_web(const std::shared_ptr<Transport>& transport, std::string_view url,
                               const OpenOptions& options) {
  if (is_hub(url)) {
    FLATBED_ASSIGN(PlacedFile placed,
                   remote::place_hub_file(url, transport->options().hub_endpoint));
    return open_placed(transport, std::move(placed), options);
  }
  FLATBED_ASSIGN(Url parsed, parse_web(url));
  // What comes after "?" is for this file alone, such as a signature: there are no others.
  if (parsed.has_query) {
    const std::string label = parsed.label();
    FLATBED_ASSIGN(std::shared_ptr<const RemoteSource> source,
                   RemoteSource::open(transport, {std::move(parsed), label}));
    return Checkpoint::open(std::shared_ptr<const ByteSource>(std::move(source)), options);
  }
  FLATBED_ASSIGN(PlacedFile placed, remote::place_file(parsed));
  return open_placed(transport, std::move(placed), options);
}

Result<remote::S3Place> place_upload(std::string_view url, const S3Options& options) {
  if (!remote::is_s3(url))
    return error_of(ErrorCode::url_invalid, "files can be written to s3:// only: found ",
                    remote::shown(remote::scheme_of(url)));
  FLATBED_ASSIGN(remote::S3Place place, remote::place_s3(url, options));
  if (!place.version_id.empty())
    return error_of(ErrorCode::url_invalid, "a version of an object cannot be written");
  return place;
}

}  // namespace

bool is_url(std::string_view text) noexcept {
  const std::string scheme = remote::scheme_of(text);
  return scheme == "http" || scheme == "https" || scheme == "hf" || scheme == "s3";
}

Result<Remote> Remote::make(RemoteOptions options) {
  FLATBED_ASSIGN(std::shared_ptr<Transport> transport, Transport::make(std::move(options)));
  return Remote(std::move(transport));
}

Result<Checkpoint> Remote::open(std::string_view url, const OpenOptions& options) const {
  if (remote::is_s3(url)) return open_in_s3(transport_, url, options);
  return open_on_web(transport_, url, options);
}

Result<std::shared_ptr<const ByteSource>> Remote::open_source(std::string_view url) const {
  if (remote::is_s3(url)) {
    FLATBED_ASSIGN(const remote::S3Place place, remote::place_s3(url, transport_->options().s3));
    return remote::open_s3(transport_, place);
  }
  if (is_hub(url)) {
    FLATBED_ASSIGN(PlacedFile placed,
                   remote::place_hub_file(url, transport_->options().hub_endpoint));
    return folder_of(transport_, std::move(placed.folder))->open(placed.name);
  }
  FLATBED_ASSIGN(Url parsed, parse_web(url));
  const std::string label = parsed.label();
  FLATBED_ASSIGN(std::shared_ptr<const RemoteSource> source,
                 RemoteSource::open(transport_, {std::move(parsed), label}));
  return std::shared_ptr<const ByteSource>(std::move(source));
}

Result<std::shared_ptr<const SourceFolder>> Remote::open_folder(std::string_view url) const {
  std::string text(url);
  if (!text.ends_with('/')) text += '/';
  if (remote::is_s3(text)) {
    FLATBED_ASSIGN(remote::S3Place place, remote::place_s3(text, transport_->options().s3));
    return std::shared_ptr<const SourceFolder>(
        std::make_shared<const remote::S3Folder>(transport_, std::move(place)));
  }
  if (is_hub(text)) {
    FLATBED_ASSIGN(PlacedFile placed,
                   remote::place_hub_file(text, transport_->options().hub_endpoint));
    return std::shared_ptr<const SourceFolder>(folder_of(transport_, std::move(placed.folder)));
  }
  FLATBED_ASSIGN(const Url parsed, parse_web(text));
  if (parsed.has_query) return error_of(ErrorCode::url_invalid, "the URL of a folder has a query");
  FLATBED_ASSIGN(PlacedFile placed, remote::place_file(parsed));
  return std::shared_ptr<const SourceFolder>(folder_of(transport_, std::move(placed.folder)));
}

Result<std::unique_ptr<ByteSink>> Remote::create(std::string_view url,
                                                 const UploadOptions& options) const {
  FLATBED_ASSIGN(remote::S3Place place, place_upload(url, transport_->options().s3));
  if (place.key.empty() || place.key.ends_with('/'))
    return error_of(ErrorCode::url_invalid, "a file needs a name: found ",
                    remote::shown(place.name()));
  auto upload = std::make_unique<remote::S3Upload>(transport_, std::move(place), options.replace);
  return std::unique_ptr<ByteSink>(std::make_unique<remote::S3Sink>(std::move(upload), nullptr));
}

Result<std::unique_ptr<SinkFolder>> Remote::create_folder(std::string_view url,
                                                          const UploadOptions& options) const {
  std::string text(url);
  if (!text.ends_with('/')) text += '/';
  FLATBED_ASSIGN(remote::S3Place place, place_upload(text, transport_->options().s3));
  return std::unique_ptr<SinkFolder>(
      std::make_unique<remote::S3SinkFolder>(transport_, std::move(place), options.replace));
}

RemoteStats Remote::stats() const noexcept { return transport_->stats(); }

Result<Checkpoint> open_url(std::string_view url, RemoteOptions options,
                            const OpenOptions& open_options) {
  FLATBED_ASSIGN(const Remote remote, Remote::make(std::move(options)));
  return remote.open(url, open_options);
}

}  // namespace flatbed
