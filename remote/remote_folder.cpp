#include "remote_folder.hpp"

#include <algorithm>
#include <array>
#include <optional>
#include <span>
#include <utility>

#include "text.hpp"

namespace flatbed::remote {

namespace {

// The usual names of models, in the order in which they are tried: the first that exists ends the
// search.
constexpr std::array<std::array<std::string_view, 2>, 6> kUsualNames{{
    {"model.safetensors.index.json", "model.safetensors"},
    {"diffusion_pytorch_model.safetensors.index.json", "diffusion_pytorch_model.safetensors"},
    {"adapter_model.safetensors", "consolidated.safetensors"},
    {"pytorch_model.bin.index.json", "pytorch_model.bin"},
    {"adapter_model.bin", "consolidated.00.pth"},
    {"model.pth", "model.pt"},
}};

Error refused(std::string_view text, std::string_view what) {
  return error_of(ErrorCode::url_invalid, "the URL is refused: found ", shown(text), ", expected ",
                  what);
}

bool is_commit(std::string_view text) {
  return text.size() == 40 && std::ranges::all_of(text, [](char c) {
           return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
         });
}

// Of an owner or a repository.
bool is_hub_name(std::string_view name) {
  constexpr std::string_view kOther = "-._";
  return !name.empty() && name.size() <= 96 && name.front() != '.' &&
         std::ranges::all_of(name, [&](char c) {
           return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                  kOther.find(c) != kOther.npos;
         });
}

// A relative path that stays inside.
bool is_inside(std::string_view path) {
  for (std::string_view rest = path;;) {
    const std::size_t slash = rest.find('/');
    const std::string_view component = rest.substr(0, slash);
    if (component.empty() || component == "." || component == "..") return false;
    if (slash == rest.npos) return true;
    rest.remove_prefix(slash + 1);
  }
}

}  // namespace

Result<Url> RemoteFolder::url_of(std::string_view name) const {
  if (!is_inside(name))
    return error_of(ErrorCode::invalid_argument, shown(name), " is not a name in a folder");
  if (name == place_.spelled_name) return place_.spelled;
  std::string base = place_.base.text;
  {
    const std::lock_guard lock(mutex_);
    if (!pinned_.empty()) base = pinned_;
  }
  return parse_url(text_of(base, encode_path(name)));
}

void RemoteFolder::pin(const RemoteSource& source) const {
  if (place_.hub.empty()) return;
  std::string_view commit = source.head().find("x-repo-commit");
  for (const AnswerHead& redirect : source.redirects()) {
    if (commit.empty()) commit = redirect.find("x-repo-commit");
  }
  if (is_commit(commit)) pin(commit);
}

void RemoteFolder::pin(std::string_view commit) const {
  const std::lock_guard lock(mutex_);
  if (pinned_.empty()) pinned_ = text_of(place_.hub, commit, "/", place_.listed.below);
}

Result<std::shared_ptr<const ByteSource>> RemoteFolder::open(std::string_view name) const {
  {
    const std::lock_guard lock(mutex_);
    if (const auto found = opened_.find(name); found != opened_.end()) {
      std::shared_ptr<const ByteSource> source = std::move(found->second);
      opened_.erase(found);
      return source;
    }
  }
  FLATBED_ASSIGN(Url url, url_of(name));
  RemoteFile file{std::move(url), {}};
  file.label = place_.hub.empty() ? file.url.label() : text_of(place_.label, name);
  FLATBED_ASSIGN(std::shared_ptr<const RemoteSource> source,
                 RemoteSource::open(transport_, std::move(file)));
  pin(*source);
  return std::shared_ptr<const ByteSource>(std::move(source));
}

Result<std::vector<std::string>> RemoteFolder::names() const {
  FLATBED_ASSIGN(const std::shared_ptr<const HubList> list, hub_list());
  return list->complete ? list->names : usual_names();
}

Result<std::vector<std::string>> RemoteFolder::folders() const {
  FLATBED_ASSIGN(const std::shared_ptr<const HubList> list, hub_list());
  return list->folders;
}

bool RemoteFolder::lists_all() const noexcept {
  const std::lock_guard lock(mutex_);
  return list_ != nullptr && list_->complete;
}

Result<std::string> RemoteFolder::usual_name() const {
  FLATBED_ASSIGN(const std::shared_ptr<const HubList> list, hub_list());
  if (!list->complete) {
    FLATBED_ASSIGN(const std::vector<std::string> names, usual_names());
    return names.front();
  }
  for (const auto& row : kUsualNames) {
    for (const std::string_view name : row) {
      if (std::ranges::find(list->names, name) != list->names.end()) return std::string(name);
    }
  }
  return std::string();
}

// The first one is kept: what a commit has does not change.
Result<std::shared_ptr<const HubList>> RemoteFolder::hub_list() const {
  {
    const std::lock_guard lock(mutex_);
    if (list_) return list_;
  }
  HubList list;
  if (!place_.listed.api.empty()) {
    Result<HubList> listed = list_hub(*transport_, place_.listed);
    if (!listed)
      return with_context(text_of(shown(place_.label), ": list"), std::move(listed).error());
    list = *std::move(listed);
  }
  if (!list.commit.empty()) pin(list.commit);
  const std::lock_guard lock(mutex_);
  if (!list_) list_ = std::make_shared<const HubList>(std::move(list));
  return list_;
}

// Those that can be opened.
Result<std::vector<std::string>> RemoteFolder::usual_names() const {
  std::vector<std::string> names;
  std::optional<Error> refused;
  for (const auto& row : kUsualNames) {
    for (const std::string_view name : row) {
      Result<std::shared_ptr<const ByteSource>> source = open(name);
      if (!source && source.error().code == ErrorCode::file_not_found) continue;
      // Servers that may not list what they have say so of files that are not there, too.
      if (!source && source.error().code == ErrorCode::permission_denied) {
        if (!refused) refused = std::move(source).error();
        continue;
      }
      if (!source) return std::move(source).error();
      names.emplace_back(name);
      const std::lock_guard lock(mutex_);
      opened_.insert_or_assign(std::string(name), *std::move(source));
      break;
    }
    if (!names.empty()) return names;
  }
  if (refused) return *std::move(refused);
  std::string list;
  for (const auto& row : kUsualNames) {
    for (const std::string_view name : row) list += text_of(list.empty() ? "" : ", ", name);
  }
  return error_of(ErrorCode::file_not_found, shown(place_.label),
                  ": the folder has none of the usual names of models: tried ", list,
                  "; name the file to open");
}

Result<PlacedFile> place_file(const Url& url) {
  PlacedFile placed;
  const std::size_t after = url.path.rfind('/') + 1;
  const std::string_view last = std::string_view(url.path).substr(after);
  FLATBED_ASSIGN(placed.folder.base,
                 parse_url(text_of(url.origin, std::string_view(url.path).substr(0, after))));
  placed.folder.label = placed.folder.base.label();
  placed.name = decode_path(last);
  if (last.empty()) return placed;
  if (placed.name.find('/') != placed.name.npos || !is_inside(placed.name))
    return refused(url.label(), "the name of a file at the end");
  placed.folder.spelled_name = placed.name;
  placed.folder.spelled = url;
  return placed;
}

Result<PlacedFile> place_hub_file(std::string_view text, std::string_view endpoint) {
  constexpr std::string_view kScheme = "hf://";
  std::string_view rest = text.substr(kScheme.size());
  const auto cut = [&](char at) {
    const std::size_t end = std::min(rest.find(at), rest.size());
    const std::string_view front = rest.substr(0, end);
    rest.remove_prefix(std::min(end + 1, rest.size()));
    return front;
  };
  const std::string_view owner = cut('/');
  // The message would show it.
  if (owner.find('@') != owner.npos)
    return error_of(ErrorCode::url_invalid, "the URL is refused: found '@' in the owner, expected ",
                    "hf://owner/name@revision/path; pass credentials as options");
  std::string_view name = cut('/');
  const std::size_t at = name.find('@');
  const std::string revision(at == name.npos ? "main" : decode_path(name.substr(at + 1)));
  name = name.substr(0, at);
  if (!is_hub_name(owner) || !is_hub_name(name))
    return refused(text,
                   "hf://owner/name@revision/path, where @revision and /path may be left out");
  if (!is_inside(revision))
    return refused(text, "a revision without empty, '.' and '..' components");
  PlacedFile placed;
  const std::string path = decode_path(rest);
  const std::size_t after = path.ends_with('/') ? path.size() : 0;
  const std::string_view below = std::string_view(path).substr(0, after);  // a folder
  placed.name = path.substr(after);
  if (!path.empty() && !is_inside(below.empty() ? path : below.substr(0, below.size() - 1)))
    return refused(text, "a path without empty, '.' and '..' components");
  while (endpoint.ends_with('/')) endpoint.remove_suffix(1);
  FLATBED_ASSIGN(const Url hub, parse_url(text_of(endpoint, "/", owner, "/", name, "/resolve/")));
  placed.folder.hub = hub.text;
  std::string encoded = encode_path(revision);
  for (std::size_t slash = encoded.find('/'); slash != encoded.npos; slash = encoded.find('/'))
    encoded.replace(slash, 1, "%2F");
  placed.folder.listed = {text_of(endpoint, "/api/models/", owner, "/", name), encoded,
                          encode_path(below)};
  FLATBED_ASSIGN(placed.folder.base,
                 parse_url(text_of(hub.text, encoded, "/", placed.folder.listed.below)));
  placed.folder.label = text_of("hf://", owner, "/", name, "@", revision, "/", below);
  return placed;
}

}  // namespace flatbed::remote
