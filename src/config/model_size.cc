#include "config/model_size.h"

#include <algorithm>

#include "base/check.h"
#include "config/media_tensors.h"
#include "config/text_tensors.h"

namespace carat {
namespace {

constexpr int64_t kBf16 = 2;

int64_t& part_of(ModelSize& size, TextTensorPart part) {
  switch (part) {
    case TextTensorPart::kEmbedding:
      return size.embedding;
    case TextTensorPart::kPleTable:
      return size.ple_table;
    case TextTensorPart::kPleProjection:
      return size.ple_projection;
    case TextTensorPart::kPleLayers:
      return size.ple_layers;
    case TextTensorPart::kAttention:
      return size.attention;
    case TextTensorPart::kMlp:
      return size.mlp;
    case TextTensorPart::kRouter:
      return size.router;
    case TextTensorPart::kExperts:
      return size.experts;
    case TextTensorPart::kNorms:
      return size.norms;
    case TextTensorPart::kUnusedKv:
      return size.unused_kv;
  }
  CARAT_CHECK(false, "every part has its place");
}

/// A tower's setting, or 0 where it is not a sensible size: towers are validated where they are built.
int64_t setting(const Json& part, std::string_view key, int64_t fallback) {
  const Json* value = part.find(key);
  if (!value || value->is_null()) return fallback;
  return value->is_int() && value->as_int() >= 0 && value->as_int() <= (1 << 20) ? value->as_int() : 0;
}

bool flag(const Json& part, std::string_view key, bool fallback) {
  const Json* value = part.find(key);
  return value && value->is_bool() ? value->as_bool() : fallback;
}

/// The 12B's embedder: one linear with three layer norms and a table of positions.
void add_unified_vision(ModelSize& size, const Json& v, int64_t text_hidden) {
  const int64_t patch = setting(v, "patch_size", 16) * setting(v, "pooling_kernel_size", 3);
  const int64_t in = patch * patch * 3, h = setting(v, "mm_embed_dim", 3840);
  const int64_t norms = 2 * in + 2 * h + 2 * h;
  size.vision = kBf16 * (norms + h * in + h + setting(v, "mm_posemb_size", 1120) * 2 * h);
  size.vision_projection = kBf16 * text_hidden * h;
}

void add_vision(ModelSize& size, const Json& v, int64_t text_hidden) {
  const int64_t h = setting(v, "hidden_size", 768), inter = setting(v, "intermediate_size", 3072);
  const int64_t linears = 4 * h * h + 3 * h * inter, norms = 4 * h + 2 * setting(v, "head_dim", 64);
  const int64_t clips = flag(v, "use_clipped_linears", false) ? 7 * 4 : 0;
  const int64_t patch = setting(v, "patch_size", 16);
  const int64_t embedder = h * patch * patch * 3 + 2 * setting(v, "position_embedding_size", 10240) * h;
  const int64_t standard = flag(v, "standardize", false) ? 2 * h : 0;
  size.vision = kBf16 * (embedder + setting(v, "num_hidden_layers", 16) * (linears + norms + clips) + standard);
  size.vision_projection = kBf16 * text_hidden * h;
}

int64_t stored_length(const TextConfig& config, const LayerConfig& layer, int64_t length) {
  return layer.kind == AttentionKind::kSliding ? std::min<int64_t>(length, config.sliding_window) : length;
}

int64_t kv_bytes(const LayerConfig& layer) { return 2 * kBf16 * layer.num_kv_heads * layer.head_dim; }

}  // namespace

int64_t ModelSize::text() const {
  return embedding + ple_table + ple_projection + ple_layers + attention + mlp + router + experts + norms;
}

int64_t ModelSize::total() const { return text() + unused_kv + vision + vision_projection + audio + audio_projection; }

ModelSize model_size(const ModelConfig& config) {
  ModelSize size;
  for (const TextTensor& tensor : text_tensors(config.text)) part_of(size, tensor.part) += tensor.size_bytes();
  const bool unified = config.model_type.starts_with("gemma4_unified");
  const int64_t hidden = config.text.hidden_size;
  if (const Json* vision = config.raw.find("vision_config"); config.has_vision && vision) {
    if (unified)
      add_unified_vision(size, *vision, hidden);
    else
      add_vision(size, *vision, hidden);
  }
  if (config.audio)
    for (const MediaTensor& tensor : audio_tensors(*config.audio, hidden))
      (tensor.projection ? size.audio_projection : size.audio) += tensor.size_bytes();
  return size;
}

int64_t bytes_per_decoded_token(const TextConfig& config) {
  ModelSize size;
  for (const TextTensor& tensor : text_tensors(config)) part_of(size, tensor.part) += tensor.size_bytes();
  int64_t bytes = size.text() - size.ple_table - size.experts;  // the head reads the whole embedding
  bytes += kBf16 * config.hidden_size;                          // one row of it
  bytes += kBf16 * config.num_layers * int64_t{config.ple_size};
  if (config.moe) bytes += size.experts / config.moe->num_experts * config.moe->top_k;
  return bytes;
}

int64_t kv_bytes_per_token(const TextConfig& config, AttentionKind kind) {
  int64_t bytes = 0;
  for (int i = 0; i < config.num_layers; ++i) {
    const LayerConfig& layer = config.layers[static_cast<size_t>(i)];
    if (layer.kind == kind && layer.kv_source == i) bytes += kv_bytes(layer);
  }
  return bytes;
}

int64_t kv_stored_bytes(const TextConfig& config, int64_t length) {
  return kv_bytes_per_token(config, AttentionKind::kFull) * length +
         kv_bytes_per_token(config, AttentionKind::kSliding) * std::min<int64_t>(length, config.sliding_window);
}

int64_t kv_read_bytes(const TextConfig& config, int64_t length) {
  int64_t bytes = 0;
  for (const LayerConfig& layer : config.layers) bytes += kv_bytes(layer) * stored_length(config, layer, length);
  return bytes;
}

}  // namespace carat
