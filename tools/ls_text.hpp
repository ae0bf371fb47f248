// What `ls` prints for people.
#pragma once

#include "listing.hpp"
#include "output.hpp"

namespace flatbed::tool {

// Two lines: what the checkpoint is, and its seal.
void write_heading(const Listing& listing, Output& output);

// The heading, the tensors unless there is only a summary, and the totals. Returns the number of
// lines that hold an entry each. On a terminal of `width` columns names are cut so that a row fits;
// 0 cuts nothing.
std::size_t write_text(const Listing& listing, bool summary, std::size_t width, Output& output);

}  // namespace flatbed::tool
