#include "value/tensor_path.hpp"

#include <algorithm>

#include "base/str_cat.hpp"
#include "base/utf8.hpp"
#include "flatbed/torch_module.hpp"

namespace flatbed {

namespace {

constexpr std::size_t kMaxKeyHex = 3'400;  // about 4,096 decimal digits

// The decimal digits of hex digits in "-1f" style.
std::string decimal(std::string_view hex) {
  const bool negative = hex.starts_with('-');
  std::string digits = "0";  // least significant digit first
  for (const char c : hex.substr(negative ? 1 : 0)) {
    int carry = c <= '9' ? c - '0' : c - 'a' + 10;
    for (char& digit : digits) {
      const int value = (digit - '0') * 16 + carry;
      digit = static_cast<char>('0' + value % 10);
      carry = value / 10;
    }
    for (; carry > 0; carry /= 10) digits += static_cast<char>('0' + carry % 10);
  }
  if (negative) digits += '-';
  std::reverse(digits.begin(), digits.end());
  return digits;
}

}  // namespace

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
  switch (key.kind()) {
    case Kind::string:
      if (is_utf8(key.text())) {
        text_ += key.text();
      } else {
        text_ += replace_surrogates(key.text());
      }
      return {};
    case Kind::integer:
      text_ += str_cat(*key.as_int());
      return {};
    case Kind::big_integer:
      if (key.text().size() > kMaxKeyHex)
        return make_error(ErrorCode::limit_exceeded, "an int used as a key is too long: found ",
                          key.text().size(), " hex digits, the limit is ", kMaxKeyHex);
      text_ += decimal(key.text());
      return {};
    case Kind::boolean:
      text_ += *key.as_bool() ? "True" : "False";
      return {};
    case Kind::none:
      text_ += "None";
      return {};
    default:
      text_ += str_cat(component.index);
      return {};
  }
}

}  // namespace flatbed
