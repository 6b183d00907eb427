#pragma once
// The images, video frames and clips that the reference was given, prepared by our own means.

#include <memory>
#include <string>
#include <vector>

#include "base/encoder_input.h"
#include "config/model_config.h"
#include "golden_file.h"

namespace carat::testing {

using EncoderInputs = std::vector<std::shared_ptr<const EncoderInput>>;

/// Of one prompt, in its order.
EncoderInputs golden_images(const GoldenFile& file, const std::string& prompt, const ModelConfig& config);
EncoderInputs golden_frames(const GoldenFile& file, const std::string& prompt, const ModelConfig& config);
EncoderInputs golden_clips(const GoldenFile& file, const std::string& prompt, const ModelConfig& config);

}  // namespace carat::testing
