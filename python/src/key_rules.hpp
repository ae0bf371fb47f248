// KeyRules: the `rename` argument as a KeyMap.
//
//   KeyRules rules(rename);
//   const Checkpoint renamed = rules.run([&] { return checkpoint.rename(rules.map()); });
#pragma once

#include <nanobind/nanobind.h>

#include <memory>
#include <optional>
#include <utility>

#include "errors.hpp"
#include "flatbed/key_map.hpp"

namespace flatbed::python {

namespace nb = nanobind;

class KeyRules {
 public:
  // `rules`: None; rules as text, one per line; a dict of OLD to NEW; a callable that takes a name
  // and returns one; or a list of these. Throws TypeError, and the errors of KeyMap. GIL held.
  explicit KeyRules(const nb::handle& rules);

  void strip_prefix(const std::string& prefix);
  void add_prefix(const std::string& prefix);

  [[nodiscard]] const KeyMap& map() const { return map_; }

  // Calls `work` without the GIL, and throws what a callable raised meanwhile, or the work's error.
  // Callables raise on the thread that calls this.
  template <typename Work>
  auto run(Work&& work) {
    auto result = released(std::forward<Work>(work));
    if (*raised_) throw nb::python_error(std::move(**raised_));
    return value_or_raise(std::move(result));
  }

 private:
  void add(const nb::handle& rules);

  KeyMap map_;
  // Shared with the callbacks in the map.
  std::shared_ptr<std::optional<nb::python_error>> raised_ =
      std::make_shared<std::optional<nb::python_error>>();
};

}  // namespace flatbed::python
