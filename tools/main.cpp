// flatbed: the command-line tool. Only main() catches exceptions: the library throws none, but
// CLI11 does, and memory can run out.
#include <exception>
#include <new>

#include "command_line.hpp"
#include "interrupt.hpp"
#include "output.hpp"

namespace {

using flatbed::Error;
using flatbed::ErrorCode;
using flatbed::tool::ExitCode;
using flatbed::tool::Output;

ExitCode run(int argc, char** argv, Output& output) {
  flatbed::tool::CommandLine line;
  try {
    return line.run(argc, argv, output);
  } catch (const CLI::ParseError& error) {
    return line.answer(error, output);
  } catch (const std::bad_alloc&) {
    flatbed::tool::print_error({ErrorCode::resource_exhausted, "out of memory"});
  } catch (const std::exception& error) {
    flatbed::tool::print_error({ErrorCode::internal_error, error.what()});
  }
  return ExitCode::failure;
}

}  // namespace

int main(int argc, char** argv) {
  flatbed::tool::ignore_write_signals();
  Output output;
  ExitCode code = run(argc, argv, output);
  if (const flatbed::Result<void> flushed = output.flush(); !flushed) {
    flatbed::tool::print_error(flushed.error());
    if (code == ExitCode::ok) code = ExitCode::failure;
  }
  flatbed::tool::die_if_interrupted();
  return static_cast<int>(code);
}
