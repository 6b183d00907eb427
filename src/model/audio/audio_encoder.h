#pragma once
// Sound to soft tokens on the host. Spec: audio.md.

#include <functional>
#include <memory>
#include <string_view>

#include "base/result.h"
#include "config/model_config.h"
#include "model/media_encoder.h"
#include "weights/audio_weights.h"

namespace carat {

/// For tests: called with named tensors as they are made; `layer` is -1 outside the layers. Names: subsampled,
/// input_proj, attn, out; tower.
using AudioObserver = std::function<void(std::string_view name, int layer, ConstTensorView value)>;

/// The encoder of `config.audio`, which must be there. The workspace is taken here: for the longest clip that the
/// log-mel form has, or for some frames at a time in the raw form. Errors: kOverloaded if the memory is not there.
Result<std::unique_ptr<MediaEncoder>> create_audio_encoder(const ModelConfig& config,
                                                           std::shared_ptr<const AudioWeights> weights,
                                                           AudioObserver observer = {});
/// What create_audio_encoder() would take, the weights left out.
int64_t audio_encoder_bytes(const ModelConfig& config);

}  // namespace carat
