#pragma once
// Frequencies of rotary embeddings.

#include <vector>

#include "config/model_config.h"

namespace carat {

/// Frequencies that are not 0, in f32 as the reference computes them, of a head of `head_dim` channels. Source: text.md
/// section 7, vision.md section 3 (where a half of a head is such a head).
std::vector<float> inverse_frequencies(const RopeConfig& rope, int head_dim);

}  // namespace carat
