#include "model/clipped_linear.h"

#include <cmath>

#include "ops/ops.h"

namespace carat {

void clipped_linear(ops::Context& ctx, TensorView y, ConstTensorView x, const ClippedLinear& linear,
                    TensorView scratch) {
  if (std::isfinite(linear.input_min) || std::isfinite(linear.input_max)) {
    ops::clamp(ctx, scratch, x, linear.input_min, linear.input_max);
    x = scratch;
  }
  ops::linear(ctx, y, x, linear.weight);
  if (std::isfinite(linear.output_min) || std::isfinite(linear.output_max))
    ops::clamp(ctx, y, y, linear.output_min, linear.output_max);
}

}  // namespace carat
