// What `ls --json` prints of a checkpoint.
#pragma once

#include "json_out.hpp"
#include "listing.hpp"

namespace flatbed::tool {

// Writes the keys of an object that the caller has begun and ends. With `summary` all but tensors,
// aliases and metadata.
void write_json(const Listing& listing, bool summary, JsonWriter& json);

}  // namespace flatbed::tool
