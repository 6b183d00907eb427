#pragma once
// The door between the CUDA runner and whatever turns media into soft tokens on a GPU.

#include <memory>
#include <span>

#include "base/encoder_input.h"
#include "base/result.h"
#include "config/model_config.h"
#include "ops/cuda/cuda_ops.h"
#include "tensor/cuda/device.h"
#include "weights/encoder_weights.h"

namespace carat {

/// Engine thread only.
class CudaMediaEncoder {
 public:
  struct Item {
    const EncoderInput* input;
    void* soft_tokens;  ///< device memory for [input->num_tokens, H] bf16, as they enter the text decoder (unscaled)
  };
  virtual ~CudaMediaEncoder() = default;
  /// Enqueues the work on `stream`, which is the launch's, in as many pieces as the encoder's memory asks for. The
  /// inputs have been read when it returns. They are of kinds and shapes that the model was made for; the API checks
  /// that. A failing device is told to cuda::report_failure().
  virtual void encode(const cuda::Launch& launch, const cuda::Stream& stream, std::span<const Item> items) = 0;
};

/// The encoders of a model on GPU `device`: one for each part of `weights`, which are copied there. Errors: kOverloaded
/// if the memory is not there; kUnsupported for widths that the kernels were not made for, or in a program without CUDA
/// code.
Result<std::unique_ptr<CudaMediaEncoder>> make_cuda_encoders(int device, const ModelConfig& config,
                                                             const EncoderWeights& weights);

}  // namespace carat
