#pragma once
// A text decoder's weights as views into mapped files or seeded memory; shared by engines, immutable.

#include <cstdint>
#include <filesystem>
#include <memory>
#include <vector>

#include "base/mapped_file.h"
#include "base/result.h"
#include "config/model_config.h"
#include "config/text_tensors.h"
#include "tensor/tensor.h"
#include "weights/weight_source.h"

namespace carat {

/// All bf16, contiguous; names and shapes as in checkpoints.md section 4. An absent tensor is an empty view. Data is
/// aligned to 2 bytes at least (files align no better).
struct LayerWeights {
  ConstTensorView input_layernorm, post_attention_layernorm, pre_feedforward_layernorm,
      post_feedforward_layernorm;  // [H]
  float layer_scalar = 1;
  ConstTensorView q_proj, k_proj, v_proj, o_proj, q_norm,
      k_norm;  // k, v, k_norm empty in KV-shared layers; v empty if K is V
  ConstTensorView gate_proj, up_proj, down_proj;
  ConstTensorView per_layer_input_gate, per_layer_projection, post_per_layer_input_norm;
  ConstTensorView router_proj, router_scale, router_per_expert_scale;
  ConstTensorView experts_gate_up_proj, experts_down_proj;  // [E, 2F, H], [E, H, F]
  ConstTensorView pre_feedforward_layernorm_2, post_feedforward_layernorm_1, post_feedforward_layernorm_2;
};

/// Where a device's copy of the table of per-layer embeddings lies: half of the small models' bytes, of which a token
/// needs one row. kHost: in host memory that the device reads across the link.
enum class PleTable { kDevice, kHost };

struct TextWeights {
  ConstTensorView embed_tokens;                // [V, H]
  ConstTensorView embed_tokens_per_layer;      // [Vp, L * P]
  ConstTensorView per_layer_model_projection;  // [L * P, H]
  ConstTensorView per_layer_projection_norm;   // [P]
  ConstTensorView norm;                        // [H]
  std::vector<LayerWeights> layers;
  /// A file that views lie in.
  struct File {
    std::filesystem::path path;
    const MappedFile* mapping;
  };
  std::vector<File> files;            ///< empty for weights in memory
  int64_t size_bytes = 0;             ///< of the tensors in use
  std::shared_ptr<const void> owner;  ///< keeps mapping or memory alive
};

/// Maps the safetensors (single file, or shards with index) and checks every expected text tensor. Nothing is
/// copied, except a tensor at an odd address, which is logged. Tensors of the encoders are accepted and not touched.
/// Errors: kNotFound, kIo, kCorruptFile, kUnsupported (other types than BF16), naming tensor and file.
Result<std::shared_ptr<const TextWeights>> load_text_weights(const WeightSource& source, const ModelConfig& config);

/// Seeded random weights at the configuration's shapes, in memory: norms around 1, projections scaled so that
/// activations and logits stay sensible, control tokens unlikely. A value depends on seed, tensor name and index alone,
/// so it is the same on every machine. Errors: kOverloaded if the memory is not there.
Result<std::shared_ptr<const TextWeights>> make_dummy_text_weights(const ModelConfig& config, uint64_t seed);

/// The view that holds `tensor`, or null for a layer scalar, which is a plain number.
const ConstTensorView* find_text_view(const TextWeights& weights, const TextTensor& tensor);
ConstTensorView* find_text_view(TextWeights& weights, const TextTensor& tensor);

/// Writes config.json, generation_config.json and the weights (model.safetensors, or shards with an index beyond
/// `shard_bytes`) into `folder`, which is made if need be. Without encoders: a reader sees a text-only model of the
/// same type. Tokenizer files are the caller's. Errors: kIo.
Result<void> write_checkpoint(const std::filesystem::path& folder, const ModelConfig& config,
                              const TextWeights& weights, int64_t shard_bytes = 5'000'000'000,
                              ConfigLayout layout = ConfigLayout::kPublished);

}  // namespace carat
