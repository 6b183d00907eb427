#include "ops/ref/ref_ops.h"
#include "ops/ref/rows.h"

namespace carat::ops::ref {

void rope(Context&, TensorView x, int head_dim, std::span<const int32_t> positions, std::span<const float> inv_freq) {
  const size_t d = static_cast<size_t>(head_dim), half = d / 2;
  for (size_t t = 0; t < positions.size(); ++t) {
    const auto heads = row(x, static_cast<int64_t>(t));
    for (size_t j = 0; j < inv_freq.size(); ++j) {
      const float angle = static_cast<float>(positions[t]) * inv_freq[j];
      const float c = r(std::cos(angle)), s = r(std::sin(angle));
      for (size_t head = 0; head < heads.size(); head += d) {
        const float lower = f32(heads[head + j]), upper = f32(heads[head + j + half]);
        heads[head + j] = Bf16(r(lower * c) + r(-upper * s));
        heads[head + j + half] = Bf16(r(upper * c) + r(lower * s));
      }
    }
  }
}

}  // namespace carat::ops::ref
