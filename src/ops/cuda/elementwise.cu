// Contract   cuda_ops.h: embed, the norm family, q/k/v norm with RoPE and page store, per-layer embeddings, GEGLU,
//            router, gather, soft cap, a step's small changes.
// Mapping    a block per token row (norms; the row stays in registers between its passes), a warp per head or per-
//            layer vector, 16-byte accesses.
// Roofline   a few KB per token: launch-bound in decode, L2-bound in prefill.
// Numerics   sums in f32 in an order that depends on the row length only; every named intermediate rounded to bf16
//            (text.md).
// Reference  ops/ref/                               Test  ops/cuda/cuda_ops_test.cc
#include <cfloat>
#include <type_traits>

#include "ops/cuda/head_row.cuh"
#include "ops/cuda/launch.cuh"
#include "ops/cuda/ptx.cuh"
#include "ops/cuda/row.cuh"

namespace carat::cuda {

namespace {

__host__ __device__ const bf16* in(const void* p) { return static_cast<const bf16*>(p); }
__host__ __device__ bf16* out(void* p) { return static_cast<bf16*>(p); }

__global__ void __launch_bounds__(256)
    embed_kernel(bf16* y, const bf16* table, const int32_t* ids, int c, float s, SoftRowIndex soft) {
  pdl_trigger();
  pdl_wait();
  const int64_t t = blockIdx.x;
  const bf16* row = table + static_cast<int64_t>(ids[t]) * c;
  if (soft.rows && soft.rows[t] >= 0) {
    row = in(soft.values) + static_cast<int64_t>(soft.rows[t]) * c;
    s = 1.0f;
  }
  for (int at = 8 * threadIdx.x; at < c; at += 8 * blockDim.x) {
    Vec8 v = load8(row + at);
#pragma unroll
    for (float& x : v.v) x *= s;
    store8(y + t * c + at, v);
  }
}

template <int V>
__global__ void __launch_bounds__(kRowThreads)
    rms_norm_kernel(bf16* x, const bf16* h, const bf16* w, int c, float eps) {
  __shared__ RowSums::Memory sums_memory;
  RowSums sums{sums_memory};
  pdl_trigger();
  pdl_wait();
  const int64_t t = blockIdx.x;
  Row<V> row;
  row.load(h + t * c, c);
  row.norm(w, c, eps, sums);
  row.store(x + t * c, c);
}

/// h += f, times scalar, next norm: the common end of add_norm and moe_add_norm.
template <int V>
__device__ __forceinline__ void residual_and_next(Row<V>& f, bf16* h, bf16* x, const bf16* w_next, float scalar, int c,
                                                  float eps, RowSums& sums) {
  f.each(c, [&](Vec8& v, int at) {
    const Vec8 old = load8(h + at);
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      v.v[j] = round_bf16(old.v[j] + v.v[j]);
      if (scalar != 1.0f) v.v[j] = round_bf16(v.v[j] * scalar);
    }
  });
  f.store(h, c);
  if (!w_next) return;
  f.norm(w_next, c, eps, sums);
  f.store(x, c);
}

template <int V>
__global__ void __launch_bounds__(kRowThreads) add_norm_kernel(bf16* h, bf16* x, const bf16* y, const bf16* w_post,
                                                               const bf16* w_next, float scalar, int c, float eps) {
  __shared__ RowSums::Memory sums_memory;
  RowSums sums{sums_memory};
  pdl_trigger();
  pdl_wait();
  const int64_t t = blockIdx.x;
  Row<V> f;
  f.load(y + t * c, c);
  f.norm(w_post, c, eps, sums);
  residual_and_next(f, h + t * c, x + t * c, w_next, scalar, c, eps, sums);
}

template <int V>
__global__ void __launch_bounds__(kRowThreads)
    moe_add_norm_kernel(bf16* h, bf16* x, const bf16* m, const bf16* e, const bf16* w1, const bf16* w2,
                        const bf16* w_post, const bf16* w_next, float scalar, int c, float eps) {
  __shared__ RowSums::Memory sums_memory;
  RowSums sums{sums_memory};
  pdl_trigger();
  pdl_wait();
  const int64_t t = blockIdx.x;
  Row<V> f, g;
  f.load(m + t * c, c);
  f.norm(w1, c, eps, sums);
  g.load(e + t * c, c);
  g.norm(w2, c, eps, sums);
#pragma unroll
  for (int i = 0; i < V; ++i)
#pragma unroll
    for (int j = 0; j < 8; ++j) f.part[i].v[j] = round_bf16(f.part[i].v[j] + g.part[i].v[j]);
  f.norm(w_post, c, eps, sums);
  residual_and_next(f, h + t * c, x + t * c, w_next, scalar, c, eps, sums);
}

template <int D>
__global__ void __launch_bounds__(256) qkv_kernel(const QkvParams p, int heads_per_token) {
  pdl_trigger();
  pdl_wait();
  const int unit = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
  if (unit >= p.num_tokens * heads_per_token) return;
  const int t = unit / heads_per_token, head = unit % heads_per_token;
  const int slot = p.slots[t];
  if (slot < 0) return;
  const int columns = (p.num_heads + p.num_kv_heads * (p.k_is_v ? 1 : 2)) * D;
  const bool is_q = head < p.num_heads;
  const bool is_v = !is_q && head >= p.num_heads + p.num_kv_heads;
  const int kv_head = is_q ? 0 : (head - p.num_heads) % p.num_kv_heads;
  // With K reused as V both read the K projection.
  const int source = is_v && p.k_is_v ? p.num_heads + kv_head : head;
  const bf16* src = static_cast<const bf16*>(p.qkv) + static_cast<int64_t>(t) * columns + source * D;

  HeadRow<D> x;
  x.load(src);
  x.norm(is_v ? nullptr : static_cast<const bf16*>(is_q ? p.q_norm : p.k_norm), p.eps);
  const int position = p.positions[t];
  if (!is_v) x.rotate([&](int pair) { return rotation_at(p.inv_freq, p.num_rotated, position, pair); });
  bf16* dst;
  if (is_q) {
    dst = static_cast<bf16*>(p.q) + (static_cast<int64_t>(t) * p.num_heads + head) * D;
  } else {
    const int64_t page = p.table[static_cast<int64_t>(slot) * p.table_stride + (position / p.page_tokens) % p.ring];
    dst = static_cast<bf16*>(p.kv) + page * p.page_stride +
          (static_cast<int64_t>(kv_head) * p.page_tokens + position % p.page_tokens) * D + (is_v ? p.v_offset : 0);
  }
  x.store(dst);
}

__global__ void __launch_bounds__(256)
    ple_kernel(bf16* ple, const bf16* c, const bf16* norm, const bf16* table, int64_t table_stride, int first_layer,
               const int32_t* ids, int rows, int num_layers, int width, float proj_scale, float id_scale, float eps) {
  pdl_trigger();
  pdl_wait();
  const int row = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32, lane = threadIdx.x % 32;
  if (row >= rows) return;
  const int64_t t = row / num_layers, layer = row % num_layers;
  const bf16* src = c + static_cast<int64_t>(row) * width;
  const bf16* id_row = table + ids[t] * table_stride + (first_layer + layer) * width;
  float sum = 0.0f;
  for (int i = lane; i < width; i += 32) {
    const float v = round_bf16(__bfloat162float(src[i]) * proj_scale);
    sum += v * v;
  }
  for (int o = 16; o > 0; o >>= 1) sum += __shfl_xor_sync(0xffffffffu, sum, o);
  const float inv = rsqrtf(sum / static_cast<float>(width) + eps);
  for (int i = lane; i < width; i += 32) {
    const float v = round_bf16(__bfloat162float(src[i]) * proj_scale);
    const float n = round_bf16(v * inv * __bfloat162float(norm[i]));
    const float a = round_bf16(__bfloat162float(id_row[i]) * id_scale);
    ple[static_cast<int64_t>(row) * width + i] = __float2bfloat16_rn(round_bf16(n + a) * 0.70710678118654752f);
  }
}

__global__ void __launch_bounds__(256)
    gelu_mul_rows_kernel(bf16* g, const bf16* ple, int64_t ple_stride, int total, int width) {
  pdl_trigger();
  pdl_wait();
  const int at = blockIdx.x * blockDim.x + threadIdx.x;
  if (at >= total) return;
  const int64_t t = at / width, i = at % width;
  const float a = round_bf16(gelu_tanh(__bfloat162float(g[at])));
  g[at] = __float2bfloat16_rn(a * __bfloat162float(ple[t * ple_stride + i]));
}

__global__ void __launch_bounds__(256) geglu_interleaved_kernel(bf16* y, const bf16* gu, int64_t vectors, int f) {
  pdl_trigger();
  pdl_wait();
  const int64_t v = blockIdx.x * static_cast<int64_t>(blockDim.x) + threadIdx.x;  // one group of eight outputs
  if (v >= vectors) return;
  const int64_t t = v / (f / 8), group = v % (f / 8);
  const bf16* src = gu + t * 2 * f + group * 16;
  Vec8 gate = load8(src);
  const Vec8 up = load8(src + 8);
#pragma unroll
  for (int j = 0; j < 8; ++j) gate.v[j] = round_bf16(gelu_tanh(gate.v[j])) * up.v[j];
  store8(y + t * f + group * 8, gate);
}

template <int V>
__global__ void __launch_bounds__(kRowThreads) moe_inputs_kernel(const MoeInputsParams p) {
  __shared__ RowSums::Memory sums_memory;
  RowSums sums{sums_memory};
  pdl_trigger();
  pdl_wait();
  const int c = p.c;
  const int64_t at_row = static_cast<int64_t>(blockIdx.x) * c;
  if (blockIdx.x == 0)
    for (int e = threadIdx.x; e < p.num_experts; e += blockDim.x) p.counts[e] = 0;
  Row<V> f, h;
  f.load(in(p.change.y) + at_row, c);
  f.norm(in(p.change.w_post), c, p.change.eps, sums);
  h.load(in(p.change.h) + at_row, c);
#pragma unroll
  for (int i = 0; i < V; ++i)
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      h.part[i].v[j] = round_bf16(h.part[i].v[j] + f.part[i].v[j]);
      if (p.change.scalar != 1.0f) h.part[i].v[j] = round_bf16(h.part[i].v[j] * p.change.scalar);
    }
  h.store(out(p.change.h_out) + at_row, c);
  const float inv = h.inverse_rms(c, p.change.eps, sums);
  h.each(c, [&](Vec8& v, int at) {
    const Vec8 dense = load8(in(p.change.w_next) + at), experts = load8(in(p.experts_norm) + at),
               scale = load8(in(p.router_scale) + at);
    Vec8 x, e, r;
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      const float normed = v.v[j] * inv;
      x.v[j] = normed * dense.v[j];
      e.v[j] = normed * experts.v[j];
      r.v[j] = round_bf16(round_bf16(normed) * scale.v[j]) * p.root;
    }
    store8(out(p.x) + at_row + at, x);
    store8(out(p.experts_x) + at_row + at, e);
    store8(out(p.router_x) + at_row + at, r);
  });
}

constexpr int kMaxTopK = 16;

__global__ void __launch_bounds__(128)
    route_kernel(int32_t* ids, float* weights, int32_t* counts, int32_t* lists, int capacity, const bf16* logits,
                 const bf16* per_expert_scale, const int32_t* slots, int num_tokens, int num_experts, int k) {
  pdl_trigger();
  pdl_wait();
  const int t = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32, lane = threadIdx.x % 32;
  if (t >= num_tokens || (slots && slots[t] < 0)) return;
  constexpr int kPerLane = 8;  // up to 256 experts
  float p[kPerLane];
  float top = -FLT_MAX;
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) {
    const int e = lane + 32 * i;
    p[i] = e < num_experts ? __bfloat162float(logits[static_cast<int64_t>(t) * num_experts + e]) : -INFINITY;
    top = fmaxf(top, p[i]);
  }
  for (int o = 16; o > 0; o >>= 1) top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, o));
  float sum = 0.0f;
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) {
    p[i] = expf(p[i] - top);
    sum += p[i];
  }
  for (int o = 16; o > 0; o >>= 1) sum += __shfl_xor_sync(0xffffffffu, sum, o);
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) p[i] = lane + 32 * i < num_experts ? p[i] / sum : -1.0f;
  // Lane j keeps the j-th choice.
  float mine_p = 0.0f, chosen_sum = 0.0f;
  int mine_e = 0;
  for (int j = 0; j < k; ++j) {
    float best = -2.0f;
    int best_e = 1 << 30;
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) {
      const int e = lane + 32 * i;
      if (p[i] > best) {
        best = p[i];
        best_e = e;
      }
    }
    for (int o = 16; o > 0; o >>= 1) {
      const float other = __shfl_xor_sync(0xffffffffu, best, o);
      const int other_e = __shfl_xor_sync(0xffffffffu, best_e, o);
      if (other > best || (other == best && other_e < best_e)) {
        best = other;
        best_e = other_e;
      }
    }
#pragma unroll
    for (int i = 0; i < kPerLane; ++i)
      if (lane + 32 * i == best_e) p[i] = -1.0f;
    if (lane == j) {
      mine_p = best;
      mine_e = best_e;
    }
    chosen_sum += best;
  }
  if (lane >= k) return;
  ids[t * k + lane] = mine_e;
  weights[t * k + lane] = mine_p / chosen_sum * __bfloat162float(per_expert_scale[mine_e]);
  // The order of a list does not matter: each of its tokens is a column of its own.
  const int at = atomicAdd(&counts[mine_e], 1);
  lists[static_cast<int64_t>(mine_e) * capacity + at] = t * k + lane;
}

__global__ void __launch_bounds__(256)
    begin_step_kernel(int32_t* ids, const int32_t* tokens, const int32_t* slots, const int32_t* last_token,
                      int num_rows, int32_t* full_table, int32_t* sliding_table, const TableUpdate* updates,
                      const int32_t* num_updates, const PadIds pads) {
  pdl_trigger();
  pdl_wait();
  const int at = blockIdx.x * blockDim.x + threadIdx.x, step = gridDim.x * blockDim.x;
  for (int r = at; r < num_rows; r += step) {
    const int32_t id = tokens[r] >= 0 ? tokens[r] : slots[r] >= 0 ? last_token[slots[r]] : 0;
    ids[r] = id == pads.from[0] || id == pads.from[1] || id == pads.from[2] ? pads.to : id;
  }
  for (int i = at; i < *num_updates; i += step)
    (updates[i].pool == 0 ? full_table : sliding_table)[updates[i].index] = updates[i].page;
}

__global__ void __launch_bounds__(256) end_step_kernel(int32_t* last_token, int32_t* sampled, const int32_t* tokens,
                                                       const int32_t* rows, const int32_t* slots, const int32_t* num) {
  pdl_trigger();
  pdl_wait();
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= *num) return;
  const int32_t token = tokens[rows[i]];
  last_token[slots[i]] = token;
  sampled[i] = token;
}

__global__ void __launch_bounds__(256)
    copy_pages_kernel(unsigned char* pool, int64_t page_bytes, const PageCopyOp* copies) {
  pdl_trigger();
  pdl_wait();
  const PageCopyOp c = copies[blockIdx.y];
  const auto* from = reinterpret_cast<const uint4*>(pool + c.from * page_bytes);
  auto* to = reinterpret_cast<uint4*>(pool + c.to * page_bytes);
  for (int64_t i = blockIdx.x * static_cast<int64_t>(blockDim.x) + threadIdx.x; i < page_bytes / 16;
       i += gridDim.x * static_cast<int64_t>(blockDim.x))
    to[i] = from[i];
}

__global__ void __launch_bounds__(256)
    fill_random_kernel(bf16* w, int64_t count, float mean, float scale, uint64_t seed) {
  for (int64_t i = blockIdx.x * static_cast<int64_t>(blockDim.x) + threadIdx.x; i < count;
       i += gridDim.x * static_cast<int64_t>(blockDim.x)) {
    uint64_t z = (static_cast<uint64_t>(i) + (seed << 40)) * 0x9e3779b97f4a7c15ull + 0xd1b54a32d192ed03ull;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    const float u = (static_cast<float>(static_cast<uint32_t>(z >> 40)) + 0.5f) * (2.0f / 16777216.0f) - 1.0f;
    w[i] = __float2bfloat16_rn(mean + scale * u);
  }
}

__global__ void __launch_bounds__(256) gather_kernel(bf16* y, const bf16* h, const int32_t* rows, int c) {
  pdl_trigger();
  pdl_wait();
  const int64_t i = blockIdx.x;
  const bf16* src = h + static_cast<int64_t>(rows[i]) * c;
  for (int at = 8 * threadIdx.x; at < c; at += 8 * blockDim.x)
    *reinterpret_cast<uint4*>(y + i * c + at) = *reinterpret_cast<const uint4*>(src + at);
}

constexpr int kCapBlocks = 32;  // blocks per row of logits

__device__ __forceinline__ void keep_larger(float& v, int& i, float ov, int oi) {
  if (ov > v || (ov == v && oi < i)) {
    v = ov;
    i = oi;
  }
}

__global__ void __launch_bounds__(256) softcap_kernel(float* best_v, int32_t* best_i, bf16* logits, int vocab,
                                                      float cap, const int32_t* banned, int num_banned) {
  pdl_trigger();
  pdl_wait();
  const int64_t r = blockIdx.y;
  const float inv = cap > 0.0f ? 1.0f / cap : 0.0f;
  float v = -INFINITY;
  int i = 1 << 30;
  const int vectors = vocab / 8;
  for (int at = blockIdx.x * blockDim.x + threadIdx.x; at < vectors; at += gridDim.x * blockDim.x) {
    bf16* p = logits + r * vocab + at * 8;
    Vec8 x = load8(p);
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      if (cap > 0.0f) x.v[j] = round_bf16(round_bf16(tanhf(round_bf16(x.v[j] * inv))) * cap);
      for (int b = 0; b < num_banned; ++b)
        if (banned[b] == at * 8 + j) x.v[j] = -INFINITY;
      keep_larger(v, i, x.v[j], at * 8 + j);
    }
    store8(p, x);
  }
  __shared__ float sv[8];
  __shared__ int si[8];
  for (int o = 16; o > 0; o >>= 1)
    keep_larger(v, i, __shfl_xor_sync(0xffffffffu, v, o), __shfl_xor_sync(0xffffffffu, i, o));
  if (threadIdx.x % 32 == 0) {
    sv[threadIdx.x / 32] = v;
    si[threadIdx.x / 32] = i;
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    for (int w = 1; w < 8; ++w) keep_larger(v, i, sv[w], si[w]);
    best_v[r * kCapBlocks + blockIdx.x] = v;
    best_i[r * kCapBlocks + blockIdx.x] = i;
  }
}

__global__ void argmax_kernel(int32_t* argmax, const float* best_v, const int32_t* best_i) {
  pdl_trigger();
  pdl_wait();
  float v = best_v[blockIdx.x * kCapBlocks + threadIdx.x];
  int i = best_i[blockIdx.x * kCapBlocks + threadIdx.x];
  for (int o = 16; o > 0; o >>= 1)
    keep_larger(v, i, __shfl_xor_sync(0xffffffffu, v, o), __shfl_xor_sync(0xffffffffu, i, o));
  if (threadIdx.x == 0) argmax[blockIdx.x] = i;
}

void check_row(int c) {
  CARAT_CHECK(c % 8 == 0 && c <= 8 * kRowThreads * kRowVectors, str_cat("rows of ", c, " values are not supported"));
}

/// Calls launch(V) with as many vectors per thread as rows of c values take.
template <class F>
void for_row(int c, F launch) {
  check_row(c);
  if (c <= 8 * kRowThreads) return launch(std::integral_constant<int, 1>{});
  if (c <= 16 * kRowThreads) return launch(std::integral_constant<int, 2>{});
  launch(std::integral_constant<int, kRowVectors>{});
}

}  // namespace

void embed(const Launch& launch, void* y, const void* table, const int32_t* ids, int num_tokens, int c, float s,
           const SoftRowIndex& soft) {
  check_row(c);
  launch_kernel(launch, embed_kernel, dim3(num_tokens), dim3(256), 0, out(y), in(table), ids, c, s, soft);
}

void rms_norm(const Launch& launch, void* x, const void* h, const void* w, int num_tokens, int c, float eps) {
  for_row(c, [&](auto v) {
    launch_kernel(launch, rms_norm_kernel<v>, dim3(num_tokens), dim3(kRowThreads), 0, out(x), in(h), in(w), c, eps);
  });
}

void add_norm(const Launch& launch, void* h, void* x, const void* y, const void* w_post, const void* w_next,
              float scalar, int num_tokens, int c, float eps) {
  for_row(c, [&](auto v) {
    launch_kernel(launch, add_norm_kernel<v>, dim3(num_tokens), dim3(kRowThreads), 0, out(h), out(x), in(y), in(w_post),
                  in(w_next), scalar, c, eps);
  });
}

void moe_add_norm(const Launch& launch, void* h, void* x, const void* m, const void* e, const void* w1, const void* w2,
                  const void* w_post, const void* w_next, float scalar, int num_tokens, int c, float eps) {
  for_row(c, [&](auto v) {
    launch_kernel(launch, moe_add_norm_kernel<v>, dim3(num_tokens), dim3(kRowThreads), 0, out(h), out(x), in(m), in(e),
                  in(w1), in(w2), in(w_post), in(w_next), scalar, c, eps);
  });
}

void qk_norm_rope_store(const Launch& launch, const QkvParams& p) {
  if (p.num_tokens == 0) return;
  const int heads = p.num_heads + 2 * p.num_kv_heads;
  const dim3 grid((p.num_tokens * heads + 7) / 8);
  if (p.head_dim == 256) return launch_kernel(launch, qkv_kernel<256>, grid, dim3(256), 0, p, heads);
  CARAT_CHECK(p.head_dim == 512, "head size must be 256 or 512");
  launch_kernel(launch, qkv_kernel<512>, grid, dim3(256), 0, p, heads);
}

void ple_combine(const Launch& launch, void* ple, const void* c, const void* norm, const void* table,
                 int64_t table_stride, int first_layer, const int32_t* ids, int num_tokens, int num_layers, int p,
                 float proj_scale, float id_scale, float eps) {
  const int rows = num_tokens * num_layers;
  launch_kernel(launch, ple_kernel, dim3((rows + 7) / 8), dim3(256), 0, out(ple), in(c), in(norm), in(table),
                table_stride, first_layer, ids, rows, num_layers, p, proj_scale, id_scale, eps);
}

void gelu_mul_rows(const Launch& launch, void* g, const void* ple, int64_t ple_stride, int num_tokens, int p) {
  const int total = num_tokens * p;
  launch_kernel(launch, gelu_mul_rows_kernel, dim3((total + 255) / 256), dim3(256), 0, out(g), in(ple), ple_stride,
                total, p);
}

void geglu_interleaved(const Launch& launch, void* y, const void* gu, int num_tokens, int f) {
  CARAT_CHECK(f % 8 == 0, "geglu: F is a multiple of 8");
  const int64_t vectors = static_cast<int64_t>(num_tokens) * (f / 8);
  launch_kernel(launch, geglu_interleaved_kernel, dim3(static_cast<unsigned>((vectors + 255) / 256)), dim3(256), 0,
                out(y), in(gu), vectors, f);
}

void moe_inputs(const Launch& launch, const MoeInputsParams& p) {
  for_row(p.c,
          [&](auto v) { launch_kernel(launch, moe_inputs_kernel<v>, dim3(p.num_tokens), dim3(kRowThreads), 0, p); });
}

void route(const Launch& launch, int32_t* ids, float* weights, int32_t* counts, int32_t* lists, int capacity,
           const void* logits, const void* per_expert_scale, const int32_t* slots, int num_tokens, int num_experts,
           int k) {
  CARAT_CHECK(num_experts <= 256 && k <= kMaxTopK && k <= num_experts, "route: at most 256 experts, 16 chosen");
  launch_kernel(launch, route_kernel, dim3((num_tokens + 3) / 4), dim3(128), 0, ids, weights, counts, lists, capacity,
                in(logits), in(per_expert_scale), slots, num_tokens, num_experts, k);
}

void begin_step(const Launch& launch, int32_t* ids, const int32_t* tokens, const int32_t* slots,
                const int32_t* last_token, int num_rows, int32_t* full_table, int32_t* sliding_table,
                const TableUpdate* updates, const int32_t* num_updates, const PadIds& pads) {
  launch_kernel(launch, begin_step_kernel, dim3(4), dim3(256), 0, ids, tokens, slots, last_token, num_rows, full_table,
                sliding_table, updates, num_updates, pads);
}

void end_step(const Launch& launch, int32_t* last_token, int32_t* sampled, const int32_t* tokens, const int32_t* rows,
              const int32_t* slots, const int32_t* num, int max_num) {
  launch_kernel(launch, end_step_kernel, dim3((max_num + 255) / 256), dim3(256), 0, last_token, sampled, tokens, rows,
                slots, num);
}

void copy_pages(const Launch& launch, void* pool, int64_t page_bytes, const PageCopyOp* copies, int num_copies) {
  CARAT_CHECK(page_bytes % 16 == 0, "pages are multiples of 16 bytes");
  launch_kernel(launch, copy_pages_kernel, dim3(64, num_copies), dim3(256), 0, static_cast<unsigned char*>(pool),
                page_bytes, copies);
}

void fill_random(const Launch& launch, void* w, int64_t count, float mean, float deviation, uint64_t seed) {
  // Uniform in (-1, 1) has deviation 3^-1/2.
  Launch plain = launch;
  plain.dependent = false;
  launch_kernel(plain, fill_random_kernel, dim3(launch.num_sms * 8), dim3(256), 0, out(w), count, mean,
                deviation * 1.7320508f, seed);
}

void gather_rows(const Launch& launch, void* y, const void* h, const int32_t* rows, int num_rows, int c) {
  check_row(c);
  launch_kernel(launch, gather_kernel, dim3(num_rows), dim3(256), 0, out(y), in(h), rows, c);
}

int64_t softcap_argmax_scratch_bytes(int num_rows) { return int64_t{8} * num_rows * kCapBlocks; }

void softcap_argmax(const Launch& launch, int32_t* argmax, void* logits, int num_rows, int vocab, float cap,
                    const int32_t* banned, int num_banned, float* scratch) {
  CARAT_CHECK(vocab % 8 == 0, "softcap: the vocabulary is a multiple of 8");
  auto* best_i = reinterpret_cast<int32_t*>(scratch + num_rows * kCapBlocks);
  launch_kernel(launch, softcap_kernel, dim3(kCapBlocks, num_rows), dim3(256), 0, scratch, best_i, out(logits), vocab,
                cap, banned, num_banned);
  launch_kernel(launch, argmax_kernel, dim3(num_rows), dim3(kCapBlocks), 0, argmax, scratch, best_i);
}

}  // namespace carat::cuda
