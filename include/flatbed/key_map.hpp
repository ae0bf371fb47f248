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
//   NEW = cat(OLD, OLD..., dim=0)             joins tensors, as torch.cat() does
//   NEW, NEW... = split(OLD, SIZE..., dim=0)  splits a tensor, as torch.split() does
//
//   layers.{1}.qkv.weight = cat(layers.*.q.weight, layers.*.k.weight, layers.*.v.weight, dim=0)
//
// Every rule runs once on each name, in order, and sees what the rules before it made of the name.
// What joins and splits make is seen by the rules after them.
//
// cat() joins, for each text of the captures, one tensor of each OLD, in the order of the rule. All
// OLDs have the same number of wildcards, to which {1}, {2} and so on in NEW refer. It is an error
// if some tensors of a group are there and others are missing, and if they differ in dtype or in
// another dimension than `dim`. split() cuts dimension `dim` into pieces of SIZE elements, which
// must add up to the whole. A negative `dim` counts from the last dimension; without one it is 0.
// What is cut and joined must fill whole bytes.
//
// A joined tensor takes the place of the one of its parts that comes first in the checkpoint; the
// parts are no longer listed. The pieces of a split tensor take the place of the whole. An alias is
// a name like others. If its tensor is joined or split and it is not, it becomes a tensor of its
// own, so that nothing is lost. Results that are made of the same tensors in the same way are one
// tensor and its aliases.
//
// In a rule as text, a comma ends an OLD unless it is escaped or in a set, and always ends a NEW of
// split(). A NEW that begins with cat( or split( and ends with ) is not a name; a callback can make
// such names.
//
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
  static constexpr std::size_t kMaxParts = 64;             // that a rule joins or splits into
  // Of joins and splits of what other joins and splits made.
  static constexpr std::size_t kMaxFusionDepth = 32;

  // One rule as text. The first = that is neither escaped nor in a set ends OLD. Errors:
  // invalid_argument, limit_exceeded.
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
  // The rules NEW = cat(...) and NEW, NEW... = split(...). `name` and `names` are NEWs, `parts` and
  // `whole` OLDs, in which commas need no escape. Errors: also for a text that is none.
  [[nodiscard]] Result<void> cat(std::string_view name, const std::vector<std::string>& parts,
                                 std::int64_t dim = 0);
  [[nodiscard]] Result<void> split(const std::vector<std::string>& names, std::string_view whole,
                                   const std::vector<std::uint64_t>& sizes, std::int64_t dim = 0);
  // All rules of `other`, at the end. Errors: limit_exceeded.
  [[nodiscard]] Result<void> append(const KeyMap& other);

  [[nodiscard]] bool empty() const noexcept { return rules_.empty(); }
  [[nodiscard]] std::size_t size() const noexcept { return rules_.size(); }

  // What the rules make of one name; a rule may match nothing. Errors: invalid_argument (the name
  // becomes empty, is no longer UTF-8, or is that of a tensor to be joined or split),
  // limit_exceeded, those of callbacks.
  [[nodiscard]] Result<std::string> map(std::string_view name) const;

 private:
  friend struct KeyMapAccess;
  struct FLATBED_HIDDEN Rule;
  [[nodiscard]] Result<void> add(std::shared_ptr<const Rule> rule);
  std::vector<std::shared_ptr<const Rule>> rules_;
};

}  // namespace flatbed
