// An engine that uses zlib, xxHash and simdjson itself and then flatbed, which inflates a
// checkpoint, sums it, writes it with digests and parses its header with copies of its own. Exit
// status 0 if both are right. Arguments: a .pth whose records are deflated, a file to write.
#include <simdjson.h>
#include <xxhash.h>
#include <zlib.h>

#include <array>
#include <cstdint>
#include <iostream>
#include <string>

#include "flatbed/flatbed.hpp"

// The engine's libdeflate has other sums, as a fork might: flatbed must not call it.
extern "C" std::uint32_t libdeflate_crc32(std::uint32_t, const void*, std::size_t) { return 1; }

namespace {

bool own_libraries_work() {
  const std::string text(1000, 'a');
  std::array<Bytef, 2000> small{};
  uLongf small_nbytes = small.size();
  std::string back(text.size(), '\0');
  uLongf back_nbytes = back.size();
  if (compress(small.data(), &small_nbytes, reinterpret_cast<const Bytef*>(text.data()),
               text.size()) != Z_OK ||
      uncompress(reinterpret_cast<Bytef*>(back.data()), &back_nbytes, small.data(), small_nbytes) !=
          Z_OK) {
    return false;
  }
  simdjson::dom::parser parser;
  std::int64_t number = 0;
  const auto code = parser.parse(std::string(R"({"a":[1,2,42]})"))["a"].at(2).get(number);
  return back == text && XXH3_64bits("", 0) == 0x2D06800538D394C2 && code == simdjson::SUCCESS &&
         number == 42;
}

bool flatbed_works(const char* source, const char* target) {
  const auto checkpoint = flatbed::Checkpoint::open(source).value();
  const auto sums = flatbed::verify(checkpoint).value();
  if (sums.crc.checked == 0 || sums.crc.mismatched != 0) return false;
  flatbed::save(target, flatbed::make_plan(checkpoint).value()).value();
  const auto digests = flatbed::verify(flatbed::Checkpoint::open(target).value()).value();
  return digests.chunks_checked > 0 && digests.damaged.empty();
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  const bool own_work = own_libraries_work();
  const bool ours_work = flatbed_works(argv[1], argv[2]);
  std::cout << "own libraries " << (own_work ? "work" : "fail") << ", flatbed "
            << (ours_work ? "works" : "fails") << '\n';
  return own_work && ours_work ? 0 : 1;
}
