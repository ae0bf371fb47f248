// TensorPath: the components on the way from a tree's root to a tensor, and the name that they make
// (spec N1, N2). Names are written where they are wanted only, and then from the place on where the
// last one differs. Borrows the tree; for one thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "flatbed/result.hpp"
#include "flatbed/value.hpp"

namespace flatbed {

// Of all names together: no header could hold more.
inline constexpr std::size_t kMaxNameBytes = 100'000'000;

// What a child adds to the path of its parent.
struct PathComponent {
  enum class Kind : std::uint8_t { nothing, index, key, inside_key, wrapped };
  Kind kind = Kind::nothing;
  std::uint32_t index = 0;  // inside_key: of the pair; key: of the pair, where the key has no text
  NodeId key = kNoNode;     // key
};

class TensorPath {
 public:
  explicit TensorPath(const ValueTree& tree) : tree_(tree) {}

  void push(const PathComponent& component) { components_.push_back(component); }
  void pop() {
    components_.pop_back();
    if (ends_.size() > components_.size()) ends_.pop_back();
  }

  // The name of what `last` leads to, valid until the next call. Errors: limit_exceeded.
  [[nodiscard]] Result<std::string_view> name(const PathComponent& last);

 private:
  [[nodiscard]] Result<void> add(const PathComponent& component, bool first);
  [[nodiscard]] Result<void> add_key(const PathComponent& component);

  const ValueTree& tree_;
  std::vector<PathComponent> components_;
  std::string text_;               // the name that was written last
  std::vector<std::size_t> ends_;  // in text_: of the first components, which are still there
};

}  // namespace flatbed
