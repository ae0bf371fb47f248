#include "tool.hpp"

#include <exception>
#include <new>

#include "command_line.hpp"
#include "interrupt.hpp"
#include "output.hpp"

namespace flatbed::tool {
namespace {

ExitCode run(int argc, char** argv, Collective* ranks, Output& output) {
  CommandLine line(argc > 1 ? argv[1] : "", ranks);
  try {
    return line.run(argc, argv, output);
  } catch (const CLI::ParseError& error) {
    return line.answer(error, output);
  } catch (const std::bad_alloc&) {
    return line.fail({ErrorCode::resource_exhausted, "out of memory"}, ExitCode::failure, output);
  } catch (const std::exception& error) {
    return line.fail({ErrorCode::internal_error, error.what()}, ExitCode::failure, output);
  }
}

}  // namespace

ExitCode run_tool(int argc, char** argv, Collective* ranks) {
  ignore_write_signals();
  Output output;
  ExitCode code = run(argc, argv, ranks, output);
  if (const Result<void> flushed = output.flush(); !flushed) {
    print_error(flushed.error());
    if (code != ExitCode::usage && code != ExitCode::interrupted) code = ExitCode::failure;
  }
  return code;
}

}  // namespace flatbed::tool
