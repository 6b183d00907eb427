#pragma once
// Rows of views as bits of bf16 numbers.

#include <cstdint>

#include "tensor/tensor.h"

namespace carat::ops::cpu {

inline const uint16_t* row(const ConstTensorView& view, int64_t i) {
  return static_cast<const uint16_t*>(view.data) + i * view.row_stride;
}
inline uint16_t* row(const TensorView& view, int64_t i) {
  return static_cast<uint16_t*>(view.data) + i * view.row_stride;
}

}  // namespace carat::ops::cpu
