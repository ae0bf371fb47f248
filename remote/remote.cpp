// Remote: what a URL is, and who opens it.
#include "flatbed/remote.hpp"

#include <utility>

#include "remote_folder.hpp"
#include "remote_source.hpp"
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

std::shared_ptr<const SourceFolder> folder_of(const std::shared_ptr<Transport>& transport,
                                              remote::FolderPlace place) {
  return std::make_shared<const RemoteFolder>(transport, std::move(place));
}

bool is_hub(std::string_view url) { return remote::scheme_of(url) == "hf"; }

}  // namespace

bool is_url(std::string_view text) noexcept {
  const std::string scheme = remote::scheme_of(text);
  return scheme == "http" || scheme == "https" || scheme == "hf";
}

Result<Remote> Remote::make(RemoteOptions options) {
  FLATBED_ASSIGN(std::shared_ptr<Transport> transport, Transport::make(std::move(options)));
  return Remote(std::move(transport));
}

Result<Checkpoint> Remote::open(std::string_view url, const OpenOptions& options) const {
  if (is_hub(url)) {
    FLATBED_ASSIGN(PlacedFile placed,
                   remote::place_hub_file(url, transport_->options().hub_endpoint));
    return Checkpoint::open(folder_of(transport_, std::move(placed.folder)), placed.name, options);
  }
  FLATBED_ASSIGN(const Url parsed, remote::parse_url(url));
  // What comes after "?" is for this file alone, such as a signature: there are no others.
  if (parsed.has_query) {
    FLATBED_ASSIGN(std::shared_ptr<const ByteSource> source, open_source(url));
    return Checkpoint::open(std::move(source), options);
  }
  FLATBED_ASSIGN(PlacedFile placed, remote::place_file(parsed));
  return Checkpoint::open(folder_of(transport_, std::move(placed.folder)), placed.name, options);
}

Result<std::shared_ptr<const ByteSource>> Remote::open_source(std::string_view url) const {
  if (is_hub(url)) {
    FLATBED_ASSIGN(PlacedFile placed,
                   remote::place_hub_file(url, transport_->options().hub_endpoint));
    return folder_of(transport_, std::move(placed.folder))->open(placed.name);
  }
  FLATBED_ASSIGN(Url parsed, remote::parse_url(url));
  const std::string label = parsed.label();
  FLATBED_ASSIGN(std::shared_ptr<const RemoteSource> source,
                 RemoteSource::open(transport_, {std::move(parsed), label}));
  return std::shared_ptr<const ByteSource>(std::move(source));
}

Result<std::shared_ptr<const SourceFolder>> Remote::open_folder(std::string_view url) const {
  std::string text(url);
  if (!text.ends_with('/')) text += '/';
  if (is_hub(text)) {
    FLATBED_ASSIGN(PlacedFile placed,
                   remote::place_hub_file(text, transport_->options().hub_endpoint));
    return folder_of(transport_, std::move(placed.folder));
  }
  FLATBED_ASSIGN(const Url parsed, remote::parse_url(text));
  if (parsed.has_query) return error_of(ErrorCode::url_invalid, "the URL of a folder has a query");
  FLATBED_ASSIGN(PlacedFile placed, remote::place_file(parsed));
  return folder_of(transport_, std::move(placed.folder));
}

RemoteStats Remote::stats() const noexcept { return transport_->stats(); }

Result<Checkpoint> open_url(std::string_view url, RemoteOptions options,
                            const OpenOptions& open_options) {
  FLATBED_ASSIGN(const Remote remote, Remote::make(std::move(options)));
  return remote.open(url, open_options);
}

}  // namespace flatbed
