#include "media/audio_input.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <numbers>
#include <vector>

#include "media/mel.h"

namespace carat {
namespace {

using ::testing::HasSubstr;

/// The generator of Numerical Recipes; its upper 16 bits are exact in f32. The reference's values below are of this
/// sound.
std::vector<float> noise(size_t n, uint32_t seed, float amplitude) {
  std::vector<float> samples(n);
  for (float& x : samples) {
    seed = seed * 1664525u + 1013904223u;
    x = (static_cast<float>(seed >> 16) - 32768.0f) / 32768.0f * amplitude;
  }
  return samples;
}

std::vector<float> tone(size_t n, double hertz, double amplitude) {
  std::vector<float> samples(n);
  for (size_t i = 0; i < n; ++i)
    samples[i] = static_cast<float>(amplitude *
                                    std::sin(2 * std::numbers::pi * hertz * static_cast<double>(i) / kAudioSampleRate));
  return samples;
}

float feature(const EncoderInput& input, int frame, int bin) {
  return input.features[static_cast<size_t>(frame * kMelBins + bin)];
}

std::shared_ptr<const EncoderInput> mel(const std::vector<float>& samples) {
  return make_audio_input(AudioForm::kLogMel, samples).value();
}

const float kSilence = std::log(0.001f);

// ---- Counts

struct CountCase {
  int64_t samples;
  int frames, tokens;
};

// audio.md section 2, and the borders around its rows.
const CountCase kCounts[] = {{0, 0, 0},          {160, 0, 0},         {161, 1, 1},         {320, 1, 1},
                             {321, 2, 1},        {480, 2, 1},         {481, 3, 1},         {800, 4, 1},
                             {801, 5, 2},        {1600, 9, 3},        {16000, 99, 25},     {48000, 299, 75},
                             {160000, 999, 250}, {480000, 2999, 750}, {500001, 2999, 750}, {1 << 30, 2999, 750}};

TEST(AudioInput, CountsTokensOfTheLogMelForm) {
  for (const CountCase& c : kCounts) {
    EXPECT_EQ(num_mel_frames(std::min(c.samples, kMaxLogMelSamples)), c.frames) << c.samples;
    EXPECT_EQ(num_audio_tokens(AudioForm::kLogMel, c.samples), c.tokens) << c.samples;
  }
}

TEST(AudioInput, CountsTokensOfTheRawForm) {
  for (const auto& [samples, tokens] :
       {std::pair{0, 0}, {1, 1}, {640, 1}, {641, 2}, {16000, 25}, {160000, 250}, {1600000, 2500}})
    EXPECT_EQ(num_audio_tokens(AudioForm::kRawFrames, samples), tokens) << samples;
}

TEST(AudioInput, InputsHaveTheCountedSizes) {
  for (const int64_t n : {161, 320, 321, 1600, 16000}) {
    const auto samples = noise(static_cast<size_t>(n), 1, 0.5f);
    for (const AudioForm form : {AudioForm::kLogMel, AudioForm::kRawFrames}) {
      const auto input = make_audio_input(form, samples).value();
      EXPECT_EQ(input->kind, EncoderInput::Kind::kAudio);
      EXPECT_EQ(input->num_tokens, num_audio_tokens(form, n));
      EXPECT_EQ(input->features.size(),
                static_cast<size_t>(input->num_frames) *
                    static_cast<size_t>(form == AudioForm::kLogMel ? kMelBins : kRawFrameSamples));
    }
  }
}

// ---- The log-mel form

constexpr int kBins[] = {0, 1, 2, 17, 40, 64, 90, 127};

struct ReferenceFrame {
  size_t samples;
  uint32_t seed;
  float amplitude;
  int frame;
  float features[std::size(kBins)];
};

// Transformers 5.24.0 with NumPy 2.4: Gemma4AudioFeatureExtractor on noise(samples, seed, amplitude).
const ReferenceFrame kReference[] = {
    {1600,
     1,
     0.5f,
     0,
     {-6.907755f, -0.8653287f, -2.045846f, -0.0386159f, 0.8672155f, 0.3654948f, 1.656767f, 2.801376f}},
    {1600, 1, 0.5f, 4, {-6.907755f, 0.489355f, -0.695156f, 0.01861696f, 1.385075f, 1.469562f, 2.37883f, 2.638963f}},
    {1600,
     1,
     0.5f,
     8,
     {-6.907755f, -0.2601188f, -1.443078f, -0.6035688f, -0.3189413f, 1.673601f, 2.392077f, 2.942133f}},
    {161, 2, 1.0f, 0, {-6.907755f, 0.8168049f, -0.3680949f, 0.4186513f, 1.374098f, 2.335907f, 2.340484f, 2.555094f}},
    {480,
     3,
     0.001f,
     0,
     {-6.907755f, -6.371833f, -6.711707f, -6.428677f, -5.255764f, -5.560252f, -5.208694f, -3.772227f}},
    {480,
     3,
     0.001f,
     1,
     {-6.907755f, -5.058836f, -5.938809f, -5.964542f, -5.095927f, -4.95256f, -5.097468f, -4.333324f}},
};

TEST(AudioInput, LogMelEqualsTheReference) {
  for (const ReferenceFrame& want : kReference) {
    const auto input = mel(noise(want.samples, want.seed, want.amplitude));
    for (size_t b = 0; b < std::size(kBins); ++b)
      // Seven digits are stored; the reference's f32 transform costs about as much.
      EXPECT_NEAR(feature(*input, want.frame, kBins[b]), want.features[b], 3e-6f)
          << want.samples << " samples, frame " << want.frame << ", bin " << kBins[b];
  }
}

TEST(AudioInput, ATransformOfEveryFrequencyFindsItself) {
  // A tone in the middle of a bin's band leaves its own band as the loudest.
  for (int bin = 20; bin < kMelBins - 1; bin += 7) {
    const double top = 2595 * std::log10(1 + 8000.0 / 700);
    const double hertz = 700 * (std::pow(10.0, top * (bin + 1) / (kMelBins + 1) / 2595) - 1);
    const auto input = mel(tone(1600, hertz, 0.5));
    int loudest = 0;
    for (int b = 0; b < kMelBins; ++b)
      if (feature(*input, 4, b) > feature(*input, 4, loudest)) loudest = b;
    // Narrow bands lie between the transform's frequencies.
    EXPECT_LE(std::abs(loudest - bin), 1) << hertz << " Hz";
  }
}

TEST(AudioInput, SilenceIsTheFloorEverywhere) {
  const auto input = mel(std::vector<float>(1600));
  for (const float x : input->features) EXPECT_FLOAT_EQ(x, kSilence);
}

TEST(AudioInput, TheLowestBandHearsNothing) {
  const auto input = mel(noise(4800, 9, 1.0f));
  for (int i = 0; i < input->num_frames; ++i) EXPECT_FLOAT_EQ(feature(*input, i, 0), kSilence);
}

TEST(AudioInput, AFrameDependsOnItsOwnSamplesOnly) {
  auto samples = noise(3200, 4, 0.5f);
  const auto before = mel(samples);
  constexpr int kFrame = 7;  // samples [160 * 7 - 160, 160 * 7 + 160)
  for (size_t i = 0; i < samples.size(); ++i)
    if (i < 960 || i >= 1280) samples[i] = -samples[i] + 0.1f;
  const auto after = mel(samples);
  for (int b = 0; b < kMelBins; ++b) {
    EXPECT_EQ(feature(*after, kFrame, b), feature(*before, kFrame, b));
    if (b > 0) {
      EXPECT_NE(feature(*after, kFrame - 1, b), feature(*before, kFrame - 1, b));
    }
  }
}

TEST(AudioInput, TwiceAsLoudAddsTheLogarithmOfTwo) {
  auto samples = noise(1600, 5, 0.5f);
  const auto quiet = mel(samples);
  for (float& x : samples) x *= 2;
  const auto loud = mel(samples);
  for (int i = 0; i < quiet->num_frames; ++i)
    for (int b = 1; b < kMelBins; ++b) {
      const double magnitude = std::exp(static_cast<double>(feature(*quiet, i, b))) - 0.001;
      EXPECT_NEAR(feature(*loud, i, b), std::log(2 * magnitude + 0.001), 2e-6);
    }
}

TEST(AudioInput, WhatComesAfterThirtySecondsIsNotHeard) {
  auto samples = noise(kMaxLogMelSamples + 1000, 6, 0.25f);
  const auto longer = mel(samples);
  samples.resize(kMaxLogMelSamples);
  const auto whole = mel(samples);
  EXPECT_EQ(whole->num_tokens, 750);
  EXPECT_EQ(longer->num_tokens, 750);
  EXPECT_EQ(longer->features, whole->features);
  EXPECT_EQ(longer->hash, whole->hash);
}

// ---- The raw form

TEST(AudioInput, RawFramesAreTheSamplesAndZeros) {
  const auto samples = noise(1500, 7, 2.0f);
  const auto input = make_audio_input(AudioForm::kRawFrames, samples).value();
  EXPECT_EQ(input->num_frames, 3);
  for (size_t i = 0; i < input->features.size(); ++i)
    EXPECT_EQ(input->features[i], i < samples.size() ? samples[i] : 0.0f);
}

TEST(AudioInput, RawFramesAreNotCut) {
  EXPECT_EQ(make_audio_input(AudioForm::kRawFrames, std::vector<float>(kMaxLogMelSamples + 1)).value()->num_tokens,
            751);
}

// ---- Hashes and errors

TEST(AudioInput, HashesFollowTheContent) {
  const auto samples = noise(1600, 8, 0.5f);
  EXPECT_EQ(mel(samples)->hash, mel(samples)->hash);
  EXPECT_NE(mel(samples)->hash, mel(noise(1600, 9, 0.5f))->hash);
  EXPECT_NE(mel(samples)->hash, make_audio_input(AudioForm::kRawFrames, samples).value()->hash);
}

std::string error_of(AudioForm form, const std::vector<float>& samples) {
  const auto input = make_audio_input(form, samples);
  EXPECT_FALSE(input.has_value());
  if (input) return "";
  EXPECT_EQ(input.error().code, Errc::kInvalidArgument);
  return input.error().message;
}

TEST(AudioInput, RefusesClipsThatAreTooShort) {
  EXPECT_THAT(error_of(AudioForm::kLogMel, std::vector<float>(160)),
              HasSubstr("too short: 160 samples at 16000 Hz, needed are at least 161"));
  EXPECT_THAT(error_of(AudioForm::kRawFrames, {}),
              HasSubstr("too short: 0 samples at 16000 Hz, needed are at least 1"));
}

TEST(AudioInput, RefusesSamplesThatAreNotFinite) {
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()})
    for (const AudioForm form : {AudioForm::kLogMel, AudioForm::kRawFrames}) {
      std::vector<float> samples(1600, 0.25f);
      samples[700] = bad;
      EXPECT_THAT(error_of(form, samples), HasSubstr("sample 700 of the clip is not a finite number"));
    }
}

}  // namespace
}  // namespace carat
