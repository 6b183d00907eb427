#include "config/model_config.h"

#include <algorithm>
#include <array>
#include <set>

#include "base/str.h"
#include "config/json_file.h"
#include "config/members.h"
#include "config/object_reader.h"

namespace carat {
namespace {

// Far above every published member; low enough that no product of sizes below overflows int64_t.
constexpr int64_t kMaxVocab = 1 << 22;
constexpr int64_t kMaxWidth = 1 << 18;  // hidden and intermediate sizes
constexpr int64_t kMaxLayers = 1024;
constexpr int64_t kMaxHeads = 4096;
constexpr int64_t kMaxHeadDim = 4096;
constexpr int64_t kMaxPositions = 1 << 24;
constexpr int64_t kMaxExperts = 4096;
constexpr size_t kMaxTokenList = 65536;

constexpr std::array<std::string_view, 4> kModelTypes = {"gemma4", "gemma4_unified", "gemma4_text",
                                                         "gemma4_unified_text"};

// ---- special ids

TokenId checked_token(ObjectReader& r, std::string_view key, const Json& value, int vocab_size) {
  if (value.is_int() && value.as_int() >= 0 && value.as_int() < vocab_size) return static_cast<TokenId>(value.as_int());
  r.fail(Errc::kInvalidArgument, key,
         str_cat("must hold token ids from 0 to ", vocab_size - 1, " (vocab_size - 1), not ", brief(value)));
  return 0;
}

std::optional<TokenId> token(ObjectReader& r, std::string_view key, int vocab_size) {
  const Json* value = r.find(key);
  if (!value) return {};
  return checked_token(r, key, *value, vocab_size);
}

/// A token id or a list of them.
std::vector<TokenId> token_list(ObjectReader& r, std::string_view key, int vocab_size) {
  const Json* value = r.find(key);
  if (!value) return {};
  if (!value->is_array()) return {checked_token(r, key, *value, vocab_size)};
  if (value->size() > kMaxTokenList) {
    r.fail(Errc::kTooLarge, key, str_cat("at most ", kMaxTokenList, " are allowed"));
    return {};
  }
  std::vector<TokenId> ids;
  for (const Json& item : value->as_array()) ids.push_back(checked_token(r, key, item, vocab_size));
  return ids;
}

MediaTokenIds read_media_ids(ObjectReader& r, int vocab_size) {
  MediaTokenIds m;
  m.image = token(r, "image_token_id", vocab_size);
  m.video = token(r, "video_token_id", vocab_size);
  m.audio = token(r, "audio_token_id", vocab_size);
  m.boi = token(r, "boi_token_id", vocab_size);
  m.eoi = token(r, "eoi_token_id", vocab_size);
  m.boa = token(r, "boa_token_id", vocab_size);
  // The reference's name is eoa_token_index; files carry either or both.
  m.eoa = token(r, r.find("eoa_token_id") ? "eoa_token_id" : "eoa_token_index", vocab_size);
  return m;
}

void read_sampling_defaults(ObjectReader& r, GenerationConfig& g) {
  constexpr double kHuge = 1e6;
  g.temperature = r.optional_number("temperature", 0, kHuge, true);
  g.top_p = r.optional_number("top_p", 0, 1, false);
  g.min_p = r.optional_number("min_p", 0, 1, true);
  g.repetition_penalty = r.optional_number("repetition_penalty", 0, 2, false);
  g.top_k = r.optional_integer("top_k", 0, kMaxVocab);
}

GenerationConfig read_generation(ObjectReader& root, ObjectReader& text, const Json* file, Result<void>& status,
                                 int vocab_size) {
  GenerationConfig g;
  std::set<TokenId> eos;
  const auto add = [&](ObjectReader& r) {
    for (const TokenId id : token_list(r, "eos_token_id", vocab_size)) eos.insert(id);
  };
  std::optional<TokenId> pad, bos;
  add(root);
  if (file) {
    ObjectReader r(*file, "generation_config.json: ", status);
    add(r);
    g.suppress_token_ids = token_list(r, "suppress_tokens", vocab_size);
    read_sampling_defaults(r, g);
    pad = token(r, "pad_token_id", vocab_size);
    bos = token(r, "bos_token_id", vocab_size);
  }
  // The text part's own ids are class defaults in published files: they speak only where nothing else does.
  if (eos.empty()) add(text);
  if (!pad) pad = token(text, "pad_token_id", vocab_size);
  if (!bos) bos = token(text, "bos_token_id", vocab_size);
  g.eos_token_ids.assign(eos.begin(), eos.end());
  g.pad_token_id = pad.value_or(0);
  g.bos_token_id = bos;
  return g;
}

// ---- the text decoder

RopeConfig read_rope(const Json* table, std::string_view kind, RopeConfig fallback, const std::string& prefix,
                     Result<void>& status) {
  if (!table) return fallback;
  ObjectReader kinds(*table, str_cat(prefix, "rope_parameters."), status);
  const Json* entry = kinds.find(kind);
  if (!entry) {
    kinds.fail(Errc::kInvalidArgument, kind, "must be an object with rope_type and rope_theta");
    return fallback;
  }
  ObjectReader r(*entry, str_cat(kinds.prefix(), kind, "."), status);
  static constexpr std::array<std::string_view, 2> kTypes = {"default", "proportional"};
  const std::string type = r.word("rope_type", kTypes, "default");
  RopeConfig rope;
  rope.theta = r.number("rope_theta", 1, 1e12, true);
  if (type == "proportional") {
    rope.partial_rotary_factor = r.number("partial_rotary_factor", 0, 1, false, 1.0);
    rope.factor = r.number("factor", 0, 1e6, false, 1.0);
  } else if (r.number("partial_rotary_factor", 0, 1, false, 1.0) != 1.0) {
    r.fail(Errc::kUnsupported, "partial_rotary_factor", "only rope_type proportional may rotate a part");
  }
  return rope;
}

std::vector<AttentionKind> read_layer_kinds(ObjectReader& r, int num_layers) {
  std::vector<AttentionKind> kinds(static_cast<size_t>(num_layers), AttentionKind::kSliding);
  const Json* list = r.find("layer_types");
  if (!list) {  // the reference's default: every sixth layer is full
    for (size_t i = 5; i < kinds.size(); i += 6) kinds[i] = AttentionKind::kFull;
  } else if (!list->is_array() || list->size() != kinds.size()) {
    r.fail(Errc::kInvalidArgument, "layer_types",
           str_cat("must be an array of num_hidden_layers = ", num_layers, " names"));
  } else {
    for (size_t i = 0; i < kinds.size(); ++i) {
      const Json& name = list->as_array()[i];
      if (name == Json("full_attention"))
        kinds[i] = AttentionKind::kFull;
      else if (name != Json("sliding_attention"))
        r.fail(Errc::kUnsupported, str_cat("layer_types[", i, "]"),
               str_cat("here ", brief(name), "; supported: sliding_attention, full_attention"));
    }
  }
  if (kinds.back() != AttentionKind::kFull)
    r.fail(Errc::kInvalidArgument, "layer_types", "the last layer must be full_attention");
  return kinds;
}

/// The published form: full layers take global_head_dim and, where K is V, num_global_key_value_heads.
void apply_global_heads(ObjectReader& r, bool k_eq_v, TextConfig& t) {
  const int head_dim = static_cast<int>(r.integer("global_head_dim", 2, kMaxHeadDim, 512));
  // A stale num_global_key_value_heads without attention_k_eq_v is ignored, as the reference does.
  const auto kv_heads = k_eq_v ? r.optional_integer("num_global_key_value_heads", 1, kMaxHeads) : std::nullopt;
  for (LayerConfig& layer : t.layers) {
    if (layer.kind != AttentionKind::kFull) continue;
    layer.head_dim = head_dim;
    if (kv_heads) layer.num_kv_heads = *kv_heads;
  }
}

/// The form that newer Transformers save: overrides by layer number, a decimal string with leading zeros.
void apply_per_layer_config(ObjectReader& r, const Json& table, Result<void>& status, TextConfig& t) {
  if (!table.is_object()) return r.fail(Errc::kInvalidArgument, "per_layer_config", "must be an object");
  std::set<int64_t> seen;
  for (const auto& [key, value] : table.as_object()) {
    int64_t index = -1;
    const bool digits =
        !key.empty() && std::all_of(key.begin(), key.end(), [](char c) { return c >= '0' && c <= '9'; });
    if (!digits || !parse_int(key, index) || index >= t.num_layers || !seen.insert(index).second)
      return r.fail(
          Errc::kInvalidArgument, "per_layer_config",
          str_cat("keys must be distinct layer numbers from 0 to ", t.num_layers - 1, ", not ", brief(Json(key))));
    LayerConfig& layer = t.layers[static_cast<size_t>(index)];
    ObjectReader entry(value, str_cat(r.prefix(), "per_layer_config.", key, "."), status);
    layer.head_dim = static_cast<int>(entry.integer("head_dim", 2, kMaxHeadDim, layer.head_dim));
    layer.num_kv_heads = static_cast<int>(entry.integer("num_key_value_heads", 1, kMaxHeads, layer.num_kv_heads));
    if (!entry.ok()) return;
    for (const auto& member : value.as_object())
      if (member.first != "head_dim" && member.first != "num_key_value_heads")
        entry.fail(Errc::kUnsupported, member.first, "supported per layer: head_dim, num_key_value_heads");
  }
}

/// Layers from first_shared_layer on read the K/V of the last earlier owner of the same kind (text.md section 6).
void link_shared_layers(ObjectReader& r, TextConfig& t) {
  for (int i = 0; i < t.num_layers; ++i) {
    LayerConfig& layer = t.layers[static_cast<size_t>(i)];
    layer.kv_source = i;
    if (i < t.first_shared_layer) continue;
    int source = t.first_shared_layer - 1;
    while (source >= 0 && t.layers[static_cast<size_t>(source)].kind != layer.kind) --source;
    if (source < 0)
      return r.fail(Errc::kInvalidArgument, "num_kv_shared_layers",
                    str_cat("layer ", i, " has no earlier layer of its type to share K/V with"));
    const LayerConfig& owner = t.layers[static_cast<size_t>(source)];
    if (owner.head_dim != layer.head_dim || owner.num_kv_heads != layer.num_kv_heads)
      return r.fail(Errc::kInvalidArgument, "num_kv_shared_layers",
                    str_cat("layer ", i, " shares K/V with layer ", source, " but has other head sizes"));
    layer.kv_source = source;
  }
}

void check_heads(ObjectReader& r, const TextConfig& t) {
  for (size_t i = 0; i < t.layers.size(); ++i) {
    const LayerConfig& layer = t.layers[i];
    if (layer.num_heads % layer.num_kv_heads != 0)
      return r.fail(Errc::kInvalidArgument, "num_attention_heads",
                    str_cat("must be a multiple of the ", layer.num_kv_heads, " key/value heads of layer ", i));
    if (layer.head_dim % 2 != 0)
      return r.fail(Errc::kInvalidArgument, "head_dim", str_cat("layer ", i, " has the odd size ", layer.head_dim));
  }
}

void read_layers(ObjectReader& r, Result<void>& status, TextConfig& t) {
  LayerConfig base;
  base.num_heads = static_cast<int>(r.integer("num_attention_heads", 1, kMaxHeads));
  base.num_kv_heads = static_cast<int>(r.integer("num_key_value_heads", 1, kMaxHeads));
  base.head_dim = static_cast<int>(r.integer("head_dim", 2, kMaxHeadDim, 256));
  base.intermediate_size = static_cast<int>(r.integer("intermediate_size", 1, kMaxWidth));
  const bool k_eq_v = r.boolean("attention_k_eq_v", false);
  const bool double_wide = r.boolean("use_double_wide_mlp", false);
  t.first_shared_layer = t.num_layers - static_cast<int>(r.integer("num_kv_shared_layers", 0, t.num_layers - 1, 0));
  const auto kinds = read_layer_kinds(r, t.num_layers);
  for (int i = 0; i < t.num_layers; ++i) {
    LayerConfig layer = base;
    layer.kind = kinds[static_cast<size_t>(i)];
    layer.k_is_v = k_eq_v && layer.kind == AttentionKind::kFull;
    if (double_wide && i >= t.first_shared_layer) layer.intermediate_size *= 2;
    t.layers.push_back(layer);
  }
  if (const Json* table = r.find("per_layer_config"))
    apply_per_layer_config(r, *table, status, t);
  else
    apply_global_heads(r, k_eq_v, t);
  if (!r.ok()) return;
  check_heads(r, t);
  link_shared_layers(r, t);
}

std::optional<MoeConfig> read_moe(ObjectReader& r) {
  if (!r.boolean("enable_moe_block", false)) return {};
  MoeConfig m;
  m.num_experts = static_cast<int>(r.integer("num_experts", 1, kMaxExperts));
  m.top_k = static_cast<int>(r.integer("top_k_experts", 1, m.num_experts));
  m.intermediate_size = static_cast<int>(r.integer("moe_intermediate_size", 1, kMaxWidth));
  return m;
}

/// Settings of which only one value is implemented, because the family uses only one.
void check_fixed_settings(ObjectReader& r) {
  static constexpr std::array<std::string_view, 1> kActivations = {"gelu_pytorch_tanh"};
  static constexpr std::array<std::string_view, 1> kDTypes = {"bfloat16"};
  r.word("hidden_activation", kActivations, kActivations[0]);
  r.word(r.find("dtype") ? "dtype" : "torch_dtype", kDTypes, kDTypes[0]);
  if (r.boolean("attention_bias", false)) r.fail(Errc::kUnsupported, "attention_bias", "supported: false");
  if (!r.boolean("tie_word_embeddings", true)) r.fail(Errc::kUnsupported, "tie_word_embeddings", "supported: true");
  if (r.find("quantization_config"))
    r.fail(Errc::kUnsupported, "quantization_config", "quantised checkpoints are not supported; use the bf16 one");
}

TextConfig read_text(ObjectReader& r, const Json& object, Result<void>& status, bool unified) {
  check_fixed_settings(r);
  TextConfig t;
  t.vocab_size = static_cast<int>(r.integer("vocab_size", 1, kMaxVocab));
  t.hidden_size = static_cast<int>(r.integer("hidden_size", 1, kMaxWidth));
  t.num_layers = static_cast<int>(r.integer("num_hidden_layers", 1, kMaxLayers));
  t.max_position_embeddings =
      static_cast<int>(r.integer("max_position_embeddings", 1, kMaxPositions, unified ? 262144 : 131072));
  t.sliding_window = static_cast<int>(r.integer("sliding_window", 1, kMaxPositions, unified ? 1024 : 512));
  t.rms_norm_eps = r.number("rms_norm_eps", 0, 0.1, false, 1e-6);
  t.final_logit_softcapping = r.number("final_logit_softcapping", 0, 1e4, false, 0.0);
  if (!unified) {
    t.ple_size = static_cast<int>(r.integer("hidden_size_per_layer_input", 0, kMaxWidth, 256));
    // Rows are looked up by token id, so the table must hold the whole vocabulary.
    if (t.ple_size > 0)
      t.ple_vocab_size = static_cast<int>(r.integer("vocab_size_per_layer_input", t.vocab_size, kMaxVocab, 262144));
    if (t.ple_vocab_size != 0 && t.ple_vocab_size < t.vocab_size)
      r.fail(Errc::kInvalidArgument, "vocab_size_per_layer_input", "must not be below vocab_size");
    t.moe = read_moe(r);
  }
  // Absent, it is the class default; null says causal.
  static constexpr std::array<std::string_view, 1> kBidirectional = {"vision"};
  const bool by_default = unified && !object.contains("use_bidirectional_attention");
  t.bidirectional_vision =
      r.word("use_bidirectional_attention", kBidirectional, by_default ? "vision" : "") == "vision";
  const Json* rope = r.find("rope_parameters");
  t.rope_sliding = read_rope(rope, "sliding_attention", {10000.0, 1, 1}, r.prefix(), status);
  t.rope_full = read_rope(rope, "full_attention", {1000000.0, 0.25, 1}, r.prefix(), status);
  if (r.ok()) read_layers(r, status, t);
  return t;
}

// ---- the file

std::string read_model_type(ObjectReader& root) {
  const Json* value = root.find("model_type");
  const std::string type = value && value->is_string() ? value->as_string() : "";
  if (type.find("assistant") != std::string::npos)
    root.fail(Errc::kUnsupported, "model_type",
              "a drafter for speculative decoding, which cannot be served alone; give the target model");
  root.word("model_type", kModelTypes, "");
  if (!value) root.fail(Errc::kInvalidArgument, "model_type", "supported: gemma4, gemma4_unified and their text parts");
  return type;
}

/// "vision_config" and "audio_config": an object where the tower exists.
bool has_part(ObjectReader& root, std::string_view key) {
  const Json* value = root.find(key);
  if (value && !value->is_object()) root.fail(Errc::kInvalidArgument, key, "must be an object or null");
  return value != nullptr;
}

std::vector<std::string> read_architectures(ObjectReader& root) {
  std::vector<std::string> names;
  const Json* list = root.find("architectures");
  if (!list) return names;
  if (!list->is_array()) {
    root.fail(Errc::kInvalidArgument, "architectures", "must be an array of names");
    return names;
  }
  for (const Json& name : list->as_array()) {
    if (!name.is_string()) root.fail(Errc::kInvalidArgument, "architectures", "must be an array of names");
    if (name.is_string()) names.push_back(name.as_string());
  }
  return names;
}

}  // namespace

Result<ModelConfig> parse_model_config(const Json& config, const Json* generation, const Json& processor) {
  Result<void> status;
  ObjectReader root(config, "config.json: ", status);
  CARAT_TRY_VOID(status);
  ModelConfig m;
  m.model_type = read_model_type(root);
  CARAT_TRY_VOID(status);
  const bool text_only = m.model_type.ends_with("_text");
  const bool unified = m.model_type.starts_with("gemma4_unified");
  m.architectures = read_architectures(root);
  check_fixed_settings(root);

  const Json* text_json = text_only ? &config : root.find("text_config");
  if (!text_json) root.fail(Errc::kInvalidArgument, "text_config", "must be an object");
  CARAT_TRY_VOID(status);
  ObjectReader text(*text_json, text_only ? "config.json: " : "config.json: text_config.", status);
  const std::array<std::string_view, 1> text_type = {unified ? "gemma4_unified_text" : "gemma4_text"};
  text.word("model_type", text_type, text_type[0]);
  m.text = read_text(text, *text_json, status, unified);
  CARAT_TRY_VOID(status);
  m.generation = read_generation(root, text, generation, status, m.text.vocab_size);
  m.media = read_media_ids(root, m.text.vocab_size);
  if (!text_only && has_part(root, "vision_config")) {
    m.vision = read_vision_config(*root.find("vision_config"), unified, status);
    if (status) read_budgets(processor.is_null() ? Json::object() : processor, *m.vision, status);
  }
  if (!text_only && has_part(root, "audio_config"))
    m.audio = read_audio_config(*root.find("audio_config"), unified, status);
  CARAT_TRY_VOID(status);
  m.variant = variant_of(m);
  m.raw = config;
  m.processor = processor;
  return m;
}

Result<ModelConfig> load_model_config(const std::filesystem::path& folder) {
  CARAT_TRY(const Json config, read_json_file(folder / "config.json"));
  CARAT_TRY(const auto generation, read_json_file_if_there(folder / "generation_config.json"));
  CARAT_TRY(const Json processor, load_processor_config(folder));
  auto parsed = parse_model_config(config, generation ? &*generation : nullptr, processor);
  // Messages start with the file's plain name, so the folder in front of it completes the path.
  if (!parsed) return Error{parsed.error().code, str_cat((folder / "").string(), parsed.error().message)};
  return parsed;
}

}  // namespace carat
