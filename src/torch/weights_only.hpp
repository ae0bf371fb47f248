// What torch.load(weights_only=True) accepts: the names that torch 2.6 to 2.14 allow by default,
// and what may be done with each. Pure functions, thread-safe.
#pragma once

#include <string_view>

#include "flatbed/value.hpp"

namespace flatbed::pth {

// torch.sparse_coo and similar, which pickles name by a call.
[[nodiscard]] bool is_layout(std::string_view module, std::string_view name) noexcept;

// Whether a class, function or dtype may be named.
[[nodiscard]] bool allows_global(std::string_view module, std::string_view name) noexcept;

// Whether a pickle may import the name: those above, and the classes of storages and typed tensors,
// which persistent ids and old files name.
[[nodiscard]] bool loads_global(std::string_view module, std::string_view name) noexcept;

// Whether the object's own call, items, pairs and state are accepted. Its parts are not examined.
[[nodiscard]] bool allows_object(Value object);

// The class of an object made by a call of `cls.__new__` or copyreg's _reconstructor; otherwise the
// callable.
[[nodiscard]] Value class_of(Value object);

}  // namespace flatbed::pth
