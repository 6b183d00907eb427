#include "weights/vision_weights.h"

#include <string>
#include <utility>

#include "base/check.h"
#include "base/str.h"

namespace carat {
namespace {

void add_layer(MediaSlots& slots, const std::string& l, VisionLayerWeights& w) {
  slots.emplace(l + "input_layernorm.weight", &w.input_layernorm);
  slots.emplace(l + "post_attention_layernorm.weight", &w.post_attention_layernorm);
  slots.emplace(l + "pre_feedforward_layernorm.weight", &w.pre_feedforward_layernorm);
  slots.emplace(l + "post_feedforward_layernorm.weight", &w.post_feedforward_layernorm);
  add_slots(slots, l + "self_attn.q_proj", w.q_proj);
  add_slots(slots, l + "self_attn.k_proj", w.k_proj);
  add_slots(slots, l + "self_attn.v_proj", w.v_proj);
  add_slots(slots, l + "self_attn.o_proj", w.o_proj);
  slots.emplace(l + "self_attn.q_norm.weight", &w.q_norm);
  slots.emplace(l + "self_attn.k_norm.weight", &w.k_norm);
  add_slots(slots, l + "mlp.gate_proj", w.gate_proj);
  add_slots(slots, l + "mlp.up_proj", w.up_proj);
  add_slots(slots, l + "mlp.down_proj", w.down_proj);
}

void add_tower(MediaSlots& slots, VisionTowerWeights& w) {
  const std::string tower = "vision_tower.";
  slots.emplace(tower + "patch_embedder.input_proj.weight", &w.input_proj);
  slots.emplace(tower + "patch_embedder.position_embedding_table", &w.position_table);
  for (size_t j = 0; j < w.layers.size(); ++j) add_layer(slots, str_cat(tower, "encoder.layers.", j, "."), w.layers[j]);
  slots.emplace(tower + "std_bias", &w.std_bias);
  slots.emplace(tower + "std_scale", &w.std_scale);
}

void add_embedder(MediaSlots& slots, PatchEmbedderWeights& w) {
  const std::string embedder = "vision_embedder.";
  slots.emplace(embedder + "patch_ln1.weight", &w.patch_ln1);
  slots.emplace(embedder + "patch_ln1.bias", &w.patch_ln1_bias);
  slots.emplace(embedder + "patch_dense.weight", &w.patch_dense);
  slots.emplace(embedder + "patch_dense.bias", &w.patch_dense_bias);
  slots.emplace(embedder + "patch_ln2.weight", &w.patch_ln2);
  slots.emplace(embedder + "patch_ln2.bias", &w.patch_ln2_bias);
  slots.emplace(embedder + "pos_embedding", &w.pos_embedding);
  slots.emplace(embedder + "pos_norm.weight", &w.pos_norm);
  slots.emplace(embedder + "pos_norm.bias", &w.pos_norm_bias);
}

/// fill(tensors, slots) gives the owner of the data.
template <class Fill>
Result<std::shared_ptr<const VisionWeights>> make_weights(const ModelConfig& config, Fill&& fill) {
  CARAT_CHECK(config.vision, "the model can see");
  auto weights = std::make_shared<VisionWeights>();
  if (const auto* tower = std::get_if<VisionTowerConfig>(&config.vision->encoder))
    weights->tower.layers.resize(static_cast<size_t>(tower->num_layers));
  const auto tensors = vision_tensors(*config.vision, config.text.hidden_size);
  for (const MediaTensor& t : tensors) weights->size_bytes += t.size_bytes();
  CARAT_TRY(weights->owner, fill(tensors, vision_slots(*weights)));
  return std::shared_ptr<const VisionWeights>(std::move(weights));
}

}  // namespace

MediaSlots vision_slots(VisionWeights& weights) {
  MediaSlots slots;
  add_tower(slots, weights.tower);
  add_embedder(slots, weights.embedder);
  slots.emplace("embed_vision.embedding_projection.weight", &weights.embedding_projection);
  return slots;
}

Result<std::shared_ptr<const VisionWeights>> load_vision_weights(const WeightSource& source,
                                                                 const ModelConfig& config) {
  return make_weights(config, [&](const auto& tensors, const MediaSlots& slots) {
    return load_media_tensors(source, tensors, slots, "vision");
  });
}

Result<std::shared_ptr<const VisionWeights>> make_dummy_vision_weights(const ModelConfig& config, uint64_t seed) {
  return make_weights(config, [&](const auto& tensors, const MediaSlots& slots) {
    return make_dummy_media_tensors(tensors, slots, seed, "vision");
  });
}

}  // namespace carat
