#pragma once
// The audio encoders on a GPU: clips on one stream. Same mathematics and roundings as on the host; no allocation after
// creation.

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
#include "weights/audio_weights.h"

namespace carat {

class CudaAudioModel {
 public:
  /// The longest clip of the log-mel form.
  static constexpr int kMaxClipTokens = 750;

  /// For the encoder of `config.audio`, which must be there: calls with up to `max_tokens` soft tokens together (at
  /// least kMaxClipTokens), or of any length in the raw form. The weights are copied; `stream` is used for that.
  /// Errors: kOverloaded if the memory is not there, kUnsupported for widths that the kernels were not made for.
  static Result<std::unique_ptr<CudaAudioModel>> create(const ModelConfig& config, const AudioWeights& weights,
                                                        int max_tokens, const cuda::Stream& stream);
  /// What create() takes of the device's memory at most, the weights included.
  static int64_t bytes_needed(const ModelConfig& config, int max_tokens);
  ~CudaAudioModel();

  /// Enqueues what makes soft tokens [sum of num_tokens, H] bf16 of `clips`, one after the other, at `soft_tokens` on
  /// the device. A clip's do not depend on the others but for the order of sums. The clips are read before this
  /// returns; it waits for the last call's copies to the device. launch.stream is `stream`.
  void encode(const cuda::Launch& launch, const cuda::Stream& stream, std::span<const EncoderInput* const> clips,
              void* soft_tokens);

  /// For tests: hears of named tensors as they are enqueued, bf16 [rows, columns] on the device, by the names that
  /// AudioObserver uses: input_proj, out. The callee reads them on the call's stream.
  using Observer = std::function<void(std::string_view name, int layer, const void* data, int rows, int columns)>;
  void set_observer(Observer observer);

 private:
  CudaAudioModel();
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace carat
