#include "ops/ref/ref_ops.h"
#include "ops/ref/rows.h"

namespace carat::ops::ref {

void linear(Context&, TensorView y, ConstTensorView x, ConstTensorView w) {
  for (int64_t t = 0; t < x.dim(0); ++t) {
    for (int64_t n = 0; n < w.dim(0); ++n) {
      const float sum = dot(row(x, t), row(w, n));
      if (y.dtype == DType::kF32)
        row_f32(y, t)[static_cast<size_t>(n)] = sum;
      else
        row(y, t)[static_cast<size_t>(n)] = Bf16(sum);
    }
  }
}

}  // namespace carat::ops::ref
