// remote_options_from_environment(): how URLs are reached, from where other programs have it: the
// variables and files of the AWS command line for s3://, those of the Hub's library for hf://. The
// library reads no environment; this is the tool's.
#pragma once

#include "flatbed/remote.hpp"
#include "variables.hpp"

namespace flatbed::tool {

// With the credentials for s3:// and for the Hub, the endpoints, the region and the CA file. The
// files are read now, and those of S3 again if a server refuses their keys, which may have been
// renewed. A setting that is wrong only matters for URLs that need it: reading those is an error.
[[nodiscard]] RemoteOptions remote_options_from_environment(
    const Variables& variables = process_variables());

}  // namespace flatbed::tool
