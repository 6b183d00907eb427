#pragma once
// The fast ops behind ops.h on the host: same signatures and contracts, SIMD chosen at run time (level.h), slices of an
// op on ctx.pool. Weights are used in place. Temporary memory is thread_scratch(), which grows at first use: a step of
// a size seen before allocates nothing.

#include "ops/ops.h"

namespace carat::ops::cpu {

void linear(Context& ctx, TensorView y, ConstTensorView x, ConstTensorView w);
void rms_norm(Context& ctx, TensorView y, ConstTensorView x, ConstTensorView w, float eps);
void add(Context& ctx, TensorView y, ConstTensorView a, ConstTensorView b);
void mul(Context& ctx, TensorView y, ConstTensorView a, ConstTensorView b);
void scale(Context& ctx, TensorView y, ConstTensorView x, float s);
void clamp(Context& ctx, TensorView y, ConstTensorView x, float lowest, float highest);
void add_bias(Context& ctx, TensorView y, ConstTensorView x, ConstTensorView b);
void layer_norm(Context& ctx, TensorView y, ConstTensorView x, ConstTensorView w, ConstTensorView b, float eps);
void gelu_mul(Context& ctx, TensorView y, ConstTensorView gate, ConstTensorView up);
void embed(Context& ctx, TensorView y, ConstTensorView table, std::span<const TokenId> ids, float s);
void rope(Context& ctx, TensorView x, int head_dim, std::span<const int32_t> positions,
          std::span<const float> inv_freq);
void rope_2d(Context& ctx, TensorView x, int head_dim, std::span<const int32_t> columns, std::span<const int32_t> rows,
             std::span<const float> inv_freq);
void lookup_bytes(Context& ctx, TensorView y, ConstTensorView x, ConstTensorView table);
void pool_patches(Context& ctx, TensorView y, ConstTensorView x, int grid_width, int k, float s, ConstTensorView bias,
                  ConstTensorView factor);
void bidirectional_attention(Context& ctx, TensorView o, ConstTensorView q, ConstTensorView k, ConstTensorView v,
                             int head_dim, std::span<const int32_t> indptr);
void silu(Context& ctx, TensorView y, ConstTensorView x);
void glu(Context& ctx, TensorView y, ConstTensorView x);
void unfold_3x3(Context& ctx, TensorView y, ConstTensorView x, int64_t first);
void causal_conv(Context& ctx, TensorView y, ConstTensorView x, ConstTensorView w);
void relative_attention(Context& ctx, TensorView o, ConstTensorView q, ConstTensorView k, ConstTensorView v,
                        ConstTensorView r, const RelativeScores& scores);
void kv_write(Context& ctx, const KvStore& store, ConstTensorView k, ConstTensorView v, const AttentionBatch& batch);
void attention(Context& ctx, TensorView o, ConstTensorView q, const KvStore& store, const AttentionBatch& batch,
               int window);
void route(Context& ctx, std::span<int32_t> ids, std::span<float> weights, ConstTensorView logits,
           ConstTensorView per_expert_scale, int k);
void experts(Context& ctx, TensorView y, ConstTensorView x, ConstTensorView gate_up, ConstTensorView down,
             std::span<const int32_t> ids, std::span<const float> weights, int k);
void softcap(Context& ctx, TensorView y, ConstTensorView x, float cap);

}  // namespace carat::ops::cpu
