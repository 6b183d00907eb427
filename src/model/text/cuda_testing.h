#pragma once
// For tests that compare two backends: miniature models whose attention is not decided by a hair.

#include <memory>
#include <vector>

#include "tensor/bf16.h"
#include "weights/text_weights.h"

namespace carat::testing {

/// Seeded weights with the queries' norms scaled down. Plain random weights give scores with a deviation of 16, where
/// the last bit of a sum decides which key wins; a difference of order then looks like a defect.
inline std::shared_ptr<const TextWeights> calm_weights(const ModelConfig& config, uint64_t seed) {
  struct Owner {
    std::shared_ptr<const TextWeights> source;
    std::vector<std::vector<Bf16>> norms;
    TextWeights weights;
  };
  auto owner = std::make_shared<Owner>();
  owner->source = make_dummy_text_weights(config, seed).value();
  owner->weights = *owner->source;
  for (LayerWeights& layer : owner->weights.layers) {
    const auto* from = static_cast<const Bf16*>(layer.q_norm.data);
    auto& norm = owner->norms.emplace_back(from, from + layer.q_norm.last_dim());
    for (Bf16& v : norm) v = Bf16(static_cast<float>(v) * 0.15f);
    layer.q_norm.data = norm.data();
  }
  return {owner, &owner->weights};
}

}  // namespace carat::testing
