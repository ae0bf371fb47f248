// RenamedEntries: the names of a checkpoint on their way through the rules of a KeyMap, with what
// each of them stands for. For Checkpoint::rename().
//
// An entry is a name of a tensor or an alias. It runs through the rules until one of them joins or
// splits its tensor. There it waits until all others have arrived; then it ends, and entries of
// what was made go on from the next rule. So every rule runs once on each name, and sees what the
// rules before it made. At the end the first entry of a tensor is its name, and the others are
// aliases.
//
// Borrows everything. For one thread.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/fused_state.hpp"
#include "checkpoint/key_mapper.hpp"
#include "flatbed/key_map.hpp"
#include "io/text_list.hpp"

namespace flatbed {

class RenamedEntries {
 public:
  using State = CheckpointAccess::State;
  using Rule = KeyMapAccess::Rule;

  RenamedEntries(const State& from, const KeyMap& map, FusedState& to);

  // Runs all names. Errors: those of Checkpoint::rename(), without collisions.
  [[nodiscard]] Result<void> run();
  // Fills the tensors and aliases of `to`. Returns for each of them the number in `from` (tensors,
  // then aliases) of the name that it comes from.
  [[nodiscard]] std::vector<std::uint32_t> finish();

 private:
  using Node = FusedState::Node;
  static constexpr std::uint32_t kNone = ~std::uint32_t{0};

  struct Entry {
    Node node = kNone;           // none: an alias of nothing
    std::uint32_t name = kNone;  // in names_, once it is final; none: joined or split
    // What takes the entry's place: entries that follow each other.
    std::uint32_t first_child = 0;
    std::uint32_t children = 0;
    std::uint32_t parent = kNone;  // in whose place it is
  };
  // An entry that waits at a rule.
  struct Waiting {
    std::uint32_t entry = 0;
    std::uint32_t glob = 0;   // that it matches
    std::uint32_t name = 0;   // in Arrivals::names
    std::uint32_t group = 0;  // of those with the same captures
  };
  struct Arrivals {
    std::vector<Waiting> list;
    TextList names;
  };

  [[nodiscard]] Result<void> pass(std::uint32_t entry, std::string_view name, std::size_t rule);
  [[nodiscard]] Result<void> count_name(std::string_view name, std::size_t& nbytes);
  [[nodiscard]] Result<void> pass_missing();

  [[nodiscard]] Result<void> join_all(std::size_t rule, Arrivals arrivals);
  [[nodiscard]] Result<void> group(const Rule& rule, Arrivals& arrivals);
  [[nodiscard]] Result<void> check_group(const Rule& rule, const Arrivals& arrivals,
                                         std::span<const Waiting> group);
  [[nodiscard]] Result<void> join(std::size_t rule, const Arrivals& arrivals,
                                  std::span<const Waiting> group);
  [[nodiscard]] Result<void> split(std::size_t rule, const Waiting& whole, std::string_view name);
  [[nodiscard]] Result<Node> add_node(std::size_t dim, std::span<const FusedState::Part> parts);
  [[nodiscard]] Result<std::uint32_t> add_entries(std::uint32_t parent, std::size_t count);
  [[nodiscard]] std::vector<std::uint32_t> path(std::uint32_t entry) const;
  [[nodiscard]] bool comes_before(std::uint32_t a, std::uint32_t b) const;
  [[nodiscard]] std::vector<std::uint32_t> final_order() const;
  [[nodiscard]] std::uint32_t origin(std::uint32_t entry) const;

  const State& from_;
  FusedState& to_;
  std::span<const std::shared_ptr<const Rule>> rules_;
  KeyMapper mapper_;
  std::vector<Entry> entries_;      // those of `from`: tensors, then aliases; then what was made
  std::vector<Arrivals> arrivals_;  // for each rule
  TextList names_;
  std::size_t nbytes_ = 0;  // of all final names
  std::size_t waiting_nbytes_ = 0;
  std::vector<std::string_view> captured_;
  // What was made of what, so that it is made once. Only if there are aliases.
  std::map<std::vector<std::uint64_t>, Node> known_;
};

}  // namespace flatbed
