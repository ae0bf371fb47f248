// Checkpoint::rename(): the same files with other names, and with tensors joined and split.
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "base/str_cat.hpp"
#include "checkpoint/checkpoint_state.hpp"
#include "checkpoint/fused_state.hpp"
#include "checkpoint/key_mapper.hpp"
#include "checkpoint/renamed_entries.hpp"
#include "flatbed/checkpoint.hpp"
#include "flatbed/key_map.hpp"
#include "io/name_index.hpp"
#include "io/text_list.hpp"

namespace flatbed {

namespace {

using State = CheckpointAccess::State;

// Two tensors or aliases of the view that have one name, with the names in `from` of what they are
// made of. `origins` has the numbers there.
Error collision(const State& from, const State& view, std::span<const std::uint32_t> origins,
                Error error) {
  if (error.code != ErrorCode::name_collision) return error;
  const auto text_of = [&](std::uint32_t number) { return view.name_of(number); };
  NameIndex seen(origins.size());
  for (std::uint32_t i = 0; i < origins.size(); ++i) {
    const auto other = seen.insert(view.name_of(i), i, text_of);
    if (!other) continue;
    return make_error(ErrorCode::name_collision,
                      "renaming makes two names one: ", quoted(from.name_of(origins[*other])),
                      " and ", quoted(from.name_of(origins[i])), " both become ",
                      quoted(view.name_of(i)));
  }
  return error;
}

}  // namespace

Result<Checkpoint> Checkpoint::rename(const KeyMap& map) const {
  if (map.empty()) return *this;
  const State& from = *state_;
  auto state = std::make_shared<FusedState>(state_);
  RenamedEntries entries(from, map, *state);
  FLATBED_TRY(entries.run());
  const std::vector<std::uint32_t> origins = entries.finish();
  state->aliases_error = from.aliases_error;
  if (Result<void> indexed = state->build_index(); !indexed)
    return collision(from, *state, origins, std::move(indexed).error());
  return Checkpoint(std::move(state));
}

}  // namespace flatbed
