#pragma once
// The audio encoders' operations on a GPU, under the rules of cuda_ops.h. T rows of several clips lie behind each other
// without padding; clip_begin [T] names the first row of each row's clip.

#include "ops/cuda/bounds.h"
#include "ops/cuda/cuda_ops.h"

namespace carat::cuda {

/// The first strided convolution of a clip with its norm and rectifier: y = max(layer_norm(round(conv(round(x))), w),
/// 0). x [num_frames, bins] f32, weight [C, 9] as for ops::unfold_3x3, norm [C], y [ceil(num_frames / 2) * bins / 2,
/// C]. bins even, C <= 256.
void audio_conv0(const Launch& launch, void* y, const float* x, const void* weight, const void* norm, int num_frames,
                 int bins, int c, float eps);
/// ops::unfold_3x3 for `num_rows` rows of time from `first` on. x [height, width, C], y [num_rows * ceil(width / 2), 9
/// C]. C % 8 == 0.
void unfold_3x3(const Launch& launch, void* y, const void* x, int height, int width, int c, int first, int num_rows);
/// x = max(layer_norm(x, w), 0) in place. x [n, C], C <= 256.
void norm_relu(const Launch& launch, void* x, const void* w, int64_t n, int c, float eps);

/// If y: h = round(h + z), z = y limited to y_bounds, and if w_post then z = round(round(rms(z) * w_post) * y_scale).
/// If w_out: h = round(rms(h) * w_out). Then for i < num_x: x[i] = round(rms(h) * w_next) limited to x_bounds[i]. Rows
/// of C
/// <= 1280, C % 8 == 0.
struct AudioNormParams {
  void* h;
  const void *y, *w_post, *w_out, *w_next;
  Bounds y_bounds;
  float y_scale;
  void* x[3];
  Bounds x_bounds[3];
  int num_x;
  int num_rows, c;
  float eps;
};
void audio_norm(const Launch& launch, const AudioNormParams& p);

/// x = round(silu(x limited to in)) limited to out, in place; count % 8 == 0.
void audio_silu(const Launch& launch, void* x, Bounds in, Bounds out, int64_t count);

/// The middle of a convolution block: y = round(silu(round(rms(conv) * norm))) limited to `out`, conv =
/// ops::causal_conv of ops::glu of x limited to `in`, clip by clip. x [T, 2C], taps [K, C], y [T, C]. C <= 1280, C % 8
/// == 0.
struct AudioConvParams {
  void* y;
  const void *x, *taps, *norm;
  Bounds in, out;
  const int32_t* clip_begin;
  int num_rows, c, num_taps;
  float eps;
};
void audio_conv(const Launch& launch, const AudioConvParams& p);

/// ops::relative_attention clip by clip, q, k and v limited to their bounds before, o limited to o_bounds. dim_scale
/// [D] f32. D <= 128, window <= 32. Probabilities stay f32.
struct AudioAttentionParams {
  const void *q, *k, *v, *r;
  void* o;
  Bounds q_bounds, k_bounds, v_bounds, o_bounds;
  const float* dim_scale;
  const int32_t* clip_begin;
  float q_scale, k_scale, cap;
  int num_rows, num_heads, head_dim, window;
};
void audio_attention(const Launch& launch, const AudioAttentionParams& p);

/// y = round(rms(round(x + bias))), rms without weight. x [n, C] f32, bias [C] bf16 or null, y [n, C]. C % 8 == 0, C <=
/// 8192.
void bias_norm(const Launch& launch, void* y, const float* x, const void* bias, int n, int c, float eps);

}  // namespace carat::cuda
