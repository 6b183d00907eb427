#include "model/vision/vision_model.h"

#include <utility>
#include <variant>

#include "base/check.h"
#include "model/vision/patch_embedder.h"
#include "ops/ops.h"

namespace carat {

namespace {

using Encoder = std::variant<VisionTower, PatchEmbedder>;

Encoder make_encoder(Arena& arena, const VisionConfig& config, const VisionWeights& weights, int64_t max_soft_tokens) {
  if (const auto* tower = std::get_if<VisionTowerConfig>(&config.encoder)) {
    constexpr int64_t kPatchesPerToken = VisionTowerConfig::kPooling * VisionTowerConfig::kPooling;
    return VisionTower(arena, *tower, weights.tower, max_soft_tokens * kPatchesPerToken);
  }
  return PatchEmbedder(arena, std::get<PatchEmbedderConfig>(config.encoder), weights.embedder, max_soft_tokens);
}

double eps_of(const VisionConfig& config) {
  return std::visit([](const auto& c) { return c.rms_norm_eps; }, config.encoder);
}

}  // namespace

struct VisionModel::Impl {
  Impl(const ModelConfig& config, std::shared_ptr<const VisionWeights> vision_weights, Buffer memory,
       int max_soft_tokens)
      : weights(std::move(vision_weights)),
        buffer(std::move(memory)),
        arena(buffer.data()),
        encoder(make_encoder(arena, *config.vision, *weights, max_soft_tokens)),
        eps(static_cast<float>(eps_of(*config.vision))) {}

  std::shared_ptr<const VisionWeights> weights;
  Buffer buffer;
  Arena arena;
  Encoder encoder;
  float eps;
  VisionObserver observer;
};

VisionModel::VisionModel() = default;
VisionModel::~VisionModel() = default;

Result<std::unique_ptr<VisionModel>> VisionModel::create(const ModelConfig& config,
                                                         std::shared_ptr<const VisionWeights> weights,
                                                         int max_soft_tokens) {
  CARAT_CHECK(config.vision && weights, "the model can see");
  CARAT_TRY(Buffer buffer, Buffer::allocate(workspace_bytes(config, max_soft_tokens)));
  std::unique_ptr<VisionModel> model(new VisionModel());
  model->impl_ = std::make_unique<Impl>(config, std::move(weights), std::move(buffer), max_soft_tokens);
  return model;
}

int64_t VisionModel::workspace_bytes(const ModelConfig& config, int max_soft_tokens) {
  Arena measure;
  make_encoder(measure, *config.vision, VisionWeights{}, max_soft_tokens);
  return measure.peak();
}

/// soft = round( RMS(h) Wp^T ), the norm without a weight
void VisionModel::encode(ops::Context& ctx, std::span<const EncoderInput* const> inputs, TensorView soft_tokens) {
  Impl& m = *impl_;
  if (inputs.empty()) return;
  const TensorView hidden =
      std::visit([&](auto& encoder) { return encoder.forward(ctx, inputs, m.observer); }, m.encoder);
  ops::rms_norm(ctx, hidden, hidden, {}, m.eps);
  ops::linear(ctx, soft_tokens, hidden, m.weights->embedding_projection);
}

void VisionModel::set_observer(VisionObserver observer) { impl_->observer = std::move(observer); }

}  // namespace carat
