#include "ops/ref/ref_ops.h"
#include "ops/ref/rows.h"

namespace carat::ops::ref {

namespace {

/// Rotates pairs (j, j + half) of `head` by position * inv_freq[j].
void rotate(std::span<Bf16> head, size_t half, int32_t position, std::span<const float> inv_freq) {
  for (size_t j = 0; j < inv_freq.size(); ++j) {
    const float angle = static_cast<float>(position) * inv_freq[j];
    const float c = r(std::cos(angle)), s = r(std::sin(angle));
    const float lower = f32(head[j]), upper = f32(head[j + half]);
    head[j] = Bf16(r(lower * c) + r(-upper * s));
    head[j + half] = Bf16(r(upper * c) + r(lower * s));
  }
}

}  // namespace

void rope(Context&, TensorView x, int head_dim, std::span<const int32_t> positions, std::span<const float> inv_freq) {
  const size_t d = static_cast<size_t>(head_dim);
  for (size_t t = 0; t < positions.size(); ++t) {
    const auto heads = row(x, static_cast<int64_t>(t));
    for (size_t head = 0; head < heads.size(); head += d) rotate(heads.subspan(head, d), d / 2, positions[t], inv_freq);
  }
}

void rope_2d(Context&, TensorView x, int head_dim, std::span<const int32_t> columns, std::span<const int32_t> rows,
             std::span<const float> inv_freq) {
  const size_t half = static_cast<size_t>(head_dim) / 2;
  for (size_t t = 0; t < columns.size(); ++t) {
    const auto heads = row(x, static_cast<int64_t>(t));
    for (size_t head = 0; head < heads.size(); head += 2 * half) {
      rotate(heads.subspan(head, half), half / 2, columns[t], inv_freq);
      rotate(heads.subspan(head + half, half), half / 2, rows[t], inv_freq);
    }
  }
}

}  // namespace carat::ops::ref
