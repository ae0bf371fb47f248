// What the ranks of `flatbed convert --list` under MPI say to each other. Integers are
// little-endian, texts are a u64 size and the bytes.
//
//   worker -> rank 0   kReady  nothing, or the result of its last job
//                      kAlive  nothing; from time to time while it converts
//   rank 0 -> worker   kJob    u64 line number, u64 whether the line is cut, text of the line
//                      kEnd    nothing: there is no more to do
//
// Pure functions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "flatbed/result.hpp"
#include "job_list.hpp"
#include "list_job.hpp"

namespace flatbed::tool {

inline constexpr std::uint64_t kReady = 1, kAlive = 2, kJob = 3, kEnd = 4;

[[nodiscard]] std::vector<std::byte> job_message(const JobLine& line);
[[nodiscard]] std::vector<std::byte> result_message(const ListResult& result);

// Errors: collective_mismatch, if the bytes are no such message: the rank runs another flatbed.
[[nodiscard]] Result<JobLine> read_job(std::span<const std::byte> message);
[[nodiscard]] Result<ListResult> read_result(std::span<const std::byte> message);

}  // namespace flatbed::tool
