#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "ops/cpu/cpu_ops.h"
#include "ops/cpu/kernels.h"
#include "ops/cpu/rows.h"
#include "ops/cpu/slices.h"
#include "tensor/bf16.h"

namespace carat::ops::cpu {

namespace {

/// Functions of one bf16 number, by its bits.
template <class T, class Fn>
std::array<T, 65536> make_table(Fn&& fn) {
  std::array<T, 65536> table;
  for (uint32_t bits = 0; bits < table.size(); ++bits)
    table[bits] = fn(static_cast<float>(Bf16::from_bits(static_cast<uint16_t>(bits))));
  return table;
}

const uint16_t* silu_table() {
  static const auto table = make_table<uint16_t>([](float x) { return Bf16(x / (1.0f + std::exp(-x))).bits; });
  return table.data();
}

/// Not rounded to bf16.
const float* sigmoid_table() {
  static const auto table = make_table<float>([](float x) { return 1.0f / (1.0f + std::exp(-x)); });
  return table.data();
}

float widen(uint16_t bits) { return static_cast<float>(Bf16::from_bits(bits)); }

}  // namespace

void silu(Context& ctx, TensorView y, ConstTensorView x) {
  const uint16_t* const table = silu_table();
  parallel_rows(ctx, x.num_rows(), x.last_dim(), [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t)
      for (int64_t i = 0; i < x.last_dim(); ++i) row(y, t)[i] = table[row(x, t)[i]];
  });
}

void glu(Context& ctx, TensorView y, ConstTensorView x) {
  const float* const table = sigmoid_table();
  const int64_t width = y.dim(1);
  parallel_rows(ctx, y.dim(0), width, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t)
      for (int64_t i = 0; i < width; ++i) row(y, t)[i] = Bf16(widen(row(x, t)[i]) * table[row(x, t)[width + i]]).bits;
  });
}

void unfold_3x3(Context& ctx, TensorView y, ConstTensorView x, int64_t first) {
  const int64_t height = x.dim(0), width = x.dim(1), channels = x.dim(2), out_width = (width + 1) / 2;
  const auto copy_or_clear = [&](uint16_t* to, int64_t t, int64_t f) {
    const size_t bytes = static_cast<size_t>(channels) * sizeof(uint16_t);
    if (t >= 0 && t < height && f >= 0 && f < width)
      std::memcpy(to, row(x, t * width + f), bytes);
    else
      std::memset(to, 0, bytes);
  };
  parallel_rows(ctx, y.dim(0), 9 * channels, [&](int64_t begin, int64_t end) {
    for (int64_t n = begin; n < end; ++n) {
      const int64_t t = 2 * (first + n / out_width) - 1, f = 2 * (n % out_width) - 1;
      for (int64_t i = 0; i < 3; ++i)
        for (int64_t j = 0; j < 3; ++j) copy_or_clear(row(y, n) + (3 * i + j) * channels, t + i, f + j);
    }
  });
}

void causal_conv(Context& ctx, TensorView y, ConstTensorView x, ConstTensorView w) {
  const Kernels& level = kernels();
  const int64_t taps = w.dim(0), width = x.dim(1);
  parallel_rows(ctx, x.dim(0), taps * width, [&](int64_t begin, int64_t end) {
    float* const sum =
        reinterpret_cast<float*>(thread_scratch(Scratch::kAudio, width * static_cast<int64_t>(sizeof(float))));
    for (int64_t t = begin; t < end; ++t) {
      std::fill_n(sum, width, 0.0f);
      for (int64_t j = std::max<int64_t>(taps - 1 - t, 0); j < taps; ++j)
        level.add_product(sum, row(w, j), row(x, t - taps + 1 + j), width);
      level.narrow(row(y, t), sum, width);
    }
  });
}

void relative_attention(Context& ctx, TensorView o, ConstTensorView q, ConstTensorView k, ConstTensorView v,
                        ConstTensorView r, const RelativeScores& s) {
  const Kernels& level = kernels();
  const int64_t head_dim = static_cast<int64_t>(s.dim_scale.size()), width = q.dim(1), window = r.dim(0);
  parallel_rows(ctx, q.dim(0), 4 * window * width, [&](int64_t begin, int64_t end) {
    float* const query = reinterpret_cast<float*>(
        thread_scratch(Scratch::kAudio, (2 * head_dim + window) * static_cast<int64_t>(sizeof(float))));
    float* const sum = query + head_dim;
    float* const p = sum + head_dim;
    for (int64_t t = begin; t < end; ++t)
      for (int64_t head = 0; head < width; head += head_dim) {
        const int64_t num_keys = std::min(window, t + 1);
        for (int64_t i = 0; i < head_dim; ++i)
          query[i] = widen(row(q, t)[head + i]) * s.q_scale * s.dim_scale[static_cast<size_t>(i)];
        float highest = -INFINITY;
        for (int64_t d = 0; d < num_keys; ++d) {
          const float score = level.dot(query, row(k, t - d) + head, head_dim) * s.k_scale +
                              level.dot(query, row(r, d) + head, head_dim);
          p[d] = s.cap * std::tanh(score / s.cap);
          highest = std::max(highest, p[d]);
        }
        float total = 0;
        for (int64_t d = 0; d < num_keys; ++d) total += p[d] = std::exp(p[d] - highest);
        std::fill_n(sum, head_dim, 0.0f);
        for (int64_t d = 0; d < num_keys; ++d) level.add_scaled(sum, row(v, t - d) + head, p[d] / total, head_dim);
        level.narrow(row(o, t) + head, sum, head_dim);
      }
  });
}

}  // namespace carat::ops::cpu
