// Contract   vision_ops.h, all but attention.
// Mapping    a warp per row of the tower (rows of up to 1280 values stay in registers), a warp per head of q, k and v,
//            a block per row of the 12B's embedder, 16-byte accesses.
// Roofline   2 * C bytes per tensor and row, mostly from L2.
// Numerics   sums in f32 in an order that depends on the row length only; roundings as ops::ref.
// Reference  ops/ref/                               Test  ops/cuda/vision_ops_test.cc
#include "ops/cuda/launch.cuh"
#include "ops/cuda/vision_ops.h"
#include "ops/cuda/warp_row.cuh"

namespace carat::cuda {

namespace {

constexpr int kWarps = 8;  // rows of a block

constexpr int kWarpRowMost = 1280;

__global__ void __launch_bounds__(256)
    lookup_kernel(bf16* y, const uint8_t* x, const bf16* table, int64_t num_vectors) {
  __shared__ bf16 values[256];
  pdl_trigger();
  pdl_wait();
  values[threadIdx.x] = table[threadIdx.x];
  __syncthreads();
  const int64_t i = blockIdx.x * int64_t{256} + threadIdx.x;
  if (i >= num_vectors) return;
  const uint4 raw = reinterpret_cast<const uint4*>(x)[i];
  const uint32_t words[4] = {raw.x, raw.y, raw.z, raw.w};
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    Vec8 v;
#pragma unroll
    for (int j = 0; j < 8; ++j) v.v[j] = __bfloat162float(values[(words[half * 2 + j / 4] >> (j % 4 * 8)) & 0xff]);
    store8(y + i * 16 + half * 8, v);
  }
}

__global__ void __launch_bounds__(256)
    positions_kernel(bf16* h, const bf16* table, int64_t axis_stride, const PatchPosition* positions, int c) {
  pdl_trigger();
  pdl_wait();
  const int64_t t = blockIdx.x;
  const PatchPosition at = positions[t];
  for (int i = 8 * threadIdx.x; i < c; i += 8 * blockDim.x) {
    Vec8 v = load8(h + t * c + i);
    const Vec8 column = load8(table + static_cast<int64_t>(at.column) * c + i);
    const Vec8 row = load8(table + axis_stride + static_cast<int64_t>(at.row) * c + i);
#pragma unroll
    for (int j = 0; j < 8; ++j) v.v[j] += round_bf16(column.v[j] + row.v[j]);
    store8(h + t * c + i, v);
  }
}

template <int V>
__global__ void __launch_bounds__(32 * kWarps) norm_kernel(const VisionNormParams p) {
  pdl_trigger();
  pdl_wait();
  const int64_t t = blockIdx.x * int64_t{kWarps} + threadIdx.x / 32;
  if (t >= p.num_patches) return;
  bf16* const h = static_cast<bf16*>(p.h) + t * p.c;
  WarpRow<V> row;
  if (p.y) {
    row.load(static_cast<const bf16*>(p.y) + t * p.c, p.c);
    row.limit_to(p.c, p.y_bounds);
    row.norm(static_cast<const bf16*>(p.w_post), p.c, p.eps);
    row.each(p.c, [&](Vec8& v, int at) {
      const Vec8 old = load8(h + at);
#pragma unroll
      for (int j = 0; j < 8; ++j) v.v[j] = round_bf16(old.v[j] + v.v[j]);
    });
    row.store(h, p.c);
  } else {
    row.load(h, p.c);
  }
  if (p.num_x == 0) return;
  row.norm(static_cast<const bf16*>(p.w_next), p.c, p.eps);
#pragma unroll
  for (int i = 0; i < 3; ++i) {
    if (i >= p.num_x) break;
    WarpRow<V> limited = row;
    limited.limit_to(p.c, p.x_bounds[i]);
    limited.store(static_cast<bf16*>(p.x[i]) + t * p.c, p.c);
  }
}

/// A warp a head: its values go through shared memory for the rotation, whose pairs lie a quarter of the head apart.
constexpr int kMaxHeadDim = 128;
__global__ void __launch_bounds__(32 * kWarps) qkv_kernel(const VisionQkvParams p) {
  __shared__ float values[kWarps][kMaxHeadDim];
  pdl_trigger();
  pdl_wait();
  const int lane = threadIdx.x % 32, d = p.head_dim;
  const int64_t unit = blockIdx.x * int64_t{kWarps} + threadIdx.x / 32;
  if (unit >= int64_t{3} * p.num_patches * p.num_heads) return;
  const int64_t t = unit / (3 * p.num_heads);
  const int part = static_cast<int>(unit % (3 * p.num_heads)), which = part / p.num_heads, head = part % p.num_heads;
  bf16* const x = static_cast<bf16*>(which == 0 ? p.q : which == 1 ? p.k : p.v) + (t * p.num_heads + head) * d;
  const Bounds bounds = which == 0 ? p.q_bounds : which == 1 ? p.k_bounds : p.v_bounds;
  const bf16* const w = static_cast<const bf16*>(which == 0 ? p.q_norm : p.k_norm);
  float* const mine = values[threadIdx.x / 32];

  float sum = 0.0f;
  for (int i = lane; i < d; i += 32) {
    const float v = limit(__bfloat162float(x[i]), bounds);
    mine[i] = v;
    sum += v * v;
  }
  const float inv = rsqrtf(warp_sum(sum) / static_cast<float>(d) + p.eps);
  for (int i = lane; i < d; i += 32) {
    const float v = mine[i] * inv;
    mine[i] = round_bf16(which == 2 ? v : v * __bfloat162float(w[i]));
  }
  __syncwarp();
  if (which == 2) {
    for (int i = lane; i < d; i += 32) x[i] = __float2bfloat16_rn(mine[i]);
    return;
  }
  const PatchPosition at = p.positions[t];
  const int half = d / 2, pairs = d / 4;
  for (int i = lane; i < d; i += 32) {
    const int in_half = i % half, pair = in_half % pairs;
    const float* cs = p.rotations + (int64_t{i < half ? at.column : at.row} * pairs + pair) * 2;
    const float other = in_half < pairs ? -mine[i + pairs] : mine[i - pairs];
    x[i] = __float2bfloat16_rn(round_bf16(mine[i] * cs[0]) + round_bf16(other * cs[1]));
  }
}

__global__ void __launch_bounds__(256)
    geglu_kernel(bf16* gate, const bf16* up, Bounds gate_bounds, Bounds up_bounds, Bounds bounds, int64_t num_vectors) {
  pdl_trigger();
  pdl_wait();
  const int64_t i = blockIdx.x * int64_t{256} + threadIdx.x;
  if (i >= num_vectors) return;
  Vec8 g = load8(gate + 8 * i);
  const Vec8 u = load8(up + 8 * i);
#pragma unroll
  for (int j = 0; j < 8; ++j)
    g.v[j] = limit(round_bf16(round_bf16(gelu_tanh(limit(g.v[j], gate_bounds))) * limit(u.v[j], up_bounds)), bounds);
  store8(gate + 8 * i, g);
}

template <int V>
__global__ void __launch_bounds__(32 * kWarps)
    pool_kernel(bf16* x, const bf16* h, const PoolGroup* groups, int num_groups, int k, float s, const bf16* bias,
                const bf16* factor, int c, float eps) {
  pdl_trigger();
  pdl_wait();
  const int64_t g = blockIdx.x * int64_t{kWarps} + threadIdx.x / 32;
  if (g >= num_groups) return;
  const PoolGroup group = groups[g];
  const float weight = 1.0f / static_cast<float>(k * k);
  WarpRow<V> row;
  row.each(c, [&](Vec8& v, int) { v = Vec8{}; });
  for (int i = 0; i < k * k; ++i) {
    const bf16* const patch = h + (static_cast<int64_t>(group.first) + i / k * group.grid_width + i % k) * c;
    row.each(c, [&](Vec8& v, int at) {
      const Vec8 add = load8(patch + at);
#pragma unroll
      for (int j = 0; j < 8; ++j) v.v[j] = fmaf(weight, add.v[j], v.v[j]);
    });
  }
  row.each(c, [&](Vec8& v, int at) {
#pragma unroll
    for (float& z : v.v) z = __fmul_rn(round_bf16(z), s);
    if (bias) {
      const Vec8 b = load8(bias + at), f = load8(factor + at);
#pragma unroll
      for (int j = 0; j < 8; ++j) v.v[j] = __fmul_rn(v.v[j] - b.v[j], f.v[j]);
    }
#pragma unroll
    for (float& z : v.v) z = round_bf16(z);
  });
  row.norm(nullptr, c, eps);
  row.store(x + g * c, c);
}

/// A sum over the block's 256 threads, the same in all.
__device__ __forceinline__ float block_sum(float x, RowSums& sums) {
  x = warp_sum(x);
  float* const memory = sums.memory[sums.turn];
  sums.turn ^= 1;
  if (threadIdx.x % 32 == 0) memory[threadIdx.x / 32] = x;
  __syncthreads();
  float total = 0.0f;
#pragma unroll
  for (int w = 0; w < kRowThreads / 32; ++w) total += memory[w];
  return total;
}
/// row = round((row - mean) / sqrt(variance + eps) * w + b).
template <int V>
__device__ __forceinline__ void layer_norm_row(Row<V>& row, const bf16* w, const bf16* b, int c, float eps,
                                               RowSums& sums) {
  float sum = 0.0f;
  row.each(c, [&](Vec8& v, int) {
#pragma unroll
    for (float x : v.v) sum += x;
  });
  const float mean = block_sum(sum, sums) / static_cast<float>(c);
  float square = 0.0f;
  row.each(c, [&](Vec8& v, int) {
#pragma unroll
    for (float x : v.v) square += (x - mean) * (x - mean);
  });
  const float inv = rsqrtf(block_sum(square, sums) / static_cast<float>(c) + eps);
  row.each(c, [&](Vec8& v, int at) {
    const Vec8 wv = load8(w + at), bv = load8(b + at);
#pragma unroll
    for (int j = 0; j < 8; ++j) v.v[j] = round_bf16(__fadd_rn(__fmul_rn((v.v[j] - mean) * inv, wv.v[j]), bv.v[j]));
  });
}

__global__ void __launch_bounds__(kRowThreads)
    tile_norm_kernel(bf16* y, const uint8_t* x, const bf16* table, const bf16* w, const bf16* b, int c, float eps) {
  __shared__ RowSums::Memory sums_memory;
  __shared__ float values[256];
  RowSums sums{sums_memory};
  pdl_trigger();
  pdl_wait();
  values[threadIdx.x] = __bfloat162float(table[threadIdx.x]);
  __syncthreads();
  const int64_t t = blockIdx.x;
  Row<> row;
  row.each(c, [&](Vec8& v, int at) {
    const uint2 raw = *reinterpret_cast<const uint2*>(x + t * c + at);
#pragma unroll
    for (int j = 0; j < 8; ++j) v.v[j] = values[((j < 4 ? raw.x : raw.y) >> (j % 4 * 8)) & 0xff];
  });
  layer_norm_row(row, w, b, c, eps, sums);
  row.store(y + t * c, c);
}

__global__ void __launch_bounds__(kRowThreads) tile_embed_kernel(const TileEmbedParams p) {
  __shared__ RowSums::Memory sums_memory;
  RowSums sums{sums_memory};
  pdl_trigger();
  pdl_wait();
  const int64_t t = blockIdx.x;
  const int c = p.c;
  Row<> row;
  row.each(c, [&](Vec8& v, int at) {
    const float4* const from = reinterpret_cast<const float4*>(p.x + t * c + at);
    const float4 lo = from[0], hi = from[1];
    const float x[8] = {lo.x, lo.y, lo.z, lo.w, hi.x, hi.y, hi.z, hi.w};
    const Vec8 bias = load8(static_cast<const bf16*>(p.bias) + at);
#pragma unroll
    for (int j = 0; j < 8; ++j) v.v[j] = round_bf16(x[j] + bias.v[j]);
  });
  layer_norm_row(row, static_cast<const bf16*>(p.w2), static_cast<const bf16*>(p.b2), c, p.layer_eps, sums);
  const PatchPosition position = p.positions[t];
  const bf16* const table = static_cast<const bf16*>(p.positions_table);
  row.each(c, [&](Vec8& v, int at) {
    const Vec8 column = load8(table + static_cast<int64_t>(position.column) * 2 * c + at);
    const Vec8 line = load8(table + (static_cast<int64_t>(position.row) * 2 + 1) * c + at);
#pragma unroll
    for (int j = 0; j < 8; ++j) v.v[j] = round_bf16(v.v[j] + round_bf16(column.v[j] + line.v[j]));
  });
  layer_norm_row(row, static_cast<const bf16*>(p.w3), static_cast<const bf16*>(p.b3), c, p.layer_eps, sums);
  row.norm(nullptr, c, p.rms_eps, sums);
  row.store(static_cast<bf16*>(p.y) + t * c, c);
}

unsigned blocks(int64_t units, int per_block) { return static_cast<unsigned>((units + per_block - 1) / per_block); }

}  // namespace

void lookup_bytes(const Launch& launch, void* y, const uint8_t* x, const void* table, int64_t count) {
  CARAT_CHECK(count % 16 == 0, "bytes are looked up 16 at a time");
  launch_kernel(launch, lookup_kernel, blocks(count / 16, 256), 256, 0, static_cast<bf16*>(y), x,
                static_cast<const bf16*>(table), count / 16);
}

void add_positions(const Launch& launch, void* h, const void* table, int64_t table_rows, const PatchPosition* positions,
                   int num_patches, int c) {
  launch_kernel(launch, positions_kernel, static_cast<unsigned>(num_patches), 128, 0, static_cast<bf16*>(h),
                static_cast<const bf16*>(table), table_rows * c, positions, c);
}

void vision_norm(const Launch& launch, const VisionNormParams& p) {
  CARAT_CHECK(p.c % 8 == 0 && p.c <= kWarpRowMost, "the tower's rows");
  launch_kernel(launch, p.c <= 768 ? norm_kernel<3> : norm_kernel<kWarpRowMost / 256>, blocks(p.num_patches, kWarps),
                32 * kWarps, 0, p);
}

void vision_qkv(const Launch& launch, const VisionQkvParams& p) {
  CARAT_CHECK(p.head_dim % 4 == 0 && p.head_dim <= kMaxHeadDim, "the tower's heads");
  launch_kernel(launch, qkv_kernel, blocks(int64_t{3} * p.num_patches * p.num_heads, kWarps), 32 * kWarps, 0, p);
}

void vision_geglu(const Launch& launch, void* gate, const void* up, Bounds gate_bounds, Bounds up_bounds, Bounds bounds,
                  int64_t count) {
  CARAT_CHECK(count % 8 == 0, "values go by eights");
  launch_kernel(launch, geglu_kernel, blocks(count / 8, 256), 256, 0, static_cast<bf16*>(gate),
                static_cast<const bf16*>(up), gate_bounds, up_bounds, bounds, count / 8);
}

void vision_pool(const Launch& launch, void* x, const void* h, const PoolGroup* groups, int num_groups, int k, float s,
                 const void* bias, const void* factor, int c, float eps) {
  CARAT_CHECK(c % 8 == 0 && c <= kWarpRowMost, "the tower's rows");
  launch_kernel(launch, c <= 768 ? pool_kernel<3> : pool_kernel<kWarpRowMost / 256>, blocks(num_groups, kWarps),
                32 * kWarps, 0, static_cast<bf16*>(x), static_cast<const bf16*>(h), groups, num_groups, k, s,
                static_cast<const bf16*>(bias), static_cast<const bf16*>(factor), c, eps);
}

void tile_norm(const Launch& launch, void* y, const uint8_t* x, const void* table, const void* w, const void* b,
               int num_tiles, int c, float eps) {
  CARAT_CHECK(c % 8 == 0 && c <= 2048 * kRowVectors, "a tile's values");
  launch_kernel(launch, tile_norm_kernel, static_cast<unsigned>(num_tiles), kRowThreads, 0, static_cast<bf16*>(y), x,
                static_cast<const bf16*>(table), static_cast<const bf16*>(w), static_cast<const bf16*>(b), c, eps);
}

void tile_embed(const Launch& launch, const TileEmbedParams& p) {
  CARAT_CHECK(p.c % 8 == 0 && p.c <= 2048 * kRowVectors, "the embedder's rows");
  launch_kernel(launch, tile_embed_kernel, static_cast<unsigned>(p.num_tiles), kRowThreads, 0, p);
}

}  // namespace carat::cuda
