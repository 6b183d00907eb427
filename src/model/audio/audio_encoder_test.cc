#include "model/audio/audio_encoder.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include "base/worker_pool.h"
#include "tensor/bf16.h"
#include "weights/test_support.h"

namespace carat {
namespace {

using testing_support::small_hearing_config;

constexpr int kMelBins = ConformerConfig::kMelBins, kSamples = RawAudioConfig::kFrameSamples;

/// A clip of so many frames, as loud as speech is.
EncoderInput clip(const ModelConfig& config, int num_frames, uint32_t seed) {
  const bool raw = std::holds_alternative<RawAudioConfig>(*config.audio);
  EncoderInput input;
  input.kind = EncoderInput::Kind::kAudio;
  input.num_frames = num_frames;
  input.num_tokens = raw ? num_frames : (num_frames + 3) / 4;
  input.features.resize(static_cast<size_t>(num_frames * (raw ? kSamples : kMelBins)));
  std::mt19937 engine(seed);
  std::normal_distribution<float> values(raw ? 0.0f : -3.0f, raw ? 0.1f : 2.0f);
  for (float& x : input.features) x = values(engine);
  return input;
}

class AudioEncoderTest : public ::testing::Test {
 protected:
  void load(const char* member) {
    config_ = small_hearing_config(member);
    weights_ = make_dummy_audio_weights(config_, 11).value();
    encoder_ = create_audio_encoder(config_, weights_).value();
  }
  std::vector<float> encode(ops::Context& ctx, const EncoderInput& input) {
    const int64_t count = input.num_tokens, width = config_.text.hidden_size;
    std::vector<Bf16> out(static_cast<size_t>(count * width));
    encoder_->encode(ctx, input, TensorView(out.data(), DType::kBf16, {count, width}));
    return {out.begin(), out.end()};
  }
  std::vector<float> encode(const EncoderInput& input) { return encode(ctx_, input); }
  size_t width() const { return static_cast<size_t>(config_.text.hidden_size); }

  ops::Context ctx_{ops::Backend::kCpu, nullptr};
  ModelConfig config_;
  std::shared_ptr<const AudioWeights> weights_;
  std::unique_ptr<MediaEncoder> encoder_;
};

double relative_rms(const std::vector<float>& a, const std::vector<float>& b) {
  double squares = 0, sum = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    squares += std::pow(static_cast<double>(a[i]) - static_cast<double>(b[i]), 2);
    sum += std::pow(static_cast<double>(b[i]), 2);
  }
  return std::sqrt(squares / sum);
}

TEST_F(AudioEncoderTest, AgreesWithTheTruth) {
  for (const char* member : {"E2B", "12B"}) {
    load(member);
    ops::Context ref{ops::Backend::kRef, nullptr};
    for (const int frames : {1, 2, 3, 4, 5, 50, 131}) {
      const EncoderInput input = clip(config_, frames, 1);
      const auto got = encode(input), want = encode(ref, input);
      ASSERT_TRUE(std::ranges::all_of(got, [](float x) { return std::isfinite(x); }));
      // Roundings that fall the other way, spread over two layers.
      EXPECT_LT(relative_rms(got, want), 0.02) << member << ", " << frames << " frames";
    }
  }
}

TEST_F(AudioEncoderTest, ThreadsChangeNothing) {
  for (const char* member : {"E2B", "12B"}) {
    load(member);
    WorkerPool pool(3);
    ops::Context many{ops::Backend::kCpu, &pool};
    const EncoderInput input = clip(config_, 300, 2);
    EXPECT_EQ(encode(many, input), encode(input)) << member;
  }
}

TEST_F(AudioEncoderTest, WhatCameBeforeChangesNothing) {
  load("E2B");
  const EncoderInput input = clip(config_, 90, 3);
  const auto first = encode(input);
  encode(clip(config_, 400, 4));
  EXPECT_EQ(encode(input), first);
}

// The tower hears ahead by its convolutions' windows alone: a token is final three frames after its own four.
TEST_F(AudioEncoderTest, TheConformerDoesNotWaitForTheEnd) {
  load("E2B");
  EncoderInput whole = clip(config_, 200, 5);
  const auto all = encode(whole);
  for (const int frames : {60, 61, 62, 63, 64, 120}) {
    EncoderInput part = whole;
    part.num_frames = frames;
    part.num_tokens = (frames + 3) / 4;
    part.features.resize(static_cast<size_t>(frames * kMelBins));
    const auto some = encode(part);
    const size_t settled = static_cast<size_t>(frames - 3) / 4;
    EXPECT_TRUE(std::equal(some.begin(), some.begin() + static_cast<int64_t>(settled * width()), all.begin()))
        << frames;
  }
}

// A token hears its own window and the eleven tokens before it in each layer, and the convolution's four.
TEST_F(AudioEncoderTest, TheConformerForgetsWhatIsFarBack) {
  load("E2B");
  const EncoderInput input = clip(config_, 400, 6);
  EncoderInput changed = input;
  for (size_t i = 0; i < 8 * kMelBins; ++i) changed.features[i] += 1;  // tokens 0 and 1, and the window of 2
  const auto a = encode(input), b = encode(changed);
  constexpr size_t kReach = 2 + 2 * (11 + 4);
  for (size_t t = 0; t < 100; ++t) {
    const auto begin = a.begin() + static_cast<int64_t>(t * width());
    const bool same =
        std::equal(begin, begin + static_cast<int64_t>(width()), b.begin() + static_cast<int64_t>(t * width()));
    EXPECT_EQ(same, t > kReach) << t;
  }
}

TEST_F(AudioEncoderTest, TheLongestClipFits) {
  load("E2B");
  EncoderInput longest = clip(config_, 2999, 7);
  EXPECT_EQ(longest.num_tokens, 750);
  EXPECT_EQ(encode(longest).size(), 750 * width());
}

TEST_F(AudioEncoderTest, ClippedLinearsAct) {
  load("E2B");
  const EncoderInput input = clip(config_, 40, 8);
  const auto clipped = encode(input);
  auto open = std::make_shared<AudioWeights>(*weights_);
  for (ConformerLayerWeights& layer : open->layers) layer.linear_start = {.weight = layer.linear_start.weight};
  encoder_ = create_audio_encoder(config_, open).value();
  EXPECT_NE(encode(input), clipped);
}

TEST_F(AudioEncoderTest, RawFramesStandAlone) {
  load("12B");
  const EncoderInput input = clip(config_, 600, 9);
  const auto all = encode(input);
  for (const int frame : {0, 255, 256, 257, 599}) {
    EncoderInput one = clip(config_, 1, 0);
    std::copy_n(input.features.begin() + frame * kSamples, kSamples, one.features.begin());
    const auto alone = encode(one);
    EXPECT_TRUE(std::equal(alone.begin(), alone.end(),
                           all.begin() + static_cast<int64_t>(static_cast<size_t>(frame) * width())))
        << frame;
  }
}

TEST_F(AudioEncoderTest, SilenceInRawFramesIsZero) {
  load("12B");
  EncoderInput silence = clip(config_, 3, 0);
  std::ranges::fill(silence.features, 0.0f);
  EXPECT_EQ(encode(silence), std::vector<float>(3 * width()));
}

TEST_F(AudioEncoderTest, RowsOfTheOutputMayBeFarApart) {
  for (const char* member : {"E2B", "12B"}) {
    load(member);
    const EncoderInput input = clip(config_, 20, 10);
    const auto want = encode(input);
    const int64_t count = input.num_tokens, columns = config_.text.hidden_size, stride = columns + 5;
    std::vector<Bf16> out(static_cast<size_t>(count * stride), Bf16(7.0f));
    encoder_->encode(ctx_, input, TensorView(out.data(), DType::kBf16, {count, columns}, stride));
    for (int64_t t = 0; t < count; ++t)
      for (int64_t i = 0; i < stride; ++i)
        ASSERT_EQ(static_cast<float>(out[static_cast<size_t>(t * stride + i)]),
                  i < columns ? want[static_cast<size_t>(t * columns + i)] : 7.0f);
  }
}

TEST(AudioEncoder, PublishedSizesTakeWhatTheyShould) {
  const auto bytes = [](const char* name) { return audio_encoder_bytes(make_model_config(published_member(name))); };
  EXPECT_LT(bytes("E2B"), 40 << 20);
  EXPECT_EQ(bytes("E2B"), bytes("E4B"));
  EXPECT_LT(bytes("12B"), 1 << 20);
}

}  // namespace
}  // namespace carat
