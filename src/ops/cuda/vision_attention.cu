// Contract   vision_ops.h vision_attention. Head size 64 or 72 (padded to 80 for the score product).
// Mapping    a block per tile of 128 queries and head; a warp holds 16 queries, their sums and their 16 rows of scores
//            in registers. Tiles of 64 keys and values come through two stages of asynchronous copies.
// Resources  256 threads, two blocks per SM; D 64: 54 KB, D 72: 61 KB of shared memory.
// Roofline   4 * D flops per query, key and head; a tile's K and V come from L2.
// Numerics   q.k and softmax f32, probabilities rounded to bf16 for the value product, f32 sums over the keys of the
//            image in ascending order, one rounding. A row's result does not depend on the other images.
// Reference  ops/ref/                               Test  ops/cuda/vision_ops_test.cc
#include <type_traits>

#include "ops/cuda/launch.cuh"
#include "ops/cuda/ptx.cuh"
#include "ops/cuda/vision_ops.h"

namespace carat::cuda {

namespace {

constexpr int kWarps = kVisionTileRows / 16;
constexpr int kThreads = 32 * kWarps;
constexpr int kKeys = 64;  // of a stage

template <int D>
struct Layout {
  static constexpr int kSteps = (D + 15) / 16;     // k16 steps of the score product
  static constexpr int kPieces = D / 8;            // 16-byte pieces of a row
  static constexpr int kPitch = kSteps * 32 + 16;  // bytes between rows: no two of eight rows share banks
  static constexpr int kTileBytes = kKeys * kPitch;
  static constexpr int kSmemBytes = kVisionTileRows * kPitch + 4 * kTileBytes;
};

template <int D>
__global__ void __launch_bounds__(kThreads, 2) attention_kernel(const VisionAttentionParams p) {
  using L = Layout<D>;
  extern __shared__ __align__(128) unsigned char smem[];
  const uint32_t q_tile = smem_addr(smem), k_tiles = q_tile + kVisionTileRows * L::kPitch,
                 v_tiles = k_tiles + 2 * L::kTileBytes;
  const int tid = threadIdx.x, warp = tid / 32, lane = tid % 32;
  pdl_trigger();
  // The columns past D that the score product reads: zeros, written once.
  if constexpr (L::kSteps * 16 > D) {
    for (int r = tid; r < kVisionTileRows + 4 * kKeys; r += kThreads)
      *reinterpret_cast<uint4*>(smem + r * L::kPitch + 2 * D) = uint4{0, 0, 0, 0};
  }
  pdl_wait();
  const VisionTile tile = p.tiles[blockIdx.x];
  const int head = blockIdx.y;
  const int64_t stride = static_cast<int64_t>(p.num_heads) * D;
  const bf16* const k = static_cast<const bf16*>(p.k) + head * D;
  const bf16* const v = static_cast<const bf16*>(p.v) + head * D;

  // Rows past the image's end are zeros, so that no NaN of other memory enters a sum.
  const auto load = [&](uint32_t to, const bf16* from, int first, int rows) {
    for (int e = tid; e < rows * L::kPieces; e += kThreads) {
      const int r = e / L::kPieces, piece = e % L::kPieces;
      const bool there = first + r < tile.end;
      copy_async_16_or_zero(to + r * L::kPitch + piece * 16,
                            from + (there ? first + r : tile.begin) * stride + piece * 8, there);
    }
  };
  const int num_stages = (tile.end - tile.begin + kKeys - 1) / kKeys;
  const auto load_stage = [&](int i) {
    if (i < num_stages) {
      load(k_tiles + i % 2 * L::kTileBytes, k, tile.begin + i * kKeys, kKeys);
      load(v_tiles + i % 2 * L::kTileBytes, v, tile.begin + i * kKeys, kKeys);
    }
    copies_commit();
  };
  load(q_tile, static_cast<const bf16*>(p.q) + head * D, tile.first, kVisionTileRows);
  load_stage(0);
  load_stage(1);

  uint32_t q[L::kSteps][4];
  float o[D / 8][4] = {};
  float most[2] = {-INFINITY, -INFINITY}, sum[2] = {0.0f, 0.0f};  // rows lane / 4 and + 8; sums of this lane's columns
  constexpr float kLog2e = 1.4426950408889634f;
  for (int i = 0; i < num_stages; ++i) {
    copies_wait<1>();
    __syncthreads();
    if (i == 0) {
#pragma unroll
      for (int s = 0; s < L::kSteps; ++s)
        ldmatrix_x4(q[s], q_tile + (warp * 16 + lane % 16) * L::kPitch + s * 32 + lane / 16 * 16);
    }
    const uint32_t k_tile = k_tiles + i % 2 * L::kTileBytes, v_tile = v_tiles + i % 2 * L::kTileBytes;
    float scores[kKeys / 8][4] = {};
#pragma unroll
    for (int s = 0; s < L::kSteps; ++s) {
#pragma unroll
      for (int n = 0; n < kKeys / 16; ++n) {
        // Keys n * 16 + 0..7 and 8..15, columns s * 16 + 0..7 and 8..15 of each.
        uint32_t b[4];
        ldmatrix_x4(b, k_tile + (n * 16 + lane / 16 * 8 + lane % 8) * L::kPitch + s * 32 + lane / 8 % 2 * 16);
        mma_bf16(scores[2 * n], q[s], b[0], b[1]);
        mma_bf16(scores[2 * n + 1], q[s], b[2], b[3]);
      }
    }
    const int keys = tile.end - tile.begin - i * kKeys;
    if (keys < kKeys) {
#pragma unroll
      for (int n = 0; n < kKeys / 8; ++n)
#pragma unroll
        for (int e = 0; e < 4; ++e)
          if (n * 8 + lane % 4 * 2 + e % 2 >= keys) scores[n][e] = -INFINITY;
    }
    float scaled_most[2];
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      float m = most[r];
#pragma unroll
      for (int n = 0; n < kKeys / 8; ++n) m = fmaxf(m, fmaxf(scores[n][2 * r], scores[n][2 * r + 1]));
      m = fmaxf(m, __shfl_xor_sync(0xffffffffu, m, 1));
      m = fmaxf(m, __shfl_xor_sync(0xffffffffu, m, 2));
      const float alpha = exp2f((most[r] - m) * kLog2e);
      most[r] = m;
      scaled_most[r] = m * kLog2e;
      sum[r] *= alpha;
#pragma unroll
      for (int n = 0; n < D / 8; ++n) {
        o[n][2 * r] *= alpha;
        o[n][2 * r + 1] *= alpha;
      }
    }
#pragma unroll
    for (int n = 0; n < kKeys / 8; ++n) {
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        scores[n][e] = exp2f(fmaf(scores[n][e], kLog2e, -scaled_most[e / 2]));
        sum[e / 2] += scores[n][e];
      }
    }
#pragma unroll
    for (int s = 0; s < kKeys / 16; ++s) {
      uint32_t a[4];
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const float* const pair = &scores[2 * s + j / 2][j % 2 * 2];
        const __nv_bfloat162 two = __floats2bfloat162_rn(pair[0], pair[1]);
        a[j] = *reinterpret_cast<const uint32_t*>(&two);
      }
      // Values of keys s * 16 + 0..15; columns n * 8 onwards, two groups of eight a load.
#pragma unroll
      for (int n = 0; n < D / 8; n += 2) {
        uint32_t b[4];
        ldmatrix_x4_trans(b, v_tile + (s * 16 + lane % 16) * L::kPitch + (n + lane / 16) * 16);
        mma_bf16(o[n], a, b[0], b[1]);
        if (n + 1 < D / 8) mma_bf16(o[n + 1 < D / 8 ? n + 1 : n], a, b[2], b[3]);
      }
    }
    __syncthreads();
    load_stage(i + 2);
  }

#pragma unroll
  for (int r = 0; r < 2; ++r) {
    sum[r] += __shfl_xor_sync(0xffffffffu, sum[r], 1);
    sum[r] += __shfl_xor_sync(0xffffffffu, sum[r], 2);
    const int row = tile.first + warp * 16 + lane / 4 + r * 8;
    if (row >= tile.end) continue;
    const float inv = 1.0f / sum[r];
    bf16* const to = static_cast<bf16*>(p.o) + row * stride + head * D + lane % 4 * 2;
    const auto limited = [&](float x) {
      x = round_bf16(x * inv);
      return x < p.o_bounds.lowest ? p.o_bounds.lowest : x > p.o_bounds.highest ? p.o_bounds.highest : x;
    };
#pragma unroll
    for (int n = 0; n < D / 8; ++n)
      *reinterpret_cast<__nv_bfloat162*>(to + n * 8) =
          __floats2bfloat162_rn(limited(o[n][2 * r]), limited(o[n][2 * r + 1]));
  }
}

template <int D>
void run(const Launch& launch, const VisionAttentionParams& p) {
  [[maybe_unused]] static const bool once = (allow_smem(attention_kernel<D>, Layout<D>::kSmemBytes), true);
  launch_kernel(launch, attention_kernel<D>,
                dim3(static_cast<unsigned>(p.num_tiles), static_cast<unsigned>(p.num_heads)), kThreads,
                Layout<D>::kSmemBytes, p);
}

}  // namespace

void vision_attention(const Launch& launch, const VisionAttentionParams& p) {
  CARAT_CHECK(p.head_dim == 64 || p.head_dim == 72, "the tower's heads");
  p.head_dim == 64 ? run<64>(launch, p) : run<72>(launch, p);
}

}  // namespace carat::cuda
