#include "model/vision/patch_embedder.h"

#include "ops/ops.h"

namespace carat {

namespace {

constexpr int64_t kPixels = PatchEmbedderConfig::kPatchSize * PatchEmbedderConfig::kPatchSize * 3;

}  // namespace

PatchEmbedder::PatchEmbedder(Arena& arena, const PatchEmbedderConfig& config, const PatchEmbedderWeights& weights,
                             int64_t max_patches)
    : config_(config), weights_(weights), pictures_(arena, max_patches) {
  const int64_t size = max_patches * config.hidden_size;
  pixels_ = arena.take<Bf16>(max_patches * kPixels);
  sums_ = arena.take<float>(size);
  for (Bf16** const rows : {&hidden_, &by_column_, &by_row_}) *rows = arena.take<Bf16>(size);
}

/// h = LN( round( LN(round(LN(x) W^T + b)) + round(columns' table[x] + rows' table[y]) ) )
TensorView PatchEmbedder::forward(ops::Context& ctx, std::span<const EncoderInput* const> inputs,
                                  const VisionObserver& observer) {
  constexpr float kEps = static_cast<float>(PatchEmbedderConfig::kLayerNormEps);
  pictures_.pack(inputs, PatchEmbedderConfig::kPatchSize, config_.position_rows);
  const int64_t count = pictures_.num_patches(), width = config_.hidden_size;
  const auto rows = [&](Bf16* data) { return TensorView(data, DType::kBf16, {count, width}); };
  const TensorView pixels(pixels_, DType::kBf16, {count, kPixels}), sums(sums_, DType::kF32, {count, width});
  const TensorView hidden = rows(hidden_), by_column = rows(by_column_), by_row = rows(by_row_);

  pictures_.read_pixels(ctx, inputs, tables_, pixels);
  ops::layer_norm(ctx, pixels, pixels, weights_.patch_ln1, weights_.patch_ln1_bias, kEps);
  ops::linear(ctx, sums, pixels, weights_.patch_dense);
  ops::add_bias(ctx, hidden, sums, weights_.patch_dense_bias);
  ops::layer_norm(ctx, hidden, hidden, weights_.patch_ln2, weights_.patch_ln2_bias, kEps);

  const auto table = [&](int64_t axis) {  // pos_embedding[:, axis]
    const Bf16* const first = static_cast<const Bf16*>(weights_.pos_embedding.data) + axis * width;
    return ConstTensorView(first, DType::kBf16, {config_.position_rows, width}, 2 * width);
  };
  ops::embed(ctx, by_column, table(0), pictures_.columns(), 1.0f);
  ops::embed(ctx, by_row, table(1), pictures_.rows(), 1.0f);
  ops::add(ctx, by_column, by_column, by_row);
  ops::add(ctx, hidden, hidden, by_column);
  ops::layer_norm(ctx, hidden, hidden, weights_.pos_norm, weights_.pos_norm_bias, kEps);
  if (observer) observer("embedded", -1, hidden);
  return hidden;
}

}  // namespace carat
