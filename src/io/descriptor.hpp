// Descriptor: owns one file descriptor and closes it. Move-only.
#pragma once

#include <utility>

namespace flatbed {

class Descriptor {
 public:
  Descriptor() = default;
  explicit Descriptor(int number) noexcept : number_(number) {}
  Descriptor(Descriptor&& other) noexcept : number_(std::exchange(other.number_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(number_, other.number_);
    return *this;
  }
  ~Descriptor();

  [[nodiscard]] int get() const noexcept { return number_; }  // borrowed; -1 if none

 private:
  int number_ = -1;
};

}  // namespace flatbed
