// What the audio encoders compute against Transformers' on the oracle's tiny checkpoints: features of the same samples,
// every layer of the conformer, soft tokens. Needs CARAT_ORACLE_DIR as oracle_test.cc does.

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <map>
#include <memory>

#include "base/str.h"
#include "golden_file.h"
#include "media/audio_input.h"
#include "model/audio/audio_encoder.h"
#include "tensor/bf16.h"

namespace carat {
namespace {

using testing::Difference;
using testing::GoldenFile;

constexpr const char* kPrompts[] = {"audio", "mixed"};

class AudioOracle : public ::testing::TestWithParam<std::tuple<const char*, ops::Backend>> {
 protected:
  void SetUp() override {
    const char* folder = std::getenv("CARAT_ORACLE_DIR");
    if (!folder) GTEST_SKIP() << "CARAT_ORACLE_DIR is not set: no comparison with Transformers' tensors";
    const std::filesystem::path checkpoint = str_cat(folder, "/ck/", member());
    config_ = load_model_config(checkpoint).value();
    weights_ = load_audio_weights(checkpoint, config_).value();
    golden_ = std::make_unique<GoldenFile>(str_cat(folder, "/golden/", member(), "-media.safetensors"));
  }
  const char* member() const { return std::get<0>(GetParam()); }
  AudioForm form() const {
    return std::holds_alternative<RawAudioConfig>(*config_.audio) ? AudioForm::kRawFrames : AudioForm::kLogMel;
  }
  std::shared_ptr<const EncoderInput> input(const char* prompt) const {
    return make_audio_input(form(), golden_->floats(str_cat(prompt, "/audio.0.raw"))).value();
  }

  ModelConfig config_;
  std::shared_ptr<const AudioWeights> weights_;
  std::unique_ptr<GoldenFile> golden_;
};

Difference difference(const std::vector<float>& actual, const std::vector<float>& expected) {
  EXPECT_EQ(actual.size(), expected.size());
  Difference out;
  for (size_t i = 0; i < std::min(actual.size(), expected.size()); ++i) out.add(actual[i], expected[i]);
  return out;
}

std::vector<float> values_of(const ConstTensorView& view) {
  std::vector<float> out;
  for (int64_t t = 0; t < view.num_rows(); ++t)
    for (int64_t i = 0; i < view.last_dim(); ++i)
      out.push_back(static_cast<float>(static_cast<const Bf16*>(view.data)[t * view.row_stride + i]));
  return out;
}

TEST_P(AudioOracle, Features) {
  for (const char* prompt : kPrompts) {
    const auto expected = golden_->floats(str_cat(prompt, "/audio.0.features"));
    const Difference d = difference(input(prompt)->features, expected);
    std::cout << "  " << member() << " " << prompt << " features: " << d.to_string() << "\n";
    if (form() == AudioForm::kRawFrames)
      EXPECT_EQ(d.differing, 0);
    else
      EXPECT_LE(d.max_abs, 1e-5);
  }
}

TEST_P(AudioOracle, LayersAndSoftTokens) {
  const bool truth = std::get<1>(GetParam()) == ops::Backend::kRef;
  for (const char* prompt : kPrompts) {
    std::map<std::string, std::vector<float>> recorded;
    ops::Context ctx{std::get<1>(GetParam()), nullptr};
    const auto encoder =
        create_audio_encoder(config_, weights_, [&](std::string_view name, int layer, ConstTensorView value) {
          if (name == "out") recorded[str_cat("audio.", layer, ".out")] = values_of(value);
        }).value();
    const auto clip = input(prompt);
    std::vector<Bf16> soft(static_cast<size_t>(clip->num_tokens) * static_cast<size_t>(config_.text.hidden_size));
    const TensorView view(soft.data(), DType::kBf16, {clip->num_tokens, config_.text.hidden_size});
    encoder->encode(ctx, *clip, view);
    recorded["embed_audio"] = values_of(view);
    for (const auto& [name, actual] : recorded) {
      const auto expected = golden_->floats(str_cat(prompt, "/bf16/", name));
      const Difference here = difference(actual, expected);
      // The truth has the reference's roundings in the reference's places, and the small models' sums are so short that
      // their order turns none, or one in a thousand. With another order bf16 itself is the bound.
      if (truth) {
        EXPECT_LT(here.share(), 0.001) << name;
      }
      const Difference noise = difference(expected, golden_->floats(str_cat(prompt, "/f32/", name)));
      EXPECT_LE(here.relative_rms(), 2 * noise.relative_rms()) << name;
      std::cout << "  " << member() << (truth ? " ref " : " cpu ") << prompt << " " << name << ": " << here.to_string()
                << " (bf16 against f32: " << noise.relative_rms() << ")\n";
    }
  }
}

std::string case_name(const ::testing::TestParamInfo<std::tuple<const char*, ops::Backend>>& info) {
  return str_cat(std::get<0>(info.param), std::get<1>(info.param) == ops::Backend::kRef ? "_ref" : "_cpu");
}

INSTANTIATE_TEST_SUITE_P(Members, AudioOracle,
                         ::testing::Combine(::testing::Values("e2b", "e4b", "12b"),
                                            ::testing::Values(ops::Backend::kRef, ops::Backend::kCpu)),
                         case_name);

}  // namespace
}  // namespace carat
