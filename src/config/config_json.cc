// The way back: a ModelConfig as the text of config.json and generation_config.json.
#include <algorithm>

#include "base/check.h"
#include "base/str.h"
#include "config/model_config.h"

namespace carat {
namespace {

const LayerConfig* first_of(const TextConfig& t, AttentionKind kind) {
  const auto it = std::find_if(t.layers.begin(), t.layers.end(), [&](const LayerConfig& l) { return l.kind == kind; });
  return it == t.layers.end() ? nullptr : &*it;
}

template <class T>
Json optional_json(const std::optional<T>& value) {
  return value ? Json(*value) : Json();
}

Json token_array(const std::vector<TokenId>& ids) {
  Json list = Json::array();
  for (const TokenId id : ids) list.push_back(id);
  return list;
}

Json rope_json(const RopeConfig& rope) {
  if (rope.partial_rotary_factor == 1 && rope.factor == 1)
    return Json::object({{"rope_type", "default"}, {"rope_theta", rope.theta}});
  Json json = Json::object({{"rope_type", "proportional"},
                            {"partial_rotary_factor", rope.partial_rotary_factor},
                            {"rope_theta", rope.theta}});
  if (rope.factor != 1) json.set("factor", rope.factor);
  return json;
}

/// Layer numbers are padded with zeros to equal length.
std::string layer_key(size_t index, size_t num_layers) {
  const size_t width = std::to_string(num_layers - 1).size();
  const std::string digits = std::to_string(index);
  return std::string(width - digits.size(), '0') + digits;
}

void set_head_layout(Json& json, const TextConfig& t, const LayerConfig& base, ConfigLayout layout) {
  const LayerConfig& full = *first_of(t, AttentionKind::kFull);
  if (layout == ConfigLayout::kPublished) {
    json.set("global_head_dim", full.head_dim);
    json.set("num_global_key_value_heads", full.k_is_v ? Json(full.num_kv_heads) : Json());
    return;
  }
  Json table = Json::object();
  for (size_t i = 0; i < t.layers.size(); ++i) {
    const LayerConfig& layer = t.layers[i];
    if (layer.head_dim == base.head_dim && layer.num_kv_heads == base.num_kv_heads) continue;
    Json entry = Json::object({{"head_dim", layer.head_dim}});
    if (layer.num_kv_heads != base.num_kv_heads) entry.set("num_key_value_heads", layer.num_kv_heads);
    table.set(layer_key(i, t.layers.size()), std::move(entry));
  }
  json.set("per_layer_config", std::move(table));
}

Json text_json(const ModelConfig& config, ConfigLayout layout) {
  const TextConfig& t = config.text;
  CARAT_CHECK(first_of(t, AttentionKind::kFull), "the last layer is a full one");
  const LayerConfig* sliding = first_of(t, AttentionKind::kSliding);
  const LayerConfig& base = sliding ? *sliding : *first_of(t, AttentionKind::kFull);
  const bool unified = config.model_type.starts_with("gemma4_unified");
  Json types = Json::array();
  for (const LayerConfig& layer : t.layers)
    types.push_back(layer.kind == AttentionKind::kFull ? "full_attention" : "sliding_attention");
  Json json = Json::object({
      {"model_type", unified ? "gemma4_unified_text" : "gemma4_text"},
      {"vocab_size", t.vocab_size},
      {"hidden_size", t.hidden_size},
      {"intermediate_size", t.layers[0].intermediate_size},
      {"num_hidden_layers", t.num_layers},
      {"num_attention_heads", base.num_heads},
      {"num_key_value_heads", base.num_kv_heads},
      {"head_dim", base.head_dim},
      {"layer_types", std::move(types)},
      {"sliding_window", t.sliding_window},
      {"num_kv_shared_layers", t.num_layers - t.first_shared_layer},
      {"attention_k_eq_v", first_of(t, AttentionKind::kFull)->k_is_v},
      {"use_double_wide_mlp", t.layers.back().intermediate_size != t.layers[0].intermediate_size},
      {"use_bidirectional_attention", t.bidirectional_vision ? Json("vision") : Json()},
      {"rope_parameters",
       Json::object({{"sliding_attention", rope_json(t.rope_sliding)}, {"full_attention", rope_json(t.rope_full)}})},
      {"max_position_embeddings", t.max_position_embeddings},
      {"rms_norm_eps", t.rms_norm_eps},
      {"hidden_activation", "gelu_pytorch_tanh"},
      {"final_logit_softcapping", t.final_logit_softcapping > 0 ? Json(t.final_logit_softcapping) : Json()},
      {"attention_bias", false},
      {"attention_dropout", 0.0},
      {"tie_word_embeddings", true},
      {"dtype", "bfloat16"},
      {"pad_token_id", config.generation.pad_token_id},
      {"bos_token_id", optional_json(config.generation.bos_token_id)},
  });
  if (!config.generation.eos_token_ids.empty()) json.set("eos_token_id", config.generation.eos_token_ids[0]);
  if (!unified) {
    json.set("hidden_size_per_layer_input", t.ple_size);
    json.set("vocab_size_per_layer_input", t.ple_size > 0 ? t.ple_vocab_size : t.vocab_size);
    json.set("enable_moe_block", t.moe.has_value());
    json.set("num_experts", t.moe ? Json(t.moe->num_experts) : Json());
    json.set("top_k_experts", t.moe ? Json(t.moe->top_k) : Json());
    json.set("moe_intermediate_size", t.moe ? Json(t.moe->intermediate_size) : Json());
  }
  set_head_layout(json, t, base, layout);
  return json;
}

}  // namespace

Json to_config_json(const ModelConfig& config, ConfigLayout layout) {
  Json architectures = Json::array();
  for (const std::string& name : config.architectures) architectures.push_back(name);
  Json text = text_json(config, layout);
  if (config.model_type.ends_with("_text")) {
    text.set("architectures", std::move(architectures));
    text.set("eos_token_id", token_array(config.generation.eos_token_ids));
    return text;
  }
  const MediaTokenIds& m = config.media;
  return Json::object({
      {"architectures", std::move(architectures)},
      {"model_type", config.model_type},
      {"dtype", "bfloat16"},
      {"text_config", std::move(text)},
      {"vision_config", config.vision ? vision_config_json(*config.vision) : Json()},
      {"audio_config", config.audio ? audio_config_json(*config.audio) : Json()},
      {"image_token_id", optional_json(m.image)},
      {"video_token_id", optional_json(m.video)},
      {"audio_token_id", optional_json(m.audio)},
      {"boi_token_id", optional_json(m.boi)},
      {"eoi_token_id", optional_json(m.eoi)},
      {"boa_token_id", optional_json(m.boa)},
      {"eoa_token_index", optional_json(m.eoa)},
      {"eos_token_id", token_array(config.generation.eos_token_ids)},
      {"tie_word_embeddings", true},
  });
}

Json to_generation_json(const GenerationConfig& g) {
  Json json = Json::object({{"pad_token_id", g.pad_token_id}, {"eos_token_id", token_array(g.eos_token_ids)}});
  if (g.bos_token_id) json.set("bos_token_id", *g.bos_token_id);
  if (!g.suppress_token_ids.empty()) json.set("suppress_tokens", token_array(g.suppress_token_ids));
  json.set("do_sample", true);
  if (g.temperature) json.set("temperature", *g.temperature);
  if (g.top_k) json.set("top_k", *g.top_k);
  if (g.top_p) json.set("top_p", *g.top_p);
  if (g.min_p) json.set("min_p", *g.min_p);
  if (g.repetition_penalty) json.set("repetition_penalty", *g.repetition_penalty);
  return json;
}

}  // namespace carat
