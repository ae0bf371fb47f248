// flatbed cat: writes the contiguous little-endian bytes of one tensor to standard output.
#include <algorithm>
#include <vector>

#include "commands.hpp"
#include "flatbed/checkpoint.hpp"
#include "open_input.hpp"
#include "progress.hpp"
#include "seal_text.hpp"

namespace flatbed::tool {
namespace {

constexpr std::uint64_t kPieceNbytes = std::uint64_t{4} << 20;  // a multiple of a seal's chunk size

Result<void> copy_bytes(const CatOptions& options, Output& output) {
  if (!options.force && stdout_is_terminal()) {
    return Error{ErrorCode::invalid_argument,
                 "refusing to write binary data to a terminal: redirect standard output or use "
                 "--force"};
  }
  const Verify verify = options.verify && !options.ignore_seal ? Verify::yes : Verify::no;
  FLATBED_ASSIGN(Checkpoint checkpoint,
                 open_input(options.path, open_options(verify == Verify::no), options.remote));
  if (!options.select.empty()) {
    FLATBED_ASSIGN(checkpoint, checkpoint.select({.path = options.select, .state_dict = true}));
  }
  FLATBED_ASSIGN(const TensorInfo tensor, checkpoint.tensor(options.name));
  std::vector<std::byte> piece(std::min(tensor.nbytes, kPieceNbytes));
  for (std::uint64_t offset = 0; offset < tensor.nbytes && output.wanted();) {
    const std::uint64_t nbytes = std::min(tensor.nbytes - offset, kPieceNbytes);
    const std::span<std::byte> bytes = std::span(piece).first(nbytes);
    FLATBED_TRY(checkpoint.read(tensor, offset, bytes, verify));
    output.write(std::span<const std::byte>(bytes));
    offset += nbytes;
  }
  return {};
}

}  // namespace

ExitCode run_cat(const CatOptions& options, Output& output) {
  const Result<void> copied = copy_bytes(options, output);
  if (copied) return ExitCode::ok;
  print_error(about(options.path, with_way_out(copied.error())));
  return ExitCode::failure;
}

}  // namespace flatbed::tool
