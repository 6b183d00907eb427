// The audio encoders on a GPU against the host's, tensor by tensor on miniatures.
#include "model/audio/cuda_audio_model.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <string>
#include <vector>

#include "base/str.h"
#include "model/audio/audio_encoder.h"
#include "model/cuda_media_encoder.h"
#include "ops/cuda/cuda_testing.h"
#include "weights/test_support.h"

namespace carat {
namespace {

using cuda::testing::expect_close;
using cuda::testing::Values;

/// Small, but of widths that the kernels were made for.
ModelConfig small_config(const char* member) {
  ModelConfig config = testing_support::small_hearing_config(member);
  if (auto* c = std::get_if<ConformerConfig>(&config.audio.value())) {
    c->hidden_size = 128;
    c->num_heads = 2;
    c->conv_channels[0] = 16;
    c->conv_channels[1] = 8;
    c->output_size = 64;
  }
  return config;
}

class CudaAudioModelTest : public cuda::testing::CudaOpsTest {
 protected:
  std::shared_ptr<const EncoderInput> clip(const ModelConfig& config, int num_frames) {
    const bool raw = std::holds_alternative<RawAudioConfig>(*config.audio);
    auto input = std::make_shared<EncoderInput>();
    input->kind = EncoderInput::Kind::kAudio;
    input->num_frames = num_frames;
    input->num_tokens = raw ? num_frames : (num_frames + 3) / 4;
    input->features.resize(static_cast<size_t>(num_frames * (raw ? 640 : 128)));
    std::normal_distribution<float> values(raw ? 0.0f : -3.0f, raw ? 0.1f : 2.0f);
    for (float& x : input->features) x = values(rng_);
    return input;
  }
  static std::string key(std::string_view name, int layer) { return str_cat(name, " ", layer); }

  /// All clips' rows of a tensor, by name and layer; soft tokens as "soft -1".
  using Tensors = std::map<std::string, Values>;
  Tensors on_host(const ModelConfig& config, std::shared_ptr<const AudioWeights> weights,
                  const std::vector<const EncoderInput*>& clips) {
    Tensors out;
    ops::Context ctx;
    const auto encoder = create_audio_encoder(config, std::move(weights), [&](auto name, int layer, const auto& view) {
                           Values& all = out[key(name, layer)];
                           const auto* data = static_cast<const Bf16*>(view.data);
                           all.insert(all.end(), data, data + view.shape.num_elements());
                         }).value();
    for (const EncoderInput* input : clips) {
      Values soft(static_cast<size_t>(input->num_tokens) * static_cast<size_t>(config.text.hidden_size));
      encoder->encode(ctx, *input, {soft.data(), DType::kBf16, {input->num_tokens, config.text.hidden_size}});
      Values& all = out[key("soft", -1)];
      all.insert(all.end(), soft.begin(), soft.end());
    }
    return out;
  }
  Tensors on_device(const ModelConfig& config, const AudioWeights& weights,
                    const std::vector<const EncoderInput*>& clips) {
    Tensors out;
    auto created = CudaAudioModel::create(config, weights, 800, stream_);
    EXPECT_TRUE(created) << created.error().message;
    CudaAudioModel& model = **created;
    model.set_observer([&](std::string_view name, int layer, const void* data, int rows, int columns) {
      Values values(static_cast<size_t>(rows) * static_cast<size_t>(columns));
      stream_.copy_to_host(values.data(), data, static_cast<int64_t>(2 * values.size()));
      stream_.synchronize();
      out[key(name, layer)] = std::move(values);
    });
    size_t num_values = 0;
    for (const EncoderInput* input : clips)
      num_values += static_cast<size_t>(input->num_tokens) * static_cast<size_t>(config.text.hidden_size);
    const auto soft = poisoned(static_cast<int64_t>(2 * num_values));
    for (int repeat = 0; repeat < 2; ++repeat) model.encode(launch_, stream_, clips, soft.data());
    out[key("soft", -1)] = download<Bf16>(soft, num_values);
    return out;
  }
  void compare(const ModelConfig& config, const std::vector<int>& frames) {
    const auto weights = make_dummy_audio_weights(config, 11).value();
    std::vector<std::shared_ptr<const EncoderInput>> owners;
    std::vector<const EncoderInput*> clips;
    for (const int n : frames) {
      owners.push_back(clip(config, n));
      clips.push_back(owners.back().get());
    }
    const Tensors want = on_host(config, weights, clips), got = on_device(config, *weights, clips);
    EXPECT_GE(got.size(), std::holds_alternative<RawAudioConfig>(*config.audio) ? 1u : 4u);
    // Roundings that fall the other way spread from layer to layer, as between the reference's own kernels.
    for (const auto& [name, values] : got)
      expect_close(values, want.at(name), 0.02,
                   str_cat(name, ", ", frames.size(), " clips from ", frames[0], " frames"));
  }
};

TEST_F(CudaAudioModelTest, ConformerEqualsTheHost) {
  for (const auto& frames : {std::vector{1}, {160}, {50, 1, 7, 333, 64}, {2999}}) compare(small_config("E2B"), frames);
}

TEST_F(CudaAudioModelTest, ConformerWithoutBoundsEqualsTheHost) {
  ModelConfig config = small_config("E2B");
  std::get<ConformerConfig>(*config.audio).clipped_linears = false;
  compare(config, {90, 30});
}

TEST_F(CudaAudioModelTest, RawFramesEqualTheHost) {
  for (const auto& frames : {std::vector{1}, {25, 3, 100}, {1700}}) compare(small_config("12B"), frames);
}

// Behind the common door clips go together up to the room of a call; one of raw frames may be longer than that.
TEST_F(CudaAudioModelTest, EncodersTakeClipsOfAnyLength) {
  const ModelConfig config = small_config("12B");
  const auto weights = make_dummy_audio_weights(config, 11).value();
  const auto encoders = make_cuda_encoders(0, config, {.vision = nullptr, .audio = weights});
  ASSERT_TRUE(encoders) << encoders.error().message;
  std::vector<std::shared_ptr<const EncoderInput>> owners;
  std::vector<const EncoderInput*> clips;
  std::vector<cuda::DeviceBuffer> soft;
  std::vector<CudaMediaEncoder::Item> items;
  const size_t width = static_cast<size_t>(config.text.hidden_size);
  for (const int frames : {5, 4000, 700, 700, 700}) {
    clips.push_back(owners.emplace_back(clip(config, frames)).get());
    soft.push_back(poisoned(int64_t{frames} * config.text.hidden_size * 2));
    items.push_back({clips.back(), soft.back().data()});
  }
  (*encoders)->encode(launch_, stream_, items);
  Values got;
  for (size_t i = 0; i < soft.size(); ++i) {
    const auto part = download<Bf16>(soft[i], static_cast<size_t>(clips[i]->num_tokens) * width);
    got.insert(got.end(), part.begin(), part.end());
  }
  expect_close(got, on_host(config, weights, clips).at(key("soft", -1)), 0.02, "clips of any length");
}

TEST_F(CudaAudioModelTest, NoClipsAreFine) {
  const ModelConfig config = small_config("E2B");
  auto model = CudaAudioModel::create(config, *make_dummy_audio_weights(config, 1).value(), 750, stream_);
  ASSERT_TRUE(model);
  (*model)->encode(launch_, stream_, {}, nullptr);
}

TEST_F(CudaAudioModelTest, RefusesWidthsWithoutKernels) {
  ModelConfig config = small_config("E2B");
  std::get<ConformerConfig>(*config.audio).output_size = 40;
  const auto model = CudaAudioModel::create(config, *make_dummy_audio_weights(config, 1).value(), 750, stream_);
  ASSERT_FALSE(model);
  EXPECT_EQ(model.error().code, Errc::kUnsupported);
}

// Without a device: what a budget is made of.
TEST(CudaAudioModel, MemoryOfPublishedMembers) {
  const auto bytes = [](const char* name, int max_tokens) {
    return CudaAudioModel::bytes_needed(make_model_config(published_member(name)), max_tokens);
  };
  constexpr int64_t kTower = 609'650'176;
  EXPECT_GT(bytes("E2B", 750), kTower);
  EXPECT_LT(bytes("E2B", 3000), kTower + (int64_t{150} << 20));
  EXPECT_GT(bytes("E4B", 3000), bytes("E4B", 750));
  EXPECT_LT(bytes("12B", 750), int64_t{16} << 20);
}

}  // namespace
}  // namespace carat
