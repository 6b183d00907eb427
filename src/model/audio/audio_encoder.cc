#include "model/audio/audio_encoder.h"

#include <algorithm>
#include <utility>

#include "model/audio/conformer.h"
#include "model/views.h"
#include "ops/ops.h"
#include "tensor/bf16.h"

namespace carat {
namespace {

/// 12B: a norm without weight and a projection, frame by frame. Source: audio.md section 8.
class RawAudioEncoder final : public MediaEncoder {
 public:
  static constexpr int64_t kWidth = RawAudioConfig::kFrameSamples;
  static constexpr int64_t kRows = 256;  ///< frames at a time: clips have no longest length
  static constexpr int64_t kMemoryBytes = kRows * kWidth * static_cast<int64_t>(sizeof(Bf16));

  RawAudioEncoder(const RawAudioConfig& config, std::shared_ptr<const AudioWeights> weights, Buffer memory)
      : eps_(static_cast<float>(config.rms_norm_eps)), weights_(std::move(weights)), memory_(std::move(memory)) {}

  void encode(ops::Context& ctx, const EncoderInput& input, TensorView soft_tokens) override {
    CARAT_CHECK(input.kind == EncoderInput::Kind::kAudio, "a clip");
    CARAT_CHECK_EQ(input.num_frames, input.num_tokens);
    CARAT_CHECK_EQ(static_cast<int64_t>(input.features.size()), input.num_frames * kWidth);
    CARAT_CHECK_EQ(soft_tokens.dim(0), input.num_tokens);
    Bf16* const frames = reinterpret_cast<Bf16*>(memory_.data());
    for (int64_t first = 0; first < input.num_frames; first += kRows) {
      const int64_t count = std::min(kRows, input.num_frames - first);
      const float* const samples = input.features.data() + first * kWidth;
      std::transform(samples, samples + count * kWidth, frames, [](float x) { return Bf16(x); });
      const TensorView x = view(frames, count, kWidth);
      ops::rms_norm(ctx, x, x, {}, eps_);
      ops::linear(ctx, rows(soft_tokens, first, count), x, weights_->embedding_projection);
    }
  }

 private:
  const float eps_;
  const std::shared_ptr<const AudioWeights> weights_;
  const Buffer memory_;
};

}  // namespace

Result<std::unique_ptr<MediaEncoder>> create_audio_encoder(const ModelConfig& config,
                                                           std::shared_ptr<const AudioWeights> weights,
                                                           AudioObserver observer) {
  CARAT_CHECK(config.audio, "the model can hear");
  if (std::holds_alternative<ConformerConfig>(*config.audio))
    return ConformerEncoder::create(config, std::move(weights), std::move(observer));
  CARAT_TRY(Buffer memory, Buffer::allocate(RawAudioEncoder::kMemoryBytes));
  return std::unique_ptr<MediaEncoder>(std::make_unique<RawAudioEncoder>(std::get<RawAudioConfig>(*config.audio),
                                                                         std::move(weights), std::move(memory)));
}

int64_t audio_encoder_bytes(const ModelConfig& config) {
  CARAT_CHECK(config.audio, "the model can hear");
  const auto* conformer = std::get_if<ConformerConfig>(&*config.audio);
  return conformer ? ConformerEncoder::memory_bytes(*conformer) : RawAudioEncoder::kMemoryBytes;
}

}  // namespace carat
