#pragma once
// One attention head's D values spread over a warp, and what is done to q, k and v before attention.

#include "ops/cuda/row.cuh"

namespace carat::cuda {

/// Values 8 * lane onwards, and with D 512 those 256 later.
template <int D>
struct HeadRow {
  static_assert(D == 256 || D == 512);
  static constexpr int kVectors = D / 256;
  Vec8 x[kVectors];

  __device__ __forceinline__ static int at(int i) { return i * 256 + static_cast<int>(threadIdx.x % 32) * 8; }
  __device__ __forceinline__ void load(const bf16* src) {
#pragma unroll
    for (int i = 0; i < kVectors; ++i) x[i] = load8(src + at(i));
  }
  __device__ __forceinline__ void store(bf16* dst) const {
#pragma unroll
    for (int i = 0; i < kVectors; ++i) store8(dst + at(i), x[i]);
  }
  /// x = round(rms(x) * w), w may be null.
  __device__ __forceinline__ void norm(const bf16* w, float eps) {
    float sum = 0.0f;
#pragma unroll
    for (int i = 0; i < kVectors; ++i)
#pragma unroll
      for (float v : x[i].v) sum += v * v;
    for (int o = 16; o > 0; o >>= 1) sum += __shfl_xor_sync(0xffffffffu, sum, o);
    const float inv = rsqrtf(sum / D + eps);
#pragma unroll
    for (int i = 0; i < kVectors; ++i) {
      Vec8 wv;
      if (w) wv = load8(w + at(i));
#pragma unroll
      for (int j = 0; j < 8; ++j) x[i].v[j] = round_bf16(w ? x[i].v[j] * inv * wv.v[j] : x[i].v[j] * inv);
    }
  }
  /// Rotates pairs (j, j + D / 2) by angles whose cosine and sine, rounded to bf16, are rotation(j).
  template <class Rotation>
  __device__ __forceinline__ void rotate(Rotation rotation) {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      const float2 cs = rotation((lane * 8 + j) % (D / 2));
      if constexpr (D == 256) {
        // The other half of a pair lies 16 lanes apart.
        const float other = __shfl_xor_sync(0xffffffffu, x[0].v[j], 16);
        x[0].v[j] = round_bf16(round_bf16(x[0].v[j] * cs.x) + round_bf16((lane < 16 ? -other : other) * cs.y));
      } else {
        const float lo = x[0].v[j], hi = x[1].v[j];
        x[0].v[j] = round_bf16(round_bf16(lo * cs.x) + round_bf16(-hi * cs.y));
        x[1].v[j] = round_bf16(round_bf16(hi * cs.x) + round_bf16(lo * cs.y));
      }
    }
  }
};

/// Cosine and sine of pair j at a position; (1, 0) for the pairs that do not rotate.
__device__ __forceinline__ float2 rotation_at(const float* inv_freq, int num_rotated, int position, int pair) {
  if (pair >= num_rotated) return make_float2(1.0f, 0.0f);
  float s, c;
  sincosf(inv_freq[pair] * static_cast<float>(position), &s, &c);
  return make_float2(round_bf16(c), round_bf16(s));
}

}  // namespace carat::cuda
