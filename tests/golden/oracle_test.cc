// Every named tensor of the decoder against Transformers' on the oracle's tiny checkpoints. Needs them:
// CARAT_ORACLE_DIR names a folder with ck/MEMBER (checkpoints) and golden/MEMBER-text.safetensors (tensors); otherwise
// nothing runs.

#include <gtest/gtest.h>

#include <cstdlib>
#include <iostream>
#include <map>
#include <optional>

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

constexpr const char* kPrompts[] = {"one", "short", "chat", "window-1", "window", "window+1", "long"};
constexpr int kMaxLength = 512;

/// All rows of the tensors a forward pass shows, by the reference's names.
using Recorded = std::map<std::string, std::vector<std::vector<float>>>;

std::vector<std::vector<float>> rows_of(const ConstTensorView& view) {
  std::vector<std::vector<float>> out(static_cast<size_t>(view.dim(0)));
  for (size_t t = 0; t < out.size(); ++t) {
    const auto* row = static_cast<const Bf16*>(view.data) + static_cast<int64_t>(t) * view.row_stride;
    for (int64_t i = 0; i < view.last_dim(); ++i) out[t].push_back(static_cast<float>(row[i]));
  }
  return out;
}

class OracleTest : public ::testing::TestWithParam<std::tuple<const char*, ops::Backend>> {
 protected:
  void SetUp() override {
    const char* folder = std::getenv("CARAT_ORACLE_DIR");
    if (!folder) GTEST_SKIP() << "CARAT_ORACLE_DIR is not set: no comparison with Transformers' tensors";
    config_ = load_model_config(str_cat(folder, "/ck/", member())).value();
    weights_ = load_text_weights(str_cat(folder, "/ck/", member()), config_).value();
    golden_.emplace(str_cat(folder, "/golden/", member(), "-text.safetensors"));
  }
  const char* member() const { return std::get<0>(GetParam()); }
  ops::Backend backend() const { return std::get<1>(GetParam()); }
  TextModelDriver driver() const {
    return {config_,
            weights_,
            {.max_length = kMaxLength, .max_tokens = kMaxLength, .max_logit_rows = 64, .backend = backend()}};
  }

  /// Runs a prompt with logits of all rows, so that no row skips a layer.
  Recorded record(const std::vector<TokenId>& ids) const {
    TextModelDriver d = driver();
    Recorded out;
    d.model().set_observer([&](std::string_view name, int layer, ConstTensorView value) {
      auto rows = rows_of(value);
      if (name == "ple_early") {
        out["ple"] = std::move(rows);
      } else if (name == "ple_late") {
        for (size_t t = 0; t < rows.size(); ++t)
          out["ple"][t].insert(out["ple"][t].end(), rows[t].begin(), rows[t].end());
      } else {
        out[layer < 0 ? std::string(name) : str_cat("layer.", layer, ".", name)] = std::move(rows);
      }
    });
    out["logits"] = d.step({{0, ids, true}});
    return out;
  }

  ModelConfig config_;
  std::shared_ptr<const TextWeights> weights_;
  std::optional<GoldenFile> golden_;
};

/// Adds the rows `rows` of a recorded tensor against a stored one [rows, ...].
void compare(const std::vector<std::vector<float>>& actual, const std::vector<int32_t>& rows,
             const std::vector<float>& expected, Difference& out) {
  size_t at = 0;
  for (const int32_t row : rows)
    for (const float value : actual.at(static_cast<size_t>(row))) out.add(value, expected.at(at++));
  EXPECT_EQ(at, expected.size());
}

void compare_stored(const std::vector<float>& actual, const std::vector<float>& expected, Difference& out) {
  ASSERT_EQ(actual.size(), expected.size());
  for (size_t i = 0; i < actual.size(); ++i) out.add(actual[i], expected[i]);
}

TEST_P(OracleTest, TensorsLayerByLayer) {
  std::map<std::string, Difference> by_name;
  Difference alone;
  for (const char* prompt : kPrompts) {
    const std::string base = str_cat(prompt, "/");
    const auto rows = golden_->ints(base + "rows");
    const Recorded recorded = record(golden_->ints(base + "input_ids"));
    for (const auto& [name, actual] : recorded) {
      const bool logits = name == "logits";
      const auto kept = logits ? golden_->ints(base + "bf16/logits.rows") : rows;
      Difference here;
      compare(actual, kept, golden_->floats(base + "bf16/" + name), here);
      by_name[name.starts_with("layer.") ? name.substr(name.rfind('.') + 1) : name].add(here);
      // What bf16 itself costs the reference; sums in another order may cost as much, mistakes cost more.
      Difference noise;
      compare_stored(golden_->floats(base + "bf16/" + name), golden_->floats(base + "f32/" + name), noise);
      EXPECT_LE(here.relative_rms(), 2 * noise.relative_rms()) << prompt << " " << name;
      if (std::string_view(prompt) == "one") alone.add(here);
    }
  }
  const char* backend_name = backend() == ops::Backend::kRef ? " ref " : " cpu ";
  for (const auto& [name, d] : by_name)
    std::cout << "  " << member() << backend_name << name << ": " << d.to_string() << "\n";
  std::cout << "  " << member() << backend_name << "prompt of one token, all tensors: " << alone.to_string() << "\n";
  // A token that is its own only key has short sums. The truth turns no rounding early enough to spread; a backend may.
  if (backend() == ops::Backend::kRef) {
    EXPECT_LT(alone.share(), 0.001);
  }
}

TEST_P(OracleTest, GreedyTokens) {
  int equal = 0, near_ties = 0;
  for (const char* prompt : kPrompts) {
    const std::string base = str_cat(prompt, "/");
    const auto expected = golden_->ints(base + "bf16/greedy.tokens");
    const auto margins = golden_->floats(base + "bf16/greedy.margins");
    const auto errors = golden_->floats(base + "step.error");
    TextModelDriver d = driver();
    auto logits = d.prefill(golden_->ints(base + "input_ids"), 48);
    for (size_t step = 0; step < expected.size(); ++step) {
      for (const TokenId id : config_.generation.suppress_token_ids) logits[static_cast<size_t>(id)] = -INFINITY;
      if (argmax(logits) == expected[step])
        ++equal;
      else if (margins[step] <= errors[step])
        ++near_ties;
      else
        ADD_FAILURE() << prompt << " step " << step << ": " << argmax(logits) << ", the reference has "
                      << expected[step] << " by " << margins[step];
      // The reference's token goes on, so that one near tie does not hide the steps after it.
      if (step + 1 < expected.size()) logits = d.step({{0, {expected[step]}}}).at(0);
    }
  }
  std::cout << "  " << member() << (backend() == ops::Backend::kRef ? " ref " : " cpu ") << equal
            << " greedy tokens equal, " << near_ties << " near ties\n";
}

std::string case_name(const ::testing::TestParamInfo<std::tuple<const char*, ops::Backend>>& info) {
  std::string name = str_cat(std::get<0>(info.param), std::get<1>(info.param) == ops::Backend::kRef ? "_ref" : "_cpu");
  std::erase(name, '-');
  return name;
}

INSTANTIATE_TEST_SUITE_P(Members, OracleTest,
                         ::testing::Combine(::testing::Values("e2b", "e4b", "12b", "26b-a4b", "31b"),
                                            ::testing::Values(ops::Backend::kRef, ops::Backend::kCpu)),
                         case_name);

}  // namespace
}  // namespace carat
