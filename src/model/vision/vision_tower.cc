#include "model/vision/vision_tower.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "model/clipped_linear.h"
#include "model/rope.h"
#include "ops/ops.h"

namespace carat {

namespace {

constexpr int64_t kPixels = VisionTowerConfig::kPatchSize * VisionTowerConfig::kPatchSize * 3;
/// Rows whose inner activations exist at once: enough for the linears' speed, little memory. A row's result does not
/// depend on it.
constexpr int64_t kChunk = 512;

TensorView part(Bf16* data, int64_t first, int64_t count, int64_t width) {
  return {data + first * width, DType::kBf16, {count, width}};
}

}  // namespace

VisionTower::VisionTower(Arena& arena, const VisionTowerConfig& config, const VisionTowerWeights& weights,
                         int64_t max_patches)
    : config_(config),
      weights_(weights),
      pictures_(arena, max_patches),
      frequencies_(inverse_frequencies({.theta = config.rope_theta, .partial_rotary_factor = 1, .factor = 1},
                                       config.head_dim() / 2)),
      eps_(static_cast<float>(config.rms_norm_eps)) {
  const int64_t size = max_patches * config.hidden_size, inner = kChunk * config.intermediate_size;
  hidden_ = arena.take<Bf16>(size);
  normed_ = arena.take<Bf16>(size);
  const int64_t mark = arena.mark();
  pixels_ = arena.take<Bf16>(max_patches * kPixels);
  arena.rewind(mark);
  for (Bf16** const heads : {&q_, &k_, &v_, &heads_}) *heads = arena.take<Bf16>(size);
  gate_ = arena.take<Bf16>(inner);
  up_ = arena.take<Bf16>(inner);
  clipped_ = arena.take<Bf16>(kChunk * std::max(config.hidden_size, config.intermediate_size));
}

TensorView VisionTower::forward(ops::Context& ctx, std::span<const EncoderInput* const> inputs,
                                const VisionObserver& observer) {
  pictures_.pack(inputs, VisionTowerConfig::kPatchSize, config_.position_rows);
  embed(ctx, inputs);
  if (observer) observer("embedded", -1, rows(hidden_));
  for (size_t j = 0; j < weights_.layers.size(); ++j) {
    attention_block(ctx, weights_.layers[j]);
    mlp_block(ctx, weights_.layers[j]);
    if (observer) observer("out", static_cast<int>(j), rows(hidden_));
  }
  const TensorView pooled = pool(ctx, inputs);
  if (observer) observer("pooled", -1, pooled);
  return pooled;
}

/// h = round( round(x Win^T) + round(columns' table[x] + rows' table[y]) )
void VisionTower::embed(ops::Context& ctx, std::span<const EncoderInput* const> inputs) {
  const TensorView hidden = rows(hidden_), by_column = rows(normed_), by_row = rows(q_);
  const TensorView pixels(pixels_, DType::kBf16, {pictures_.num_patches(), kPixels});
  pictures_.read_pixels(ctx, inputs, tables_, pixels);
  ops::linear(ctx, hidden, pixels, weights_.input_proj);
  const auto table = [&](int64_t axis) {
    const Bf16* const first = static_cast<const Bf16*>(weights_.position_table.data);
    const int64_t count = config_.position_rows, width = config_.hidden_size;
    return ConstTensorView(first + axis * count * width, DType::kBf16, {count, width});
  };
  ops::embed(ctx, by_column, table(0), pictures_.columns(), 1.0f);
  ops::embed(ctx, by_row, table(1), pictures_.rows(), 1.0f);
  ops::add(ctx, by_column, by_column, by_row);
  ops::add(ctx, hidden, hidden, by_column);
}

/// h = round( h + RMS( o( attention( rotate(RMS(q x)), rotate(RMS(k x)), RMS(v x) ) ) ) ), x = RMS(h)
void VisionTower::attention_block(ops::Context& ctx, const VisionLayerWeights& w) {
  const int64_t width = config_.hidden_size, count = pictures_.num_patches();
  const TensorView hidden = rows(hidden_), normed = rows(normed_), q = rows(q_), k = rows(k_), v = rows(v_),
                   heads = rows(heads_);
  const auto project = [&](Bf16* out, Bf16* in, const ClippedLinear& linear) {
    for (int64_t first = 0; first < count; first += kChunk) {
      const int64_t n = std::min(kChunk, count - first);
      clipped_linear(ctx, part(out, first, n, width), part(in, first, n, width), linear, part(clipped_, 0, n, width));
    }
  };
  ops::rms_norm(ctx, normed, hidden, w.input_layernorm, eps_);
  project(q_, normed_, w.q_proj);
  project(k_, normed_, w.k_proj);
  project(v_, normed_, w.v_proj);
  const auto by_head = [&](Bf16* data) {
    return TensorView(data, DType::kBf16, {count, config_.num_heads, config_.head_dim()});
  };
  ops::rms_norm(ctx, by_head(q_), by_head(q_), w.q_norm, eps_);
  ops::rms_norm(ctx, by_head(k_), by_head(k_), w.k_norm, eps_);
  ops::rms_norm(ctx, by_head(v_), by_head(v_), {}, eps_);
  ops::rope_2d(ctx, q, config_.head_dim(), pictures_.columns(), pictures_.rows(), frequencies_);
  ops::rope_2d(ctx, k, config_.head_dim(), pictures_.columns(), pictures_.rows(), frequencies_);
  ops::bidirectional_attention(ctx, heads, q, k, v, config_.head_dim(), pictures_.indptr());
  project(normed_, heads_, w.o_proj);
  ops::rms_norm(ctx, normed, normed, w.post_attention_layernorm, eps_);
  ops::add(ctx, hidden, hidden, normed);
}

/// h = round( h + RMS( down( round( round(gelu(gate x)) * up x ) ) ) ), x = RMS(h)
void VisionTower::mlp_block(ops::Context& ctx, const VisionLayerWeights& w) {
  const int64_t width = config_.hidden_size, inner = config_.intermediate_size, count = pictures_.num_patches();
  for (int64_t first = 0; first < count; first += kChunk) {
    const int64_t n = std::min(kChunk, count - first);
    const TensorView hidden = part(hidden_, first, n, width), normed = part(normed_, first, n, width),
                     gate = part(gate_, 0, n, inner), up = part(up_, 0, n, inner);
    ops::rms_norm(ctx, normed, hidden, w.pre_feedforward_layernorm, eps_);
    clipped_linear(ctx, gate, normed, w.gate_proj, part(clipped_, 0, n, width));
    clipped_linear(ctx, up, normed, w.up_proj, part(clipped_, 0, n, width));
    ops::gelu_mul(ctx, gate, gate, up);
    clipped_linear(ctx, normed, gate, w.down_proj, part(clipped_, 0, n, inner));
    ops::rms_norm(ctx, normed, normed, w.post_feedforward_layernorm, eps_);
    ops::add(ctx, hidden, hidden, normed);
  }
}

TensorView VisionTower::pool(ops::Context& ctx, std::span<const EncoderInput* const> inputs) {
  constexpr int kPooling = VisionTowerConfig::kPooling;
  const int64_t width = config_.hidden_size;
  const float scale = static_cast<float>(std::sqrt(static_cast<double>(width)));
  for (size_t i = 0; i < inputs.size(); ++i) {
    const int64_t first = pictures_.indptr()[i], count = pictures_.indptr()[i + 1] - first;
    ops::pool_patches(ctx, part(normed_, first / (kPooling * kPooling), count / (kPooling * kPooling), width),
                      part(hidden_, first, count, width), inputs[i]->grid_width, kPooling, scale, weights_.std_bias,
                      weights_.std_scale);
  }
  return part(normed_, 0, pictures_.num_patches() / (kPooling * kPooling), width);
}

}  // namespace carat
