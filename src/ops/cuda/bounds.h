#pragma once

#include <limits>

namespace carat::cuda {

/// The bounds of a clippable linear's input or output; the default limits nothing.
struct Bounds {
  float lowest = -std::numeric_limits<float>::infinity(), highest = std::numeric_limits<float>::infinity();
};

}  // namespace carat::cuda
