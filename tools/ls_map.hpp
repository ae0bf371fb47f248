// The form of a map for the terminal: how many bytes lie in each module, as bars.
#pragma once

#include <cstddef>

#include "listing.hpp"
#include "output.hpp"

namespace flatbed::tool {

// Two levels of modules, the largest first, on lines of at most `width` columns. Modules without
// siblings above them are skipped.
void write_bars(const Listing& listing, std::size_t width, Output& output);

}  // namespace flatbed::tool
