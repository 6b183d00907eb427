#include "model/vision/vision_model.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "base/worker_pool.h"
#include "config/members.h"
#include "model/allocations_testing.h"
#include "model/encoders.h"
#include "ops/cpu/slices.h"
#include "tensor/bf16.h"
#include "weights/test_support.h"

namespace carat {
namespace {

using testing_support::small_seeing_config;

using Kind = EncoderInput::Kind;

/// A picture of so many soft tokens by so many, of noise around a slope.
EncoderInput picture(const VisionConfig& config, int tokens_wide, int tokens_high, uint32_t seed,
                     Kind kind = Kind::kImage) {
  const int patch = config.patch_size(), per_token = VisionConfig::kTokenSize / patch;
  EncoderInput input;
  input.kind = kind;
  input.num_tokens = tokens_wide * tokens_high;
  input.grid_width = tokens_wide * per_token;
  input.grid_height = tokens_high * per_token;
  std::mt19937 random(seed);
  const int bytes = input.grid_width * input.grid_height * patch * patch * 3;
  for (int i = 0; i < bytes; ++i)
    input.pixels.push_back(
        static_cast<uint8_t>(random() % 100 + static_cast<unsigned>(i) * 155u / static_cast<unsigned>(bytes)));
  return input;
}

class VisionModelTest : public ::testing::TestWithParam<const char*> {
 protected:
  static constexpr int kMaxTokens = 40;

  void SetUp() override {
    config_ = small_seeing_config(GetParam());
    weights_ = make_dummy_vision_weights(config_, 11).value();
    model_ = VisionModel::create(config_, weights_, kMaxTokens).value();
  }
  const VisionConfig& vision() const { return *config_.vision; }
  std::vector<Bf16> encode(ops::Context& ctx, const std::vector<const EncoderInput*>& inputs) {
    int64_t count = 0;
    for (const EncoderInput* input : inputs) count += input->num_tokens;
    std::vector<Bf16> out(static_cast<size_t>(count * config_.text.hidden_size));
    model_->encode(ctx, inputs, {out.data(), DType::kBf16, {count, config_.text.hidden_size}});
    return out;
  }
  std::vector<Bf16> encode(const EncoderInput& input) { return encode(ctx_, {&input}); }

  ops::Context ctx_{ops::Backend::kCpu, nullptr};
  ModelConfig config_;
  std::shared_ptr<const VisionWeights> weights_;
  std::unique_ptr<VisionModel> model_;
};

INSTANTIATE_TEST_SUITE_P(Forms, VisionModelTest, ::testing::Values("E2B", "31B", "12B"));

double relative_rms(const std::vector<Bf16>& a, const std::vector<Bf16>& b) {
  double squares = 0, sum = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const double x = static_cast<float>(a[i]), y = static_cast<float>(b[i]);
    squares += (x - y) * (x - y);
    sum += y * y;
  }
  return std::sqrt(squares / sum);
}

TEST_P(VisionModelTest, AgreesWithTheTruth) {
  ops::Context ref{ops::Backend::kRef, nullptr};
  for (const auto& [wide, high] : {std::pair(1, 1), {3, 2}, {1, 7}, {8, 5}}) {
    const EncoderInput input = picture(vision(), wide, high, 3);
    const auto got = encode(input), want = encode(ref, {&input});
    ASSERT_TRUE(std::ranges::all_of(got, [](Bf16 x) { return std::isfinite(static_cast<float>(x)); }));
    // Roundings that fall the other way, spread over two layers.
    EXPECT_LT(relative_rms(got, want), 0.01) << wide << " x " << high;
  }
}

TEST_P(VisionModelTest, PicturesDoNotSeeEachOther) {
  const EncoderInput a = picture(vision(), 3, 2, 1), b = picture(vision(), 1, 5, 2, Kind::kVideoFrame),
                     c = picture(vision(), 2, 2, 3);
  auto alone = encode(a);
  for (const EncoderInput* next : {&b, &c}) std::ranges::copy(encode(*next), std::back_inserter(alone));
  EXPECT_EQ(encode(ctx_, {&a, &b, &c}), alone);
}

TEST_P(VisionModelTest, ThreadsChangeNothing) {
  const EncoderInput input = picture(vision(), 7, 5, 4);
  WorkerPool pool(3);
  ops::Context many{ops::Backend::kCpu, &pool};
  EXPECT_EQ(encode(many, {&input}), encode(input));
}

TEST_P(VisionModelTest, PlaceMatters) {
  // The same patch everywhere: only positions tell soft tokens apart.
  EncoderInput input = picture(vision(), 3, 2, 5);
  const size_t patch = input.pixels.size() / static_cast<size_t>(input.grid_width * input.grid_height);
  for (size_t i = patch; i < input.pixels.size(); ++i) input.pixels[i] = input.pixels[i % patch];
  const auto soft = encode(input);
  const size_t width = static_cast<size_t>(config_.text.hidden_size);
  for (size_t a = 0; a < 6; ++a)
    for (size_t b = 0; b < a; ++b)
      EXPECT_NE(std::memcmp(&soft[a * width], &soft[b * width], width * sizeof(Bf16)), 0) << a << " and " << b;
}

TEST_P(VisionModelTest, ThePictureIsNotItsMirror) {
  const EncoderInput wide = picture(vision(), 6, 1, 6);
  EncoderInput tall = wide;
  std::swap(tall.grid_width, tall.grid_height);
  EXPECT_NE(encode(wide), encode(tall));
}

// 126 of the 256 bytes differ by a bit between x * (1 / 255) and x / 255, and few of these after rounding to bf16.
TEST_P(VisionModelTest, FramesAreScaledAsTheReferenceScalesThem) {
  const bool centred = vision().patch_size() == VisionTowerConfig::kPatchSize;
  const PixelTables tables(centred);
  for (const Kind kind : {Kind::kImage, Kind::kVideoFrame})
    for (int byte = 0; byte < 256; ++byte) {
      const float x = static_cast<float>(byte);
      const float p = kind == Kind::kImage ? x * 0.003921569f : x / 255.0f;
      EXPECT_EQ(static_cast<const Bf16*>(tables.table(kind).data)[byte], Bf16(centred ? 2 * (p - 0.5f) : p)) << byte;
    }
}

TEST_P(VisionModelTest, AllocatesNothingOnceItHasSeenThePictures) {
  WorkerPool pool(2);
  ops::Context ctx{ops::Backend::kCpu, &pool};
  const EncoderInput large = picture(vision(), 8, 5, 7), small = picture(vision(), 2, 1, 8);
  const EncoderInput* const both[] = {&large, &small};
  std::vector<Bf16> out(static_cast<size_t>(kMaxTokens * config_.text.hidden_size));
  // A thread's scratch grows when it first takes a piece of an op, and nobody knows when that is.
  constexpr int kQuiet = 20;
  int quiet = 0;
  for (int i = 0; i < 100 * kQuiet && quiet < kQuiet; ++i) {
    const int64_t before = testing::num_allocations() + ops::cpu::num_scratch_allocations();
    const EncoderInput* const input = both[i % 2];
    model_->encode(ctx, {&input, 1}, {out.data(), DType::kBf16, {input->num_tokens, config_.text.hidden_size}});
    quiet = testing::num_allocations() + ops::cpu::num_scratch_allocations() == before ? quiet + 1 : 0;
  }
  EXPECT_EQ(quiet, kQuiet);
}

TEST_P(VisionModelTest, NoPicturesAreNoTokens) { EXPECT_TRUE(encode(ctx_, {}).empty()); }

TEST_P(VisionModelTest, WhatDoesNotFitIsAProgrammersError) {
  const EncoderInput large = picture(vision(), 7, 6, 9);
  EXPECT_DEATH(encode(large), "larger than the encoder was made for");
  EncoderInput torn = picture(vision(), 2, 2, 9);
  torn.pixels.pop_back();
  EXPECT_DEATH(encode(torn), "");
  EncoderInput sound;
  sound.kind = Kind::kAudio;
  EXPECT_DEATH(encode(sound), "");
}

TEST(Encoders, HandEachInputToItsOwn) {
  ModelConfig config = small_seeing_config("E2B");
  config.audio = testing_support::small_hearing_config("E2B").audio;
  const EncoderWeights weights = make_dummy_encoder_weights(config, 11).value();
  const auto encoders = Encoders::create(config, weights).value();
  ops::Context ctx{ops::Backend::kCpu, nullptr};
  const auto encode = [&](MediaEncoder& encoder, const EncoderInput& input) {
    std::vector<Bf16> out(static_cast<size_t>(input.num_tokens * config.text.hidden_size));
    encoder.encode(ctx, input, {out.data(), DType::kBf16, {input.num_tokens, config.text.hidden_size}});
    return out;
  };
  const EncoderInput image = picture(*config.vision, 4, 3, 1);
  EncoderInput clip;
  clip.kind = Kind::kAudio;
  clip.num_frames = 9;
  clip.num_tokens = 3;
  clip.features.assign(9 * ConformerConfig::kMelBins, -2.0f);
  std::vector<Bf16> seen(static_cast<size_t>(image.num_tokens * config.text.hidden_size));
  const EncoderInput* const input = &image;
  VisionModel::create(config, weights.vision, 70)
      .value()
      ->encode(ctx, {&input, 1}, {seen.data(), DType::kBf16, {image.num_tokens, config.text.hidden_size}});
  EXPECT_EQ(encode(*encoders, image), seen);
  EXPECT_EQ(encode(*encoders, clip), encode(*create_audio_encoder(config, weights.audio).value(), clip));
}

TEST(Encoders, WithoutTheirWeightsAreNotThere) {
  const ModelConfig config = small_seeing_config("31B");
  const auto encoders = Encoders::create(config, {}).value();
  ops::Context ctx{ops::Backend::kCpu, nullptr};
  const EncoderInput image = picture(*config.vision, 1, 1, 1);
  EXPECT_DEATH(encoders->encode(ctx, image, {}), "made to see");
}

TEST(Encoders, WorkspacesOfPublishedMembersAreModest) {
  const auto megabytes = [](const char* name) {
    return Encoders::workspace_bytes(make_model_config(published_member(name))) >> 20;
  };
  // 2,520 rows of 768 or 1,152 six times over and a chunk's inner activations; without a tower 280 rows of pixels.
  EXPECT_LT(VisionModel::workspace_bytes(make_model_config(published_member("E4B")), 280) >> 20, 40);
  EXPECT_LT(megabytes("31B"), 60);
  EXPECT_LT(VisionModel::workspace_bytes(make_model_config(published_member("12B")), 280) >> 20, 20);
}

}  // namespace
}  // namespace carat
