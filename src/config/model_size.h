#pragma once
// How many bytes a model's parameters and its keys and values take. All in bf16. Spec: checkpoints.md sections 5 to 7.

#include <cstdint>

#include "config/model_config.h"

namespace carat {

/// Parameter bytes per part of a checkpoint (checkpoints.md section 5).
struct ModelSize {
  int64_t embedding = 0, ple_table = 0, ple_projection = 0, ple_layers = 0, attention = 0, mlp = 0, router = 0,
          experts = 0, norms = 0;
  int64_t unused_kv = 0;  ///< K/V projections of KV-shared layers: in published files, never read
  int64_t vision = 0, vision_projection = 0, audio = 0, audio_projection = 0;
  /// The text decoder without unused_kv: what serving text keeps in memory.
  int64_t text() const;
  /// All of it: the published file without its headers.
  int64_t total() const;
};
ModelSize model_size(const ModelConfig& config);

/// Parameter bytes read to decode one token at batch 1 (checkpoints.md section 6); add kv_read_bytes().
int64_t bytes_per_decoded_token(const TextConfig& config);

/// Bytes of keys and values that one token adds to all layers of a kind that store them.
int64_t kv_bytes_per_token(const TextConfig& config, AttentionKind kind);
/// Stored bytes of one sequence of `length` tokens: sliding layers count at most a window.
int64_t kv_stored_bytes(const TextConfig& config, int64_t length);
/// Bytes of keys and values that one decode step reads at `length` tokens, every layer counted, shared ones too.
int64_t kv_read_bytes(const TextConfig& config, int64_t length);

}  // namespace carat
