// TensorPath: the components on the path from a tree's root to a tensor, and the name that they
// form (spec N1, N2). A name is built only on request, and only from the component on where it
// differs from the last one. Borrows the tree. Not thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "flatbed/result.hpp"
#include "flatbed/value.hpp"

namespace flatbed {

// Limit on all names together; no header could hold more.
inline constexpr std::size_t kMaxNameBytes = 100'000'000;

// The component that a child adds to its parent's path.
struct PathComponent {
  enum class Kind : std::uint8_t { nothing, index, key, inside_key, wrapped };
  Kind kind = Kind::nothing;
  std::uint32_t index = 0;  // inside_key: number of the pair; key: the same, if the key has no text
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

  // The name of the node that `last` leads to, valid until the next call. Errors: limit_exceeded.
  [[nodiscard]] Result<std::string_view> name(const PathComponent& last);

 private:
  [[nodiscard]] Result<void> add(const PathComponent& component, bool first);
  [[nodiscard]] Result<void> add_key(const PathComponent& component);

  const ValueTree& tree_;
  std::vector<PathComponent> components_;
  std::string text_;               // the last name built
  std::vector<std::size_t> ends_;  // ends in text_ of the first components, which are still valid
};

}  // namespace flatbed
