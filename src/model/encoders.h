#pragma once
// A model's encoders behind one door.

#include <memory>

#include "base/result.h"
#include "config/model_config.h"
#include "model/audio/audio_encoder.h"
#include "model/media_encoder.h"
#include "model/vision/vision_model.h"
#include "weights/encoder_weights.h"

namespace carat {

/// Hands each input to the encoder of its kind.
class Encoders final : public MediaEncoder {
 public:
  /// An encoder for each part of `weights` that is there, with room for the largest input that `config` allows. Errors:
  /// kOverloaded if the memory is not there.
  static Result<std::unique_ptr<Encoders>> create(const ModelConfig& config, const EncoderWeights& weights);
  /// What create() would take, for a budget made before anything is loaded.
  static int64_t workspace_bytes(const ModelConfig& config);

  void encode(ops::Context& ctx, const EncoderInput& input, TensorView soft_tokens) override;

 private:
  Encoders() = default;
  std::unique_ptr<VisionModel> vision_;
  std::unique_ptr<MediaEncoder> audio_;
};

}  // namespace carat
