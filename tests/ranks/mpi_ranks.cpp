// One rank of an MPI job, for test_mpi.py and for figures: what it is to do are its arguments.
//
//   messages                          every rank gathers, and rank 0 answers questions
//   make FILE MIB                     rank 0 writes a sealed model
//   load FILE CUT [DEADLINE [DELAY [RANK READ]]]
//                                     loads CUT (rows, columns, whole) of every tensor together and
//                                     compares with load(); DEADLINE and DELAY, before each read,
//                                     in milliseconds. RANK kills itself as it begins READ, from 1
//   time FILE CUT HOW                 loads and does not compare; HOW: together, alone, or apart,
//                                     which is together without memory that ranks share
//
// Prints one line a rank, and "begin" before a load. Exit status 1 with the error of a load on
// stderr.
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "base/bytes.hpp"
#include "base/str_cat.hpp"
#include "flatbed/checkpoint.hpp"
#include "flatbed/load_together.hpp"
#include "flatbed/mpi.hpp"
#include "flatbed/save.hpp"

namespace flatbed::test {
namespace {

using namespace std::chrono_literals;

constexpr std::chrono::minutes kPatience(5);  // with ranks that are alive, on a busy machine

int fail(const Error& error) {
  std::fprintf(stderr, "%s: %s\n", std::string(name(error.code)).c_str(), error.message.c_str());
  return 1;
}

Result<void> talk(Collective& ranks) {
  const std::string mine(10 + ranks.rank() * 50'000, static_cast<char>('a' + ranks.rank()));
  FLATBED_ASSIGN(const auto all, all_gather(ranks, as_bytes(mine), kPatience));
  for (std::uint32_t i = 0; i < ranks.size(); ++i) {
    if (as_text(all[i]) != std::string(10 + i * 50'000, static_cast<char>('a' + i)))
      return Error{ErrorCode::internal_error, "other bytes were gathered"};
  }
  if (ranks.rank() != 0) {
    FLATBED_TRY(send_message(ranks, {.to = 0, .tag = 1}, as_bytes(mine), kPatience));
    FLATBED_ASSIGN(const Message answer, next_message(ranks, kPatience));
    if (as_text(answer.bytes) != mine) return Error{ErrorCode::internal_error, "other bytes"};
  }
  for (std::uint32_t i = 1; ranks.rank() == 0 && i < ranks.size(); ++i) {
    FLATBED_ASSIGN(const Message question, next_message(ranks, kPatience));
    FLATBED_TRY(send_message(ranks, {.to = question.from, .tag = 2}, question.bytes, kPatience));
  }
  FLATBED_TRY(all_gather(ranks, {}, kPatience));
  return {};
}

// A file that is read slowly, so that a load lasts; or that one read of ends the process.
class SlowFile final : public ByteSource {
 public:
  SlowFile(const Checkpoint& checkpoint, std::string bytes, std::chrono::milliseconds delay)
      : label_(checkpoint.files()[0].path.native()), bytes_(std::move(bytes)), delay_(delay) {}
  void kill_at(long read) { reads_left_ = read; }
  [[nodiscard]] std::string_view label() const noexcept override { return label_; }
  [[nodiscard]] std::uint64_t size() const noexcept override { return bytes_.size(); }
  Result<void> read_at(std::uint64_t offset, std::span<std::byte> out) const override {
    if (--reads_left_ == 0) std::raise(SIGKILL);
    std::this_thread::sleep_for(delay_);
    std::memcpy(out.data(), bytes_.data() + offset, out.size());
    return {};
  }

 private:
  std::string label_;
  std::string bytes_;
  std::chrono::milliseconds delay_;
  mutable std::atomic<long> reads_left_ = 0;
};

Result<std::string> all_bytes(const std::string& path) {
  std::FILE* const file = std::fopen(path.c_str(), "rb");
  if (file == nullptr) return Error{ErrorCode::file_not_found, path};
  std::string bytes;
  std::vector<char> piece(1 << 20);
  for (std::size_t got = 0; (got = std::fread(piece.data(), 1, piece.size(), file)) != 0;)
    bytes.append(piece.data(), got);
  std::fclose(file);
  return bytes;
}

Result<Slice> slice_for(const TensorInfo& tensor, std::string_view cut, const Collective& ranks) {
  if (cut == "whole" || tensor.shape.empty()) return Slice{};
  const std::size_t dim = cut == "rows" ? 0 : tensor.shape.size() - 1;
  return shard_slice(tensor, dim, ranks.rank(), ranks.size());
}

struct Task {
  std::string file;
  std::string cut;
  std::chrono::milliseconds deadline = kPatience;
  std::chrono::milliseconds delay{0};
  long victim = -1;
  long last_read = 0;
};

// A plan for memory of this process.
struct Loaded {
  Checkpoint checkpoint;
  LoadPlan plan;
  std::vector<Slice> slices;
  std::deque<std::vector<std::byte>> memory;
};

Result<Loaded> plan_of(const Task& task, const Collective& ranks) {
  FLATBED_ASSIGN(Checkpoint checkpoint, Checkpoint::open(task.file));
  if (task.delay != 0ms) {
    FLATBED_ASSIGN(std::string bytes, all_bytes(task.file));
    const auto slow = std::make_shared<SlowFile>(checkpoint, std::move(bytes), task.delay);
    FLATBED_ASSIGN(checkpoint, Checkpoint::open(slow));
    if (task.victim == static_cast<long>(ranks.rank())) slow->kill_at(task.last_read);
  }
  Loaded loaded{std::move(checkpoint), {}, {}, {}};
  for (const TensorInfo& tensor : loaded.checkpoint.tensors()) {
    FLATBED_ASSIGN(const Slice slice, slice_for(tensor, task.cut, ranks));
    FLATBED_ASSIGN(const std::uint64_t nbytes, slice_nbytes(tensor, slice));
    std::vector<std::byte>& memory = loaded.memory.emplace_back(nbytes);
    FLATBED_TRY(loaded.plan.add(loaded.checkpoint, tensor.name,
                                {.data = memory.data(), .capacity = nbytes}, {.slice = slice}));
    loaded.slices.push_back(slice);
  }
  return loaded;
}

// The same by load(), which other tests are about.
Result<void> compare(const Task& task, const Loaded& loaded) {
  FLATBED_ASSIGN(const Checkpoint checkpoint, Checkpoint::open(task.file));
  LoadPlan plan;
  std::deque<std::vector<std::byte>> memory;
  for (std::size_t i = 0; i < loaded.memory.size(); ++i) {
    std::vector<std::byte>& each = memory.emplace_back(loaded.memory[i].size());
    FLATBED_TRY(plan.add(checkpoint, checkpoint.tensors()[i].name,
                         {.data = each.data(), .capacity = each.size()},
                         {.slice = loaded.slices[i]}));
  }
  FLATBED_TRY(load(plan));
  if (memory == loaded.memory) return {};
  return Error{ErrorCode::internal_error, "other bytes arrived"};
}

Result<void> load_task(Collective& ranks, const Task& task) {
  FLATBED_ASSIGN(const Loaded loaded, plan_of(task, ranks));
  std::printf("begin\n");
  std::fflush(stdout);
  FLATBED_ASSIGN(const JointReport report,
                 load_together(loaded.plan, ranks, {.deadline = task.deadline}));
  FLATBED_TRY(compare(task, loaded));
  const RankReport& mine = report.ranks[ranks.rank()];
  std::printf("%s\n", str_cat("rank ", ranks.rank(), " wanted ", mine.bytes_wanted, " read ",
                              mine.bytes_read, " sent ", mine.bytes_sent, " received ",
                              mine.bytes_received, " lent ", mine.bytes_lent)
                          .c_str());
  return {};
}

// Begins on all ranks at once, with memory that has been touched.
Result<void> time_task(Collective& ranks, const Task& task, std::string_view how) {
  FLATBED_ASSIGN(const Loaded loaded, plan_of(task, ranks));
  FLATBED_TRY(all_gather(ranks, {}, kPatience));
  const auto begin = std::chrono::steady_clock::now();
  std::string text;
  if (how == "alone") {
    FLATBED_ASSIGN(const LoadReport report, load(loaded.plan, {.io = IoMode::direct}));
    text = str_cat(" read ", report.bytes_read, " direct ", report.files_direct);
  } else {
    FLATBED_ASSIGN(const JointReport report,
                   load_together(loaded.plan, ranks, {.load = {.io = IoMode::direct}}));
    const RankReport& mine = report.ranks[ranks.rank()];
    text = str_cat(" read ", mine.bytes_read, " sent ", mine.bytes_sent, " lent ", mine.bytes_lent,
                   " direct ", report.load.files_direct, " waited_ms ",
                   static_cast<std::uint64_t>(mine.waited_seconds * 1e3));
  }
  FLATBED_TRY(all_gather(ranks, {}, kPatience));
  const std::chrono::duration<double, std::milli> spent = std::chrono::steady_clock::now() - begin;
  std::printf("%s\n", str_cat(how, " rank ", ranks.rank(), " of ", ranks.size(), " ms ",
                              static_cast<std::uint64_t>(spent.count()), text)
                          .c_str());
  return {};
}

Result<void> make_model(const std::string& path, std::uint64_t mib) {
  const std::vector<std::uint64_t> shape{1024, 512 * mib / 4};
  std::vector<std::byte> bytes(shape[0] * shape[1] * 2);
  std::uint32_t word = 1;
  for (std::byte& each : bytes) each = static_cast<std::byte>((word = word * 1664525 + 1) >> 24);
  SavePlan plan;
  for (const char* const name : {"a", "b", "c", "d"})
    plan.items.push_back({name, Dtype::bf16, shape, bytes});
  FLATBED_TRY(save(path, plan, {.sync = false}));
  return {};
}

Result<void> run_task(Collective& ranks, const std::vector<std::string>& arguments) {
  const std::size_t count = arguments.size();
  if (count == 1 && arguments[0] == "messages") {
    FLATBED_TRY(talk(ranks));
    std::printf("rank %u of %u\n", ranks.rank(), ranks.size());
    return {};
  }
  if (count < 3) return Error{ErrorCode::invalid_argument, "an unknown task"};
  if (arguments[0] == "make") {
    if (ranks.rank() != 0) return {};
    return make_model(arguments[1], static_cast<std::uint64_t>(std::stol(arguments[2])));
  }
  Task task{arguments[1], arguments[2]};
  if (arguments[0] == "time") return time_task(ranks, task, count > 3 ? arguments[3] : "together");
  if (count > 3) task.deadline = std::chrono::milliseconds(std::stol(arguments[3]));
  if (count > 4) task.delay = std::chrono::milliseconds(std::stol(arguments[4]));
  if (count > 6) {
    task.victim = std::stol(arguments[5]);
    task.last_read = std::stol(arguments[6]);
  }
  return load_task(ranks, task);
}

int run(const std::vector<std::string>& arguments) {
  MpiOptions options;
  if (!arguments.empty() && arguments.back() == "apart") options.shared_nbytes = 0;
  const Result<std::unique_ptr<Collective>> ranks = mpi_collective(MPI_COMM_WORLD, options);
  if (!ranks) return fail(ranks.error());
  const Result<void> done = run_task(**ranks, arguments);
  return done ? 0 : fail(done.error());
}

}  // namespace
}  // namespace flatbed::test

int main(int count, char** arguments) {
  int level = 0;
  if (MPI_Init_thread(&count, &arguments, MPI_THREAD_FUNNELED, &level) != MPI_SUCCESS) return 2;
  const int status = flatbed::test::run({arguments + 1, arguments + count});
  if (status != 0) std::_Exit(status);  // MPI_Finalize() waits for ranks that may be dead
  MPI_Finalize();
  return status;
}
