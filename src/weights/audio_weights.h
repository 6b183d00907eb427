#pragma once
// An audio encoder's weights as views into mapped files or seeded memory; immutable.

#include <cstdint>
#include <memory>
#include <vector>

#include "base/result.h"
#include "config/model_config.h"
#include "tensor/tensor.h"
#include "weights/media_weights.h"
#include "weights/weight_source.h"

namespace carat {

struct ConformerFeedForward {
  ConstTensorView pre_layer_norm, post_layer_norm;  // [C]
  ClippedLinear ffw_layer_1, ffw_layer_2;           // [4C, C], [C, 4C]
};

/// Names and shapes as in checkpoints.md section 4; C is the hidden size, D that of a head.
struct ConformerLayerWeights {
  ConformerFeedForward feed_forward1, feed_forward2;
  ConstTensorView norm_pre_attn, norm_post_attn, norm_out;  // [C]
  ClippedLinear q_proj, k_proj, v_proj, post;               // [C, C]
  ConstTensorView relative_k_proj;                          // [C, C]
  ConstTensorView per_dim_scale;                            // [D]
  ConstTensorView conv_pre_norm, conv_norm;                 // [C]: lconv1d.pre_layer_norm, lconv1d.conv_norm
  ClippedLinear linear_start, linear_end;                   // [2C, C], [C, C]
  ConstTensorView depthwise_conv;                           // [C, 1, K]
};

/// All bf16, contiguous. Of a model without a tower only embedding_projection is there.
struct AudioWeights {
  ConstTensorView conv0, conv0_norm;  // [C0, 1, 3, 3], [C0]
  ConstTensorView conv1, conv1_norm;  // [C1, C0, 3, 3], [C1]
  ConstTensorView input_proj;         // [C, 32 * C1]
  std::vector<ConformerLayerWeights> layers;
  ConstTensorView output_proj, output_proj_bias;  // [O, C], [O]
  ConstTensorView embedding_projection;           // [H, O], or [H, 640]
  int64_t size_bytes = 0;
  std::shared_ptr<const void> owner;  ///< keeps mapping or memory alive
};

/// `config.audio` must be there. Errors: see load_media_tensors() and make_dummy_media_tensors().
Result<std::shared_ptr<const AudioWeights>> load_audio_weights(const WeightSource& source, const ModelConfig& config);
Result<std::shared_ptr<const AudioWeights>> make_dummy_audio_weights(const ModelConfig& config, uint64_t seed);

/// Where each tensor of audio_tensors() lies in `weights`, whose layers must be there.
MediaSlots audio_slots(AudioWeights& weights);

}  // namespace carat
