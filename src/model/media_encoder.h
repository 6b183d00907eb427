#pragma once
// The door between a CPU runner and whatever turns media into soft tokens.

#include "base/encoder_input.h"
#include "ops/context.h"
#include "tensor/tensor.h"

namespace carat {

/// Runner thread only.
class MediaEncoder {
 public:
  virtual ~MediaEncoder() = default;
  /// Soft tokens [input.num_tokens, H] bf16, as they enter the text decoder (unscaled). The input is of a kind and
  /// shape that the model was made for; the API checks that. Allocates nothing that grows with the number of calls.
  virtual void encode(ops::Context& ctx, const EncoderInput& input, TensorView soft_tokens) = 0;
};

}  // namespace carat
