// list_hub(): what is in a folder of a repository of a hub, and the commit that it is of.
// Thread-safe.
//
//   GET <api>/revision/<revision>           the commit
//   GET <api>/tree/<commit>/<folder>        a page of files and folders; the next one is named by
//                                           Link: <URL>; rel="next"
#pragma once

#include <string>
#include <vector>

#include "flatbed/result.hpp"
#include "transport.hpp"

namespace flatbed::remote {

struct HubPlace {
  std::string api;       // "https://host/api/models/owner/name"; empty: of no hub
  std::string revision;  // percent-encoded
  std::string below;     // a folder; ends with "/" if there is one
};

struct HubList {
  std::string commit;                // empty: the hub does not say
  bool complete = false;             // false: the hub does not list the folder
  std::vector<std::string> names;    // of the files in the folder, from there
  std::vector<std::string> folders;  // the same of the folders
};

// Where the first answer of either kind is 401, 403, 404, 405, 410, 501 or no JSON, there is no
// such API, or it does not say, or has no such repository, revision or folder. Errors:
// http_protocol (of an answer, or of the link to the next page), limit_exceeded (100,000 files,
// 100,000 folders, 1,000 pages), those of the requests.
[[nodiscard]] Result<HubList> list_hub(const Transport& transport, const HubPlace& place);

// The URL of the next page in a Link header, as it stands there; empty if there is none.
[[nodiscard]] std::string_view next_link(std::string_view header);

}  // namespace flatbed::remote
