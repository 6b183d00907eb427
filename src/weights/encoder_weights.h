#pragma once
// The weights of all encoders of a model.

#include <cstdint>
#include <memory>

#include "base/result.h"
#include "config/model_config.h"
#include "weights/audio_weights.h"
#include "weights/vision_weights.h"
#include "weights/weight_source.h"

namespace carat {

/// What a model has not is null.
struct EncoderWeights {
  std::shared_ptr<const VisionWeights> vision;
  std::shared_ptr<const AudioWeights> audio;
  int64_t size_bytes() const { return (vision ? vision->size_bytes : 0) + (audio ? audio->size_bytes : 0); }
};

/// Of the encoders that `config` has. Errors: as of the parts.
Result<EncoderWeights> load_encoder_weights(const WeightSource& source, const ModelConfig& config);
Result<EncoderWeights> make_dummy_encoder_weights(const ModelConfig& config, uint64_t seed);

}  // namespace carat
