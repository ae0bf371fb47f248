// in_file(): an error with the name of the file that it is about, once. Sources name themselves in
// their errors, quoted, because not every caller knows what it reads from.
#pragma once

#include <string_view>

#include "flatbed/error.hpp"

namespace flatbed {

// Puts "file: " before the message, and takes out what it says of the file already: "'file': ", or
// "file: " at its beginning.
[[nodiscard]] Error in_file(std::string_view file, Error error);
// The same with a place in the file: "file: place: ".
[[nodiscard]] Error in_file(std::string_view file, std::string_view place, Error error);

}  // namespace flatbed
