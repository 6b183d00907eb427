// Contract   cuda_ops.h attention. Head size 256 or 512, pages of 64 tokens.
// Mapping    a block owns a tile (consecutive tokens of one sequence, the query heads of one K/V head packed beside
//            each other: kCols columns) and a share of its keys. Keys are the M operand: S^T = K Q^T, O^T = V^T P^T,
//            so no rows are padded when one token decodes. Tiles of kKeys keys stream through two stages; four warps
//            load, eight multiply. The block that arrives last merges the shares in order.
// Resources  384 threads; D 256: 64 keys a tile, D 512: 32 keys; 150 to 220 KB of shared memory.
// Roofline   decode: bytes = keys * D * 4 per K/V head. Prefill: 4 * D flops per key, head and query.
// Numerics   q.k and softmax f32, probabilities rounded to bf16 for the value product (as in the flash kernels of the
//            reference), f32 sums, one rounding. The key ranges of shares depend on their number; tiles of keys are
//            aligned to positions.
// Reference  ops/ref/attention.cc                   Test  ops/cuda/cuda_ops_test.cc
#include <algorithm>

#include "ops/cuda/launch.cuh"
#include "ops/cuda/ptx.cuh"

namespace carat::cuda {

namespace {

constexpr int kWarps = 8;
constexpr int kConsumers = 32 * kWarps;
constexpr int kProducers = 128;
constexpr int kThreads = kConsumers + kProducers;
constexpr int kPage = 64;

template <int D, int kCols>
struct Layout {
  static constexpr int kKeys = D == 256 ? 64 : 32;    // keys of a tile
  static constexpr int kPitch = 2 * D + 16;           // bytes between rows of K, V, Q
  static constexpr int kKeyTiles = kKeys / 16;        // m16 tiles of S^T
  static constexpr int kSlices = kWarps / kKeyTiles;  // warps that share the sum over D
  static constexpr int kTileBytes = kKeys * kPitch;
  static constexpr int kQBytes = kCols * kPitch;
  static constexpr int kScorePitch = kCols + 1;  // floats
  static constexpr int kScoreBytes = kSlices * kKeys * kScorePitch * 4;
  static constexpr int kProbPitch = 2 * kKeys + 16;  // bytes between columns of P
  static constexpr int kProbBytes = kCols * kProbPitch;
  static constexpr int kStages = 2;  // of a K and a V tile each
  static constexpr int kSmemBytes =
      2 * kStages * kTileBytes + kQBytes + kScoreBytes + kProbBytes + kCols * 4 * 3 + 8 * 8 + 128;
};

struct Params {
  const bf16* q;
  bf16* o;
  const AttentionTile* tiles;
  const int32_t* last_keys;
  const bf16* kv;
  int64_t page_stride, v_offset;
  const int32_t* table;
  int table_stride, ring;
  int num_heads, num_kv_heads, window, splits;
  float* scratch;  // [tile][kv head][split][kCols][D], then maxima and sums [tile][kv head][split][kCols][2]
  int32_t* counters;
};

template <int D, int kCols>
__global__ void __launch_bounds__(kThreads, 1) attention_kernel(const Params p) {
  using L = Layout<D, kCols>;
  extern __shared__ __align__(128) unsigned char smem[];
  unsigned char* const k_tiles = smem;
  unsigned char* const v_tiles = k_tiles + L::kStages * L::kTileBytes;
  unsigned char* const q_tile = v_tiles + L::kStages * L::kTileBytes;
  float* const scores = reinterpret_cast<float*>(q_tile + L::kQBytes);
  unsigned char* const probs = reinterpret_cast<unsigned char*>(scores) + L::kScoreBytes;
  float* const alpha = reinterpret_cast<float*>(probs + L::kProbBytes);  // [kCols] factor of the sums so far
  float* const col_max = alpha + kCols;
  float* const col_sum = col_max + kCols;
  uint64_t* const full_k = reinterpret_cast<uint64_t*>((reinterpret_cast<uintptr_t>(col_sum + kCols) + 7) / 8 * 8);
  uint64_t* const full_v = full_k + L::kStages;
  uint64_t* const empty_k = full_v + L::kStages;
  uint64_t* const empty_v = empty_k + L::kStages;
  __shared__ int last_block;

  const int tid = threadIdx.x, warp = tid / 32, lane = tid % 32;
  const int split = blockIdx.x, kv_head = blockIdx.y, tile_idx = blockIdx.z;
  pdl_trigger();
  if (tid == 0) {
    for (int s = 0; s < L::kStages; ++s) {
      mbar_init(&full_k[s], kProducers);
      mbar_init(&full_v[s], kProducers);
      mbar_init(&empty_k[s], kWarps);
      mbar_init(&empty_v[s], kWarps);
    }
    mbar_init_fence();
  }
  __syncthreads();
  pdl_wait();
  const AttentionTile tile = p.tiles[tile_idx];
  if (tile.num_tokens == 0) return;
  const int group = p.num_heads / p.num_kv_heads;
  const int columns = tile.num_tokens * group;

  // Keys that some query of the tile sees: [key_begin, key_end); this block's share in whole tiles of keys.
  const int key_end = p.last_keys ? p.last_keys[tile.row + tile.num_tokens - 1] + 1 : tile.position + tile.num_tokens;
  const int key_begin = p.window > 0 ? max(0, tile.position - p.window + 1) : 0;
  const int first_tile = key_begin / L::kKeys, num_tiles = (key_end + L::kKeys - 1) / L::kKeys - first_tile;
  // No share is smaller than 128 keys: merging more shares costs more than it saves.
  const int per_split = max((num_tiles + p.splits - 1) / p.splits, 128 / L::kKeys);
  const int t_begin = first_tile + min(num_tiles, split * per_split);
  const int t_end = first_tile + min(num_tiles, (split + 1) * per_split);
  const int used_splits = (num_tiles + per_split - 1) / per_split;
  if (split >= used_splits) return;

  if (warp >= kWarps) {
    // ---- producers: 16 bytes a copy, consecutive threads along a row
    const int producer = tid - kConsumers;
    constexpr int kPieces = D / 8;  // per row
    for (int t = t_begin; t < t_end; ++t) {
      const int i = t - t_begin, slot = i % L::kStages;
      const uint32_t parity = static_cast<uint32_t>((i / L::kStages - 1) & 1);
      const int key0 = t * L::kKeys;
      const int rows = min(L::kKeys, key_end - key0);
      const int64_t page = p.table[static_cast<int64_t>(tile.slot) * p.table_stride + (key0 / kPage) % p.ring];
      const bf16* src = p.kv + page * p.page_stride + (static_cast<int64_t>(kv_head) * kPage + key0 % kPage) * D;
      const auto load = [&](unsigned char* dst, const bf16* from) {
        const uint32_t base = smem_addr(dst);
#pragma unroll 8
        for (int e = producer; e < L::kKeys * kPieces; e += kProducers) {
          const int r = e / kPieces, piece = e % kPieces;
          // Rows past the newest key hold nothing yet: zeros, since a probability of 0 does not save a product from
          // NaN.
          copy_async_16_or_zero(base + r * L::kPitch + piece * 16, from + r * D + piece * 8, r < rows);
        }
      };
      if (i >= L::kStages) mbar_wait(&empty_k[slot], parity);
      load(k_tiles + slot * L::kTileBytes, src);
      copies_arrive(&full_k[slot]);
      if (i >= L::kStages) mbar_wait(&empty_v[slot], parity);
      load(v_tiles + slot * L::kTileBytes, src + p.v_offset);
      copies_arrive(&full_v[slot]);
    }
    return;
  }

  // ---- consumers. Query column c is token c / group, head kv_head * group + c % group.
  for (int e = tid; e < kCols * (D / 8); e += kConsumers) {
    const int c = e / (D / 8), d = e % (D / 8) * 8;
    uint4 v = make_uint4(0, 0, 0, 0);
    if (c < columns)
      v = *reinterpret_cast<const uint4*>(
          p.q + (static_cast<int64_t>(tile.row + c / group) * p.num_heads + kv_head * group + c % group) * D + d);
    *reinterpret_cast<uint4*>(q_tile + c * L::kPitch + d * 2) = v;
  }
  constexpr int kColTiles = kCols / 8;
  constexpr int kDimTiles = D / kWarps / 16;  // m16 tiles of O^T per warp
  float out[kDimTiles][kColTiles][4];
  for (auto& row : out)
    for (auto& v : row) v[0] = v[1] = v[2] = v[3] = 0.0f;
  // Softmax: kPerCol threads own a column; the running maximum and sum live in all of them.
  constexpr int kPerCol = kConsumers / kCols < 32 ? kConsumers / kCols : 32;
  const int col = tid / kPerCol, sub = tid % kPerCol;
  const bool has_col = col < kCols;
  float run_max = -INFINITY, run_sum = 0.0f;
  const int token = has_col ? min(col / group, tile.num_tokens - 1) : 0;
  const int q_pos = tile.position + token;
  const int q_last = p.last_keys ? p.last_keys[tile.row + token] : q_pos;
  named_barrier(1, kConsumers);

  const int key_tile = warp % L::kKeyTiles, slice = warp / L::kKeyTiles;
  constexpr int kSliceDims = D / L::kSlices;
  const uint32_t k_base = smem_addr(k_tiles), v_base = smem_addr(v_tiles), q_base = smem_addr(q_tile),
                 p_base = smem_addr(probs);

  for (int t = t_begin; t < t_end; ++t) {
    const int i = t - t_begin, slot = i % L::kStages;
    const uint32_t parity = static_cast<uint32_t>((i / L::kStages) & 1);
    const int key0 = t * L::kKeys;
    // S^T of 16 keys over this warp's slice of D.
    mbar_wait(&full_k[slot], parity);
    float s[kColTiles][4];
    for (auto& v : s) v[0] = v[1] = v[2] = v[3] = 0.0f;
    const uint32_t a_row = k_base + slot * L::kTileBytes + (key_tile * 16 + lane % 16) * L::kPitch + (lane / 16) * 16 +
                           slice * kSliceDims * 2;
    const uint32_t b_row = q_base + (lane % 8) * L::kPitch + (lane / 8) * 16 + slice * kSliceDims * 2;
#pragma unroll 4
    for (int d = 0; d < kSliceDims; d += 32) {
      uint32_t a0[4], a1[4];
      ldmatrix_x4(a0, a_row + d * 2);
      ldmatrix_x4(a1, a_row + d * 2 + 32);
#pragma unroll
      for (int c = 0; c < kColTiles; ++c) {
        uint32_t b[4];
        ldmatrix_x4(b, b_row + c * 8 * L::kPitch + d * 2);
        mma_bf16(s[c], a0, b[0], b[1]);
        mma_bf16(s[c], a1, b[2], b[3]);
      }
    }
    __syncwarp();
    if (lane == 0) mbar_arrive(&empty_k[slot]);
    float* const mine = scores + slice * L::kKeys * L::kScorePitch;
    const int key_row = key_tile * 16 + lane / 4, score_col = 2 * (lane % 4);
#pragma unroll
    for (int c = 0; c < kColTiles; ++c) {
      mine[key_row * L::kScorePitch + c * 8 + score_col] = s[c][0];
      mine[key_row * L::kScorePitch + c * 8 + score_col + 1] = s[c][1];
      mine[(key_row + 8) * L::kScorePitch + c * 8 + score_col] = s[c][2];
      mine[(key_row + 8) * L::kScorePitch + c * 8 + score_col + 1] = s[c][3];
    }
    named_barrier(1, kConsumers);  // scores complete; everyone has finished with the probabilities of the tile before

    constexpr int kKeysPer = L::kKeys / kPerCol > 0 ? L::kKeys / kPerCol : 1;
    if (has_col) {
      float v[kKeysPer];
      float tile_max = -INFINITY;
#pragma unroll
      for (int j = 0; j < kKeysPer; ++j) {
        const int key = sub + j * kPerCol, pos = key0 + key;
        float x = 0.0f;
#pragma unroll
        for (int sl = 0; sl < L::kSlices; ++sl) x += scores[(sl * L::kKeys + key) * L::kScorePitch + col];
        const bool seen = pos <= q_last && (p.window == 0 || pos > q_pos - p.window);
        v[j] = seen ? x : -INFINITY;
        tile_max = fmaxf(tile_max, v[j]);
      }
      for (int o = kPerCol / 2; o > 0; o /= 2) tile_max = fmaxf(tile_max, __shfl_xor_sync(0xffffffffu, tile_max, o));
      const float new_max = fmaxf(run_max, tile_max);
      const float scale = new_max == -INFINITY ? 1.0f : __expf(run_max - new_max);
      float sum = 0.0f;
#pragma unroll
      for (int j = 0; j < kKeysPer; ++j) {
        const float e = new_max == -INFINITY ? 0.0f : __expf(v[j] - new_max);
        sum += e;
        *reinterpret_cast<bf16*>(probs + col * L::kProbPitch + (sub + j * kPerCol) * 2) = __float2bfloat16_rn(e);
      }
      for (int o = kPerCol / 2; o > 0; o /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, o);
      run_sum = run_sum * scale + sum;
      run_max = new_max;
      if (sub == 0) alpha[col] = scale;
    }
    named_barrier(1, kConsumers);  // probabilities and factors complete

    // O^T += V^T P^T: this warp's D / 8 dimensions.
    mbar_wait(&full_v[slot], parity);
#pragma unroll
    for (int c = 0; c < kColTiles; ++c) {
      const float f0 = alpha[c * 8 + score_col], f1 = alpha[c * 8 + score_col + 1];
#pragma unroll
      for (int m = 0; m < kDimTiles; ++m) {
        out[m][c][0] *= f0;
        out[m][c][1] *= f1;
        out[m][c][2] *= f0;
        out[m][c][3] *= f1;
      }
    }
    const uint32_t pb_row = p_base + (lane % 8) * L::kProbPitch + (lane / 8) * 16;
#pragma unroll
    for (int key = 0; key < L::kKeys; key += 32) {
      uint32_t a0[kDimTiles][4], a1[kDimTiles][4];
      // V rows are keys, columns dims; transposed loads give V^T: matrices (dims 0-7, keys 0-7), (dims 8-15, keys 0-7),
      // then keys 8-15.
      const uint32_t v_row = v_base + slot * L::kTileBytes + (key + (lane / 16) * 8 + lane % 8) * L::kPitch +
                             ((lane / 8) % 2) * 16 + warp * (D / kWarps) * 2;
#pragma unroll
      for (int m = 0; m < kDimTiles; ++m) {
        ldmatrix_x4_trans(a0[m], v_row + m * 32);
        ldmatrix_x4_trans(a1[m], v_row + m * 32 + 16 * L::kPitch);
      }
#pragma unroll
      for (int c = 0; c < kColTiles; ++c) {
        uint32_t b[4];
        ldmatrix_x4(b, pb_row + c * 8 * L::kProbPitch + key * 2);
#pragma unroll
        for (int m = 0; m < kDimTiles; ++m) {
          mma_bf16(out[m][c], a0[m], b[0], b[1]);
          mma_bf16(out[m][c], a1[m], b[2], b[3]);
        }
      }
    }
    __syncwarp();
    if (lane == 0) mbar_arrive(&empty_v[slot]);
  }

  const auto out_ptr = [&](int c) {
    return p.o + (static_cast<int64_t>(tile.row + c / group) * p.num_heads + kv_head * group + c % group) * D;
  };
  const int dim0 = warp * (D / kWarps) + lane / 4, c0 = 2 * (lane % 4);
  if (used_splits == 1) {
    if (has_col && sub == 0) col_sum[col] = run_sum;
    named_barrier(1, kConsumers);
    for (int c = 0; c < kColTiles; ++c)
      for (int j = 0; j < 2; ++j) {
        const int cc = c * 8 + c0 + j;
        if (cc >= columns) continue;
        const float inv = 1.0f / col_sum[cc];
        bf16* o = out_ptr(cc);
        for (int m = 0; m < kDimTiles; ++m) {
          o[dim0 + m * 16] = __float2bfloat16_rn(out[m][c][j] * inv);
          o[dim0 + m * 16 + 8] = __float2bfloat16_rn(out[m][c][2 + j] * inv);
        }
      }
    return;
  }
  // Several shares: leave sums, maximum and total in scratch; the last block merges them in order.
  const int64_t unit = static_cast<int64_t>(tile_idx) * p.num_kv_heads + kv_head;
  const int64_t units = static_cast<int64_t>(gridDim.z) * p.num_kv_heads;
  float* const sums = p.scratch + unit * p.splits * kCols * D;
  float* const stats = p.scratch + units * p.splits * kCols * D + unit * p.splits * kCols * 2;
  for (int c = 0; c < kColTiles; ++c)
    for (int j = 0; j < 2; ++j) {
      const int cc = c * 8 + c0 + j;
      if (cc >= columns) continue;
      float* s = sums + (static_cast<int64_t>(split) * kCols + cc) * D;
      for (int m = 0; m < kDimTiles; ++m) {
        s[dim0 + m * 16] = out[m][c][j];
        s[dim0 + m * 16 + 8] = out[m][c][2 + j];
      }
    }
  if (has_col && sub == 0) {
    stats[(split * kCols + col) * 2] = run_max;
    stats[(split * kCols + col) * 2 + 1] = run_sum;
  }
  __threadfence();
  named_barrier(1, kConsumers);
  if (tid == 0) last_block = atomicAdd(&p.counters[unit], 1) == used_splits - 1;
  named_barrier(1, kConsumers);
  if (!last_block) return;
  __threadfence();
  if (tid == 0) p.counters[unit] = 0;
  for (int cc = warp; cc < columns; cc += kWarps) {
    float m = -INFINITY;
    for (int s = 0; s < used_splits; ++s) m = fmaxf(m, __ldcg(&stats[(s * kCols + cc) * 2]));
    float total = 0.0f;
    for (int s = 0; s < used_splits; ++s) {
      const float sm = __ldcg(&stats[(s * kCols + cc) * 2]);
      if (sm != -INFINITY) total += __ldcg(&stats[(s * kCols + cc) * 2 + 1]) * __expf(sm - m);
    }
    const float inv = 1.0f / total;
    for (int d = lane * 4; d < D; d += 128) {
      float4 v = make_float4(0, 0, 0, 0);
      for (int s = 0; s < used_splits; ++s) {
        const float sm = __ldcg(&stats[(s * kCols + cc) * 2]);
        if (sm == -INFINITY) continue;
        const float f = __expf(sm - m);
        const float4 x = __ldcg(reinterpret_cast<const float4*>(sums + (static_cast<int64_t>(s) * kCols + cc) * D + d));
        v.x += f * x.x;
        v.y += f * x.y;
        v.z += f * x.z;
        v.w += f * x.w;
      }
      bf16* o = out_ptr(cc) + d;
      o[0] = __float2bfloat16_rn(v.x * inv);
      o[1] = __float2bfloat16_rn(v.y * inv);
      o[2] = __float2bfloat16_rn(v.z * inv);
      o[3] = __float2bfloat16_rn(v.w * inv);
    }
  }
}

template <int D, int kCols>
void launch_one(const Launch& launch, const AttentionParams& a, const Params& p) {
  using L = Layout<D, kCols>;
  static_assert(L::kSmemBytes <= 227 * 1024);
  static const bool allowed = [] {
    allow_smem(attention_kernel<D, kCols>, L::kSmemBytes);
    return true;
  }();
  static_cast<void>(allowed);
  launch_kernel(launch, attention_kernel<D, kCols>, dim3(a.splits, a.num_kv_heads, a.num_tiles), dim3(kThreads),
                L::kSmemBytes, p);
}

}  // namespace

void attention(const Launch& launch, const AttentionParams& a) {
  const int group = a.num_heads / a.num_kv_heads;
  CARAT_CHECK(a.columns % group == 0 && a.page_tokens == kPage && a.splits >= 1 && a.splits <= kMaxSplits,
              "attention: bad shape");
  Params p{};
  p.q = static_cast<const bf16*>(a.q);
  p.o = static_cast<bf16*>(a.o);
  p.tiles = a.tiles;
  p.last_keys = a.last_keys;
  p.kv = static_cast<const bf16*>(a.kv);
  p.page_stride = a.page_stride;
  p.v_offset = a.v_offset;
  p.table = a.table;
  p.table_stride = a.table_stride;
  p.ring = a.ring;
  p.num_heads = a.num_heads;
  p.num_kv_heads = a.num_kv_heads;
  p.window = a.window;
  p.splits = a.splits;
  p.scratch = a.scratch;
  p.counters = a.counters;
  if (a.head_dim == 256) {
    switch (a.columns) {
      case 8:
        return launch_one<256, 8>(launch, a, p);
      case 16:
        return launch_one<256, 16>(launch, a, p);
      case 64:
        return launch_one<256, 64>(launch, a, p);
    }
  } else if (a.head_dim == 512) {
    switch (a.columns) {
      case 8:
        return launch_one<512, 8>(launch, a, p);
      case 16:
        return launch_one<512, 16>(launch, a, p);
      case 32:
        return launch_one<512, 32>(launch, a, p);
    }
  }
  CARAT_CHECK(false, str_cat("attention: no kernel for head size ", a.head_dim, " and ", a.columns, " columns"));
}

}  // namespace carat::cuda
