// JointJobs: which rank reads which job of a joint plan, and what the others receive of it. Every
// rank makes the same choice. Plain data.
#pragma once

#include <cstdint>
#include <unordered_map>
#include <vector>

#include "ranks/joint_plan.hpp"

namespace flatbed {

// What another rank reads for this one, and sends in one message: for each part, in order, the
// contents' bytes that lie in it.
struct ExpectedMessage {
  Job job;  // whose parts are this rank's only
  std::uint32_t from = 0;
  std::uint64_t number = 0;  // of the message
  std::uint64_t nbytes = 0;
};

struct JointJobs {
  Schedule schedule;                                         // this rank's jobs
  std::unordered_map<std::uint64_t, std::uint32_t> numbers;  // of messages: index into `expected`
  std::vector<ExpectedMessage> expected;
  std::vector<std::uint64_t> bytes_to_read;  // by rank, of files
  std::uint64_t bytes_to_receive = 0;
  std::uint64_t largest_message = 0;  // of those that are expected, in bytes
  std::uint64_t bytes_of_all = 0;     // that all ranks read and receive
  std::uint64_t hash = 0;             // of all jobs and who reads them: the same on all ranks
};

// What is known of the ranks of a load.
struct JointRanks {
  const std::vector<Sight>& sights;    // by rank
  std::vector<std::uint32_t> node_of;  // by rank: ranks on one node have the same number
  std::uint32_t rank = 0;              // this one
};

// Errors: collective_mismatch (bytes that no rank can read).
[[nodiscard]] Result<JointJobs> share_jobs(const JointPlan& joint, const JointView& view,
                                           JointRanks ranks);

// The part of the transfer's contents that a part of a job of a file has: [begin, end).
struct ContentRange {
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
};
[[nodiscard]] inline ContentRange contents_of(const Part& part, const Transfer& transfer) {
  const std::uint64_t offset = transfer.tensor->where.offset;
  return {transfer.contents_before(part.begin - offset),
          transfer.contents_before(part.end - offset)};
}

}  // namespace flatbed
