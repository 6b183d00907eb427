#pragma once
// Rows of views as typed spans, and the roundings of the specification under its own name r().

#include <cmath>
#include <span>

#include "tensor/bf16.h"
#include "tensor/tensor.h"

namespace carat::ops::ref {

inline std::span<const Bf16> row(const ConstTensorView& view, int64_t i) {
  return {static_cast<const Bf16*>(view.data) + i * view.row_stride, static_cast<size_t>(view.last_dim())};
}
inline std::span<Bf16> row(const TensorView& view, int64_t i) {
  return {static_cast<Bf16*>(view.data) + i * view.row_stride, static_cast<size_t>(view.last_dim())};
}
inline std::span<float> row_f32(const TensorView& view, int64_t i) {
  return {static_cast<float*>(view.data) + i * view.row_stride, static_cast<size_t>(view.last_dim())};
}
inline std::span<const float> row_f32(const ConstTensorView& view, int64_t i) {
  return {static_cast<const float*>(view.data) + i * view.row_stride, static_cast<size_t>(view.last_dim())};
}

inline float f32(Bf16 value) { return static_cast<float>(value); }
inline float r(float value) { return round_to_bf16(value); }

inline float dot(std::span<const Bf16> a, std::span<const Bf16> b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += static_cast<double>(f32(a[i])) * static_cast<double>(f32(b[i]));
  return static_cast<float>(sum);
}

/// 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) in f32.
inline float gelu_tanh(float x) {
  const float inner = 0.79788456f * (x + 0.044715f * (x * x * x));
  return 0.5f * x * (1.0f + std::tanh(inner));
}

}  // namespace carat::ops::ref
