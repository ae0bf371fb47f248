// What a CrcReport says, to people and to programs.
#pragma once

#include <string>
#include <vector>

#include "flatbed/crc.hpp"
#include "json_out.hpp"

namespace flatbed::tool {

// "'archive/data/3': the CRC-32 of its bytes is 0x12, the zip states 0x34"
[[nodiscard]] std::string mismatch_text(const CrcMismatch& mismatch);

// What a user of the copied bytes should know: a sentence for each of the first mismatches, and for
// what could not be checked.
[[nodiscard]] std::vector<std::string> crc_notes(const CrcReport& report);

// {"checked", "read_in_part", "mismatched", "mismatches": [{"file", "record", "stated", "found"}],
//  "without"}
void write_crc_json(const CrcReport& report, JsonWriter& json);

}  // namespace flatbed::tool
