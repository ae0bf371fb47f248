// Checkpoint::rename(): the same files with other names.
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "base/str_cat.hpp"
#include "checkpoint/checkpoint_state.hpp"
#include "checkpoint/key_mapper.hpp"
#include "checkpoint/selection_state.hpp"
#include "flatbed/checkpoint.hpp"
#include "flatbed/key_map.hpp"
#include "io/name_index.hpp"
#include "io/text_list.hpp"

namespace flatbed {

namespace {

using State = CheckpointAccess::State;

constexpr std::size_t kMaxNamesNbytes = 100'000'000;  // more than any header holds

Result<void> add_mapped(std::string_view name, KeyMapper& mapper, TextList& names,
                        std::size_t& nbytes) {
  FLATBED_ASSIGN(const std::string_view mapped, mapper.map(name));
  nbytes += mapped.size();
  if (nbytes > kMaxNamesNbytes) {
    return make_error(ErrorCode::limit_exceeded, "the new names have more than ", kMaxNamesNbytes,
                      " bytes together");
  }
  names.add(mapped);
  return {};
}

// Two tensors or aliases of `renamed` that have one name, with their names in `from`.
Error collision(const State& from, const State& renamed, Error error) {
  if (error.code != ErrorCode::name_collision) return error;
  const std::size_t count = renamed.tensors.size() + renamed.aliases.size();
  const auto text_of = [&](std::uint32_t number) { return renamed.name_of(number); };
  NameIndex seen(count);
  for (std::uint32_t i = 0; i < count; ++i) {
    const auto other = seen.insert(renamed.name_of(i), i, text_of);
    if (!other) continue;
    return make_error(ErrorCode::name_collision,
                      "renaming makes two names one: ", quoted(from.name_of(*other)), " and ",
                      quoted(from.name_of(i)), " both become ", quoted(renamed.name_of(i)));
  }
  return error;
}

}  // namespace

Result<Checkpoint> Checkpoint::rename(const KeyMap& map) const {
  if (map.empty()) return *this;
  const State& from = *state_;
  KeyMapper mapper(map);
  std::size_t nbytes = 0;
  TextList names;
  names.reserve(from.tensors.size());
  for (const TensorInfo& tensor : from.tensors)
    FLATBED_TRY(add_mapped(tensor.name, mapper, names, nbytes));
  TextList aliases;
  for (const Alias& alias : from.aliases)
    FLATBED_TRY(add_mapped(alias.name, mapper, aliases, nbytes));

  auto state = std::make_shared<SelectionState>(state_);
  state->take_all(std::move(names));
  for (std::size_t i = 0; i < from.aliases.size(); ++i) {
    const TensorInfo* target = from.find_tensor(from.aliases[i].target);
    const std::string_view of = target == nullptr ? std::string_view(from.aliases[i].target)
                                                  : state->tensors[target->index].name;
    state->aliases.push_back({std::string(aliases[i]), std::string(of)});
  }
  state->aliases_error = from.aliases_error;
  // Tensors that the index lists in files without them stay missing.
  TextList missing;
  for (const auto& [name, file] : from.missing) {
    FLATBED_TRY(add_mapped(name, mapper, missing, nbytes));
    state->missing.emplace(missing.back(), file);
  }
  FLATBED_TRY(mapper.check_matched());
  if (Result<void> indexed = state->build_index(); !indexed)
    return collision(from, *state, std::move(indexed).error());
  return Checkpoint(std::move(state));
}

}  // namespace flatbed
