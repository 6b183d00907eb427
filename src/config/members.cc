#include "config/members.h"

#include <algorithm>
#include <array>

#include "base/check.h"
#include "base/str.h"

namespace carat {
namespace {

constexpr std::array<MemberSpec, 5> kMembers = {{
    {.name = "E2B",
     .hidden_size = 1536,
     .intermediate_size = 6144,
     .num_layers = 35,
     .sliding_per_full = 4,
     .num_heads = 8,
     .num_kv_heads = 1,
     .sliding_window = 512,
     .num_kv_shared_layers = 20,
     .double_wide_mlp = true,
     .ple_size = 256,
     .towers = MediaTowers::kSmall},
    {.name = "E4B",
     .hidden_size = 2560,
     .intermediate_size = 10240,
     .num_layers = 42,
     .sliding_per_full = 5,
     .num_heads = 8,
     .num_kv_heads = 2,
     .sliding_window = 512,
     .num_kv_shared_layers = 18,
     .ple_size = 256,
     .towers = MediaTowers::kSmall},
    {.name = "12B",
     .hidden_size = 3840,
     .intermediate_size = 15360,
     .num_layers = 48,
     .sliding_per_full = 5,
     .num_heads = 16,
     .num_kv_heads = 8,
     .num_global_kv_heads = 1,
     .towers = MediaTowers::kUnified},
    {.name = "26B-A4B",
     .hidden_size = 2816,
     .intermediate_size = 2112,
     .num_layers = 30,
     .sliding_per_full = 5,
     .num_heads = 16,
     .num_kv_heads = 8,
     .num_global_kv_heads = 2,
     .moe = {.num_experts = 128, .top_k = 8, .intermediate_size = 704},
     .towers = MediaTowers::kLarge},
    {.name = "31B",
     .hidden_size = 5376,
     .intermediate_size = 21504,
     .num_layers = 60,
     .sliding_per_full = 5,
     .num_heads = 32,
     .num_kv_heads = 16,
     .num_global_kv_heads = 4,
     .towers = MediaTowers::kLarge},
}};

constexpr std::string_view kOrganisation = "google/gemma-4-";
constexpr std::array<std::string_view, 4> kSuffixes = {"", "-it", "-qat-q4_0-unquantized", "-it-qat-q4_0-unquantized"};

std::vector<LayerConfig> make_layers(const MemberSpec& s) {
  std::vector<LayerConfig> layers;
  const int first_shared = s.num_layers - s.num_kv_shared_layers;
  int last_owner[2] = {0, 0};
  for (int i = 0; i < s.num_layers; ++i) {
    const bool full = (i + 1) % (s.sliding_per_full + 1) == 0;
    LayerConfig layer;
    layer.kind = full ? AttentionKind::kFull : AttentionKind::kSliding;
    layer.num_heads = s.num_heads;
    layer.k_is_v = full && s.num_global_kv_heads > 0;
    layer.num_kv_heads = layer.k_is_v ? s.num_global_kv_heads : s.num_kv_heads;
    layer.head_dim = full ? s.global_head_dim : s.head_dim;
    layer.intermediate_size = s.intermediate_size * (s.double_wide_mlp && i >= first_shared ? 2 : 1);
    if (i < first_shared) last_owner[full] = i;
    layer.kv_source = last_owner[full];
    layers.push_back(layer);
  }
  return layers;
}

TextConfig make_text(const MemberSpec& s) {
  TextConfig t;
  t.vocab_size = s.vocab_size;
  t.hidden_size = s.hidden_size;
  t.num_layers = s.num_layers;
  t.max_position_embeddings = s.ple_size > 0 ? 131072 : 262144;
  t.sliding_window = s.sliding_window;
  t.final_logit_softcapping = 30;
  t.ple_size = s.ple_size;
  t.ple_vocab_size = s.ple_size > 0 ? s.vocab_size : 0;
  t.first_shared_layer = s.num_layers - s.num_kv_shared_layers;
  t.bidirectional_vision = s.num_global_kv_heads > 0;
  t.rope_sliding = {.theta = 1e4, .partial_rotary_factor = 1, .factor = 1};
  t.rope_full = {.theta = 1e6, .partial_rotary_factor = 0.25, .factor = 1};
  if (s.moe.num_experts > 0) t.moe = s.moe;
  t.layers = make_layers(s);
  return t;
}

MediaTokenIds make_media(int vocab) {
  if (vocab > 258884)
    return {
        .image = 258880, .video = 258884, .audio = 258881, .boi = 255999, .eoi = 258882, .boa = 256000, .eoa = 258883};
  const TokenId first = vocab - 7;
  return {.image = first + 2,
          .video = first + 6,
          .audio = first + 3,
          .boi = first,
          .eoi = first + 4,
          .boa = first + 1,
          .eoa = first + 5};
}

GenerationConfig make_generation(const MemberSpec& s, const MediaTokenIds& media, bool instruct) {
  GenerationConfig g;
  g.eos_token_ids = {1};
  if (instruct && s.vocab_size > 107 + 7) g.eos_token_ids = {1, 50, 106};
  if (s.towers == MediaTowers::kUnified) g.suppress_token_ids = {*media.eoa, *media.eoi};
  g.temperature = 1.0;
  g.top_k = 64;
  g.top_p = 0.95;
  g.bos_token_id = 2;
  return g;
}

std::optional<VisionConfig> make_vision(const MemberSpec& s) {
  if (s.towers == MediaTowers::kNone) return {};
  if (s.towers == MediaTowers::kUnified)
    return VisionConfig{.encoder = PatchEmbedderConfig{.hidden_size = s.hidden_size}};
  if (s.towers == MediaTowers::kSmall) return VisionConfig{.encoder = VisionTowerConfig{.clipped_linears = true}};
  return VisionConfig{
      .encoder = VisionTowerConfig{
          .hidden_size = 1152, .intermediate_size = 4304, .num_layers = 27, .num_heads = 16, .standardize = true}};
}

std::optional<AudioConfig> make_audio(const MemberSpec& s) {
  if (s.towers == MediaTowers::kUnified) return RawAudioConfig{};
  if (s.towers != MediaTowers::kSmall) return {};
  return ConformerConfig{.hidden_size = 1024,
                         .num_layers = 12,
                         .num_heads = 8,
                         .conv_channels = {128, 32},
                         .conv_kernel_size = 5,
                         .attention_window = 12,
                         .attention_logit_cap = 50,
                         .residual_weight = 0.5,
                         .clipped_linears = true,
                         .output_size = 1536};
}

}  // namespace

std::span<const MemberSpec> published_members() { return kMembers; }

const MemberSpec& published_member(std::string_view name) {
  const auto it = std::find_if(kMembers.begin(), kMembers.end(), [&](const MemberSpec& s) { return s.name == name; });
  CARAT_CHECK(it != kMembers.end(), "no published member has this name");
  return *it;
}

ModelConfig make_model_config(const MemberSpec& spec, bool instruct) {
  CARAT_CHECK(spec.vocab_size >= 16 && spec.num_layers % (spec.sliding_per_full + 1) == 0,
              "a member has at least 16 tokens and ends with a full layer");
  const bool unified = spec.towers == MediaTowers::kUnified;
  ModelConfig m;
  m.model_type = unified ? "gemma4_unified" : "gemma4";
  m.architectures = {unified ? "Gemma4UnifiedForConditionalGeneration" : "Gemma4ForConditionalGeneration"};
  m.text = make_text(spec);
  m.vision = make_vision(spec);
  m.audio = make_audio(spec);
  m.media = make_media(spec.vocab_size);
  m.generation = make_generation(spec, m.media, instruct);
  m.variant = variant_of(m);
  m.raw = to_config_json(m);
  return m;
}

std::string variant_of(const ModelConfig& config) {
  for (const MemberSpec& spec : kMembers) {
    TextConfig text = make_text(spec);
    // What a user may change without making another model.
    text.max_position_embeddings = config.text.max_position_embeddings;
    text.ple_vocab_size = config.text.ple_vocab_size;
    if (text == config.text) return std::string(spec.name);
  }
  return "custom";
}

std::optional<ModelConfig> builtin_model_config(std::string_view name) {
  for (const MemberSpec& spec : kMembers)
    for (const std::string_view suffix : kSuffixes)
      if (name == str_cat(kOrganisation, spec.name, suffix)) return make_model_config(spec, suffix.starts_with("-it"));
  return {};
}

std::vector<std::string> builtin_model_names() {
  std::vector<std::string> names;
  for (const MemberSpec& spec : kMembers)
    for (const std::string_view suffix : kSuffixes) names.push_back(str_cat(kOrganisation, spec.name, suffix));
  return names;
}

}  // namespace carat
