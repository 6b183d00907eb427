#include "weights/vision_weights.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <deque>
#include <set>

#include "weights/audio_weights.h"
#include "weights/test_support.h"

namespace carat {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing_support::encoder_file;
using testing_support::expect_equal_tensors;
using testing_support::small_seeing_config;
using testing_support::TempFolder;

constexpr const char* kForms[] = {"E2B", "31B", "12B"};

std::vector<NamedTensor> file_of(const ModelConfig& config, const VisionWeights& weights, std::deque<Bf16>& scalars) {
  return encoder_file(vision_tensors(*config.vision, config.text.hidden_size),
                      vision_slots(const_cast<VisionWeights&>(weights)), scalars);
}

TEST(VisionWeights, EveryFieldHasItsTensor) {
  for (const char* name : kForms) {
    const ModelConfig config = small_seeing_config(name);
    const auto weights = make_dummy_vision_weights(config, 3).value();
    int64_t bytes = 0;
    std::set<const void*> places;
    std::deque<Bf16> scalars;
    for (const NamedTensor& t : file_of(config, *weights, scalars)) {
      ASSERT_TRUE(t.view) << t.name;
      bytes += t.view.size_bytes();
      EXPECT_TRUE(places.insert(t.view.data).second) << t.name;
    }
    EXPECT_EQ(bytes, weights->size_bytes);
    EXPECT_EQ(static_cast<bool>(weights->tower.std_bias), std::string_view(name) == "31B");
    EXPECT_EQ(static_cast<bool>(weights->tower.input_proj), std::string_view(name) != "12B");
    EXPECT_EQ(static_cast<bool>(weights->embedder.patch_dense), std::string_view(name) == "12B");
  }
}

TEST(VisionWeights, BoundsActWhereLinearsAreClipped) {
  const auto clipped = make_dummy_vision_weights(small_seeing_config("E2B"), 3).value();
  const auto free = make_dummy_vision_weights(small_seeing_config("31B"), 3).value();
  for (const VisionLayerWeights& layer : clipped->tower.layers)
    for (const ClippedLinear* linear : {&layer.q_proj, &layer.o_proj, &layer.down_proj})
      EXPECT_TRUE(linear->input_min <= -2 && linear->input_max >= 2 && linear->output_max <= 3);
  EXPECT_EQ(free->tower.layers[0].up_proj.input_max, std::numeric_limits<float>::infinity());
}

TEST(VisionWeights, WhatWasWrittenComesBack) {
  for (const char* name : kForms) {
    const ModelConfig config = small_seeing_config(name);
    const auto weights = make_dummy_vision_weights(config, 5).value();
    TempFolder folder;
    std::deque<Bf16> scalars;
    ASSERT_TRUE(write_safetensors(folder / "model.safetensors", file_of(config, *weights, scalars)));
    const auto loaded = load_vision_weights(folder.path(), config);
    ASSERT_TRUE(loaded) << loaded.error().message;
    expect_equal_tensors(file_of(config, **loaded, scalars), file_of(config, *weights, scalars));
    EXPECT_EQ((*loaded)->size_bytes, weights->size_bytes);
  }
}

TEST(VisionWeights, RefusesFilesThatDoNotFit) {
  const ModelConfig config = small_seeing_config("31B");
  const auto weights = make_dummy_vision_weights(config, 5).value();
  TempFolder folder;
  std::deque<Bf16> scalars;
  auto tensors = file_of(config, *weights, scalars);
  tensors.erase(tensors.begin() + 1);
  ASSERT_TRUE(write_safetensors(folder / "model.safetensors", tensors));
  const auto loaded = load_vision_weights(folder.path(), config);
  ASSERT_FALSE(loaded);
  EXPECT_EQ(loaded.error().code, Errc::kCorruptFile);
  EXPECT_THAT(loaded.error().message, AllOf(HasSubstr("model.vision_tower.patch_embedder.position_embedding_table"),
                                            HasSubstr("vision tensors")));
}

TEST(DropAbsentEncoders, WhatTheFilesDoNotHoldIsGone) {
  ModelConfig config = small_seeing_config("12B");
  TempFolder folder;
  std::deque<Bf16> scalars;
  ASSERT_TRUE(write_safetensors(folder / "model.safetensors",
                                file_of(config, *make_dummy_vision_weights(config, 5).value(), scalars)));
  ASSERT_TRUE(config.vision && config.audio);
  ASSERT_TRUE(drop_absent_encoders(folder.path(), config));
  EXPECT_TRUE(config.vision);
  EXPECT_FALSE(config.audio);
}

TEST(DropAbsentEncoders, APartOfAnEncoderIsNotAbsence) {
  ModelConfig config = small_seeing_config("E2B");
  const std::deque<Bf16> number(1);
  TempFolder folder;
  const NamedTensor part{"model.vision_tower.patch_embedder.input_proj.weight", {&number[0], DType::kBf16, {1, 1}}};
  ASSERT_TRUE(write_safetensors(folder / "model.safetensors", {&part, 1}));
  ASSERT_TRUE(drop_absent_encoders(folder.path(), config));
  EXPECT_TRUE(config.vision);
  EXPECT_FALSE(load_vision_weights(folder.path(), config));
}

TEST(DropAbsentEncoders, AFolderWithoutFilesIsAnError) {
  ModelConfig config = small_seeing_config("E2B");
  TempFolder folder;
  EXPECT_EQ(drop_absent_encoders(folder.path(), config).error().code, Errc::kNotFound);
}

}  // namespace
}  // namespace carat
