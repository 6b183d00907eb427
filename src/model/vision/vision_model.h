#pragma once
// Pictures to soft tokens, in both forms of the family. Spec: vision.md.

#include <cstdint>
#include <memory>
#include <span>

#include "base/result.h"
#include "config/model_config.h"
#include "model/vision/vision_tower.h"
#include "weights/vision_weights.h"

namespace carat {

/// One thread at a time.
class VisionModel {
 public:
  /// For up to `max_soft_tokens` in one call. The workspace is taken here. `config.vision` must be there. Errors:
  /// kOverloaded if the memory is not there.
  static Result<std::unique_ptr<VisionModel>> create(const ModelConfig& config,
                                                     std::shared_ptr<const VisionWeights> weights, int max_soft_tokens);
  /// What create() would take.
  static int64_t workspace_bytes(const ModelConfig& config, int max_soft_tokens);

  /// Soft tokens [sum of num_tokens, H] bf16 of images and video frames, one after the other, as they enter the
  /// decoder. A picture's do not depend on the others.
  void encode(ops::Context& ctx, std::span<const EncoderInput* const> inputs, TensorView soft_tokens);

  /// For tests. Names: embedded, out (of layers), pooled.
  void set_observer(VisionObserver observer);

  ~VisionModel();

 private:
  VisionModel();
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace carat
