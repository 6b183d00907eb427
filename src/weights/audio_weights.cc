#include "weights/audio_weights.h"

#include <string>
#include <utility>

#include "base/check.h"
#include "base/str.h"

namespace carat {
namespace {

void add_feed_forward(MediaSlots& slots, const std::string& name, ConformerFeedForward& block) {
  slots.emplace(name + "pre_layer_norm.weight", &block.pre_layer_norm);
  slots.emplace(name + "post_layer_norm.weight", &block.post_layer_norm);
  add_slots(slots, name + "ffw_layer_1", block.ffw_layer_1);
  add_slots(slots, name + "ffw_layer_2", block.ffw_layer_2);
}

void add_layer(MediaSlots& slots, const std::string& l, ConformerLayerWeights& w) {
  add_feed_forward(slots, l + "feed_forward1.", w.feed_forward1);
  add_feed_forward(slots, l + "feed_forward2.", w.feed_forward2);
  slots.emplace(l + "norm_pre_attn.weight", &w.norm_pre_attn);
  slots.emplace(l + "norm_post_attn.weight", &w.norm_post_attn);
  slots.emplace(l + "norm_out.weight", &w.norm_out);
  add_slots(slots, l + "self_attn.q_proj", w.q_proj);
  add_slots(slots, l + "self_attn.k_proj", w.k_proj);
  add_slots(slots, l + "self_attn.v_proj", w.v_proj);
  add_slots(slots, l + "self_attn.post", w.post);
  slots.emplace(l + "self_attn.relative_k_proj.weight", &w.relative_k_proj);
  slots.emplace(l + "self_attn.per_dim_scale", &w.per_dim_scale);
  slots.emplace(l + "lconv1d.pre_layer_norm.weight", &w.conv_pre_norm);
  slots.emplace(l + "lconv1d.conv_norm.weight", &w.conv_norm);
  add_slots(slots, l + "lconv1d.linear_start", w.linear_start);
  add_slots(slots, l + "lconv1d.linear_end", w.linear_end);
  slots.emplace(l + "lconv1d.depthwise_conv1d.weight", &w.depthwise_conv);
}

/// fill(tensors, slots) gives the owner of the data.
template <class Fill>
Result<std::shared_ptr<const AudioWeights>> make_weights(const ModelConfig& config, Fill&& fill) {
  CARAT_CHECK(config.audio, "the model can hear");
  auto weights = std::make_shared<AudioWeights>();
  if (const auto* conformer = std::get_if<ConformerConfig>(&*config.audio))
    weights->layers.resize(static_cast<size_t>(conformer->num_layers));
  const auto tensors = audio_tensors(*config.audio, config.text.hidden_size);
  for (const MediaTensor& t : tensors) weights->size_bytes += t.size_bytes();
  CARAT_TRY(weights->owner, fill(tensors, audio_slots(*weights)));
  return std::shared_ptr<const AudioWeights>(std::move(weights));
}

}  // namespace

MediaSlots audio_slots(AudioWeights& w) {
  const std::string tower = "audio_tower.", s = tower + "subsample_conv_projection.";
  MediaSlots slots;
  slots.emplace(s + "layer0.conv.weight", &w.conv0);
  slots.emplace(s + "layer0.norm.weight", &w.conv0_norm);
  slots.emplace(s + "layer1.conv.weight", &w.conv1);
  slots.emplace(s + "layer1.norm.weight", &w.conv1_norm);
  slots.emplace(s + "input_proj_linear.weight", &w.input_proj);
  for (size_t j = 0; j < w.layers.size(); ++j) add_layer(slots, str_cat(tower, "layers.", j, "."), w.layers[j]);
  slots.emplace(tower + "output_proj.weight", &w.output_proj);
  slots.emplace(tower + "output_proj.bias", &w.output_proj_bias);
  slots.emplace("embed_audio.embedding_projection.weight", &w.embedding_projection);
  return slots;
}

Result<std::shared_ptr<const AudioWeights>> load_audio_weights(const WeightSource& source, const ModelConfig& config) {
  return make_weights(config, [&](const auto& tensors, const MediaSlots& slots) {
    return load_media_tensors(source, tensors, slots, "audio");
  });
}

Result<std::shared_ptr<const AudioWeights>> make_dummy_audio_weights(const ModelConfig& config, uint64_t seed) {
  return make_weights(config, [&](const auto& tensors, const MediaSlots& slots) {
    return make_dummy_media_tensors(tensors, slots, seed, "audio");
  });
}

}  // namespace carat
