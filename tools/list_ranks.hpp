// flatbed convert --list by the ranks of a Collective: rank 0 reads the list, hands the jobs out,
// those with the largest inputs first, and reports; every rank converts, rank 0 too. A rank that
// says nothing for a minute is given up, and its job is named; so is the job of a rank that ends
// before it.
#pragma once

#include "commands.hpp"
#include "exit_code.hpp"
#include "flatbed/collective.hpp"
#include "output.hpp"

namespace flatbed::tool {

// Every rank calls it with the same options, on the thread that may use `ranks`. Rank 0 returns the
// exit code of the list, the others `ok` unless they could not go on.
[[nodiscard]] ExitCode convert_list_together(const ConvertOptions& options, Collective& ranks,
                                             Output& output);

}  // namespace flatbed::tool
