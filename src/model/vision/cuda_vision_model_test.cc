// The vision encoders on a GPU against the host's, tensor by tensor on miniatures; and the real shapes' speed.
#include "model/vision/cuda_vision_model.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <map>
#include <string>
#include <vector>

#include "base/str.h"
#include "config/members.h"
#include "model/vision/vision_model.h"
#include "ops/cuda/cuda_testing.h"
#include "weights/test_support.h"

namespace carat {
namespace {

using cuda::testing::expect_close;
using cuda::testing::Values;
using Kind = EncoderInput::Kind;

/// Small, but of widths that the kernels were made for.
ModelConfig small_config(const char* member) {
  ModelConfig config = testing_support::small_seeing_config(member);
  if (auto* tower = std::get_if<VisionTowerConfig>(&config.vision->encoder)) {
    const int head_dim = std::string_view(member) == "31B" ? 72 : 64;
    tower->hidden_size = 2 * head_dim;
    tower->num_heads = 2;
    tower->intermediate_size = 96;
  } else {
    std::get<PatchEmbedderConfig>(config.vision->encoder).hidden_size = 64;
  }
  return config;
}

class CudaVisionModelTest : public cuda::testing::CudaOpsTest {
 protected:
  static constexpr int kMaxTokens = 200;

  EncoderInput picture(const VisionConfig& config, int tokens_wide, int tokens_high, Kind kind = Kind::kImage) {
    const int patch = config.patch_size(), per_token = VisionConfig::kTokenSize / patch;
    EncoderInput input;
    input.kind = kind;
    input.num_tokens = tokens_wide * tokens_high;
    input.grid_width = tokens_wide * per_token;
    input.grid_height = tokens_high * per_token;
    input.pixels.resize(static_cast<size_t>(input.grid_width) *
                        static_cast<size_t>(input.grid_height * patch * patch * 3));
    for (size_t i = 0; i < input.pixels.size(); ++i)
      input.pixels[i] = static_cast<uint8_t>(rng_() % 100 + i * 155 / input.pixels.size());
    return input;
  }
  static size_t num_values(const ModelConfig& config, const std::vector<const EncoderInput*>& inputs) {
    int tokens = 0;
    for (const EncoderInput* input : inputs) tokens += input->num_tokens;
    return static_cast<size_t>(tokens) * static_cast<size_t>(config.text.hidden_size);
  }
  static std::string key(std::string_view name, int layer) { return str_cat(name, " ", layer); }

  /// Tensors by name and layer; soft tokens as "soft -1".
  using Tensors = std::map<std::string, Values>;
  static Tensors on_host(const ModelConfig& config, std::shared_ptr<const VisionWeights> weights,
                         const std::vector<const EncoderInput*>& inputs) {
    Tensors out;
    ops::Context ctx;
    const auto model = VisionModel::create(config, std::move(weights), kMaxTokens).value();
    model->set_observer([&](std::string_view name, int layer, const ConstTensorView& view) {
      const auto* data = static_cast<const Bf16*>(view.data);
      out[key(name, layer)].assign(data, data + view.shape.num_elements());
    });
    Values soft(num_values(config, inputs));
    const int64_t width = config.text.hidden_size;
    model->encode(ctx, inputs, {soft.data(), DType::kBf16, {static_cast<int64_t>(soft.size()) / width, width}});
    out[key("soft", -1)] = std::move(soft);
    return out;
  }
  Tensors on_device(const ModelConfig& config, const VisionWeights& weights,
                    const std::vector<const EncoderInput*>& inputs) {
    Tensors out;
    auto created = CudaVisionModel::create(config, weights, kMaxTokens, stream_);
    EXPECT_TRUE(created) << created.error().message;
    CudaVisionModel& model = **created;
    model.set_observer([&](std::string_view name, int layer, const void* data, int rows, int columns) {
      Values values(static_cast<size_t>(rows) * static_cast<size_t>(columns));
      stream_.copy_to_host(values.data(), data, static_cast<int64_t>(2 * values.size()));
      stream_.synchronize();
      out[key(name, layer)] = std::move(values);
    });
    const auto soft = poisoned(static_cast<int64_t>(2 * num_values(config, inputs)));
    for (int repeat = 0; repeat < 2; ++repeat) model.encode(launch_, stream_, inputs, soft.data());
    out[key("soft", -1)] = download<Bf16>(soft, num_values(config, inputs));
    return out;
  }
  void compare(const ModelConfig& config) {
    const auto weights = make_dummy_vision_weights(config, 11).value();
    const VisionConfig& vision = *config.vision;
    // Borders of tiles and stages, long and thin ones, frames between images.
    const std::vector<std::vector<EncoderInput>> batches = {
        {picture(vision, 1, 1)},
        {picture(vision, 13, 8)},
        {picture(vision, 1, 14), picture(vision, 7, 1, Kind::kVideoFrame), picture(vision, 3, 5, Kind::kVideoFrame),
         picture(vision, 8, 8), picture(vision, 2, 2, Kind::kVideoFrame)}};
    for (const auto& batch : batches) {
      std::vector<const EncoderInput*> inputs;
      for (const EncoderInput& input : batch) inputs.push_back(&input);
      const Tensors want = on_host(config, weights, inputs), got = on_device(config, *weights, inputs);
      // Roundings that fall the other way spread from layer to layer, as between the reference's own kernels.
      for (const auto& [name, values] : got)
        expect_close(values, want.at(name), 0.02, str_cat(name, ", ", batch.size(), " pictures"));
      EXPECT_GE(got.size(), std::holds_alternative<VisionTowerConfig>(vision.encoder) ? 4u : 1u);
    }
  }
};

TEST_F(CudaVisionModelTest, TheSmallTowerEqualsTheHost) { compare(small_config("E2B")); }
TEST_F(CudaVisionModelTest, TheLargeTowerEqualsTheHost) { compare(small_config("31B")); }
TEST_F(CudaVisionModelTest, ThePatchEmbedderEqualsTheHost) { compare(small_config("12B")); }

TEST_F(CudaVisionModelTest, RefusesWidthsWithoutKernels) {
  ModelConfig config = small_config("E2B");
  std::get<VisionTowerConfig>(config.vision->encoder).num_heads = 4;  // of 32
  const auto model = CudaVisionModel::create(config, *make_dummy_vision_weights(config, 1).value(), 70, stream_);
  ASSERT_FALSE(model);
  EXPECT_EQ(model.error().code, Errc::kUnsupported);
}

/// Prints how long the published shapes take for 720p pictures (264 soft tokens); nothing is asserted about time.
TEST_F(CudaVisionModelTest, PrintsItsSpeed) {
  for (const char* member : {"E2B", "31B", "12B"}) {
    const ModelConfig config = make_model_config(published_member(member));
    const auto created = CudaVisionModel::create(config, *make_dummy_vision_weights(config, 1).value(), 1120, stream_);
    ASSERT_TRUE(created) << created.error().message;
    const EncoderInput input = picture(*config.vision, 22, 12);
    for (const int count : {1, 2, 4}) {
      const std::vector<const EncoderInput*> inputs(static_cast<size_t>(count), &input);
      const auto soft = poisoned(static_cast<int64_t>(2 * num_values(config, inputs)));
      const auto begin = cuda::Event::create(true).value(), end = cuda::Event::create(true).value();
      constexpr int kRepeats = 10;
      for (int i = 0; i < 3; ++i) (*created)->encode(launch_, stream_, inputs, soft.data());
      begin.record(stream_);
      for (int i = 0; i < kRepeats; ++i) (*created)->encode(launch_, stream_, inputs, soft.data());
      end.record(stream_);
      end.synchronize();
      const double ms = static_cast<double>(cuda::Event::elapsed_ms(begin, end)) / kRepeats;
      double flops = 0;
      if (const auto* t = std::get_if<VisionTowerConfig>(&config.vision->encoder)) {
        const double n = 264.0 * 9, c = t->hidden_size;
        flops = t->num_layers * (2 * n * (4 * c * c + 3 * c * t->intermediate_size) + 4 * n * n * c);
      }
      std::printf("%s, %d pictures: %.3f ms each, %.0f TFLOP/s\n", member, count, ms / count,
                  flops * count / ms * 1e-9);
    }
  }
}

}  // namespace
}  // namespace carat
