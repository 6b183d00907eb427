#include "golden_media.h"

#include <span>

#include "base/str.h"
#include "media/audio_input.h"
#include "media/image_input.h"

namespace carat::testing {

namespace {

using Kind = EncoderInput::Kind;

PictureForm form(const ModelConfig& config, Kind kind) {
  const VisionConfig& vision = config.vision.value();
  return {vision.patch_size(), VisionConfig::kTokenSize,
          kind == Kind::kImage ? vision.image_soft_tokens : vision.frame_soft_tokens};
}

std::shared_ptr<const EncoderInput> picture(const ModelConfig& config, int64_t height, int64_t width,
                                            std::span<const uint8_t> pixels, Kind kind) {
  return make_image_input({static_cast<int>(width), static_cast<int>(height), pixels}, form(config, kind), kind);
}

}  // namespace

EncoderInputs golden_images(const GoldenFile& file, const std::string& prompt, const ModelConfig& config) {
  EncoderInputs out;
  for (int i = 0; file.has(str_cat(prompt, "/image.", i, ".raw")); ++i) {
    const std::string name = str_cat(prompt, "/image.", i, ".raw");
    const auto shape = file.shape(name);  // [height, width, 3]
    out.push_back(picture(config, shape[0], shape[1], file.bytes(name), Kind::kImage));
  }
  return out;
}

EncoderInputs golden_frames(const GoldenFile& file, const std::string& prompt, const ModelConfig& config) {
  EncoderInputs out;
  for (int i = 0; file.has(str_cat(prompt, "/video.", i, ".raw")); ++i) {
    const std::string name = str_cat(prompt, "/video.", i, ".raw");
    const auto shape = file.shape(name);  // [frames, height, width, 3]
    const auto bytes = file.bytes(name);
    const size_t frame = bytes.size() / static_cast<size_t>(shape[0]);
    for (size_t at = 0; at < bytes.size(); at += frame)
      out.push_back(picture(config, shape[1], shape[2], std::span(bytes).subspan(at, frame), Kind::kVideoFrame));
  }
  return out;
}

EncoderInputs golden_clips(const GoldenFile& file, const std::string& prompt, const ModelConfig& config) {
  EncoderInputs out;
  const bool raw = config.audio && std::holds_alternative<RawAudioConfig>(*config.audio);
  for (int i = 0; file.has(str_cat(prompt, "/audio.", i, ".raw")); ++i)
    out.push_back(make_audio_input(raw ? AudioForm::kRawFrames : AudioForm::kLogMel,
                                   file.floats(str_cat(prompt, "/audio.", i, ".raw")))
                      .value());
  return out;
}

}  // namespace carat::testing
