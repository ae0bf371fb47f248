// A model, and labelled as one: how long 8 ranks on 4 nodes take to load together. The plan, its
// jobs and who reads them are the library's; disks, networks and links are queues that serve at a
// rate, and staging memory is a number of slots. What is measured is whether the stages overlap,
// not how fast any of them is.
//
//   disk --> slot --> network out --> network in --> slot --> link     to a rank of another node
//                 \-> memory ---------------------> slot --> link     to one of the same node
//                 \--------------------------------------> link       to its own GPU
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <deque>
#include <functional>
#include <map>
#include <queue>
#include <string>
#include <vector>

#include "ranks/joint_plans.hpp"

namespace flatbed::test {
namespace {

constexpr std::uint32_t kRanks = 8;
constexpr std::uint32_t kRanksOfNode = 2;
constexpr std::uint32_t kNodes = kRanks / kRanksOfNode;
// Bytes per nanosecond, which are GB/s.
constexpr double kDisk = 25;
constexpr double kNetwork = 50;
constexpr double kMemory = 100;
constexpr double kLink = 55;  // to one GPU
constexpr double kLatency = 20'000;
constexpr std::uint64_t kSlot = 2 << 20;
constexpr std::uint32_t kReadSlots = 32;
constexpr std::uint32_t kReceiveSlots = 16;

// Zeros of any number: nothing of it is ever read.
class EmptyFile final : public ByteSource {
 public:
  EmptyFile(std::string header, std::uint64_t nbytes)
      : header_(std::move(header)), nbytes_(nbytes) {}
  [[nodiscard]] std::string_view label() const noexcept override { return "model.safetensors"; }
  [[nodiscard]] std::uint64_t size() const noexcept override { return nbytes_; }
  Result<void> read_at(std::uint64_t offset, std::span<std::byte> out) const override {
    for (std::size_t i = 0; i < out.size(); ++i)
      out[i] =
          offset + i < header_.size() ? static_cast<std::byte>(header_[offset + i]) : std::byte{0};
    return {};
  }

 private:
  std::string header_;
  std::uint64_t nbytes_;
};

std::shared_ptr<const ByteSource> model_of(std::uint64_t tensors, std::uint64_t columns) {
  std::string json = "{";
  const std::uint64_t each = columns * columns * 2;
  for (std::uint64_t i = 0; i < tensors; ++i) {
    json += (i == 0 ? "\"t" : ",\"t") + std::to_string(i) + "\":{\"dtype\":\"BF16\",\"shape\":[" +
            std::to_string(columns) + "," + std::to_string(columns) + "],\"data_offsets\":[" +
            std::to_string(i * each) + "," + std::to_string((i + 1) * each) + "]}";
  }
  json += "}";
  json.resize((json.size() + 7) / 8 * 8, ' ');
  std::string header(8, '\0');
  const std::uint64_t length = json.size();
  std::memcpy(header.data(), &length, sizeof length);
  return std::make_shared<EmptyFile>(header + json, 8 + length + tensors * each);
}

enum class Cut { whole, columns };

// Who wants a job, and how much of it.
struct Want {
  std::uint32_t rank = 0;
  double nbytes = 0;
};
struct ModelJob {
  double nbytes = 0;
  std::vector<Want> wants;
};

// The jobs of each rank, made by the library.
class JobsOfRanks {
 public:
  explicit JobsOfRanks(Cut cut) {
    const Checkpoint checkpoint = Checkpoint::open(model_of(128, 8192)).value();  // 16 GiB
    JointPlans plans(
        checkpoint,
        {kRanks, kRanksOfNode, kSlot, [cut](const TensorInfo& tensor, std::uint32_t rank) {
           return cut == Cut::whole ? Slice{} : shard_slice(tensor, 1, rank, kRanks).value();
         }});
    std::map<std::uint64_t, ModelJob*> by_begin;
    jobs.resize(kRanks);
    std::vector<JointJobs> all;
    for (std::uint32_t rank = 0; rank < kRanks; ++rank) all.push_back(plans.jobs_of(rank));
    for (std::uint32_t rank = 0; rank < kRanks; ++rank) {
      for (const Job& job : all[rank].schedule.jobs)
        jobs[rank].push_back({static_cast<double>(job.read_nbytes), {}});
      for (std::size_t i = 0; i < jobs[rank].size(); ++i)
        by_begin[all[rank].schedule.jobs[i].begin] = &jobs[rank][i];
    }
    for (std::uint32_t rank = 0; rank < kRanks; ++rank)
      for (const ExpectedMessage& each : all[rank].expected)
        by_begin.at(each.job.begin)->wants.push_back({rank, static_cast<double>(each.nbytes)});
  }

  std::vector<std::vector<ModelJob>> jobs;
};

// Serves one request after the other.
struct Server {
  double rate = 1;
  double until = 0;
  double busy = 0;
  double serve(double now, double nbytes) {
    busy += nbytes / rate;
    until = std::max(now, until) + nbytes / rate;
    return until;
  }
};

class World {
 public:
  explicit World(const std::vector<std::vector<ModelJob>>& jobs) : jobs_(jobs) {
    for (std::uint32_t node = 0; node < kNodes; ++node) {
      disks_.push_back({kDisk});
      outs_.push_back({kNetwork});
      ins_.push_back({kNetwork});
      memories_.push_back({kMemory});
    }
    links_.assign(kRanks, {kLink});
    next_.assign(kRanks, 0);
    receive_slots_.assign(kRanks, kReceiveSlots);
    waiting_.resize(kRanks);
  }

  double run() {
    for (std::uint32_t rank = 0; rank < kRanks; ++rank)
      for (std::uint32_t slot = 0; slot < kReadSlots; ++slot) read(rank);
    while (!events_.empty()) {
      const Event event = events_.top();
      events_.pop();
      now_ = event.time;
      event.action();
    }
    return now_;
  }
  // The time that the busiest server works.
  [[nodiscard]] double slowest() const {
    double most = 0;
    for (const auto* servers : {&disks_, &outs_, &ins_, &memories_, &links_})
      for (const Server& server : *servers) most = std::max(most, server.busy);
    return most;
  }

 private:
  struct Event {
    double time = 0;
    std::uint64_t number = 0;
    std::function<void()> action;
    bool operator<(const Event& other) const {
      return std::pair(other.time, other.number) < std::pair(time, number);
    }
  };
  void at(double time, std::function<void()> action) {
    events_.push({time, ++number_, std::move(action)});
  }
  static std::uint32_t node(std::uint32_t rank) { return rank / kRanksOfNode; }

  void read(std::uint32_t rank) {
    if (next_[rank] == jobs_[rank].size()) return;
    const ModelJob& job = jobs_[rank][next_[rank]++];
    at(disks_[node(rank)].serve(now_ + kLatency, job.nbytes), [this, rank, &job] {
      // To its own GPU and to others, and then the slot is free.
      const auto left = std::make_shared<std::size_t>(job.wants.size() + 1);
      const auto sent = [this, rank, left] {
        if (--*left == 0) read(rank);
      };
      at(links_[rank].serve(now_, job.nbytes), sent);
      for (const Want& want : job.wants) send(rank, want, sent);
    });
  }
  void send(std::uint32_t from, const Want& want, const std::function<void()>& sent) {
    const bool near = node(from) == node(want.rank);
    Server& server = near ? memories_[node(from)] : outs_[node(from)];
    at(server.serve(now_, want.nbytes), [this, near, want, sent] {
      waiting_[want.rank].push_back([this, near, want, sent] {
        const double in = near ? now_ : ins_[node(want.rank)].serve(now_ + kLatency, want.nbytes);
        at(in, [this, want, sent] {
          sent();
          at(links_[want.rank].serve(now_, want.nbytes), [this, want] {
            ++receive_slots_[want.rank];
            receive(want.rank);
          });
        });
      });
      receive(want.rank);
    });
  }
  void receive(std::uint32_t rank) {
    while (receive_slots_[rank] != 0 && !waiting_[rank].empty()) {
      --receive_slots_[rank];
      const auto begin = std::move(waiting_[rank].front());
      waiting_[rank].pop_front();
      begin();
    }
  }

  const std::vector<std::vector<ModelJob>>& jobs_;
  std::vector<Server> disks_, outs_, ins_, memories_, links_;
  std::vector<std::size_t> next_;
  std::vector<std::uint32_t> receive_slots_;
  std::vector<std::deque<std::function<void()>>> waiting_;
  std::priority_queue<Event> events_;
  std::uint64_t number_ = 0;
  double now_ = 0;
};

TEST(JointLoadModel, TakesLittleLongerThanItsSlowestStage) {
  for (const Cut cut : {Cut::whole, Cut::columns}) {
    const JobsOfRanks ranks(cut);
    World world(ranks.jobs);
    const double total = world.run();
    std::printf(
        "a model: 8 ranks, 4 nodes, %s of 16 GiB: %.1f ms, the slowest stage %.1f ms, %.3f\n",
        cut == Cut::whole ? "all" : "columns", total / 1e6, world.slowest() / 1e6,
        total / world.slowest());
    EXPECT_LE(total, 1.1 * world.slowest());
  }
}

}  // namespace
}  // namespace flatbed::test
