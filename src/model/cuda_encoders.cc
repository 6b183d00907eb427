// A model's encoders on a GPU behind one door.

#include <algorithm>
#include <vector>

#include "model/audio/cuda_audio_model.h"
#include "model/cuda_media_encoder.h"
#include "model/vision/cuda_vision_model.h"
#include "tensor/bf16.h"

namespace carat {

namespace {

/// Soft tokens of one call: four pictures of the usual budget, or one of the largest; two of the longest clips.
constexpr int kVisionTokens = 1120, kAudioTokens = 2 * CudaAudioModel::kMaxClipTokens;

bool is_audio(const EncoderInput& input) { return input.kind == EncoderInput::Kind::kAudio; }

/// Hands items to the encoder of their kind, as many together as it has room for.
class CudaEncoders final : public CudaMediaEncoder {
 public:
  Result<void> init(const ModelConfig& config, const EncoderWeights& weights);
  void encode(const cuda::Launch& launch, const cuda::Stream& stream, std::span<const Item> items) override;

 private:
  void flush(const cuda::Launch& launch, const cuda::Stream& stream);

  int64_t row_bytes_ = 0;
  int vision_tokens_ = 0, audio_tokens_ = 0;  ///< of one call at most
  std::unique_ptr<CudaVisionModel> vision_;
  std::unique_ptr<CudaAudioModel> audio_;
  cuda::DeviceBuffer soft_tokens_;  ///< of one call
  std::vector<Item> batch_;         ///< gathered for the next call, all of one encoder
  std::vector<const EncoderInput*> inputs_;
};

Result<void> CudaEncoders::init(const ModelConfig& config, const EncoderWeights& weights) {
  row_bytes_ = int64_t{config.text.hidden_size} * static_cast<int64_t>(sizeof(Bf16));
  CARAT_TRY(const auto stream, cuda::Stream::create());
  if (weights.vision) {
    vision_tokens_ = std::max(kVisionTokens, config.vision->image_soft_tokens);
    CARAT_TRY(vision_, CudaVisionModel::create(config, *weights.vision, vision_tokens_, stream));
  }
  if (weights.audio) {
    audio_tokens_ = kAudioTokens;
    CARAT_TRY(audio_, CudaAudioModel::create(config, *weights.audio, audio_tokens_, stream));
  }
  CARAT_TRY(soft_tokens_, cuda::DeviceBuffer::allocate(std::max(vision_tokens_, audio_tokens_) * row_bytes_));
  return {};
}

void CudaEncoders::encode(const cuda::Launch& launch, const cuda::Stream& stream, std::span<const Item> items) {
  int num_tokens = 0;
  for (const Item& item : items) {
    const int most = is_audio(*item.input) ? audio_tokens_ : vision_tokens_;
    if (!batch_.empty() &&
        (is_audio(*batch_[0].input) != is_audio(*item.input) || num_tokens + item.input->num_tokens > most)) {
      flush(launch, stream);
      num_tokens = 0;
    }
    batch_.push_back(item);
    num_tokens += item.input->num_tokens;
  }
  flush(launch, stream);
}

void CudaEncoders::flush(const cuda::Launch& launch, const cuda::Stream& stream) {
  if (batch_.empty()) return;
  inputs_.clear();
  for (const Item& item : batch_) inputs_.push_back(item.input);
  // One alone goes where it belongs at once, and may be longer than a call: clips of raw frames have no longest length.
  void* const to = batch_.size() == 1 ? batch_[0].soft_tokens : soft_tokens_.data();
  if (is_audio(*batch_[0].input))
    audio_->encode(launch, stream, inputs_, to);
  else
    vision_->encode(launch, stream, inputs_, to);
  if (to == soft_tokens_.data()) {
    const char* from = soft_tokens_.as<char>();
    for (const Item& item : batch_) {
      const int64_t size_bytes = item.input->num_tokens * row_bytes_;
      stream.copy_on_device(item.soft_tokens, from, size_bytes);
      from += size_bytes;
    }
  }
  batch_.clear();
}

}  // namespace

Result<std::unique_ptr<CudaMediaEncoder>> make_cuda_encoders(int device, const ModelConfig& config,
                                                             const EncoderWeights& weights) {
  CARAT_TRY_VOID(cuda::use_device(device));
  auto encoders = std::make_unique<CudaEncoders>();
  CARAT_TRY_VOID(encoders->init(config, weights));
  return std::unique_ptr<CudaMediaEncoder>(std::move(encoders));
}

}  // namespace carat
