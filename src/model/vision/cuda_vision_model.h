#pragma once
// Pictures to soft tokens on a GPU, in both forms of the family. Same mathematics and roundings as VisionModel; no
// allocation after creation.

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string_view>

#include "base/encoder_input.h"
#include "base/result.h"
#include "config/model_config.h"
#include "ops/cuda/cuda_ops.h"
#include "tensor/cuda/device.h"
#include "weights/vision_weights.h"

namespace carat {

class CudaVisionModel {
 public:
  /// For the encoder of `config.vision`, which must be there: calls with up to `max_tokens` soft tokens together. The
  /// weights are copied; `stream` is used for that. Errors: kOverloaded if the memory is not there, kUnsupported for
  /// widths that the kernels were not made for.
  static Result<std::unique_ptr<CudaVisionModel>> create(const ModelConfig& config, const VisionWeights& weights,
                                                         int max_tokens, const cuda::Stream& stream);
  /// What create() takes of the device's memory, the weights included.
  static int64_t bytes_needed(const ModelConfig& config, int max_tokens);
  ~CudaVisionModel();

  /// Enqueues what makes soft tokens [sum of num_tokens, H] bf16 of images and video frames, one after the other, at
  /// `soft_tokens` on the device. A picture's do not depend on the others but for the order of sums. The inputs have
  /// been read when this returns; it waits for the last call's copies to the device. launch.stream is `stream`.
  void encode(const cuda::Launch& launch, const cuda::Stream& stream, std::span<const EncoderInput* const> inputs,
              void* soft_tokens);

  /// For tests: hears of named tensors as they are enqueued, bf16 [rows, columns] on the device, by the names that
  /// VisionModel's observer uses: embedded, out (of layers). The callee reads them on the call's stream.
  using Observer = std::function<void(std::string_view name, int layer, const void* data, int rows, int columns)>;
  void set_observer(Observer observer);

 private:
  CudaVisionModel();
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace carat
