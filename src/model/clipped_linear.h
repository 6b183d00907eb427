#pragma once

#include "ops/context.h"
#include "tensor/tensor.h"
#include "weights/media_weights.h"

namespace carat {

/// y = clamp( round( clamp(x) W^T ) ), each clamp only where the linear has bounds. x [T, K], y [T, N], not
/// overlapping; `scratch` [T, K] takes the clamped x and may be x. Source: audio.md section 4, vision.md section 3.
void clipped_linear(ops::Context& ctx, TensorView y, ConstTensorView x, const ClippedLinear& linear,
                    TensorView scratch);

}  // namespace carat
