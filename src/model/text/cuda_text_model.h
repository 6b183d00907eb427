#pragma once
// The text decoder on a GPU: a step's launches on one stream. Same mathematics and roundings as TextModel; no
// allocation after creation.

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "config/model_config.h"
#include "model/text/cuda_weights.h"
#include "ops/cuda/cuda_ops.h"

namespace carat {

/// K/V memory of one pool on the device: [page][store][K|V][kv head][64 tokens][D].
struct CudaKvPool {
  void* data = nullptr;
  int64_t page_bytes = 0;
  const int32_t* table = nullptr;  ///< [slots, table_stride]
  int table_stride = 0, ring = 1;  ///< page of position p: table[slot * stride + (p / 64) % ring]
};

/// Rows of a phase and how attention walks them. Device arrays.
struct CudaRows {
  int num_rows = 0;
  const int32_t* ids = nullptr;  ///< of a soft token's row: the pad token, whose per-layer embeddings it has
  const int32_t* positions = nullptr;
  const int32_t* slots = nullptr;                     ///< -1: padding
  const cuda::AttentionTile* decode_tiles = nullptr;  ///< rows that attend alone
  int num_decode_tiles = 0;
  const cuda::AttentionTile* prefill_tiles[2] = {};  ///< by AttentionKind: rows that attend in groups
  int num_prefill_tiles[2] = {};
  cuda::SoftRowIndex soft;
  /// On sliding layers, for rows of prefill tiles: AttentionParams::last_keys. Null: their own.
  const int32_t* last_keys = nullptr;
};

/// One step. `all` are all rows; the logits of rows logit_rows [num_logits] are wanted. With `narrow` (models that
/// share K/V, steps with prompt rows) the layers above the last store run on the wanted rows only: `upper` describes
/// them, as many as num_logits, all decode tiles.
struct CudaStep {
  bool narrow = false;
  CudaRows all, upper;
  const int32_t* logit_rows = nullptr;
  int num_logits = 0;
};

class CudaTextModel {
 public:
  static constexpr int kPageTokens = 64;

  static Result<std::unique_ptr<CudaTextModel>> create(const TextConfig& config, CudaTextWeights weights,
                                                       int max_tokens, int max_logits, int num_sms);
  ~CudaTextModel();

  /// Enqueues the step; afterwards logits() holds [num_logits, V] bf16, soft-capped, and argmax() their best ids.
  void forward(const cuda::Launch& launch, const CudaStep& step, const CudaKvPool& full, const CudaKvPool& sliding);
  void* logits() const;
  int32_t* argmax() const;
  /// Ids that are never sampled; once, before the first forward().
  Result<void> set_banned(std::span<const int32_t> ids);

  /// For tests: hears of intermediate tensors as they are enqueued, bf16 [rows, columns] on the device, by the names
  /// that TextModel's observer uses (h0, q, attn, out). The callee reads them on the step's stream.
  using Observer = std::function<void(const char* name, int layer, const void* data, int rows, int columns)>;
  void set_observer(Observer observer);

  /// Query columns of a prefill tile for a layer kind, and the query heads per K/V head: a tile holds columns / group
  /// tokens.
  int prefill_tile_tokens(AttentionKind kind) const;
  /// Bytes of a page of either pool.
  int64_t page_bytes(AttentionKind kind) const;
  /// True if prompts may skip the layers above the last store.
  bool shares_kv() const;
  int64_t workspace_bytes() const;
  const CudaTextWeights& weights() const;

  static int64_t workspace_bytes(const TextConfig& config, int max_tokens, int max_logits, int num_sms);

 private:
  CudaTextModel();
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace carat
