#include "value/tensor_path.hpp"

#include <optional>
#include <string>

#include "base/str_cat.hpp"
#include "base/utf8.hpp"
#include "flatbed/torch_module.hpp"
#include "value/key_text.hpp"

namespace flatbed {

// N1: the components of the path, joined with dots.
Result<std::string_view> TensorPath::name(const PathComponent& last) {
  text_.resize(ends_.empty() ? 0 : ends_.back());
  while (ends_.size() < components_.size()) {
    FLATBED_TRY(add(components_[ends_.size()], ends_.empty()));
    ends_.push_back(text_.size());
  }
  if (last.kind != PathComponent::Kind::nothing) {
    FLATBED_TRY(add(last, components_.empty()));
  } else if (components_.empty()) {
    text_ = "tensor";
  }
  return std::string_view(text_);
}

Result<void> TensorPath::add(const PathComponent& component, bool first) {
  if (!first) text_ += '.';
  switch (component.kind) {
    case PathComponent::Kind::nothing:
      break;
    case PathComponent::Kind::index:
      text_ += str_cat(component.index);
      break;
    case PathComponent::Kind::inside_key:
      text_ += str_cat(component.index, ".key");
      break;
    case PathComponent::Kind::wrapped:
      text_ += kWrappedModule;
      break;
    case PathComponent::Kind::key:
      FLATBED_TRY(add_key(component));
      break;
  }
  if (text_.size() <= kMaxNameBytes) return {};
  return make_error(ErrorCode::limit_exceeded, "a tensor's name has more than ", kMaxNameBytes,
                    " bytes");
}

// N2
Result<void> TensorPath::add_key(const PathComponent& component) {
  const Value key = tree_.value(component.key);
  if (key.kind() == Kind::string && is_utf8(key.text())) {
    text_ += key.text();
    return {};
  }
  if (key.kind() == Kind::big_integer && key.text().size() > kMaxKeyHex)
    return make_error(ErrorCode::limit_exceeded, "an int used as a key is too long: found ",
                      key.text().size(), " hex digits, the limit is ", kMaxKeyHex);
  const std::optional<std::string> text = key_text(key);
  if (!text) {
    text_ += str_cat(component.index);
  } else {
    text_ += is_utf8(*text) ? *text : replace_surrogates(*text);
  }
  return {};
}

}  // namespace flatbed
