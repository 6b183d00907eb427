#pragma once
// A Gemma 4 checkpoint's configuration, read from config.json and generation_config.json and validated. Spec:
// checkpoints.md.

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "base/token.h"

namespace carat {

enum class AttentionKind { kSliding, kFull };

/// Everything that one decoder layer's shapes and behaviour depend on.
struct LayerConfig {
  AttentionKind kind = AttentionKind::kSliding;
  int num_heads = 0;
  int num_kv_heads = 0;
  int head_dim = 0;
  bool k_is_v = false;  ///< V comes from the K projection; no v_proj
  int kv_source = 0;    ///< the layer whose K/V this one reads: itself, or an earlier one (KV sharing)
  int intermediate_size = 0;
};

struct RopeConfig {
  double theta = 10000;
  double partial_rotary_factor = 1;  ///< of the frequencies, from the first on; the others are 0 ("proportional")
  double factor = 1;
};

struct MoeConfig {
  int num_experts = 0, top_k = 0, intermediate_size = 0;
};

struct TextConfig {
  int vocab_size = 0;
  int hidden_size = 0;
  int num_layers = 0;
  int max_position_embeddings = 0;
  int sliding_window = 0;
  double rms_norm_eps = 1e-6;
  double final_logit_softcapping = 0;  ///< 0: none
  bool tie_word_embeddings = true;
  int ple_size = 0;  ///< hidden_size_per_layer_input; 0: no per-layer embeddings
  int ple_vocab_size = 0;
  int first_shared_layer = 0;  ///< layers from here on own no K/V; num_layers if none
  bool bidirectional_vision = false;
  RopeConfig rope_sliding, rope_full;
  std::optional<MoeConfig> moe;
  std::vector<LayerConfig> layers;
};

/// Sampling defaults and special ids of generation_config.json (spec checkpoints.md section 3).
struct GenerationConfig {
  std::vector<TokenId> eos_token_ids;  ///< union of both files, ascending
  std::vector<TokenId> suppress_token_ids;
  std::optional<double> temperature, top_p;
  std::optional<int> top_k;
  TokenId pad_token_id = 0;
  std::optional<TokenId> bos_token_id;
};

struct MediaTokenIds {
  std::optional<TokenId> image, video, audio, boi, eoi, boa, eoa;
};

struct ModelConfig {
  std::string model_type;  ///< gemma4, gemma4_unified
  std::vector<std::string> architectures;
  std::string variant;  ///< "E2B", "E4B", "12B", "26B-A4B", "31B" by shape, or "custom"
  bool has_vision = false, has_audio = false;
  TextConfig text;
  GenerationConfig generation;
  MediaTokenIds media;
  Json raw;  ///< config.json as read, for the towers and for inspection
};

/// Errors: kNotFound, kCorruptFile, kUnsupported, kInvalidArgument; the message names file, key, value and what is
/// allowed.
Result<ModelConfig> load_model_config(const std::filesystem::path& folder);
/// `generation` may be null.
Result<ModelConfig> parse_model_config(const Json& config, const Json* generation);
/// The built-in configuration of a published name, e.g. "google/gemma-4-E2B-it" (also base, QAT names); null if
/// unknown.
std::optional<ModelConfig> builtin_model_config(std::string_view name);
std::vector<std::string> builtin_model_names();

}  // namespace carat
