#pragma once
// What 12B has instead of a vision tower. Spec: vision.md section 5.

#include <span>

#include "config/vision_config.h"
#include "model/vision/pictures.h"
#include "model/vision/vision_tower.h"
#include "weights/vision_weights.h"

namespace carat {

class PatchEmbedder {
 public:
  /// As VisionTower's; a patch is a soft token.
  PatchEmbedder(Arena& arena, const PatchEmbedderConfig& config, const PatchEmbedderWeights& weights,
                int64_t max_patches);

  /// [num_tokens, C], ready for the projection. Valid until the next call.
  TensorView forward(ops::Context& ctx, std::span<const EncoderInput* const> inputs, const VisionObserver& observer);

 private:
  PatchEmbedderConfig config_;
  const PatchEmbedderWeights& weights_;
  PixelTables tables_{false};
  PackedPictures pictures_;
  Bf16* pixels_;                         // [T, 6912]
  float* sums_;                          // [T, C]
  Bf16 *hidden_, *by_column_, *by_row_;  // [T, C]
};

}  // namespace carat
