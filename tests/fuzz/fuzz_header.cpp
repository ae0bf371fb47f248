// The JSON of a safetensors header, of whatever length, before 256 bytes of data.
#include <string>

#include "fuzz/check.hpp"
#include "fuzz/targets.hpp"

namespace flatbed::fuzz {

void header(std::string_view bytes) {
  std::string whole(8, '\0');
  for (std::size_t i = 0; i < 8; ++i) whole[i] = static_cast<char>(bytes.size() >> (8 * i));
  whole += bytes;
  whole.append(256, '\7');
  const Result<Checkpoint> checkpoint = open(whole, {.check_seal = CheckSeal::off});
  if (!checkpoint) return check_error(checkpoint.error());
  read_tensors(*checkpoint);
  const Result<Value> tree = checkpoint->tree();
  if (!tree) check_error(tree.error());
}

}  // namespace flatbed::fuzz
