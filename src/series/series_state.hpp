// Series::State: what a Series owns. One thread writes; `folder` and `options` never change.
#pragma once

#include <filesystem>

#include "flatbed/series.hpp"

namespace flatbed {

struct Series::State {
  std::filesystem::path folder;
  SeriesOptions options;
};

}  // namespace flatbed
