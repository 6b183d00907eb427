#include "model/rope.h"

#include <cmath>

namespace carat {

std::vector<float> inverse_frequencies(const RopeConfig& rope, int head_dim) {
  const int count = static_cast<int>(rope.partial_rotary_factor * head_dim / 2);
  std::vector<float> out;
  for (int j = 0; j < count; ++j) {
    const float exponent = static_cast<float>(2 * j) / static_cast<float>(head_dim);
    const float power = static_cast<float>(std::pow(rope.theta, static_cast<double>(exponent)));
    out.push_back(1.0f / power / static_cast<float>(rope.factor));
  }
  return out;
}

}  // namespace carat
