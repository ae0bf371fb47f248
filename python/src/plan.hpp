// flatbed._flatbed.Plan: what a file shall hold, with what keeps its memory valid.
#pragma once

#include <nanobind/nanobind.h>

#include <cstddef>
#include <vector>

#include "flatbed/save_plan.hpp"

namespace flatbed::python {

namespace nb = nanobind;

struct PlanObject {
  SavePlan plan;
  // Objects of Python whose memory the plan borrows, such as tensors.
  nb::object keep;
  // Memory of the plan's own.
  std::vector<std::vector<std::byte>> copies;
};

}  // namespace flatbed::python
