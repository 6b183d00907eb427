// Contract   cuda_ops.h attention_few: decode rows, head size 256 or 512, pages of 64 tokens; q/k norm, rotation and
// the
//            page store of the row's own K and V included.
// Mapping    clusters of eight blocks share the keys of a row and K/V head; the query heads of the K/V head are packed
//            beside each other (kCols columns), keys are the M operand as in attention.cu. The blocks merge their sums
//            through distributed shared memory; clusters, of which short contexts use one, through global memory in
//            order.
// Resources  256 threads; two stages of K and V: about 150 KB of shared memory.
// Roofline   bytes = keys * D * 4 per K/V head. K and V of earlier tokens load before the kernel's inputs are ready.
// Numerics   as attention.cu; which keys a block sums depends on the position and on the number of clusters.
// Reference  ops/ref/attention.cc                   Test  ops/cuda/cuda_ops_test.cc
#include <cooperative_groups.h>

#include <algorithm>

#include "ops/cuda/head_row.cuh"
#include "ops/cuda/launch.cuh"
#include "ops/cuda/ptx.cuh"

namespace carat::cuda {

namespace {

constexpr int kWarps = 8;
constexpr int kThreads = 32 * kWarps;
constexpr int kPage = 64;
constexpr int kCluster = 8;
constexpr int kTilesPerBlock = 4;  // more keys than this take another cluster

template <int D, int kCols>
struct Layout {
  static constexpr int kKeys = D == 256 ? 64 : 32;    // keys of a tile
  static constexpr int kPitch = 2 * D + 16;           // bytes between rows of K, V, Q
  static constexpr int kKeyTiles = kKeys / 16;        // m16 tiles of S^T
  static constexpr int kSlices = kWarps / kKeyTiles;  // warps that share the sum over D
  static constexpr int kTileBytes = kKeys * kPitch;
  static constexpr int kScorePitch = kCols + 1;  // floats
  static constexpr int kProbPitch = 2 * kKeys + 16;
  struct Smem {
    alignas(128) unsigned char k[2][kTileBytes], v[2][kTileBytes];
    alignas(16) unsigned char q[kCols * kPitch];
    alignas(16) unsigned char own_k[2 * D], own_v[2 * D];  // of the row's own token
    alignas(16) unsigned char probs[kCols * kProbPitch];
    float scores[kSlices * kKeys * kScorePitch];
    float2 rotation[D / 2];
    float alpha[kCols];
    float2 stats[kCols];  // maximum and sum of this block's keys
    float2 all_stats[kCluster][kCols];
  };
  static_assert(sizeof(float) * kCols * D <= 2 * kTileBytes);  // the sums take the place of K when the keys are done
};

struct Params {
  QkvParams in;
  bf16* o;
  int num_kv_heads, window, max_clusters;
  float* scratch;
  int32_t* counters;  // [units * kCluster]
};

template <int D, int kCols>
__global__ void __launch_bounds__(kThreads, 1) few_attention_kernel(const Params p) {
  namespace cg = cooperative_groups;
  using L = Layout<D, kCols>;
  extern __shared__ __align__(128) unsigned char smem_bytes[];
  auto& sm = *reinterpret_cast<typename L::Smem*>(smem_bytes);
  __shared__ int last_cluster;

  const int tid = threadIdx.x, warp = tid / 32, lane = tid % 32;
  const int cluster_idx = blockIdx.x / kCluster, rank = blockIdx.x % kCluster, kv_head = blockIdx.y, t = blockIdx.z;
  pdl_trigger();
  // What the kernels before the last one wrote is complete (the contract); only in.qkv has to be waited for.
  const int slot = p.in.slots[t];
  if (slot < 0) return;
  const int position = p.in.positions[t];
  const bool own = p.in.num_kv_heads > 0;
  const int group = p.in.num_heads / p.num_kv_heads;
  const int first_tile = (p.window > 0 ? max(0, position - p.window + 1) : 0) / L::kKeys;
  const int num_tiles = position / L::kKeys + 1 - first_tile;
  const int used = min(p.max_clusters, (num_tiles + kCluster * kTilesPerBlock - 1) / (kCluster * kTilesPerBlock));
  if (cluster_idx >= used) return;
  const int blocks = used * kCluster, block = cluster_idx * kCluster + rank;
  const int t_begin = first_tile + num_tiles * block / blocks, t_end = first_tile + num_tiles * (block + 1) / blocks;
  const int64_t unit = static_cast<int64_t>(t) * p.num_kv_heads + kv_head;
  const auto page_of = [&](int key) {
    const int64_t page = p.in.table[static_cast<int64_t>(slot) * p.in.table_stride + (key / kPage) % p.in.ring];
    return static_cast<bf16*>(p.in.kv) + page * p.in.page_stride +
           (static_cast<int64_t>(kv_head) * kPage + key % kPage) * D;
  };
  const auto load = [&](int tile) {
    const int stage = (tile - t_begin) % 2, key0 = tile * L::kKeys;
    // Rows past the newest key hold nothing yet: zeros, since a probability of 0 does not save a product from NaN.
    const int rows = position + (own ? 0 : 1) - key0;
    const bf16* src = page_of(key0);
    constexpr int kPieces = D / 8;
    for (int half = 0; half < 2; ++half) {
      const uint32_t base = smem_addr(half == 0 ? sm.k[stage] : sm.v[stage]);
      const bf16* from = src + half * p.in.v_offset;
#pragma unroll 8
      for (int e = tid; e < L::kKeys * kPieces; e += kThreads) {
        const int r = e / kPieces, piece = e % kPieces;
        copy_async_16_or_zero(base + r * L::kPitch + piece * 16, from + r * D + piece * 8, r < rows);
      }
    }
    copies_commit();
  };
  if (t_begin < t_end) load(t_begin);
  if (t_begin + 1 < t_end) load(t_begin + 1);
  for (int j = tid; j < D / 2; j += kThreads)
    sm.rotation[j] = rotation_at(p.in.inv_freq, p.in.num_rotated, position, j);
  __syncthreads();
  pdl_wait();

  const auto rotation = [&](int pair) { return sm.rotation[pair]; };
  const int columns_in = (p.in.num_heads + p.in.num_kv_heads * (p.in.k_is_v ? 1 : 2)) * D;
  const bf16* const in = static_cast<const bf16*>(p.in.qkv) + static_cast<int64_t>(t) * columns_in;
  for (int c = warp; c < kCols; c += kWarps) {
    HeadRow<D> q;
    if (c < group) {
      q.load(in + (kv_head * group + c) * D);
      q.norm(static_cast<const bf16*>(p.in.q_norm), p.in.eps);
      q.rotate(rotation);
    } else {
#pragma unroll
      for (auto& part : q.x)
#pragma unroll
        for (float& v : part.v) v = 0.0f;
    }
    q.store(reinterpret_cast<bf16*>(sm.q + c * L::kPitch));
  }
  if (own && block == blocks - 1 && warp >= kWarps - 2) {
    const bool is_v = warp == kWarps - 1;
    HeadRow<D> x;
    x.load(in + (p.in.num_heads + kv_head + (is_v && !p.in.k_is_v ? p.in.num_kv_heads : 0)) * D);
    x.norm(is_v ? nullptr : static_cast<const bf16*>(p.in.k_norm), p.in.eps);
    if (!is_v) x.rotate(rotation);
    x.store(reinterpret_cast<bf16*>(is_v ? sm.own_v : sm.own_k));
    x.store(page_of(position) + (is_v ? p.in.v_offset : 0));
  }
  constexpr int kColTiles = kCols / 8;
  constexpr int kDimTiles = D / kWarps / 16;  // m16 tiles of O^T per warp
  float out[kDimTiles][kColTiles][4];
  for (auto& row : out)
    for (auto& v : row) v[0] = v[1] = v[2] = v[3] = 0.0f;
  constexpr int kPerCol = kThreads / kCols < 32 ? kThreads / kCols : 32;  // threads that own a column in the softmax
  const int col = tid / kPerCol, sub = tid % kPerCol;
  const bool has_col = col < kCols;
  float run_max = -INFINITY, run_sum = 0.0f;
  const int key_tile = warp % L::kKeyTiles, slice = warp / L::kKeyTiles;
  constexpr int kSliceDims = D / L::kSlices;
  const int score_col = 2 * (lane % 4);
  __syncthreads();

  for (int tile = t_begin; tile < t_end; ++tile) {
    const int stage = (tile - t_begin) % 2, key0 = tile * L::kKeys;
    if (tile + 1 < t_end)
      copies_wait<1>();
    else
      copies_wait<0>();
    __syncthreads();
    if (own && tile == position / L::kKeys) {
      constexpr int kPieces = D / 8;
      if (tid < 2 * kPieces) {
        unsigned char* const dst = tid < kPieces ? sm.k[stage] : sm.v[stage];
        const unsigned char* const src = tid < kPieces ? sm.own_k : sm.own_v;
        *reinterpret_cast<uint4*>(dst + (position - key0) * L::kPitch + tid % kPieces * 16) =
            *reinterpret_cast<const uint4*>(src + tid % kPieces * 16);
      }
      __syncthreads();
    }
    // S^T of 16 keys over this warp's slice of D.
    float s[kColTiles][4];
    for (auto& v : s) v[0] = v[1] = v[2] = v[3] = 0.0f;
    const uint32_t a_row =
        smem_addr(sm.k[stage]) + (key_tile * 16 + lane % 16) * L::kPitch + (lane / 16) * 16 + slice * kSliceDims * 2;
    const uint32_t b_row = smem_addr(sm.q) + (lane % 8) * L::kPitch + (lane / 8) * 16 + slice * kSliceDims * 2;
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
    float* const mine = sm.scores + slice * L::kKeys * L::kScorePitch;
    const int key_row = key_tile * 16 + lane / 4;
#pragma unroll
    for (int c = 0; c < kColTiles; ++c) {
      mine[key_row * L::kScorePitch + c * 8 + score_col] = s[c][0];
      mine[key_row * L::kScorePitch + c * 8 + score_col + 1] = s[c][1];
      mine[(key_row + 8) * L::kScorePitch + c * 8 + score_col] = s[c][2];
      mine[(key_row + 8) * L::kScorePitch + c * 8 + score_col + 1] = s[c][3];
    }
    __syncthreads();

    constexpr int kKeysPer = L::kKeys / kPerCol > 0 ? L::kKeys / kPerCol : 1;
    if (has_col) {
      float v[kKeysPer];
      float tile_max = -INFINITY;
#pragma unroll
      for (int j = 0; j < kKeysPer; ++j) {
        const int key = sub + j * kPerCol, pos = key0 + key;
        float x = 0.0f;
#pragma unroll
        for (int sl = 0; sl < L::kSlices; ++sl) x += sm.scores[(sl * L::kKeys + key) * L::kScorePitch + col];
        const bool seen = pos <= position && (p.window == 0 || pos > position - p.window);
        v[j] = seen ? x : -INFINITY;
        tile_max = fmaxf(tile_max, v[j]);
      }
      for (int o = kPerCol / 2; o > 0; o /= 2) tile_max = fmaxf(tile_max, __shfl_xor_sync(0xffffffffu, tile_max, o));
      const float new_max = fmaxf(run_max, tile_max);  // finite: a tile has a key that is seen
      const float scale = __expf(run_max - new_max);
      float sum = 0.0f;
#pragma unroll
      for (int j = 0; j < kKeysPer; ++j) {
        const float e = __expf(v[j] - new_max);
        sum += e;
        *reinterpret_cast<bf16*>(sm.probs + col * L::kProbPitch + (sub + j * kPerCol) * 2) = __float2bfloat16_rn(e);
      }
      for (int o = kPerCol / 2; o > 0; o /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, o);
      run_sum = run_sum * scale + sum;
      run_max = new_max;
      if (sub == 0) sm.alpha[col] = scale;
    }
    __syncthreads();

    // O^T += V^T P^T: this warp's D / 8 dimensions.
#pragma unroll
    for (int c = 0; c < kColTiles; ++c) {
      const float f0 = sm.alpha[c * 8 + score_col], f1 = sm.alpha[c * 8 + score_col + 1];
#pragma unroll
      for (int m = 0; m < kDimTiles; ++m) {
        out[m][c][0] *= f0;
        out[m][c][1] *= f1;
        out[m][c][2] *= f0;
        out[m][c][3] *= f1;
      }
    }
    const uint32_t pb_row = smem_addr(sm.probs) + (lane % 8) * L::kProbPitch + (lane / 8) * 16;
#pragma unroll
    for (int key = 0; key < L::kKeys; key += 32) {
      uint32_t a0[kDimTiles][4], a1[kDimTiles][4];
      const uint32_t v_row = smem_addr(sm.v[stage]) + (key + (lane / 16) * 8 + lane % 8) * L::kPitch +
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
    __syncthreads();
    if (tile + 2 < t_end) load(tile + 2);
  }

  // Sums of this block's keys [kCols, D], then of the cluster's: each block merges an eighth of D.
  float* const part = reinterpret_cast<float*>(sm.k);
  const int dim0 = warp * (D / kWarps) + lane / 4;
#pragma unroll
  for (int c = 0; c < kColTiles; ++c)
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      float* const row = part + (c * 8 + score_col + j) * D + dim0;
#pragma unroll
      for (int m = 0; m < kDimTiles; ++m) {
        row[m * 16] = out[m][c][j];
        row[m * 16 + 8] = out[m][c][2 + j];
      }
    }
  if (has_col && sub == 0) sm.stats[col] = make_float2(run_max, run_sum);
  const auto cluster = cg::this_cluster();
  cluster.sync();
  if (tid < kCluster * kCols) {
    const int r = tid / kCols, c = tid % kCols;
    sm.all_stats[r][c] = cluster.map_shared_rank(sm.stats, r)[c];
  }
  __syncthreads();
  constexpr int kShare = D / kCluster;
  constexpr int kPerThread = (kCols * kShare + kThreads - 1) / kThreads;
  float merged[kPerThread];
  float2 total[kPerThread];
#pragma unroll
  for (int i = 0; i < kPerThread; ++i) {
    const int e = tid + i * kThreads, c = e / kShare, d = rank * kShare + e % kShare;
    merged[i] = 0.0f;
    total[i] = make_float2(-INFINITY, 0.0f);
    if (c >= group) continue;
#pragma unroll
    for (int r = 0; r < kCluster; ++r) total[i].x = fmaxf(total[i].x, sm.all_stats[r][c].x);
#pragma unroll
    for (int r = 0; r < kCluster; ++r) {
      const float f = __expf(sm.all_stats[r][c].x - total[i].x);
      total[i].y += f * sm.all_stats[r][c].y;
      merged[i] += f * cluster.map_shared_rank(part, r)[c * D + d];
    }
  }
  cluster.sync();  // nobody leaves while others read
  const auto write = [&](int c, int d, float v) {
    p.o[(static_cast<int64_t>(t) * p.in.num_heads + kv_head * group + c) * D + d] = __float2bfloat16_rn(v);
  };
  if (used == 1) {
#pragma unroll
    for (int i = 0; i < kPerThread; ++i) {
      const int e = tid + i * kThreads, c = e / kShare;
      if (c < group) write(c, rank * kShare + e % kShare, merged[i] / total[i].y);
    }
    return;
  }
  // Several clusters: the one that comes last merges this rank's share of all, in order.
  float* const sums = p.scratch + (unit * kCluster + rank) * p.max_clusters * kCols * (kShare + 2);
  float* const stats = sums + p.max_clusters * kCols * kShare;
#pragma unroll
  for (int i = 0; i < kPerThread; ++i) {
    const int e = tid + i * kThreads, c = e / kShare;
    if (c >= group) continue;
    sums[(cluster_idx * kCols + c) * kShare + e % kShare] = merged[i];
    if (e % kShare == 0) {
      stats[(cluster_idx * kCols + c) * 2] = total[i].x;
      stats[(cluster_idx * kCols + c) * 2 + 1] = total[i].y;
    }
  }
  __threadfence();
  __syncthreads();
  int32_t* const counter = p.counters + unit * kCluster + rank;
  if (tid == 0) last_cluster = atomicAdd(counter, 1) == used - 1;
  __syncthreads();
  if (!last_cluster) return;
  __threadfence();
  if (tid == 0) *counter = 0;
  for (int e = tid; e < group * kShare; e += kThreads) {
    const int c = e / kShare, d = e % kShare;
    float most = -INFINITY, sum = 0.0f, v = 0.0f;
    for (int s = 0; s < used; ++s) most = fmaxf(most, __ldcg(&stats[(s * kCols + c) * 2]));
    for (int s = 0; s < used; ++s) {
      const float f = __expf(__ldcg(&stats[(s * kCols + c) * 2]) - most);
      sum += f * __ldcg(&stats[(s * kCols + c) * 2 + 1]);
      v += f * __ldcg(&sums[(s * kCols + c) * kShare + d]);
    }
    write(c, rank * kShare + d, v / sum);
  }
}

int clusters_for(const Launch& launch, int num_tokens, int num_kv_heads) {
  return std::clamp(launch.num_sms / kCluster / (num_tokens * num_kv_heads), 1, 16);
}

template <int D, int kCols>
void launch_one(const Launch& launch, const Params& p) {
  using Smem = typename Layout<D, kCols>::Smem;
  static_assert(sizeof(Smem) <= 227 * 1024);
  static const bool allowed = [] {
    allow_smem(few_attention_kernel<D, kCols>, sizeof(Smem));
    return true;
  }();
  static_cast<void>(allowed);
  launch_clusters(launch, few_attention_kernel<D, kCols>,
                  dim3(static_cast<unsigned>(p.max_clusters * kCluster), static_cast<unsigned>(p.num_kv_heads),
                       static_cast<unsigned>(p.in.num_tokens)),
                  dim3(kThreads), sizeof(Smem), kCluster, p);
}

}  // namespace

int64_t attention_few_scratch_floats(const Launch& launch, int num_tokens, int num_kv_heads, int head_dim) {
  return int64_t{num_tokens} * num_kv_heads * clusters_for(launch, num_tokens, num_kv_heads) * 16 *
         (head_dim + 2 * kCluster);
}

void attention_few(const Launch& launch, const FewAttentionParams& a) {
  if (a.in.num_tokens == 0) return;
  const int group = a.in.num_heads / a.num_kv_heads;
  CARAT_CHECK(a.in.page_tokens == kPage && group <= 16, "attention_few: bad shape");
  Params p{};
  p.in = a.in;
  p.o = static_cast<bf16*>(a.o);
  p.num_kv_heads = a.num_kv_heads;
  p.window = a.window;
  p.max_clusters = clusters_for(launch, a.in.num_tokens, a.num_kv_heads);
  p.scratch = a.scratch;
  p.counters = a.counters;
  if (a.in.head_dim == 256) return group <= 8 ? launch_one<256, 8>(launch, p) : launch_one<256, 16>(launch, p);
  CARAT_CHECK(a.in.head_dim == 512, "attention_few: head size must be 256 or 512");
  group <= 8 ? launch_one<512, 8>(launch, p) : launch_one<512, 16>(launch, p);
}

}  // namespace carat::cuda
