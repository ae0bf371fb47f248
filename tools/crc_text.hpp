// A CrcReport as text for people and as JSON.
#pragma once

#include <string>
#include <vector>

#include "flatbed/crc.hpp"
#include "json_out.hpp"

namespace flatbed::tool {

// "'archive/data/3': CRC-32 does not match: found 0x00000012, expected 0x00000034"
[[nodiscard]] std::string mismatch_text(const CrcMismatch& mismatch);

// One line for each of the first mismatches, and how many there are more.
[[nodiscard]] std::vector<std::string> crc_warnings(const CrcReport& report);

// One line for each thing that could not be checked.
[[nodiscard]] std::vector<std::string> crc_notes(const CrcReport& report);

// {"checked", "read_in_part", "mismatched", "mismatches": [{"file", "record", "stated", "found"}],
//  "unstated", "without"}
void write_crc_json(const CrcReport& report, JsonWriter& json);

}  // namespace flatbed::tool
