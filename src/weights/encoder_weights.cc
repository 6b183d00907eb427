#include "weights/encoder_weights.h"

namespace carat {

Result<EncoderWeights> load_encoder_weights(const WeightSource& source, const ModelConfig& config) {
  EncoderWeights weights;
  if (config.vision) {
    CARAT_TRY(weights.vision, load_vision_weights(source, config));
  }
  if (config.audio) {
    CARAT_TRY(weights.audio, load_audio_weights(source, config));
  }
  return weights;
}

Result<EncoderWeights> make_dummy_encoder_weights(const ModelConfig& config, uint64_t seed) {
  EncoderWeights weights;
  if (config.vision) {
    CARAT_TRY(weights.vision, make_dummy_vision_weights(config, seed));
  }
  if (config.audio) {
    CARAT_TRY(weights.audio, make_dummy_audio_weights(config, seed));
  }
  return weights;
}

}  // namespace carat
