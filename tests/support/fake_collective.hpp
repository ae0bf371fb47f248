// FakeRanks: ranks that are threads of one process. Messages arrive late and in any order that a
// transport may choose, by a seed: those of one rank to another are announced in their order, and
// everything else is mixed. Long messages are copied when they are received, and only then sent.
// Calls can be made to fail, messages to be lost, and ranks to die.
//
// Owns the endpoints; each of them is for one thread, as a Collective is.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <set>
#include <span>
#include <thread>
#include <vector>

#include "base/str_cat.hpp"
#include "flatbed/collective.hpp"

namespace flatbed::test {

class FakeRanks {
 public:
  struct Faults {
    // The n-th call (from 1) of each kind fails; 0: none does.
    int send = 0;
    int next = 0;
    int receive = 0;
    int done = 0;
    // done() fails for every larger message that the rank receives.
    std::uint64_t most_received = ~std::uint64_t{0};
    // The n-th message that this rank sends is lost; 0: none is.
    int lose = 0;
    // After so many calls that did something the rank is dead: it hears nothing and nobody hears
    // it. 0: it lives.
    int die = 0;
  };

  explicit FakeRanks(std::uint32_t size, std::uint64_t seed = 1) : size_(size) {
    for (std::uint32_t rank = 0; rank < size; ++rank)
      endpoints_.push_back(std::make_unique<Endpoint>(*this, rank, seed));
  }

  [[nodiscard]] Collective& operator[](std::uint32_t rank) { return *endpoints_[rank]; }
  [[nodiscard]] Faults& faults(std::uint32_t rank) { return endpoints_[rank]->faults; }
  [[nodiscard]] bool is_dead(std::uint32_t rank) const { return endpoints_[rank]->dead; }
  // Whether one of its calls was made to fail.
  [[nodiscard]] bool has_failed(std::uint32_t rank) const { return endpoints_[rank]->failed; }
  // The tag of its message that was lost, if one was.
  [[nodiscard]] std::optional<std::uint64_t> lost(std::uint32_t rank) const {
    return endpoints_[rank]->lost;
  }
  // The tags of its messages that were not lost.
  [[nodiscard]] const std::set<std::uint64_t>& sent_tags(std::uint32_t rank) const {
    return endpoints_[rank]->sent_tags;
  }
  // The longest pause of a call, in microseconds. One call in 16 makes one.
  unsigned pause_us = 0;
  std::uint32_t ranks_of_node = 1;
  // Memory of each rank that those of its node share.
  void share(std::size_t nbytes) {
    for (std::uint32_t rank = 0; rank < size_; ++rank)
      shared_.emplace_back(static_cast<std::byte*>(std::aligned_alloc(kPage, nbytes)), &std::free);
    shared_nbytes_ = nbytes;
  }

  // Calls work(rank) on a thread for each rank.
  template <typename Work>
  void run(const Work& work) {
    std::vector<std::thread> threads;
    for (std::uint32_t rank = 0; rank < size_; ++rank)
      threads.emplace_back([&work, rank] { work(rank); });
    for (std::thread& thread : threads) thread.join();
  }

 private:
  static constexpr std::uint64_t kSmall = 1024;
  static constexpr std::size_t kPage = 4096;

  struct Parcel {
    std::uint32_t from = 0;
    std::uint64_t tag = 0;
    std::uint64_t id = 0;
    std::vector<std::byte> copy;       // of a short one
    std::span<const std::byte> bytes;  // of a long one, in the sender's memory
    std::shared_ptr<bool> taken;
  };

  class Endpoint final : public Collective {
   public:
    Endpoint(FakeRanks& ranks, std::uint32_t rank, std::uint64_t seed)
        : ranks_(ranks), rank_(rank), random_(seed * 1000 + rank), inbox_(ranks.size_) {}

    Faults faults;
    bool dead = false;
    bool failed = false;
    int calls = 0;
    std::optional<std::uint64_t> lost;
    std::set<std::uint64_t> sent_tags;

    [[nodiscard]] std::uint32_t rank() const noexcept override { return rank_; }
    [[nodiscard]] std::uint32_t size() const noexcept override { return ranks_.size_; }
    [[nodiscard]] std::uint32_t node(std::uint32_t rank) const noexcept override {
      return rank / ranks_.ranks_of_node;
    }

    [[nodiscard]] std::span<std::byte> shared_memory(std::uint32_t rank) noexcept override {
      if (ranks_.shared_.empty() || node(rank) != node(rank_)) return {};
      return {ranks_.shared_[rank].get(), ranks_.shared_nbytes_};
    }

    Result<Ticket> send(const MessageAddress& address, std::span<const std::byte> bytes) override {
      if (!counts(faults.send, sends_)) return failure("send");
      const std::lock_guard lock(ranks_.mutex_);
      Endpoint& to = *ranks_.endpoints_[address.to];
      Parcel parcel;
      parcel.from = rank_;
      parcel.tag = address.tag;
      parcel.taken = std::make_shared<bool>(bytes.size() <= kSmall);
      if (*parcel.taken) {
        parcel.copy.assign(bytes.begin(), bytes.end());
      } else {
        parcel.bytes = bytes;
      }
      const Ticket ticket = ++tickets_;
      pending_[ticket] = {parcel.taken, {}, nullptr, 0};
      if (sends_ == faults.lose) lost = address.tag;
      if (sends_ == faults.lose || dead) return ticket;
      sent_tags.insert(address.tag);
      to.inbox_[rank_].push_back(std::move(parcel));
      return ticket;
    }

    Result<std::optional<Incoming>> next() override {
      if (++nexts_ == faults.next) return failure("next");
      pause();
      const std::lock_guard lock(ranks_.mutex_);
      if (dead) return std::optional<Incoming>();
      std::vector<std::uint32_t> some;
      for (std::uint32_t from = 0; from < inbox_.size(); ++from)
        if (!inbox_[from].empty()) some.push_back(from);
      if (some.empty() || random_() % 4 == 0) return std::optional<Incoming>();
      std::deque<Parcel>& from = inbox_[some[random_() % some.size()]];
      Parcel parcel = std::move(from.front());
      from.pop_front();
      const std::uint64_t nbytes = parcel.copy.size() + parcel.bytes.size();
      const std::uint64_t id = ++ids_;
      const Incoming message{parcel.from, parcel.tag, nbytes, id};
      announced_[id] = std::move(parcel);
      act();
      return std::optional(message);
    }

    Result<Ticket> receive(const Incoming& message, std::span<std::byte> out) override {
      if (!counts(faults.receive, receives_)) return failure("receive");
      const std::lock_guard lock(ranks_.mutex_);
      const auto found = announced_.find(message.id);
      if (found == announced_.end() || out.size() != message.nbytes) {
        return make_error(ErrorCode::internal_error, "receive() of a message twice");
      }
      const Ticket ticket = ++tickets_;
      pending_[ticket] = {nullptr, out, std::make_shared<Parcel>(std::move(found->second)),
                          static_cast<int>(random_() % 4)};
      announced_.erase(found);
      return ticket;
    }

    Result<bool> done(Ticket ticket) override {
      if (++dones_ == faults.done) return failure("done");
      const std::lock_guard lock(ranks_.mutex_);
      if (dead) return false;
      Pending& pending = pending_.at(ticket);
      if (pending.out.size() > faults.most_received) return failure("done");
      if (pending.parcel == nullptr) {
        if (!*pending.taken) return false;
      } else {
        if (pending.looks-- > 0) return false;
        Parcel& parcel = *pending.parcel;
        const auto from =
            parcel.bytes.empty() ? std::span<const std::byte>(parcel.copy) : parcel.bytes;
        if (!from.empty()) std::memcpy(pending.out.data(), from.data(), from.size());
        *parcel.taken = true;
      }
      pending_.erase(ticket);
      act();
      return true;
    }

    bool forget(Ticket ticket) noexcept override {
      const std::lock_guard lock(ranks_.mutex_);
      const auto found = pending_.find(ticket);
      if (found == pending_.end()) return true;
      const bool keeps = found->second.parcel == nullptr && !*found->second.taken;
      pending_.erase(found);
      return !keeps;  // of what was sent and not received, as with MPI
    }

   private:
    struct Pending {
      std::shared_ptr<bool> taken;
      std::span<std::byte> out;
      std::shared_ptr<Parcel> parcel;
      int looks = 0;
    };

    bool counts(int faulty, int& number) {
      act();
      return ++number != faulty;
    }
    void act() {
      if (++calls == faults.die) dead = true;
    }
    [[nodiscard]] Error failure(std::string_view call) {
      failed = true;
      return make_error(ErrorCode::collective_failed, "fake: ", call, "() failed at rank ", rank_);
    }
    void pause() {
      if (ranks_.pause_us == 0 || random_() % 16 != 0) return;
      std::this_thread::sleep_for(std::chrono::microseconds(random_() % ranks_.pause_us));
    }

    FakeRanks& ranks_;
    std::uint32_t rank_;
    std::mt19937_64 random_;
    std::vector<std::deque<Parcel>> inbox_;  // by sender; guarded by the mutex of the ranks
    std::map<std::uint64_t, Parcel> announced_;
    std::map<Ticket, Pending> pending_;
    std::uint64_t ids_ = 0;
    Ticket tickets_ = 0;
    int sends_ = 0;
    int nexts_ = 0;
    int receives_ = 0;
    int dones_ = 0;
  };

  std::uint32_t size_;
  std::vector<std::unique_ptr<std::byte, decltype(&std::free)>> shared_;
  std::size_t shared_nbytes_ = 0;
  std::mutex mutex_;
  std::vector<std::unique_ptr<Endpoint>> endpoints_;
};

}  // namespace flatbed::test
