#pragma once
// The operations of the model on the host, each a contract. ops.cc checks shapes (a mismatch is a programmer error) and
// dispatches to ops::ref (plain truth, ops/ref/) or ops::cpu (SIMD and workers, ops/cpu/), which have the same
// signatures.
//
// Letters: T tokens, B sequences, Hq and Hkv heads, D head size, C hidden size, F FFN size, V vocabulary, E experts, N
// and K linear out and in. All activations and weights are bf16 unless said otherwise; rows may be strided; every sum
// is in f32 and rounded once to bf16 where the text says round(). T = 0 is fine everywhere. Results of a row never
// depend on T or on other rows, bit for bit, nor on the number of workers.

#include <cstdint>
#include <span>

#include "base/token.h"
#include "ops/context.h"
#include "ops/paged_kv.h"
#include "tensor/tensor.h"

namespace carat::ops {

/// y[t,n] = sum_k x[t,k] * w[n,k].   x [T, K], w [N, K], y [T, N] bf16 (rounded) or f32. y must not overlap x.
void linear(Context& ctx, TensorView y, ConstTensorView x, ConstTensorView w);

/// y = round( x / sqrt(mean(x^2) + eps) * w ) per row of the last dimension, the weight product in f32 before the one
/// rounding. x, y [T, C] or any equal shapes (y may be x); w [C], or empty for none. Source: text.md section 4.
void rms_norm(Context& ctx, TensorView y, ConstTensorView x, ConstTensorView w, float eps);

/// y = round(a + b). [T, C]; y may be a or b.
void add(Context& ctx, TensorView y, ConstTensorView a, ConstTensorView b);
/// y = round(a * b). a, y [T, C]; b [T, C], or [C] for all rows. y may be a or b.
void mul(Context& ctx, TensorView y, ConstTensorView a, ConstTensorView b);
/// y = round(x * s), s an f32 scalar. [T, C]; y may be x.
void scale(Context& ctx, TensorView y, ConstTensorView x, float s);

/// y = x limited to [lowest, highest], bf16 numbers that may be infinite; NaN stays NaN. [T, C]; y may be x. Source:
/// vision.md section 3, clippable linears.
void clamp(Context& ctx, TensorView y, ConstTensorView x, float lowest, float highest);
/// y = round(x + b): the bias of a linear. x [T, N] f32, the linear's sums; b [N] and y [T, N] bf16.
void add_bias(Context& ctx, TensorView y, ConstTensorView x, ConstTensorView b);

/// y = round( (x - mean) / sqrt(variance + eps) * w + b ) per row of the last dimension, in f32 from left to right
/// before the one rounding; the variance is the mean of (x - mean)^2. x, y of any equal shapes (y may be x); w, b [C],
/// b may be empty. Source: vision.md section 5, audio.md section 3.
void layer_norm(Context& ctx, TensorView y, ConstTensorView x, ConstTensorView w, ConstTensorView b, float eps);

/// y = round( round(gelu_tanh(gate)) * up ). [T, F]; y may be gate. Source: text.md section 9.
void gelu_mul(Context& ctx, TensorView y, ConstTensorView gate, ConstTensorView up);

/// y[t] = round(table[ids[t]] * s). table [V, C], y [T, C]; ids in [0, V).
void embed(Context& ctx, TensorView y, ConstTensorView table, std::span<const TokenId> ids, float s);

/// Rotates the first inv_freq.size() pairs (j, j + D/2) of each head in place: text.md section 7, three bf16 roundings.
/// x [T, H * D] with head_dim D; positions [T]; inv_freq f32, at most D / 2; cos and sin of f32(position) * inv_freq
/// are rounded to bf16.
void rope(Context& ctx, TensorView x, int head_dim, std::span<const int32_t> positions,
          std::span<const float> inv_freq);

/// Rotates both halves of each head in place, the first by the column, the second by the row of its patch, each half as
/// rope() rotates a head of head_dim / 2 with all its pairs. x [T, H * D] with head_dim D; columns, rows [T]; inv_freq
/// [D / 4] f32. Source: vision.md section 3.
void rope_2d(Context& ctx, TensorView x, int head_dim, std::span<const int32_t> columns, std::span<const int32_t> rows,
             std::span<const float> inv_freq);

/// y[t,i] = table[x[t,i]]. x [T, C] u8, y [T, C] bf16, table [256] bf16: bytes of pixels to what a tower reads.
void lookup_bytes(Context& ctx, TensorView y, ConstTensorView x, ConstTensorView table);

/// Average pooling of one image's patches: y[g] = round( z ), z = ( f32(round(sum)) * s - bias ) * factor, where sum
/// adds the k * k patches of group g in raster order, each by one fused multiply-add of f32(1 / k^2) * patch in f32. x
/// [H * W, C] in raster order with grid_width W; y [H/k * W/k, C] in raster order; H and W are multiples of k. bias,
/// factor [C]: both or neither. Source: vision.md section 4.
void pool_patches(Context& ctx, TensorView y, ConstTensorView x, int grid_width, int k, float s, ConstTensorView bias,
                  ConstTensorView factor);

/// o[t] = softmax(q[t] . K) V over all rows of t's own sequence, rows [indptr[b], indptr[b+1]), scale 1; f32 inside,
/// one rounding. q, k, v, o [T, H * D] with head_dim D: each query head has its own keys; o must not overlap the
/// others. Sums run over the keys of the sequence in ascending order. Source: vision.md section 3.
void bidirectional_attention(Context& ctx, TensorView o, ConstTensorView q, ConstTensorView k, ConstTensorView v,
                             int head_dim, std::span<const int32_t> indptr);

/// y = round( x / (1 + exp(-x)) ). [T, C]; y may be x. Source: audio.md section 4.
void silu(Context& ctx, TensorView y, ConstTensorView x);
/// y[t,c] = round( x[t,c] / (1 + exp(-x[t,C+c])) ). x [T, 2C], y [T, C], which may be the first half of x. Source:
/// audio.md section 4.
void glu(Context& ctx, TensorView y, ConstTensorView x);

/// What a 3 x 3 convolution of stride 2 with a ring of zeros around reads, as rows for linear(): for t from `first` on,
/// y[(t - first) * F' + f, (3 i + j) * C + c] = x[2 t + i - 1, 2 f + j - 1, c], F' = ceil(F / 2), or 0 outside of x. x
/// [T, F, C]; y [n * F', 9 C] with first + n <= ceil(T / 2). Source: audio.md section 3.
void unfold_3x3(Context& ctx, TensorView y, ConstTensorView x, int64_t first);
/// Convolution of each channel with its own K taps over time, without a look ahead: y[t,c] = round( sum_j w[j,c] *
/// x[t-K+1+j,c] ), added in f32 from j = 0 on, rows before the first being 0. x, y [T, C], not overlapping; w [K, C].
/// Source: audio.md section 4.
void causal_conv(Context& ctx, TensorView y, ConstTensorView x, ConstTensorView w);

/// How relative_attention() makes a score: cap * tanh( (q' . k' + q' . r) / cap ) with q' = (q * q_scale) * dim_scale
/// and k' = k * k_scale.
struct RelativeScores {
  float q_scale = 1, k_scale = 1, cap = 1;
  std::span<const float> dim_scale;  ///< [D], the same for all heads
};
/// o[t] = sum_d p[d] v[t-d], p the softmax of the scores of q[t] with k[t-d] and r[d], over the distances d in
/// [0, min(W, t + 1)); f32 inside, one rounding. All rows are of one sequence. q, k, v, o [T, H * D], o not overlapping
/// the others; r [W, H * D]. Source: audio.md section 5.
void relative_attention(Context& ctx, TensorView o, ConstTensorView q, ConstTensorView k, ConstTensorView v,
                        ConstTensorView r, const RelativeScores& scores);

/// Tokens of a step by sequence, and where their K/V pages are.
struct AttentionBatch {
  std::span<const int32_t> indptr;         ///< [B + 1], from 0 to T; a sequence may have no tokens
  std::span<const int32_t> positions;      ///< [T]
  std::span<const int32_t* const> tables;  ///< [B]: logical page -> page id, in this layer kind's pool
  int page_tokens = 64;
  std::span<const int32_t> last_keys =
      {};  ///< [T]: the last position whose key a token sees, >= its own; empty: its own
  int32_t last_key(int32_t t) const { return (last_keys.empty() ? positions : last_keys)[static_cast<size_t>(t)]; }
};

/// Stores k and v [T, Hkv * D] of each token at its position's place.
void kv_write(Context& ctx, const KvStore& store, ConstTensorView k, ConstTensorView v, const AttentionBatch& batch);

/// o[t] = softmax(q[t] . K) V over the keys at positions (pos - window, last_key(t)] (all of [0, last_key(t)] if window
/// is 0), scale 1; f32 inside, one rounding. q, o [T, Hq * D]; query head j reads K/V head j / (Hq / Hkv). Sums run
/// over absolute pages of keys in ascending order, so that the result does not depend on chunking. Sequences' K/V of
/// this step must have been written. Source: text.md sections 6 and 8.
void attention(Context& ctx, TensorView o, ConstTensorView q, const KvStore& store, const AttentionBatch& batch,
               int window);

/// Router: logits [T, E] bf16 -> softmax in f32, the k largest (ties: lower index first), weights renormalised to sum
/// 1, then multiplied by f32(per_expert_scale[e]). ids [T * k], weights [T * k], best first. Source: text.md section 9.
void route(Context& ctx, std::span<int32_t> ids, std::span<float> weights, ConstTensorView logits,
           ConstTensorView per_expert_scale, int k);

/// y[t] = round( sum_j weights[t,j] * d_j ), d_j = round( round(round(gelu_tanh(gate)) * up) Down^T ) of expert
/// ids[t,j], added in f32 in the order of j. x, y [T, C]; gate_up [E, 2F, C] (rows 0..F-1 gate); down [E, C, F].
void experts(Context& ctx, TensorView y, ConstTensorView x, ConstTensorView gate_up, ConstTensorView down,
             std::span<const int32_t> ids, std::span<const float> weights, int k);

/// y = f32( round( round(tanh( round(x * (1/cap)) )) * cap ) ); x [T, V] bf16, y [T, V] f32. cap 0: y = f32(x). Source:
/// text.md section 10.
void softcap(Context& ctx, TensorView y, ConstTensorView x, float cap);

}  // namespace carat::ops
