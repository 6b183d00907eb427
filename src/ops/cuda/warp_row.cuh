#pragma once
// Rows of bf16 that a warp holds in registers, and what encoders do to them.

#include "ops/cuda/bounds.h"
#include "ops/cuda/row.cuh"

namespace carat::cuda {

__device__ __forceinline__ float limit(float x, const Bounds& b) {
  return x < b.lowest ? b.lowest : x > b.highest ? b.highest : x;  // NaN stays
}
__device__ __forceinline__ float warp_sum(float x) {
  for (int o = 16; o > 0; o >>= 1) x += __shfl_xor_sync(0xffffffffu, x, o);
  return x;
}

/// A row of C values in a warp: 8 * (lane + i * 32) onwards in part i < V.
template <int V>
struct WarpRow {
  Vec8 part[V];

  template <class F>
  __device__ __forceinline__ void each(int c, F f) {
#pragma unroll
    for (int i = 0; i < V; ++i) {
      const int at = 8 * (static_cast<int>(threadIdx.x % 32) + i * 32);
      if (at < c) f(part[i], at);
    }
  }
  __device__ __forceinline__ void load(const bf16* p, int c) {
    each(c, [&](Vec8& v, int at) { v = load8(p + at); });
  }
  __device__ __forceinline__ void store(bf16* p, int c) {
    each(c, [&](Vec8& v, int at) { store8(p + at, v); });
  }
  __device__ __forceinline__ void limit_to(int c, const Bounds& b) {
    each(c, [&](Vec8& v, int) {
#pragma unroll
      for (float& x : v.v) x = limit(x, b);
    });
  }
  /// this = round(this * inverse rms * w), w may be null.
  __device__ __forceinline__ void norm(const bf16* w, int c, float eps) {
    float sum = 0.0f;
    each(c, [&](Vec8& v, int) {
#pragma unroll
      for (float x : v.v) sum += x * x;
    });
    const float inv = rsqrtf(warp_sum(sum) / static_cast<float>(c) + eps);
    each(c, [&](Vec8& v, int at) {
      Vec8 wv;
      if (w) wv = load8(w + at);
#pragma unroll
      for (int j = 0; j < 8; ++j) v.v[j] = round_bf16(w ? v.v[j] * inv * wv.v[j] : v.v[j] * inv);
    });
  }
};

}  // namespace carat::cuda
