#include <algorithm>
#include <cmath>
#include <cstring>

#include "ops/cpu/cpu_ops.h"
#include "ops/cpu/linear.h"
#include "ops/cpu/slices.h"
#include "tensor/bf16.h"

namespace carat::ops::cpu {

void route(Context& ctx, std::span<int32_t> ids, std::span<float> weights, ConstTensorView logits,
           ConstTensorView per_expert_scale, int k) {
  const int64_t num_experts = logits.dim(1);
  const auto value = [](const ConstTensorView& view, int64_t t, int64_t e) {
    return static_cast<float>(static_cast<const Bf16*>(view.data)[t * view.row_stride + e]);
  };
  constexpr int64_t kExponentialCost = 32;
  parallel_rows(ctx, logits.dim(0), num_experts * kExponentialCost, [&](int64_t begin, int64_t end) {
    float* const p =
        reinterpret_cast<float*>(thread_scratch(Scratch::kExperts, num_experts * static_cast<int64_t>(sizeof(float))));
    for (int64_t t = begin; t < end; ++t) {
      float highest = value(logits, t, 0);
      for (int64_t e = 0; e < num_experts; ++e) highest = std::max(highest, value(logits, t, e));
      double total = 0;
      for (int64_t e = 0; e < num_experts; ++e) total += p[e] = std::exp(value(logits, t, e) - highest);
      for (int64_t e = 0; e < num_experts; ++e) p[e] /= static_cast<float>(total);

      int32_t* const picked = ids.data() + t * k;
      float* const weight = weights.data() + t * k;
      float selected = 0;
      for (int j = 0; j < k; ++j) {
        picked[j] = static_cast<int32_t>(std::max_element(p, p + num_experts) - p);  // the first among equals
        weight[j] = p[picked[j]];
        selected += weight[j];
        p[picked[j]] = -1.0f;
      }
      for (int j = 0; j < k; ++j) weight[j] = weight[j] / selected * value(per_expert_scale, 0, picked[j]);
    }
  });
}

namespace {

/// Rows of the step's (token, j) pairs, sorted by expert: those of expert e are [begin[e], begin[e + 1]), each standing
/// for pair pairs[row]; row_of[pair] leads back.
struct Grouping {
  int32_t* begin;   // [E + 1]
  int32_t* pairs;   // [T * k]
  int32_t* row_of;  // [T * k]
};

Grouping group_by_expert(std::span<const int32_t> ids, int64_t num_experts, int32_t* memory) {
  const Grouping g{memory, memory + num_experts + 1, memory + num_experts + 1 + static_cast<int64_t>(ids.size())};
  std::fill(g.begin, g.begin + num_experts + 1, 0);
  for (const int32_t e : ids) ++g.begin[e + 1];
  for (int64_t e = 0; e < num_experts; ++e) g.begin[e + 1] += g.begin[e];
  for (size_t pair = 0; pair < ids.size(); ++pair) {  // begin[e] moves to its end ...
    const int32_t place = g.begin[ids[pair]]++;
    g.pairs[place] = static_cast<int32_t>(pair);
    g.row_of[pair] = place;
  }
  for (int64_t e = num_experts; e > 0; --e) g.begin[e] = g.begin[e - 1];  // ... and back
  g.begin[0] = 0;
  return g;
}

}  // namespace

// Each expert in use is a linear layer on its own rows; all of them run as one range of weight rows, so that eight
// experts of one token stream as one large matrix would.
void experts(Context& ctx, TensorView y, ConstTensorView x, ConstTensorView gate_up, ConstTensorView down,
             std::span<const int32_t> ids, std::span<const float> weights, int k) {
  if (x.dim(0) == 0) return;
  const Kernels& level = kernels();
  const int64_t num_experts = down.dim(0), hidden = down.dim(1), width = down.dim(2);
  const int64_t rows = static_cast<int64_t>(ids.size());

  const int64_t activations = rows * (2 * hidden + 2 * width) * 2;  // bf16
  const int64_t indices = (num_experts + 1 + 2 * rows) * static_cast<int64_t>(sizeof(int32_t));
  std::byte* const memory = thread_scratch(Scratch::kExperts, activations + indices + 64);
  uint16_t* const in = reinterpret_cast<uint16_t*>(memory);  // [rows, C]
  uint16_t* const both = in + rows * hidden;                 // [rows, 2F]
  uint16_t* const out = both + rows * 2 * width;             // [rows, C]
  const Grouping groups =
      group_by_expert(ids, num_experts, reinterpret_cast<int32_t*>(memory + (activations + 63) / 64 * 64));
  LinearArgs* const jobs = reinterpret_cast<LinearArgs*>(
      thread_scratch(Scratch::kJobs, num_experts * static_cast<int64_t>(sizeof(LinearArgs))));

  const auto make_jobs = [&](const ConstTensorView& w, const uint16_t* job_x, int64_t x_stride, uint16_t* job_y) {
    const int64_t outputs = w.dim(1);
    size_t num_jobs = 0;
    for (int64_t e = 0; e < num_experts; ++e) {
      const int64_t first = groups.begin[e], count = groups.begin[e + 1] - first;
      if (count == 0) continue;
      jobs[num_jobs++] = LinearArgs{.x = job_x + first * x_stride,
                                    .x_stride = x_stride,
                                    .w = static_cast<const uint16_t*>(w.data) + e * outputs * w.row_stride,
                                    .w_stride = w.row_stride,
                                    .y = job_y + first * outputs,
                                    .y_stride = outputs,
                                    .y_is_f32 = false,
                                    .num_tokens = count,
                                    .num_outputs = outputs,
                                    .depth = w.dim(2),
                                    .packed = nullptr};
    }
    return std::span<LinearArgs>(jobs, num_jobs);
  };

  parallel_rows(ctx, rows, hidden, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r)
      std::memcpy(in + r * hidden, static_cast<const uint16_t*>(x.data) + groups.pairs[r] / k * x.row_stride,
                  static_cast<size_t>(hidden) * 2);
  });
  run_linear(ctx, make_jobs(gate_up, in, hidden, both));
  // The activation overwrites the gates.
  const TensorView gate(both, DType::kBf16, {rows, width}, 2 * width);
  cpu::gelu_mul(ctx, gate, gate, TensorView(both + width, DType::kBf16, {rows, width}, 2 * width));
  run_linear(ctx, make_jobs(down, both, 2 * width, out));

  parallel_rows(ctx, x.dim(0), hidden * k, [&](int64_t begin, int64_t end) {
    float* const sum =
        reinterpret_cast<float*>(thread_scratch(Scratch::kLinear, hidden * static_cast<int64_t>(sizeof(float))));
    for (int64_t t = begin; t < end; ++t) {
      std::fill(sum, sum + hidden, 0.0f);
      for (int64_t pair = t * k; pair < (t + 1) * k; ++pair)
        level.add_scaled(sum, out + groups.row_of[pair] * hidden, weights[static_cast<size_t>(pair)], hidden);
      level.narrow(static_cast<uint16_t*>(y.data) + t * y.row_stride, sum, hidden);
    }
  });
}

}  // namespace carat::ops::cpu
