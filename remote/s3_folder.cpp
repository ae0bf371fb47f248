#include "s3_folder.hpp"

#include "remote_source.hpp"
#include "s3_answer.hpp"
#include "text.hpp"

namespace flatbed::remote {

namespace {

constexpr std::size_t kMaxNames = 100'000;  // of files, and of folders
constexpr std::size_t kMaxPages = 1'000;    // of mostly 1,000 names; a server may send empty ones
constexpr std::size_t kMaxPage = 16 << 20;  // 1,000 keys of 1 KiB, encoded, and more

// The prefix itself may be an object, of no name.
void add_below(std::string_view prefix, std::string_view key, std::vector<std::string>& names) {
  if (key.size() > prefix.size() && key.starts_with(prefix))
    names.emplace_back(key.substr(prefix.size()));
}

}  // namespace

Result<std::shared_ptr<const ByteSource>> open_s3(std::shared_ptr<const Transport> transport,
                                                  const S3Place& place) {
  FLATBED_ASSIGN(
      std::shared_ptr<const RemoteSource> source,
      RemoteSource::open(std::move(transport), {place.url(), place.name(), "s3", place.sigv4}));
  return std::shared_ptr<const ByteSource>(std::move(source));
}

Result<std::shared_ptr<const ByteSource>> S3Folder::open(std::string_view name) const {
  S3Place place = place_;
  place.key += name;
  return open_s3(transport_, place);
}

Result<std::vector<std::string>> S3Folder::names() const {
  FLATBED_ASSIGN(Listing listing, list());
  const std::lock_guard lock(mutex_);
  folders_ = std::move(listing.folders);
  return std::move(listing.names);
}

Result<std::vector<std::string>> S3Folder::folders() const {
  {
    const std::lock_guard lock(mutex_);
    if (folders_) return *folders_;
  }
  FLATBED_ASSIGN(Listing listing, list());
  return std::move(listing.folders);
}

Result<S3Folder::Listing> S3Folder::list() const {
  Listing listing;
  std::string next;
  std::size_t pages = 0;
  do {
    if (++pages > kMaxPages)
      return error_of(ErrorCode::limit_exceeded, shown(label_), ": list: more than ", kMaxPages,
                      " pages, the limit");
    std::vector<std::pair<std::string_view, std::string>> parameters;
    if (!next.empty()) parameters.emplace_back("continuation-token", next);
    parameters.emplace_back("delimiter", "/");
    parameters.emplace_back("encoding-type", "url");
    parameters.emplace_back("list-type", "2");
    parameters.emplace_back("prefix", place_.key);
    Call call = place_.call(Method::get, place_.url_with("", parameters));
    call.body_limit = kMaxPage;
    if (Result<void> ran = transport_->run({&call, 1}); !ran)
      return with_context(text_of(shown(label_), ": list"), std::move(ran).error());
    Result<S3List> list = parse_s3_list(call.text);
    if (!list) return with_context(text_of(shown(label_), ": list"), std::move(list).error());
    for (const std::string& key : list->keys) add_below(place_.key, key, listing.names);
    for (const std::string& prefix : list->prefixes) add_below(place_.key, prefix, listing.folders);
    for (const auto& [count, what] : {std::pair(listing.names.size(), " objects, the limit"),
                                      std::pair(listing.folders.size(), " folders, the limit")}) {
      if (count > kMaxNames)
        return error_of(ErrorCode::limit_exceeded, shown(label_), ": more than ", kMaxNames, what);
    }
    if (list->next == next && !next.empty())
      return error_of(ErrorCode::http_protocol, shown(label_),
                      ": list: the server continues with the same page");
    next = std::move(list->next);
  } while (!next.empty());
  // Of a key such as "prefix//a", the folder has no name, and counts nevertheless.
  for (std::string& folder : listing.folders) {
    if (folder.ends_with('/')) folder.pop_back();
  }
  return listing;
}

}  // namespace flatbed::remote
