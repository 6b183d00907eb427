#pragma once
// The vision encoders' operations on a GPU, under the rules of cuda_ops.h. N patches of several images lie behind each
// other without padding.

#include "ops/cuda/bounds.h"
#include "ops/cuda/cuda_ops.h"

namespace carat::cuda {

/// y[i] = table[x[i]], count bytes (count % 16 == 0), table [256] bf16.
void lookup_bytes(const Launch& launch, void* y, const uint8_t* x, const void* table, int64_t count);

/// h = round(h + round(table[0][column] + table[1][row])) in place. h [N, C]; table [2, table_rows, C]; positions [N]
/// of {column, row}.
struct PatchPosition {
  int16_t column, row;
};
void add_positions(const Launch& launch, void* h, const void* table, int64_t table_rows, const PatchPosition* positions,
                   int num_patches, int c);

/// If y: h = round(h + round(rms(y limited to y_bounds) * w_post)) in place. Then for i < num_x: x[i] = round(rms(h) *
/// w_next) limited to x_bounds[i] (num_x 0: only h). Rows of C <= 1280, C % 8 == 0.
struct VisionNormParams {
  void* h;
  const void *y, *w_post, *w_next;
  Bounds y_bounds;
  void* x[3];
  Bounds x_bounds[3];
  int num_x;
  int num_patches, c;
  float eps;
};
void vision_norm(const Launch& launch, const VisionNormParams& p);

/// In place: q and k limited to their bounds, normed and rotated as ops::rope_2d; v limited and normed without weight.
/// q, k, v [N, H * D]; rotations [table_rows, D / 4] of {cosine, sine}, each rounded to bf16. D % 4 == 0, D <= 128.
struct VisionQkvParams {
  void *q, *k, *v;
  Bounds q_bounds, k_bounds, v_bounds;
  const void *q_norm, *k_norm;
  const PatchPosition* positions;
  const float* rotations;
  int num_patches, num_heads, head_dim;
  float eps;
};
void vision_qkv(const Launch& launch, const VisionQkvParams& p);

/// ops::bidirectional_attention, then o limited to o_bounds. A tile is up to kVisionTileRows consecutive patches of one
/// image with patches [begin, end). D 64 or 72. Probabilities are rounded to bf16 for the value product.
inline constexpr int kVisionTileRows = 128;
struct VisionTile {
  int32_t first, begin, end, unused;
};
struct VisionAttentionParams {
  const void *q, *k, *v;
  void* o;
  Bounds o_bounds;
  const VisionTile* tiles;
  int num_tiles, num_heads, head_dim;
};
void vision_attention(const Launch& launch, const VisionAttentionParams& p);

/// gate = round(round(gelu(gate limited)) * up limited) limited to bounds, in place; count values, count % 8 == 0.
void vision_geglu(const Launch& launch, void* gate, const void* up, Bounds gate_bounds, Bounds up_bounds, Bounds bounds,
                  int64_t count);

/// x[i] = round(rms(round(pooled)) ) per soft token, pooled as ops::pool_patches (bias and factor [C] or null), rms
/// without weight. h [N, C]; groups [n] of {first patch of the k * k patches, patches in a row of its image}.
struct PoolGroup {
  int32_t first, grid_width;
};
void vision_pool(const Launch& launch, void* x, const void* h, const PoolGroup* groups, int num_groups, int k, float s,
                 const void* bias, const void* factor, int c, float eps);

/// The 12B's embedder. y = layer_norm(table[x]); x [n, C] bytes, w, b, y [C] and [n, C] bf16. C % 8 == 0, C <= 8192.
void tile_norm(const Launch& launch, void* y, const uint8_t* x, const void* table, const void* w, const void* b,
               int num_tiles, int c, float eps);
/// y = rms(layer_norm(round(layer_norm(round(x + bias); w2, b2) + round(pos[column][0] + pos[row][1])); w3, b3)), each
/// rounded; rms without weight. x [n, C] f32 sums; pos [table_rows, 2, C].
struct TileEmbedParams {
  void* y;
  const float* x;
  const void *bias, *w2, *b2, *positions_table, *w3, *b3;
  const PatchPosition* positions;
  int num_tiles, c;
  float layer_eps, rms_eps;
};
void tile_embed(const Launch& launch, const TileEmbedParams& p);

}  // namespace carat::cuda
