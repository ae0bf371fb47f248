// list_hub(): the files of a folder in a repository of a hub, and the commit that they are of.
// Thread-safe.
//
//   GET <api>/revision/<revision>           the commit
//   GET <api>/tree/<commit>/<folder>        a page of files and folders; the next one is named by
//                                           Link: <URL>; rel="next"
#pragma once

#include <optional>
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
  std::string commit;
  std::vector<std::string> names;  // of the files directly in the folder
};

// nullopt: there is no such API, or it refuses to answer, or has no such repository or revision.
// Errors: http_protocol, limit_exceeded (100,000 names, 1,000 pages), those of the requests.
[[nodiscard]] Result<std::optional<HubList>> list_hub(const Transport& transport,
                                                      const HubPlace& place);

// The URL of the next page in a Link header, as it stands there; empty if there is none.
[[nodiscard]] std::string_view next_link(std::string_view header);

}  // namespace flatbed::remote
