// All five members at small sizes with seeded weights against numbers of Transformers, stored by make_text_golden.py.

#include <gtest/gtest.h>

#include <array>
#include <iostream>

#include "base/str.h"
#include "golden_file.h"
#include "model/text/text_model_testing.h"
#include "tensor/bf16.h"

namespace carat {
namespace {

using testing::argmax;
using testing::Difference;
using testing::GoldenFile;
using testing::TextModelDriver;

constexpr uint64_t kSeed = 1;  // as in make_text_golden.py
constexpr std::array kPrompts = {"one", "short", "window", "long"};
/// Where the reference's best logit leads by less, bf16 noise may choose the other one.
constexpr float kNearTie = 0.5f;

class TextGoldenTest : public ::testing::TestWithParam<std::tuple<const char*, ops::Backend>> {
 protected:
  TextGoldenTest()
      : folder_(str_cat(CARAT_SOURCE_DIR, "/tests/golden/", std::get<0>(GetParam()))),
        config_(load_model_config(folder_).value()),
        weights_(make_dummy_text_weights(config_, kSeed).value()),
        golden_(folder_ + "/golden.safetensors") {}

  TextModelDriver driver() const { return {config_, weights_, {.backend = std::get<1>(GetParam())}}; }

  std::string folder_;
  ModelConfig config_;
  std::shared_ptr<const TextWeights> weights_;
  GoldenFile golden_;
};

TEST_P(TextGoldenTest, LastRowLayerByLayer) {
  for (const std::string prompt : kPrompts) {
    Difference first, states, logits;
    const auto expected = golden_.floats(prompt + ".layers");  // [L, H]
    TextModelDriver d = driver();
    d.model().set_observer([&](std::string_view name, int layer, ConstTensorView value) {
      if (name != "out") return;
      const int64_t width = value.last_dim();
      const auto* row = static_cast<const Bf16*>(value.data) + (value.dim(0) - 1) * value.row_stride;
      for (int64_t i = 0; i < width; ++i)
        (layer == 0 ? first : states)
            .add(static_cast<float>(row[i]), expected.at(static_cast<size_t>(layer * width + i)));
    });
    const auto actual = d.prefill(golden_.ints(prompt + ".input_ids"), 512);
    const auto expected_logits = golden_.floats(prompt + ".logits");
    ASSERT_EQ(first.count + states.count, static_cast<int64_t>(expected.size()));
    ASSERT_EQ(actual.size(), expected_logits.size());
    for (size_t i = 0; i < actual.size(); ++i) logits.add(actual[i], expected_logits[i]);
    const auto noise = golden_.floats(prompt + ".noise");
    std::cout << "  " << prompt << ": layer 0 " << first.to_string() << "; other layers " << states.to_string()
              << " (noise " << 100 * noise[0] << " %); logits " << logits.to_string() << " (noise " << 100 * noise[1]
              << " %)\n";
    // Sums in another order turn a rounding here and there, which layers after that spread; the reference itself, with
    // sums in double, is as far from its own f32 sums. So: almost nothing at first, and never more than bf16's own
    // noise.
    EXPECT_LT(first.relative_rms(), 0.01);
    EXPECT_LT(states.relative_rms(), 1.5 * noise[0]);
    EXPECT_LT(logits.relative_rms(), 1.5 * noise[1]);
    if (prompt == "one" && std::get<1>(GetParam()) == ops::Backend::kRef) {  // its only key is its own: short sums
      EXPECT_LT(states.share(), 0.01);
    }
  }
}

TEST_P(TextGoldenTest, GreedyTokens) {
  for (const std::string prompt : kPrompts) {
    const auto expected = golden_.ints(prompt + ".greedy");
    const auto margins = golden_.floats(prompt + ".margins");
    TextModelDriver d = driver();
    auto logits = d.prefill(golden_.ints(prompt + ".input_ids"), 50);
    for (size_t step = 0; step < expected.size(); ++step) {
      if (margins[step] > kNearTie) {
        EXPECT_EQ(argmax(logits), expected[step]) << prompt << " step " << step;
      }
      if (step + 1 < expected.size()) logits = d.step({{0, {expected[step]}}}).at(0);
    }
  }
}

std::string case_name(const ::testing::TestParamInfo<std::tuple<const char*, ops::Backend>>& info) {
  std::string name = str_cat(std::get<0>(info.param), std::get<1>(info.param) == ops::Backend::kRef ? "_ref" : "_cpu");
  std::erase(name, '-');
  return name;
}

INSTANTIATE_TEST_SUITE_P(Members, TextGoldenTest,
                         ::testing::Combine(::testing::Values("e2b", "e4b", "12b", "26b-a4b", "31b"),
                                            ::testing::Values(ops::Backend::kRef, ops::Backend::kCpu)),
                         case_name);

}  // namespace
}  // namespace carat
