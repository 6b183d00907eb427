#pragma once
// A vision encoder's weights as views into mapped files or seeded memory; immutable.

#include <cstdint>
#include <memory>
#include <vector>

#include "base/result.h"
#include "config/model_config.h"
#include "tensor/tensor.h"
#include "weights/media_weights.h"
#include "weights/weight_source.h"

namespace carat {

/// Names and shapes as in checkpoints.md section 4; C is the hidden size, F the intermediate one, D that of a head.
struct VisionLayerWeights {
  ConstTensorView input_layernorm, post_attention_layernorm, pre_feedforward_layernorm,
      post_feedforward_layernorm;                // [C]
  ClippedLinear q_proj, k_proj, v_proj, o_proj;  // [C, C]
  ConstTensorView q_norm, k_norm;                // [D]
  ClippedLinear gate_proj, up_proj, down_proj;   // [F, C], [F, C], [C, F]
};

struct VisionTowerWeights {
  ConstTensorView input_proj;      // [C, 768]
  ConstTensorView position_table;  // [2, rows, C]: of columns, of rows
  std::vector<VisionLayerWeights> layers;
  ConstTensorView std_bias, std_scale;  // [C], or empty
};

/// 12B.
struct PatchEmbedderWeights {
  ConstTensorView patch_ln1, patch_ln1_bias;      // [6912]
  ConstTensorView patch_dense, patch_dense_bias;  // [C, 6912], [C]
  ConstTensorView patch_ln2, patch_ln2_bias;      // [C]
  ConstTensorView pos_embedding;                  // [rows, 2, C]: of columns, of rows
  ConstTensorView pos_norm, pos_norm_bias;        // [C]
};

/// All bf16, contiguous. The form that the model has not is empty.
struct VisionWeights {
  VisionTowerWeights tower;
  PatchEmbedderWeights embedder;
  ConstTensorView embedding_projection;  // [H, C]
  int64_t size_bytes = 0;
  std::shared_ptr<const void> owner;  ///< keeps mapping or memory alive
};

/// `config.vision` must be there. Errors: see load_media_tensors() and make_dummy_media_tensors().
Result<std::shared_ptr<const VisionWeights>> load_vision_weights(const WeightSource& source, const ModelConfig& config);
Result<std::shared_ptr<const VisionWeights>> make_dummy_vision_weights(const ModelConfig& config, uint64_t seed);

/// Where each tensor of vision_tensors() lies in `weights`, whose layers must be there.
MediaSlots vision_slots(VisionWeights& weights);

}  // namespace carat
