#pragma once
// What the encoders on a GPU have in common around their linears.

#include "ops/cuda/bounds.h"
#include "weights/media_weights.h"

namespace carat {

/// Rows that a product runs over, so that few shapes occur and each is planned once. Rows past the real ones hold
/// leftovers, and what comes of them is not read.
inline int padded_rows(int rows) { return (rows + 63) / 64 * 64; }

inline cuda::Bounds input_bounds(const ClippedLinear& l) { return {l.input_min, l.input_max}; }
inline cuda::Bounds output_bounds(const ClippedLinear& l) { return {l.output_min, l.output_max}; }

}  // namespace carat
