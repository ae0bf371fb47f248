// What `flatbed convert` says of one conversion: lines for people, and the members of its JSON
// object. Pure functions but the last two, which write.
#pragma once

#include <cstddef>
#include <string>

#include "commands.hpp"
#include "convert_jobs.hpp"
#include "convert_one.hpp"
#include "json_out.hpp"
#include "output.hpp"

namespace flatbed::tool {

// A line for each note from number `first` on.
[[nodiscard]] std::string notes_text(const ConvertJob& job, const Outcome& outcome,
                                     std::size_t first);

// "written: 3 tensors, 1.2 GiB, sealed, content ..., 0.4 s", of a job that did not fail.
[[nodiscard]] std::string result_text(const ConvertJob& job, const Outcome& outcome,
                                      const ConvertOptions& options);

// A line for each file of a set that is planned.
[[nodiscard]] std::string shards_text(const Outcome& outcome);

[[nodiscard]] std::string words_of(Status status);  // "up to date"

// The last column of the table: the output, or the name of the error.
[[nodiscard]] std::string last_column(const ConvertJob& job, const Outcome& outcome);

// The members of the object that stands for the job in "files".
void write_outcome(const ConvertJob& job, const Outcome& outcome, const ConvertOptions& options,
                   JsonWriter& json);

// Reports an error that was found before any job started. Returns `code`.
ExitCode refuse_convert(const Error& error, ExitCode code, const ConvertOptions& options,
                        Output& output);

}  // namespace flatbed::tool
