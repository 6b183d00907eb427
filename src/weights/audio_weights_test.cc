#include "weights/audio_weights.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <deque>
#include <functional>
#include <set>

#include "tensor/bf16.h"
#include "weights/safetensors.h"
#include "weights/test_support.h"

namespace carat {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing_support::encoder_file;
using testing_support::expect_equal_tensors;
using testing_support::small_hearing_config;
using testing_support::TempFolder;

std::shared_ptr<const AudioWeights> seeded(const ModelConfig& config, uint64_t seed) {
  return make_dummy_audio_weights(config, seed).value();
}

std::vector<NamedTensor> file_of(const ModelConfig& config, const AudioWeights& weights, std::deque<Bf16>& scalars) {
  return encoder_file(audio_tensors(*config.audio, config.text.hidden_size),
                      audio_slots(const_cast<AudioWeights&>(weights)), scalars);
}

void expect_equal(const ModelConfig& config, const AudioWeights& a, const AudioWeights& b) {
  std::deque<Bf16> scalars;
  expect_equal_tensors(file_of(config, a, scalars), file_of(config, b, scalars));
}

TEST(AudioWeights, EveryFieldHasItsTensor) {
  for (const char* name : {"E2B", "12B"}) {
    const ModelConfig config = small_hearing_config(name);
    const auto weights = seeded(config, 3);
    int64_t bytes = 0;
    std::set<const void*> places;
    std::deque<Bf16> scalars;
    for (const NamedTensor& t : file_of(config, *weights, scalars)) {
      bytes += t.view.size_bytes();
      EXPECT_TRUE(places.insert(t.view.data).second) << t.name;
    }
    EXPECT_EQ(bytes, weights->size_bytes);
  }
  const ModelConfig config = small_hearing_config("E2B");
  const auto weights = seeded(config, 3);
  EXPECT_EQ(audio_slots(const_cast<AudioWeights&>(*weights)).size(),
            audio_tensors(*config.audio, config.text.hidden_size).size());
}

TEST(AudioWeights, SeededBoundsAct) {
  const auto weights = seeded(small_hearing_config("E2B"), 3);
  for (const ConformerLayerWeights& layer : weights->layers)
    for (const ClippedLinear* linear : {&layer.q_proj, &layer.feed_forward1.ffw_layer_1, &layer.linear_end}) {
      for (const float low : {linear->input_min, linear->output_min}) EXPECT_TRUE(low >= -3 && low <= -2) << low;
      for (const float high : {linear->input_max, linear->output_max}) EXPECT_TRUE(high >= 2 && high <= 3) << high;
    }
}

TEST(AudioWeights, WithoutClippedLinearsThereAreNoBounds) {
  ModelConfig config = small_hearing_config("E2B");
  std::get<ConformerConfig>(*config.audio).clipped_linears = false;
  const auto weights = seeded(config, 3);
  EXPECT_EQ(weights->layers[1].post.output_max, std::numeric_limits<float>::infinity());
  EXPECT_EQ(weights->layers[1].post.input_min, -std::numeric_limits<float>::infinity());
}

TEST(AudioWeights, DependOnTheSeed) {
  const ModelConfig config = small_hearing_config("E2B");
  expect_equal(config, *seeded(config, 1), *seeded(config, 1));
  EXPECT_NE(std::memcmp(seeded(config, 1)->conv1.data, seeded(config, 2)->conv1.data, 64), 0);
}

TEST(AudioWeights, WhatWasWrittenComesBack) {
  for (const char* name : {"E2B", "12B"}) {
    const ModelConfig config = small_hearing_config(name);
    const auto weights = seeded(config, 5);
    TempFolder folder;
    std::deque<Bf16> scalars;
    ASSERT_TRUE(write_safetensors(folder / "model.safetensors", file_of(config, *weights, scalars)));
    const auto loaded = load_audio_weights(folder.path(), config);
    ASSERT_TRUE(loaded) << loaded.error().message;
    expect_equal(config, **loaded, *weights);
    EXPECT_EQ((*loaded)->size_bytes, weights->size_bytes);
  }
}

/// The error of loading a file with one tensor changed.
Error error_after(const std::function<void(std::vector<NamedTensor>&)>& change) {
  const ModelConfig config = small_hearing_config("E2B");
  const auto weights = seeded(config, 5);
  TempFolder folder;
  std::deque<Bf16> scalars;
  auto tensors = file_of(config, *weights, scalars);
  change(tensors);
  EXPECT_TRUE(write_safetensors(folder / "model.safetensors", tensors));
  const auto loaded = load_audio_weights(folder.path(), config);
  EXPECT_FALSE(loaded);
  return loaded ? Error{} : loaded.error();
}

TEST(AudioWeights, RefusesFilesThatDoNotFit) {
  const Error missing = error_after([](auto& tensors) { tensors.erase(tensors.begin() + 3, tensors.begin() + 5); });
  EXPECT_EQ(missing.code, Errc::kCorruptFile);
  EXPECT_THAT(missing.message, AllOf(HasSubstr("model.audio_tower.subsample_conv_projection.layer1.norm.weight"),
                                     HasSubstr("and 1 others"), HasSubstr("132 audio tensors")));
  const Error shape = error_after([](auto& tensors) {
    tensors[1].view = ConstTensorView(tensors[1].view.data, DType::kBf16, {2, 4});
  });
  EXPECT_EQ(shape.code, Errc::kCorruptFile);
  EXPECT_THAT(shape.message,
              AllOf(HasSubstr("layer0.norm.weight"), HasSubstr("[2, 4]"), HasSubstr("config.json asks for [8]")));
  const Error type =
      error_after([](auto& tensors) { tensors[1].view = ConstTensorView(tensors[1].view.data, DType::kF32, {8}); });
  EXPECT_EQ(type.code, Errc::kUnsupported);
  EXPECT_THAT(type.message, AllOf(HasSubstr("layer0.norm.weight"), HasSubstr("F32"), HasSubstr("BF16")));
}

TEST(AudioWeights, RefusesAFolderWithoutFiles) {
  TempFolder folder;
  EXPECT_EQ(load_audio_weights(folder.path(), small_hearing_config("E2B")).error().code, Errc::kNotFound);
}

}  // namespace
}  // namespace carat
