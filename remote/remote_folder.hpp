// RemoteFolder: the folder of a URL, or a repository of a hub, as a SourceFolder. Where it cannot
// be listed, names() says which of the usual names of models is there. Shares the transport.
// Thread-safe.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "flatbed/source_folder.hpp"
#include "hub_list.hpp"
#include "remote_source.hpp"
#include "transport.hpp"

namespace flatbed::remote {

// The files "<base><name>".
struct FolderPlace {
  Url base;           // ends with "/"
  std::string label;  // ends with "/"
  // One file whose URL is spelled in a way of its own.
  std::string spelled_name = {};
  Url spelled = {};
  // Of a hub: the base is "<hub><revision>/<below>", and the revision is replaced by the commit
  // that the hub's API names, or the first answer, so that all files are of one commit.
  std::string hub = {};
  HubPlace listed = {};
};

class RemoteFolder final : public SourceFolder {
 public:
  RemoteFolder(std::shared_ptr<const Transport> transport, FolderPlace place)
      : transport_(std::move(transport)), place_(std::move(place)) {}

  [[nodiscard]] std::string_view label() const noexcept override { return place_.label; }
  [[nodiscard]] Result<std::shared_ptr<const ByteSource>> open(
      std::string_view name) const override;
  // Of a hub that lists it, all; of others, the one of the usual names that is there.
  [[nodiscard]] Result<std::vector<std::string>> names() const override;
  [[nodiscard]] Result<std::vector<std::string>> folders() const override;
  // True once names() or folders() were listed by a hub.
  [[nodiscard]] bool lists_all() const noexcept override;
  [[nodiscard]] unsigned parallel_opens() const noexcept override {
    return transport_->options().max_connections;
  }

  // The usual name of a model that is there, to be opened: a folder may have the same model in
  // several formats. Empty if the hub lists none. Errors: file_not_found (none in a folder that is
  // not listed), those of the requests.
  [[nodiscard]] Result<std::string> usual_name() const;

 private:
  [[nodiscard]] Result<Url> url_of(std::string_view name) const;
  void pin(std::string_view commit) const;
  void pin(const RemoteSource& source) const;
  // Of a folder that is no hub's, no list. Never null.
  [[nodiscard]] Result<std::shared_ptr<const HubList>> hub_list() const;
  [[nodiscard]] Result<std::vector<std::string>> usual_names() const;

  std::shared_ptr<const Transport> transport_;
  FolderPlace place_;
  mutable std::mutex mutex_;
  mutable std::string pinned_;                   // the base of the commit; guarded
  mutable std::shared_ptr<const HubList> list_;  // once it was asked for; guarded
  // What usual_names() opened, for the next open(); guarded.
  mutable std::map<std::string, std::shared_ptr<const ByteSource>, std::less<>> opened_;
};

// A folder and a name in it, which is empty where the folder itself is meant.
struct PlacedFile {
  FolderPlace folder;
  std::string name;
};

// Of a URL: the name is empty if it ends with "/". Errors: url_invalid (a name that no folder can
// have).
[[nodiscard]] Result<PlacedFile> place_file(const Url& url);

// Of "hf://owner/name@revision/path", where revision (main) and path (none) may be missing. A path
// that ends with "/" is a folder. A revision with "/" is percent-encoded. `endpoint` is the URL of
// the hub. Errors: url_invalid.
[[nodiscard]] Result<PlacedFile> place_hub_file(std::string_view text, std::string_view endpoint);

}  // namespace flatbed::remote
