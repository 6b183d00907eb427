#pragma once
// The text decoder as a forward pass made of ops. No allocation after construction, no I/O, no requests. Spec: text.md.

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/token.h"
#include "config/model_config.h"
#include "ops/context.h"
#include "ops/paged_kv.h"
#include "tensor/tensor.h"
#include "weights/text_weights.h"

namespace carat {

/// Rows [row, row + n) of a step that are soft tokens: their input is `values` [n, H] bf16 as an encoder made it (not
/// scaled), whatever their ids; per-layer embeddings are those of id 0.
struct SoftRows {
  int row = 0;
  ConstTensorView values;
};

/// One step's tokens, flattened; B sequences, T tokens.
struct TextBatch {
  std::span<const TokenId> tokens;                 ///< [T]
  std::span<const int32_t> positions;              ///< [T]
  std::span<const int32_t> indptr;                 ///< [B + 1]: tokens of sequence b are [indptr[b], indptr[b+1])
  std::span<const int32_t* const> full_tables;     ///< [B]: logical page -> page id
  std::span<const int32_t* const> sliding_tables;  ///< [B]: the same; entries behind the window are not read
  std::span<const int32_t> logit_rows;             ///< [R], ascending rows of [0, T) whose logits are wanted
  std::span<const SoftRows> soft = {};             ///< ascending, not overlapping
  /// [T] or empty: the last position that a row sees on sliding layers, at least its own: the end of its image's block
  /// where images see themselves whole. Those positions' K/V must be stored, or in this step. Empty: its own.
  std::span<const int32_t> last_keys = {};
};

class TextModel {
 public:
  struct Limits {
    int max_tokens = 512;     ///< T of a step, and its sequences
    int max_logit_rows = 16;  ///< rows of one call of logits(); a step may want more and call it several times
  };
  /// The workspace is taken here. Errors: kOverloaded if the memory is not there.
  static Result<std::unique_ptr<TextModel>> create(const ModelConfig& config,
                                                   std::shared_ptr<const TextWeights> weights, Limits limits);
  /// What create() would take, for a budget made before anything is loaded.
  static int64_t workspace_bytes(const ModelConfig& config, Limits limits);

  /// Runs the layers: writes the K/V of every token and keeps the final state of each of `logit_rows`. K/V storage of
  /// one store (a layer that owns K/V) is kv.stores[store], see kv_layout(). Rows that are not in logit_rows stop at
  /// the last layer that stores K/V: nothing reads what they would compute further on (text.md section 12), so the
  /// result is the same.
  void forward(ops::Context& ctx, const TextBatch& batch, const ops::PagedKv& kv);
  /// Logits [n, V] in f32 of the last forward's logit_rows [first, first + n), n <= max_logit_rows: soft-capped with
  /// bf16 roundings (text.md section 10), then widened.
  void logits(ops::Context& ctx, int first, TensorView logits);
  /// The last forward's final states [R, H] bf16, after the last norm; valid until the next forward.
  ConstTensorView final_states() const;

  struct KvStoreShape {
    AttentionKind kind;
    int layer, num_kv_heads, head_dim;
  };
  /// Stores in layer order.
  std::span<const KvStoreShape> kv_layout() const;
  static std::vector<KvStoreShape> kv_layout(const ModelConfig& config);
  const Limits& limits() const;

  /// For tests: called with named tensors of a step as they are made; `layer` is -1 outside the layers. Names as in
  /// tests/golden: h0, ple, q, k, v, attn, attn_normed, ffn_normed, out, final.
  using Observer = std::function<void(std::string_view name, int layer, ConstTensorView value)>;
  void set_observer(Observer observer);

  ~TextModel();

 private:
  TextModel();
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace carat
