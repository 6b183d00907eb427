// The vision encoders at small sizes with seeded weights against numbers of Transformers, stored by
// make_vision_golden.py: from bytes of pixels to soft tokens.

#include <gtest/gtest.h>

#include <iostream>
#include <map>

#include "base/str.h"
#include "golden_file.h"
#include "model/vision/vision_model.h"
#include "tensor/bf16.h"

namespace carat {
namespace {

using testing::Difference;
using testing::GoldenFile;

constexpr uint64_t kSeed = 1;  // as in make_vision_golden.py
constexpr const char* kPictures[] = {"one", "wide", "frame"};

/// As in make_vision_golden.py.
std::vector<uint8_t> noise(int count, uint32_t seed) {
  std::vector<uint8_t> bytes(static_cast<size_t>(count));
  for (uint8_t& byte : bytes) {
    seed = seed * 1664525u + 1013904223u;
    byte = static_cast<uint8_t>(seed >> 24);
  }
  return bytes;
}

/// `shape`: soft tokens wide and high, seed, 1 for a video frame.
EncoderInput picture(const std::vector<int32_t>& shape, int patch) {
  EncoderInput input;
  input.kind = shape[3] == 1 ? EncoderInput::Kind::kVideoFrame : EncoderInput::Kind::kImage;
  input.num_tokens = shape[0] * shape[1];
  input.grid_width = shape[0] * VisionConfig::kTokenSize / patch;
  input.grid_height = shape[1] * VisionConfig::kTokenSize / patch;
  input.pixels = noise(input.grid_width * input.grid_height * patch * patch * 3, static_cast<uint32_t>(shape[2]));
  return input;
}

class VisionGolden : public ::testing::TestWithParam<std::tuple<const char*, ops::Backend>> {};

TEST_P(VisionGolden, LayersAndSoftTokens) {
  const auto& [member, backend] = GetParam();
  const std::string folder = str_cat(CARAT_SOURCE_DIR, "/tests/golden/", member);
  const ModelConfig config = load_model_config(folder).value();
  const GoldenFile golden(folder + "/vision.safetensors");
  const auto model = VisionModel::create(config, make_dummy_vision_weights(config, kSeed).value(), 70).value();
  ops::Context ctx{backend, nullptr};
  for (const std::string name : kPictures) {
    const EncoderInput input = picture(golden.ints(name + ".shape"), config.vision->patch_size());
    std::map<std::string, std::vector<float>> recorded;
    const auto record = [&](const std::string& tensor, const ConstTensorView& view) {
      const auto* data = static_cast<const Bf16*>(view.data);
      std::vector<float>& values = recorded[tensor];
      for (int64_t i = 0; i < view.shape.num_elements(); ++i) values.push_back(static_cast<float>(data[i]));
    };
    model->set_observer([&](std::string_view tensor, int layer, ConstTensorView value) {
      if (tensor == "out") record(str_cat("out.", layer), value);
    });
    std::vector<Bf16> soft(static_cast<size_t>(input.num_tokens) * static_cast<size_t>(config.text.hidden_size));
    const TensorView view(soft.data(), DType::kBf16, {input.num_tokens, config.text.hidden_size});
    const EncoderInput* const one = &input;
    model->encode(ctx, {&one, 1}, view);
    record("soft", view);
    ASSERT_EQ(recorded.size(), config.vision->patch_size() == VisionTowerConfig::kPatchSize ? 3u : 1u);
    const auto noise_rms = golden.floats(name + ".noise");
    for (const auto& [tensor, actual] : recorded) {
      const auto expected = golden.floats(str_cat(name, ".", tensor));
      ASSERT_EQ(actual.size(), expected.size()) << name << " " << tensor;
      Difference d;
      for (size_t i = 0; i < actual.size(); ++i) d.add(actual[i], expected[i]);
      const double bf16_noise = static_cast<double>(noise_rms[tensor == "soft" ? 1 : 0]);
      std::cout << "  " << name << " " << tensor << ": " << d.to_string() << " (noise " << 100 * bf16_noise << " %)\n";
      // Roundings are the reference's. A sum in another order turns one here and there, and every linear spreads it:
      // one element of an embedding is four in ten of a layer's. Never more than bf16's noise.
      EXPECT_LE(d.relative_rms(), bf16_noise) << name << " " << tensor;
      // Nine patches have few sums; the truth turns none of their roundings, nor any of the form without attention.
      if (backend == ops::Backend::kRef && (tensor == "out.0" ? name == "one" : !recorded.contains("out.0"))) {
        EXPECT_LE(d.differing, 2) << name << " " << tensor;
      }
    }
  }
}

std::string case_name(const ::testing::TestParamInfo<std::tuple<const char*, ops::Backend>>& info) {
  return str_cat("m", std::get<0>(info.param), std::get<1>(info.param) == ops::Backend::kRef ? "_ref" : "_cpu");
}

INSTANTIATE_TEST_SUITE_P(Members, VisionGolden,
                         ::testing::Combine(::testing::Values("e2b", "12b", "31b"),
                                            ::testing::Values(ops::Backend::kRef, ops::Backend::kCpu)),
                         case_name);

}  // namespace
}  // namespace carat
