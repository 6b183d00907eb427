#pragma once
// The vision tower of E2B, E4B, 26B-A4B and 31B. Spec: vision.md sections 3 and 4.

#include <functional>
#include <span>
#include <string_view>
#include <vector>

#include "config/vision_config.h"
#include "model/vision/pictures.h"
#include "weights/vision_weights.h"

namespace carat {

/// Called with named tensors as they are made; `layer` is -1 outside of layers.
using VisionObserver = std::function<void(std::string_view name, int layer, ConstTensorView value)>;

class VisionTower {
 public:
  /// Memory comes from `arena`; without a buffer in it the tower is a measure of what it needs. `weights` must outlive
  /// the tower.
  VisionTower(Arena& arena, const VisionTowerConfig& config, const VisionTowerWeights& weights, int64_t max_patches);

  /// [num_tokens, C]: pooled, scaled and standardised, ready for the projection. Pictures do not see each other. Valid
  /// until the next call.
  TensorView forward(ops::Context& ctx, std::span<const EncoderInput* const> inputs, const VisionObserver& observer);

 private:
  void embed(ops::Context& ctx, std::span<const EncoderInput* const> inputs);
  void attention_block(ops::Context& ctx, const VisionLayerWeights& w);
  void mlp_block(ops::Context& ctx, const VisionLayerWeights& w);
  TensorView pool(ops::Context& ctx, std::span<const EncoderInput* const> inputs);
  TensorView rows(Bf16* data) const { return {data, DType::kBf16, {pictures_.num_patches(), config_.hidden_size}}; }

  VisionTowerConfig config_;
  const VisionTowerWeights& weights_;
  PixelTables tables_{true};
  PackedPictures pictures_;
  std::vector<float> frequencies_;
  float eps_;
  Bf16 *hidden_, *normed_;       // [T, C]
  Bf16 *q_, *k_, *v_, *heads_;   // [T, C]
  Bf16 *gate_, *up_, *clipped_;  // [kChunk, F], [kChunk, F], [kChunk, max(C, F)]
  Bf16* pixels_;                 // [T, 768], over q_ and what follows
};

}  // namespace carat
