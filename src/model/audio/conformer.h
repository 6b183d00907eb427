#pragma once
// The conformer tower of E2B and E4B as a forward pass made of ops. Spec: audio.md sections 3 to 6.

#include <memory>

#include "model/audio/audio_encoder.h"
#include "model/audio/conformer_tables.h"
#include "tensor/tensor.h"

namespace carat {

class ConformerEncoder final : public MediaEncoder {
 public:
  static constexpr int64_t kMaxTokens = 750, kMaxFrames = 4 * kMaxTokens;

  static Result<std::unique_ptr<MediaEncoder>> create(const ModelConfig& config,
                                                      std::shared_ptr<const AudioWeights> weights,
                                                      AudioObserver observer);
  static int64_t memory_bytes(const ConformerConfig& config);

  void encode(ops::Context& ctx, const EncoderInput& input, TensorView soft_tokens) override;

 private:
  struct Workspace;
  ConformerEncoder(const ConformerConfig& config, std::shared_ptr<const AudioWeights> weights, ConformerTables tables,
                   Buffer memory, AudioObserver observer);

  void subsample(ops::Context& ctx, const EncoderInput& input);
  void layer(ops::Context& ctx, int j, int64_t count);
  void feed_forward(ops::Context& ctx, const ConformerFeedForward& w, int64_t count);
  void attend(ops::Context& ctx, int j, int64_t count);
  void convolve(ops::Context& ctx, int j, int64_t count);
  void observe(std::string_view name, int layer, ConstTensorView value) const {
    if (observer_) observer_(name, layer, value);
  }

  const ConformerConfig config_;
  const std::shared_ptr<const AudioWeights> weights_;
  const ConformerTables tables_;
  const Buffer memory_;
  const AudioObserver observer_;
  std::unique_ptr<const Workspace> ws_;
};

}  // namespace carat
