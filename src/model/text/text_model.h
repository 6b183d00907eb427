#pragma once
// The text decoder as a forward pass made of ops. No allocation after construction, no I/O, no requests. Spec: text.md.

#include <cstdint>
#include <memory>
#include <span>

#include "base/token.h"
#include "config/model_config.h"
#include "ops/context.h"
#include "ops/paged_kv.h"
#include "tensor/tensor.h"
#include "weights/text_weights.h"

namespace carat {

/// One step's tokens, flattened; B sequences, T tokens.
struct TextBatch {
  std::span<const TokenId> tokens;                 ///< [T]
  std::span<const int32_t> positions;              ///< [T]
  std::span<const int32_t> indptr;                 ///< [B + 1]: tokens of sequence b are [indptr[b], indptr[b+1])
  std::span<const int32_t* const> full_tables;     ///< [B]: logical page -> page id
  std::span<const int32_t* const> sliding_tables;  ///< [B]: the same; entries behind the window are not read
  std::span<const int32_t> logit_rows;             ///< [R], ascending rows of [0, T) whose logits are wanted
};

class TextModel {
 public:
  /// `max_tokens` and `max_logit_rows` bound a step; the workspace is taken here.
  static Result<std::unique_ptr<TextModel>> create(const ModelConfig& config,
                                                   std::shared_ptr<const TextWeights> weights, int max_tokens,
                                                   int max_logit_rows);
  /// K/V storage of one store (a layer that owns K/V) is kv[store]; see kv_layout().
  /// Writes logits [R, V] in f32: soft-capped with bf16 roundings (text.md section 10), then widened.
  /// Rows that are not in logit_rows skip the KV-shared layers (text.md section 12); the result is the same.
  void forward(ops::Context& ctx, const TextBatch& batch, const ops::PagedKv& kv, TensorView logits);

  struct KvStoreShape {
    AttentionKind kind;
    int layer, num_kv_heads, head_dim;
  };
  /// Stores in layer order.
  std::span<const KvStoreShape> kv_layout() const;
  int64_t workspace_bytes() const;

  ~TextModel();

 private:
  TextModel();
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace carat
