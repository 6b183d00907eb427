#pragma once
// Linear layers of one op, also several at once (experts).

#include <span>

#include "ops/context.h"
#include "ops/cpu/kernels.h"

namespace carat::ops::cpu {

/// Computes all jobs, their rows being one range that threads share. Fills in LinearArgs::packed.
void run_linear(Context& ctx, std::span<LinearArgs> jobs);

}  // namespace carat::ops::cpu
