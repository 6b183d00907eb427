#pragma once
// Rows of bf16 spread over 256 threads of a block, and the norms on them. Threads 0 .. 255 take part; others may exist.

#include "ops/cuda/ptx.cuh"

namespace carat::cuda {

constexpr int kRowThreads = 256;
constexpr int kRowVectors = 4;  // 16-byte vectors per thread at most: rows of up to 8192
constexpr int kRowBarrier = 1;  // named barrier of the 256 threads

struct Vec8 {
  float v[8];
};
__device__ __forceinline__ Vec8 unpack8(const uint4& raw) {
  Vec8 r;
  const uint32_t words[4] = {raw.x, raw.y, raw.z, raw.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    r.v[2 * i] = __uint_as_float(words[i] << 16);
    r.v[2 * i + 1] = __uint_as_float(words[i] & 0xffff0000u);
  }
  return r;
}
__device__ __forceinline__ uint4 pack8(const Vec8& a) {
  uint32_t words[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const __nv_bfloat162 two = __floats2bfloat162_rn(a.v[2 * i], a.v[2 * i + 1]);
    words[i] = *reinterpret_cast<const uint32_t*>(&two);
  }
  return make_uint4(words[0], words[1], words[2], words[3]);
}
__device__ __forceinline__ Vec8 load8(const bf16* p) { return unpack8(*reinterpret_cast<const uint4*>(p)); }
__device__ __forceinline__ void store8(bf16* p, const Vec8& a) { *reinterpret_cast<uint4*>(p) = pack8(a); }

/// Where the warps' sums meet: shared memory in two halves that take turns, so that one barrier per sum is enough.
/// Every thread has its own; one per block in use.
struct RowSums {
  using Memory = float[2][kRowThreads / 32];
  Memory& memory;
  int turn = 0;
};

/// A row of C values, 8 * (thread + i * 256) onwards in part i < V: C <= 2048 * V.
template <int V = kRowVectors>
struct Row {
  Vec8 part[V];

  template <class F>
  __device__ __forceinline__ void each(int c, F f) {
#pragma unroll
    for (int i = 0; i < V; ++i) {
      const int at = 8 * (threadIdx.x + i * kRowThreads);
      if (at < c) f(part[i], at);
    }
  }
  __device__ __forceinline__ void load(const bf16* p, int c) {
    each(c, [&](Vec8& v, int at) { v = load8(p + at); });
  }
  __device__ __forceinline__ void store(bf16* p, int c) {
    each(c, [&](Vec8& v, int at) { store8(p + at, v); });
  }
  /// 1 / sqrt(mean square + eps), the same in all threads.
  __device__ __forceinline__ float inverse_rms(int c, float eps, RowSums& row_sums) {
    float sum = 0.0f;
    each(c, [&](Vec8& v, int) {
#pragma unroll
      for (float x : v.v) sum += x * x;
    });
    for (int o = 16; o > 0; o >>= 1) sum += __shfl_xor_sync(0xffffffffu, sum, o);
    float* const sums = row_sums.memory[row_sums.turn];
    row_sums.turn ^= 1;
    if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = sum;
    named_barrier(kRowBarrier, kRowThreads);
    float total = 0.0f;
#pragma unroll
    for (int w = 0; w < kRowThreads / 32; ++w) total += sums[w];
    return rsqrtf(total / static_cast<float>(c) + eps);
  }
  /// this = round(this * inverse rms * w), w may be null.
  __device__ __forceinline__ void norm(const bf16* w, int c, float eps, RowSums& row_sums) {
    const float inv = inverse_rms(c, eps, row_sums);
    each(c, [&](Vec8& v, int at) {
      Vec8 wv;
      if (w) wv = load8(w + at);
#pragma unroll
      for (int j = 0; j < 8; ++j) v.v[j] = round_bf16(w ? v.v[j] * inv * wv.v[j] : v.v[j] * inv);
    });
  }
};

}  // namespace carat::cuda
