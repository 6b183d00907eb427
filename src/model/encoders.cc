#include "model/encoders.h"

#include <algorithm>

#include "base/check.h"

namespace carat {

namespace {

int max_picture_tokens(const VisionConfig& config) {
  return std::max(config.image_soft_tokens, config.frame_soft_tokens);
}

}  // namespace

Result<std::unique_ptr<Encoders>> Encoders::create(const ModelConfig& config, const EncoderWeights& weights) {
  std::unique_ptr<Encoders> encoders(new Encoders());
  if (weights.vision) {
    CARAT_TRY(encoders->vision_, VisionModel::create(config, weights.vision, max_picture_tokens(*config.vision)));
  }
  if (weights.audio) {
    CARAT_TRY(encoders->audio_, create_audio_encoder(config, weights.audio));
  }
  return encoders;
}

int64_t Encoders::workspace_bytes(const ModelConfig& config) {
  const int64_t vision = config.vision ? VisionModel::workspace_bytes(config, max_picture_tokens(*config.vision)) : 0;
  return vision + (config.audio ? audio_encoder_bytes(config) : 0);
}

void Encoders::encode(ops::Context& ctx, const EncoderInput& input, TensorView soft_tokens) {
  if (input.kind == EncoderInput::Kind::kAudio) {
    CARAT_CHECK(audio_ != nullptr, "the model was made to hear");
    return audio_->encode(ctx, input, soft_tokens);
  }
  CARAT_CHECK(vision_ != nullptr, "the model was made to see");
  const EncoderInput* const picture = &input;
  vision_->encode(ctx, {&picture, 1}, soft_tokens);
}

}  // namespace carat
