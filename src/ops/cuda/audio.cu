// Contract   audio_ops.h.
// Mapping    a warp per row (up to 1280 values in registers), per place of a convolution's grid, per head of attention;
//            a thread per 16 bytes elsewhere.
// Roofline   2 * C bytes per tensor and row, mostly from L2; beside the tower's products it is little.
// Numerics   sums in f32 in an order that depends on the row length only; roundings as ops::ref.
// Reference  ops/ref/audio.cc                        Test  ops/cuda/audio_ops_test.cc
#include "ops/cuda/audio_ops.h"
#include "ops/cuda/launch.cuh"
#include "ops/cuda/warp_row.cuh"

namespace carat::cuda {

namespace {

constexpr int kWarps = 8;  // of a block
constexpr int kMostChannels = 256;
constexpr int kMostHeadDim = 128;
constexpr int kWarpRowMost = 1280;

__device__ __forceinline__ float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }
__device__ __forceinline__ float silu(float x) { return x / (1.0f + expf(-x)); }
__device__ __forceinline__ int64_t warp_index() { return blockIdx.x * int64_t{kWarps} + threadIdx.x / 32; }

/// Channels lane, lane + 32 ... of one place.
struct Channels {
  static constexpr int kMost = kMostChannels / 32;
  float v[kMost];

  template <class F>
  __device__ __forceinline__ void each(int c, F f) {
#pragma unroll
    for (int i = 0; i < kMost; ++i) {
      const int at = static_cast<int>(threadIdx.x % 32) + 32 * i;
      if (at < c) f(v[i], at);
    }
  }
  /// y = max(layer_norm(this, w), 0)
  __device__ __forceinline__ void norm_relu_to(bf16* y, const bf16* w, int c, float eps) {
    float sum = 0.0f;
    each(c, [&](float& x, int) { sum += x; });
    const float mean = warp_sum(sum) / static_cast<float>(c);
    float square = 0.0f;
    each(c, [&](float& x, int) { square += (x - mean) * (x - mean); });
    const float inv = rsqrtf(warp_sum(square) / static_cast<float>(c) + eps);
    each(c, [&](float& x, int at) {
      const float normed = (x - mean) * inv * __bfloat162float(w[at]);
      y[at] = __float2bfloat16_rn(normed < 0.0f ? 0.0f : normed);  // NaN stays
    });
  }
};

__global__ void __launch_bounds__(32 * kWarps)
    conv0_kernel(bf16* y, const float* x, const bf16* weight, const bf16* norm, int num_frames, int bins, int c,
                 float eps) {
  pdl_trigger();
  pdl_wait();
  const int64_t place = warp_index();
  const int out_bins = bins / 2;
  if (place >= int64_t{(num_frames + 1) / 2} * out_bins) return;
  const int t = 2 * static_cast<int>(place / out_bins) - 1, f = 2 * static_cast<int>(place % out_bins) - 1;
  float window[9];
#pragma unroll
  for (int i = 0; i < 9; ++i) {
    const int from_t = t + i / 3, from_f = f + i % 3;
    const bool inside = from_t >= 0 && from_t < num_frames && from_f >= 0 && from_f < bins;
    window[i] = inside ? round_bf16(x[int64_t{from_t} * bins + from_f]) : 0.0f;
  }
  Channels channels;
  channels.each(c, [&](float& sum, int at) {
    sum = 0.0f;
#pragma unroll
    for (int i = 0; i < 9; ++i) sum = fmaf(window[i], __bfloat162float(weight[at * 9 + i]), sum);
    sum = round_bf16(sum);
  });
  channels.norm_relu_to(y + place * c, norm, c, eps);
}

__global__ void __launch_bounds__(32 * kWarps) norm_relu_kernel(bf16* x, const bf16* w, int64_t n, int c, float eps) {
  pdl_trigger();
  pdl_wait();
  const int64_t row = warp_index();
  if (row >= n) return;
  Channels channels;
  channels.each(c, [&](float& v, int at) { v = __bfloat162float(x[row * c + at]); });
  channels.norm_relu_to(x + row * c, w, c, eps);
}

__global__ void __launch_bounds__(256)
    unfold_kernel(bf16* y, const bf16* x, int height, int width, int c, int first, int64_t num_vectors) {
  pdl_trigger();
  pdl_wait();
  const int64_t i = blockIdx.x * int64_t{256} + threadIdx.x;
  if (i >= num_vectors) return;
  const int per_place = c / 8, out_width = (width + 1) / 2;
  const int64_t row = i / (9 * per_place);
  const int within = static_cast<int>(i % (9 * per_place)), tap = within / per_place, vector = within % per_place;
  const int t = 2 * (first + static_cast<int>(row / out_width)) + tap / 3 - 1;
  const int f = 2 * static_cast<int>(row % out_width) + tap % 3 - 1;
  const bool inside = t >= 0 && t < height && f >= 0 && f < width;
  const uint4* const from = reinterpret_cast<const uint4*>(x + (int64_t{t} * width + f) * c) + vector;
  reinterpret_cast<uint4*>(y)[i] = inside ? *from : make_uint4(0, 0, 0, 0);
}

template <int V>
__global__ void __launch_bounds__(32 * kWarps) norm_kernel(const AudioNormParams p) {
  pdl_trigger();
  pdl_wait();
  const int64_t t = warp_index();
  if (t >= p.num_rows) return;
  bf16* const h = static_cast<bf16*>(p.h) + t * p.c;
  WarpRow<V> row;
  if (p.y) {
    row.load(static_cast<const bf16*>(p.y) + t * p.c, p.c);
    row.limit_to(p.c, p.y_bounds);
    if (p.w_post) row.norm(static_cast<const bf16*>(p.w_post), p.c, p.eps);
    const float s = p.w_post ? p.y_scale : 1.0f;
    row.each(p.c, [&](Vec8& v, int at) {
      const Vec8 old = load8(h + at);
#pragma unroll
      for (int j = 0; j < 8; ++j) v.v[j] = round_bf16(old.v[j] + round_bf16(v.v[j] * s));
    });
  } else {
    row.load(h, p.c);
  }
  if (p.w_out) row.norm(static_cast<const bf16*>(p.w_out), p.c, p.eps);
  if (p.y || p.w_out) row.store(h, p.c);
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

__global__ void __launch_bounds__(256) silu_kernel(bf16* x, Bounds in, Bounds out, int64_t num_vectors) {
  pdl_trigger();
  pdl_wait();
  const int64_t i = blockIdx.x * int64_t{256} + threadIdx.x;
  if (i >= num_vectors) return;
  Vec8 v = load8(x + 8 * i);
#pragma unroll
  for (float& value : v.v) value = limit(round_bf16(silu(limit(value, in))), out);
  store8(x + 8 * i, v);
}

template <int V>
__global__ void __launch_bounds__(32 * kWarps) conv_kernel(const AudioConvParams p) {
  pdl_trigger();
  pdl_wait();
  const int64_t t = warp_index();
  if (t >= p.num_rows) return;
  const int begin = p.clip_begin[t];
  const bf16 *const x = static_cast<const bf16*>(p.x), *const taps = static_cast<const bf16*>(p.taps);
  WarpRow<V> row;
  row.each(p.c, [&](Vec8& sum, int at) {
    sum = Vec8{};
    for (int j = 0; j < p.num_taps; ++j) {
      const int64_t from = t - p.num_taps + 1 + j;
      if (from < begin) continue;
      const Vec8 a = load8(x + from * 2 * p.c + at), gate = load8(x + from * 2 * p.c + p.c + at),
                 w = load8(taps + int64_t{j} * p.c + at);
#pragma unroll
      for (int k = 0; k < 8; ++k)
        sum.v[k] = fmaf(w.v[k], round_bf16(limit(a.v[k], p.in) * sigmoid(limit(gate.v[k], p.in))), sum.v[k]);
    }
#pragma unroll
    for (float& v : sum.v) v = round_bf16(v);
  });
  row.norm(static_cast<const bf16*>(p.norm), p.c, p.eps);
  row.each(p.c, [&](Vec8& v, int) {
#pragma unroll
    for (float& value : v.v) value = round_bf16(silu(value));
  });
  row.limit_to(p.c, p.out);
  row.store(static_cast<bf16*>(p.y) + t * p.c, p.c);
}

/// A warp a query and head: dimensions lane, lane + 32 ...; lane d keeps the score of the key d rows back.
__global__ void __launch_bounds__(32 * kWarps) attention_kernel(const AudioAttentionParams p) {
  constexpr int kParts = kMostHeadDim / 32;
  pdl_trigger();
  pdl_wait();
  const int64_t unit = warp_index();
  if (unit >= int64_t{p.num_rows} * p.num_heads) return;
  const int lane = threadIdx.x % 32, d = p.head_dim, width = p.num_heads * d;
  const int t = static_cast<int>(unit / p.num_heads), head = static_cast<int>(unit % p.num_heads) * d;
  const int num_keys = min(p.window, t - p.clip_begin[t] + 1);
  const auto row = [&](const void* x, int64_t i) { return static_cast<const bf16*>(x) + i * width + head; };
  const auto each = [&](auto f) {
#pragma unroll
    for (int i = 0; i < kParts; ++i)
      if (lane + 32 * i < d) f(i, lane + 32 * i);
  };

  float q[kParts];
  each([&](int i, int at) {
    q[i] = limit(__bfloat162float(row(p.q, t)[at]), p.q_bounds) * p.q_scale * p.dim_scale[at];
  });
  float score = -INFINITY;
  for (int back = 0; back < num_keys; ++back) {
    float sum = 0.0f;
    each([&](int i, int at) {
      const float key = limit(__bfloat162float(row(p.k, t - back)[at]), p.k_bounds) * p.k_scale;
      sum = fmaf(q[i], key + __bfloat162float(row(p.r, back)[at]), sum);
    });
    sum = warp_sum(sum);
    if (lane == back) score = p.cap * tanhf(sum / p.cap);
  }
  float highest = score;
  for (int o = 16; o > 0; o >>= 1) highest = fmaxf(highest, __shfl_xor_sync(0xffffffffu, highest, o));
  const float weight = expf(score - highest);  // 0 for lanes without a key
  const float share = weight / warp_sum(weight);
  float sum[kParts] = {};
  for (int back = 0; back < num_keys; ++back) {
    const float s = __shfl_sync(0xffffffffu, share, back);
    each([&](int i, int at) { sum[i] = fmaf(s, limit(__bfloat162float(row(p.v, t - back)[at]), p.v_bounds), sum[i]); });
  }
  bf16* const o = static_cast<bf16*>(p.o) + int64_t{t} * width + head;
  each([&](int i, int at) { o[at] = __float2bfloat16_rn(limit(round_bf16(sum[i]), p.o_bounds)); });
}

__global__ void __launch_bounds__(kRowThreads)
    bias_norm_kernel(bf16* y, const float* x, const bf16* bias, int c, float eps) {
  __shared__ RowSums::Memory sums_memory;
  RowSums sums{sums_memory};
  pdl_trigger();
  pdl_wait();
  const int64_t t = blockIdx.x;
  Row<> row;
  row.each(c, [&](Vec8& v, int at) {
    const float4* const from = reinterpret_cast<const float4*>(x + t * c + at);
    const float4 lo = from[0], hi = from[1];
    const float values[8] = {lo.x, lo.y, lo.z, lo.w, hi.x, hi.y, hi.z, hi.w};
    Vec8 b{};
    if (bias) b = load8(bias + at);
#pragma unroll
    for (int j = 0; j < 8; ++j) v.v[j] = round_bf16(values[j] + b.v[j]);
  });
  row.norm(nullptr, c, eps, sums);
  row.store(y + t * c, c);
}

unsigned blocks(int64_t units, int per_block) { return static_cast<unsigned>((units + per_block - 1) / per_block); }

}  // namespace

void audio_conv0(const Launch& launch, void* y, const float* x, const void* weight, const void* norm, int num_frames,
                 int bins, int c, float eps) {
  CARAT_CHECK(bins % 2 == 0 && c <= kMostChannels, "the first convolution's grid");
  launch_kernel(launch, conv0_kernel, blocks(int64_t{(num_frames + 1) / 2} * (bins / 2), kWarps), 32 * kWarps, 0,
                static_cast<bf16*>(y), x, static_cast<const bf16*>(weight), static_cast<const bf16*>(norm), num_frames,
                bins, c, eps);
}

void unfold_3x3(const Launch& launch, void* y, const void* x, int height, int width, int c, int first, int num_rows) {
  CARAT_CHECK(c % 8 == 0, "channels go by eights");
  const int64_t num_vectors = int64_t{num_rows} * ((width + 1) / 2) * 9 * (c / 8);
  launch_kernel(launch, unfold_kernel, blocks(num_vectors, 256), 256, 0, static_cast<bf16*>(y),
                static_cast<const bf16*>(x), height, width, c, first, num_vectors);
}

void norm_relu(const Launch& launch, void* x, const void* w, int64_t n, int c, float eps) {
  CARAT_CHECK(c <= kMostChannels, "the grid's channels");
  launch_kernel(launch, norm_relu_kernel, blocks(n, kWarps), 32 * kWarps, 0, static_cast<bf16*>(x),
                static_cast<const bf16*>(w), n, c, eps);
}

void audio_norm(const Launch& launch, const AudioNormParams& p) {
  CARAT_CHECK(p.c % 8 == 0 && p.c <= kWarpRowMost, "the tower's rows");
  launch_kernel(launch, p.c <= 1024 ? norm_kernel<4> : norm_kernel<kWarpRowMost / 256>, blocks(p.num_rows, kWarps),
                32 * kWarps, 0, p);
}

void audio_silu(const Launch& launch, void* x, Bounds in, Bounds out, int64_t count) {
  CARAT_CHECK(count % 8 == 0, "values go by eights");
  launch_kernel(launch, silu_kernel, blocks(count / 8, 256), 256, 0, static_cast<bf16*>(x), in, out, count / 8);
}

void audio_conv(const Launch& launch, const AudioConvParams& p) {
  CARAT_CHECK(p.c % 8 == 0 && p.c <= kWarpRowMost, "the tower's rows");
  launch_kernel(launch, p.c <= 1024 ? conv_kernel<4> : conv_kernel<kWarpRowMost / 256>, blocks(p.num_rows, kWarps),
                32 * kWarps, 0, p);
}

void audio_attention(const Launch& launch, const AudioAttentionParams& p) {
  CARAT_CHECK(p.head_dim <= kMostHeadDim && p.window >= 1 && p.window <= 32, "the tower's heads and window");
  launch_kernel(launch, attention_kernel, blocks(int64_t{p.num_rows} * p.num_heads, kWarps), 32 * kWarps, 0, p);
}

void bias_norm(const Launch& launch, void* y, const float* x, const void* bias, int n, int c, float eps) {
  CARAT_CHECK(c % 8 == 0 && c <= 2048 * kRowVectors, "the output's rows");
  launch_kernel(launch, bias_norm_kernel, static_cast<unsigned>(n), kRowThreads, 0, static_cast<bf16*>(y), x,
                static_cast<const bf16*>(bias), c, eps);
}

}  // namespace carat::cuda
