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
  const int64_t hidden = config.text.hidden_size;
  if (config.vision)
    for (const MediaTensor& tensor : vision_tensors(*config.vision, hidden))
      (tensor.projection ? size.vision_projection : size.vision) += tensor.size_bytes();
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
