#pragma once
// The tensors of the encoders as a checkpoint names them, with their shapes. Spec: checkpoints.md section 4.

#include <cstdint>
#include <string>
#include <vector>

#include "config/audio_config.h"
#include "config/vision_config.h"
#include "tensor/tensor.h"

namespace carat {

struct MediaTensor {
  std::string name;                                                ///< without the prefix "model."
  Shape shape;                                                     ///< [] for the bounds of clipped linears
  bool projection = false;                                         ///< from the encoder to the decoder
  int64_t size_bytes() const { return 2 * shape.num_elements(); }  // bf16
};

/// `text_hidden_size` is the decoder's.
std::vector<MediaTensor> vision_tensors(const VisionConfig& config, int64_t text_hidden_size);
std::vector<MediaTensor> audio_tensors(const AudioConfig& config, int64_t text_hidden_size);

}  // namespace carat
