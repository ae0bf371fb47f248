// KeyMap: ordered rules that give tensors other names, for Checkpoint::rename().
//
//   FLATBED_ASSIGN(KeyMap map, KeyMap::parse_rule("h.*.attn.*=layers.{1}.attention.{2}"));
//   FLATBED_TRY(map.add_prefix("model."));
//   FLATBED_ASSIGN(const Checkpoint renamed, model.rename(map));
//
// A rule is one of
//   OLD=NEW              OLD is a glob over the whole name, as in Selection::include: * is any run
//                        of bytes, ? one byte, [a-z] and [!a-z] one byte of a set, and \ takes the
//                        next byte literally. Each * ? [] is a capture. NEW refers to captures as
//                        {1}, {2} and so on, from left to right, and has {{ and }} for braces.
//   strip-prefix PREFIX  removes PREFIX from the names that begin with it
//   add-prefix PREFIX    puts PREFIX before every name
//   a callback           returns the new name
//
// Every rule runs once on each name, in order, and sees what the rules before it made of the name.
// From left to right, each * but the last takes as few bytes as possible, and none gives back what
// it took: matching takes at most time proportional to OLD times name.
//
// A KeyMap is a value: copies are cheap, and are not affected by what is later added to the
// original. Const members may be called from several threads at once, if the callbacks may.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "flatbed/export.hpp"
#include "flatbed/result.hpp"

namespace flatbed {

// Whether a rule that matches no name of a checkpoint is an error of rename().
enum class Unmatched : std::uint8_t { refuse, allow };

class FLATBED_EXPORT KeyMap {
 public:
  using Callback = std::function<Result<std::string>(std::string_view name)>;

  static constexpr std::size_t kMaxRules = 10'000;
  static constexpr std::size_t kMaxTextNbytes = 16 << 20;  // of a file of rules
  static constexpr std::size_t kMaxNameNbytes = 1 << 20;   // of a name that a rule makes

  // One rule: OLD=NEW, strip-prefix PREFIX or add-prefix PREFIX. The first = that is neither
  // escaped nor in a set ends OLD. Errors: invalid_argument, limit_exceeded.
  [[nodiscard]] static Result<KeyMap> parse_rule(std::string_view rule);
  // Rules as text in UTF-8, one per line. A # at the beginning of a line or after a blank begins a
  // comment; blanks around a rule, OLD and NEW do not count. `label` stands for a path in messages.
  // Errors: as above, with label and line.
  [[nodiscard]] static Result<KeyMap> parse(std::string_view text, std::string_view label);
  // The same from a regular file. Errors: those of the system too.
  [[nodiscard]] static Result<KeyMap> read(const std::filesystem::path& path);

  // Each adds one rule at the end. Errors, after which the map is unchanged: invalid_argument (an
  // empty prefix, no callback), limit_exceeded.
  [[nodiscard]] Result<void> strip_prefix(std::string_view prefix,
                                          Unmatched unmatched = Unmatched::refuse);
  [[nodiscard]] Result<void> add_prefix(std::string_view prefix);
  // The callback is called for every name, and must not throw. Its error ends rename().
  [[nodiscard]] Result<void> add_callback(Callback callback);
  // All rules of `other`, at the end. Errors: limit_exceeded.
  [[nodiscard]] Result<void> append(const KeyMap& other);

  [[nodiscard]] bool empty() const noexcept { return rules_.empty(); }
  [[nodiscard]] std::size_t size() const noexcept { return rules_.size(); }

  // What the rules make of one name; a rule may match nothing. Errors: invalid_argument (the name
  // becomes empty, or is no longer UTF-8), limit_exceeded, those of callbacks.
  [[nodiscard]] Result<std::string> map(std::string_view name) const;

 private:
  friend struct KeyMapAccess;
  struct FLATBED_HIDDEN Rule;
  [[nodiscard]] Result<void> add(std::shared_ptr<const Rule> rule);
  std::vector<std::shared_ptr<const Rule>> rules_;
};

}  // namespace flatbed
