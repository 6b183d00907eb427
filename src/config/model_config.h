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
#include "config/audio_config.h"
#include "config/vision_config.h"

namespace carat {

enum class AttentionKind { kSliding, kFull };

/// Everything that one decoder layer's shapes and behaviour depend on.
struct LayerConfig {
  AttentionKind kind = AttentionKind::kSliding;
  int num_heads = 0;
  int num_kv_heads = 0;
  int head_dim = 0;     ///< even
  bool k_is_v = false;  ///< V comes from the K projection; no v_proj
  int kv_source = 0;    ///< the layer whose K/V this one reads: itself, or an earlier one (KV sharing)
  int intermediate_size = 0;
  bool operator==(const LayerConfig&) const = default;
};

struct RopeConfig {
  double theta = 10000;
  double partial_rotary_factor = 1;  ///< of the frequencies, from the first on; the others are 0 ("proportional")
  double factor = 1;
  bool operator==(const RopeConfig&) const = default;
};

struct MoeConfig {
  int num_experts = 0, top_k = 0, intermediate_size = 0;
  bool operator==(const MoeConfig&) const = default;
};

struct TextConfig {
  int vocab_size = 0;
  int hidden_size = 0;
  int num_layers = 0;
  int max_position_embeddings = 0;
  int sliding_window = 0;
  double rms_norm_eps = 1e-6;
  double final_logit_softcapping = 0;  ///< 0: none
  bool tie_word_embeddings = true;     ///< always true: untied heads are refused
  int ple_size = 0;                    ///< hidden_size_per_layer_input; 0: no per-layer embeddings
  int ple_vocab_size = 0;              ///< at least vocab_size where ple_size is not 0, else 0
  int first_shared_layer = 0;          ///< layers from here on own no K/V; num_layers if none
  bool bidirectional_vision = false;
  RopeConfig rope_sliding, rope_full;
  std::optional<MoeConfig> moe;
  std::vector<LayerConfig> layers;  ///< [num_layers]; the last one is full
  bool operator==(const TextConfig&) const = default;
};

/// Sampling defaults and special ids of generation_config.json (spec checkpoints.md section 3). Ids are below
/// vocab_size.
struct GenerationConfig {
  std::vector<TokenId> eos_token_ids;  ///< union of both files, ascending
  std::vector<TokenId> suppress_token_ids;
  std::optional<double> temperature, top_p, min_p, repetition_penalty;
  std::optional<int> top_k;
  TokenId pad_token_id = 0;
  std::optional<TokenId> bos_token_id;
  bool operator==(const GenerationConfig&) const = default;
};

struct MediaTokenIds {
  std::optional<TokenId> image, video, audio, boi, eoi, boa, eoa;
  bool operator==(const MediaTokenIds&) const = default;
};

struct ModelConfig {
  std::string model_type;  ///< gemma4, gemma4_unified; gemma4_text, gemma4_unified_text for text-only checkpoints
  std::vector<std::string> architectures;
  std::string variant;  ///< "E2B", "E4B", "12B", "26B-A4B", "31B" by shape, or "custom"
  TextConfig text;
  std::optional<VisionConfig> vision;  ///< none: the model cannot see
  std::optional<AudioConfig> audio;    ///< none: the model cannot hear
  GenerationConfig generation;
  MediaTokenIds media;
  Json raw;        ///< config.json as read, for overrides and for inspection
  Json processor;  ///< as load_processor_config() gives it; null if the folder has none
};

/// Reads FOLDER/config.json and, where they exist, FOLDER/generation_config.json and the processors' files.
/// Errors: kNotFound, kIo, kCorruptFile, kUnsupported, kInvalidArgument; the message names file, key, value and what is
/// allowed.
Result<ModelConfig> load_model_config(const std::filesystem::path& folder);
/// The same from parsed files; `generation` may be null, so may `processor`. Messages start with the file's plain name.
Result<ModelConfig> parse_model_config(const Json& config, const Json* generation, const Json& processor = {});

/// How a config.json states the head geometry of full layers: `global_head_dim` and `num_global_key_value_heads`
/// (published files), or `per_layer_config` (what Transformers 5.24 saves).
enum class ConfigLayout { kPublished, kPerLayer };
/// config.json's content for `config`: everything from the fields.
/// parse_model_config() reads it back to the same fields. The full layers must have equal geometry for kPublished.
Json to_config_json(const ModelConfig& config, ConfigLayout layout = ConfigLayout::kPublished);
/// generation_config.json's content.
Json to_generation_json(const GenerationConfig& generation);

/// The built-in configuration of a published name, e.g. "google/gemma-4-E2B-it" (also base, QAT names); null if
/// unknown.
std::optional<ModelConfig> builtin_model_config(std::string_view name);
std::vector<std::string> builtin_model_names();

}  // namespace carat
