// The handles of flatbed.h: each begins with a number that tells its kind.
#pragma once

#include <cstdint>
#include <string_view>

#include "flatbed/checkpoint.hpp"
#include "flatbed/flatbed.h"
#include "flatbed/page_lock.hpp"

struct flatbed_checkpoint {
  static constexpr std::uint64_t kMagic = 0x666c6174'63686b01;
  static constexpr std::string_view kType = "flatbed_checkpoint";

  explicit flatbed_checkpoint(flatbed::Checkpoint opened) : checkpoint(std::move(opened)) {}

  std::uint64_t magic = kMagic;
  const flatbed::Checkpoint checkpoint;
};

struct flatbed_page_lock {
  static constexpr std::uint64_t kMagic = 0x666c6174'6c636b02;
  static constexpr std::string_view kType = "flatbed_page_lock";

  explicit flatbed_page_lock(flatbed::PageLock made) : lock(std::move(made)) {}

  std::uint64_t magic = kMagic;
  flatbed::PageLock lock;
};
