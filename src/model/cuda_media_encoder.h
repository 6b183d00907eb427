#pragma once
// The door between the CUDA runner and whatever turns media into soft tokens on a GPU.

#include <span>

#include "base/encoder_input.h"
#include "ops/cuda/cuda_ops.h"

namespace carat {

/// Engine thread only.
class CudaMediaEncoder {
 public:
  struct Item {
    const EncoderInput* input;
    void* soft_tokens;  ///< device memory for [input->num_tokens, H] bf16, as they enter the text decoder (unscaled)
  };
  virtual ~CudaMediaEncoder() = default;
  /// Enqueues the work on the launch's stream, in as many pieces as the encoder's memory asks for. The inputs have been
  /// read when it returns. They are of kinds and shapes that the model was made for; the API checks that. A failing
  /// device is told to cuda::report_failure().
  virtual void encode(const cuda::Launch& launch, std::span<const Item> items) = 0;
};

}  // namespace carat
