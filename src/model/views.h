#pragma once
// Parts of bf16 matrices.

#include <cstdint>

#include "tensor/bf16.h"
#include "tensor/tensor.h"

namespace carat {

/// [rows, columns], contiguous.
inline TensorView view(Bf16* data, int64_t rows, int64_t columns) { return {data, DType::kBf16, {rows, columns}}; }

inline ConstTensorView columns(const ConstTensorView& matrix, int64_t first, int64_t count) {
  return {static_cast<const Bf16*>(matrix.data) + first, DType::kBf16, {matrix.dim(0), count}, matrix.row_stride};
}

inline ConstTensorView rows(const ConstTensorView& matrix, int64_t first, int64_t count) {
  return {static_cast<const Bf16*>(matrix.data) + first * matrix.row_stride,
          DType::kBf16,
          {count, matrix.dim(1)},
          matrix.row_stride};
}
inline TensorView rows(const TensorView& matrix, int64_t first, int64_t count) {
  return {static_cast<Bf16*>(matrix.data) + first * matrix.row_stride,
          DType::kBf16,
          {count, matrix.dim(1)},
          matrix.row_stride};
}

}  // namespace carat
