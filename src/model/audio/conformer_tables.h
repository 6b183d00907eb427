#pragma once
// What a conformer's kernels read in another form than the checkpoint has: made of the weights once, on the host.

#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"
#include "config/audio_config.h"
#include "tensor/tensor.h"
#include "weights/audio_weights.h"

namespace carat {

struct ConformerTables {
  static constexpr float kKeyScale = 1.8946361f;  ///< ln(1 + e) / ln 2

  struct Layer {
    ConstTensorView relative_keys;     ///< [window, C] bf16, row d for keys d before the query
    ConstTensorView taps;              ///< [K, C] bf16: the depthwise convolution's, as ops::causal_conv() takes them
    std::span<const float> dim_scale;  ///< [D]: of the queries
  };
  ConstTensorView conv0, conv1;  ///< [C0, 9], [C1, 9 C0] bf16: for rows of ops::unfold_3x3()
  float q_scale = 0;             ///< of the queries, besides dim_scale
  std::vector<Layer> layers;
  Buffer memory;

  /// Errors: kOverloaded if the memory is not there.
  static Result<ConformerTables> create(const ConformerConfig& config, const AudioWeights& weights);
  static int64_t memory_bytes(const ConformerConfig& config);
};

}  // namespace carat
