#include <algorithm>
#include <numeric>
#include <vector>

#include "ops/ref/ref_ops.h"
#include "ops/ref/rows.h"

namespace carat::ops::ref {

void route(Context&, std::span<int32_t> ids, std::span<float> weights, ConstTensorView logits,
           ConstTensorView per_expert_scale, int k) {
  const size_t num_experts = static_cast<size_t>(logits.last_dim()), top = static_cast<size_t>(k);
  std::vector<float> p(num_experts);
  std::vector<int32_t> order(num_experts);
  for (int64_t t = 0; t < logits.dim(0); ++t) {
    const auto in = row(logits, t);
    float highest = f32(in[0]);
    for (const Bf16 value : in) highest = std::max(highest, f32(value));
    double total = 0;
    for (size_t e = 0; e < num_experts; ++e) total += p[e] = std::exp(f32(in[e]) - highest);
    for (float& value : p) value /= static_cast<float>(total);

    std::iota(order.begin(), order.end(), 0);
    std::ranges::stable_sort(
        order, [&](int32_t a, int32_t b) { return p[static_cast<size_t>(a)] > p[static_cast<size_t>(b)]; });
    float selected = 0;
    for (size_t j = 0; j < top; ++j) selected += p[static_cast<size_t>(order[j])];
    for (size_t j = 0; j < top; ++j) {
      const auto e = static_cast<size_t>(order[j]);
      const size_t place = static_cast<size_t>(t) * top + j;
      ids[place] = order[j];
      weights[place] = p[e] / selected * f32(row(per_expert_scale, 0)[e]);
    }
  }
}

void experts(Context&, TensorView y, ConstTensorView x, ConstTensorView gate_up, ConstTensorView down,
             std::span<const int32_t> ids, std::span<const float> weights, int k) {
  const int64_t width = down.dim(2), hidden = down.dim(1);
  std::vector<Bf16> inner(static_cast<size_t>(width));
  std::vector<float> sum(static_cast<size_t>(hidden));
  for (int64_t t = 0; t < x.dim(0); ++t) {
    std::ranges::fill(sum, 0.0f);
    for (int64_t j = t * k; j < (t + 1) * k; ++j) {
      const int64_t e = ids[static_cast<size_t>(j)];
      for (int64_t f = 0; f < width; ++f) {
        const float gate = r(dot(row(x, t), row(gate_up, e * 2 * width + f)));
        const float up = r(dot(row(x, t), row(gate_up, e * 2 * width + width + f)));
        inner[static_cast<size_t>(f)] = Bf16(r(gelu_tanh(gate)) * up);
      }
      for (int64_t c = 0; c < hidden; ++c)
        sum[static_cast<size_t>(c)] += r(dot(inner, row(down, e * hidden + c))) * weights[static_cast<size_t>(j)];
    }
    for (size_t c = 0; c < sum.size(); ++c) row(y, t)[c] = Bf16(sum[c]);
  }
}

}  // namespace carat::ops::ref
