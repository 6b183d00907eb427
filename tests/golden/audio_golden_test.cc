// The audio encoders at small sizes with seeded weights against numbers of Transformers, stored by
// make_audio_golden.py: from samples to soft tokens.

#include <gtest/gtest.h>

#include <iostream>
#include <map>

#include "base/str.h"
#include "golden_file.h"
#include "media/audio_input.h"
#include "model/audio/audio_encoder.h"
#include "tensor/bf16.h"

namespace carat {
namespace {

using testing::Difference;
using testing::GoldenFile;

constexpr uint64_t kSeed = 1;  // as in make_audio_golden.py
constexpr const char* kClips[] = {"shortest", "second", "window"};

/// As in make_audio_golden.py.
std::vector<float> noise(int32_t count, uint32_t seed) {
  std::vector<float> samples(static_cast<size_t>(count));
  for (float& x : samples) {
    seed = seed * 1664525u + 1013904223u;
    x = (static_cast<float>(seed >> 16) - 32768.0f) / 32768.0f * 0.25f;
  }
  return samples;
}

class AudioGolden : public ::testing::TestWithParam<std::tuple<const char*, ops::Backend>> {};

TEST_P(AudioGolden, LayersAndSoftTokens) {
  const auto& [member, backend] = GetParam();
  const std::string folder = str_cat(CARAT_SOURCE_DIR, "/tests/golden/", member);
  const ModelConfig config = load_model_config(folder).value();
  const bool raw = std::holds_alternative<RawAudioConfig>(config.audio.value());
  const GoldenFile golden(folder + "/audio.safetensors");
  ops::Context ctx{backend, nullptr};
  for (const std::string clip : kClips) {
    std::map<std::string, std::vector<float>> recorded;
    const auto record = [&](const std::string& name, const ConstTensorView& view) {
      const auto* data = static_cast<const Bf16*>(view.data);
      std::vector<float>& values = recorded[name];
      for (int64_t i = 0; i < view.shape.num_elements(); ++i) values.push_back(static_cast<float>(data[i]));
    };
    const auto encoder = create_audio_encoder(config, make_dummy_audio_weights(config, kSeed).value(),
                                              [&](std::string_view name, int layer, ConstTensorView value) {
                                                if (name == "out") record(str_cat("out.", layer), value);
                                              })
                             .value();
    const auto samples =
        noise(golden.ints(clip + ".samples")[0], static_cast<uint32_t>(golden.ints(clip + ".seed")[0]));
    const auto input = make_audio_input(raw ? AudioForm::kRawFrames : AudioForm::kLogMel, samples).value();
    std::vector<Bf16> soft(static_cast<size_t>(input->num_tokens) * static_cast<size_t>(config.text.hidden_size));
    const TensorView view(soft.data(), DType::kBf16, {input->num_tokens, config.text.hidden_size});
    encoder->encode(ctx, *input, view);
    record("soft", view);
    ASSERT_EQ(recorded.size(), raw ? 1u : 3u);
    const auto noise_rms = golden.floats(clip + ".noise");
    for (const auto& [name, actual] : recorded) {
      const auto expected = golden.floats(str_cat(clip, ".", name));
      ASSERT_EQ(actual.size(), expected.size()) << clip << " " << name;
      Difference d;
      for (size_t i = 0; i < actual.size(); ++i) d.add(actual[i], expected[i]);
      const double bf16_noise = static_cast<double>(name == "soft" ? noise_rms[1] : noise_rms[0]);
      std::cout << "  " << clip << " " << name << ": " << d.to_string() << " (noise " << 100 * bf16_noise << " %)\n";
      // Roundings are the reference's; a sum in another order turns one here and there, never more than bf16's noise.
      EXPECT_LE(d.relative_rms(), bf16_noise) << clip << " " << name;
    }
  }
}

std::string case_name(const ::testing::TestParamInfo<std::tuple<const char*, ops::Backend>>& info) {
  return str_cat("m", std::get<0>(info.param), std::get<1>(info.param) == ops::Backend::kRef ? "_ref" : "_cpu");
}

INSTANTIATE_TEST_SUITE_P(Members, AudioGolden,
                         ::testing::Combine(::testing::Values("e2b", "12b"),
                                            ::testing::Values(ops::Backend::kRef, ops::Backend::kCpu)),
                         case_name);

}  // namespace
}  // namespace carat
