// Every named tensor of the decoder against Transformers' on the oracle's tiny checkpoints, for prompts of text and for
// prompts with the reference's soft tokens of images, sounds and a video. Needs them: CARAT_ORACLE_DIR names a folder
// with ck/MEMBER (checkpoints) and golden/MEMBER-{text,media,video}.safetensors (tensors); otherwise nothing runs.

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <map>

#include "base/str.h"
#include "base/worker_pool.h"
#include "golden_file.h"
#include "golden_media.h"
#include "model/encoders.h"
#include "model/text/text_model_testing.h"
#include "tensor/bf16.h"

namespace carat {
namespace {

using testing::argmax;
using testing::Difference;
using testing::EncoderInputs;
using testing::golden_clips;
using testing::golden_frames;
using testing::golden_images;
using testing::GoldenFile;
using testing::SoftItem;
using testing::TextModelDriver;

/// A prompt of a golden file.
struct PromptName {
  const char *file, *name;
};
constexpr PromptName kTextPrompts[] = {{"text", "one"},    {"text", "short"},    {"text", "chat"}, {"text", "window-1"},
                                       {"text", "window"}, {"text", "window+1"}, {"text", "long"}};
/// Members without ears have no "audio" and "mixed".
constexpr PromptName kMediaPrompts[] = {
    {"media", "image"}, {"media", "images"}, {"media", "audio"}, {"media", "mixed"}, {"video", "video"}};
constexpr int kMaxLength = 2304;

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
    config_ = load_model_config(checkpoint()).value();
    weights_ = load_text_weights(checkpoint(), config_).value();
    for (const char* file : {"text", "media", "video"})
      golden_.emplace(file, str_cat(folder, "/golden/", member(), "-", file, ".safetensors"));
  }
  const char* member() const { return std::get<0>(GetParam()); }
  std::filesystem::path checkpoint() const { return str_cat(std::getenv("CARAT_ORACLE_DIR"), "/ck/", member()); }
  ops::Backend backend() const { return std::get<1>(GetParam()); }
  const char* backend_name() const { return backend() == ops::Backend::kRef ? " ref " : " cpu "; }
  TextModelDriver driver() const {
    return {config_,
            weights_,
            {.max_length = kMaxLength, .max_tokens = kMaxLength, .max_logit_rows = 64, .backend = backend()}};
  }

  const GoldenFile& file(const PromptName& prompt) const { return golden_.at(prompt.file); }
  /// The truth would take half a minute for the video's 2,200 tokens.
  bool has(const PromptName& prompt) const {
    if (backend() == ops::Backend::kRef && std::string_view(prompt.file) == "video") return false;
    return file(prompt).has(str_cat(prompt.name, "/input_ids"));
  }

  /// The reference's soft tokens where its token types say that there are some: runs of type 1 (image), 2 (frame) or 3
  /// (sound). In files of the 12B each image is padded to as many rows.
  std::vector<SoftItem> media_of(const PromptName& prompt) const {
    if (!file(prompt).has(str_cat(prompt.name, "/token_types"))) return {};
    const auto types = file(prompt).ints(str_cat(prompt.name, "/token_types"));
    std::vector<SoftItem> out;
    for (const auto& [tensor, is_vision] : {std::pair("embed_vision", true), std::pair("embed_audio", false)}) {
      std::vector<SoftItem> items;
      int total = 0;
      for (size_t i = 0; i < types.size(); ++i) {
        if (types[i] == 0 || (types[i] == 3) == is_vision) continue;
        const int begin = static_cast<int>(i);
        while (i + 1 < types.size() && types[i + 1] == types[i]) ++i;
        items.push_back({begin, static_cast<int>(i) + 1 - begin, is_vision && config_.text.bidirectional_vision, {}});
        total += items.back().num_tokens;
      }
      if (items.empty()) continue;
      const auto values = file(prompt).floats(str_cat(prompt.name, "/bf16/", tensor));
      const size_t width = static_cast<size_t>(config_.text.hidden_size), rows = values.size() / width;
      const bool padded = rows != static_cast<size_t>(total);
      size_t row = 0;
      for (SoftItem& item : items) {
        const size_t count = static_cast<size_t>(item.num_tokens);
        for (size_t v = row * width; v < (row + count) * width; ++v) item.values.emplace_back(values.at(v));
        row += padded ? rows / items.size() : count;
        out.push_back(std::move(item));
      }
      EXPECT_EQ(row, rows);
    }
    std::ranges::sort(out, {}, &SoftItem::begin);
    return out;
  }

  /// The same items with soft tokens of our own: from the raw pixels, frames and samples through our own encoders.
  std::vector<SoftItem> encoded_media_of(const PromptName& prompt) const {
    auto items = media_of(prompt);
    if (items.empty()) return items;
    EncoderInputs inputs[] = {golden_images(file(prompt), prompt.name, config_),
                              golden_frames(file(prompt), prompt.name, config_),
                              golden_clips(file(prompt), prompt.name, config_)};
    size_t used[] = {0, 0, 0};
    const auto types = file(prompt).ints(str_cat(prompt.name, "/token_types"));
    WorkerPool pool(2);
    ops::Context ctx{backend(), &pool};
    const auto encoders = Encoders::create(config_, load_encoder_weights(checkpoint(), config_).value()).value();
    for (SoftItem& item : items) {
      const size_t kind = static_cast<size_t>(types[static_cast<size_t>(item.begin)]) - 1;
      const EncoderInput& input = *inputs[kind].at(used[kind]++);
      EXPECT_EQ(input.num_tokens, item.num_tokens);
      encoders->encode(ctx, input, {item.values.data(), DType::kBf16, {item.num_tokens, config_.text.hidden_size}});
    }
    for (size_t kind = 0; kind < 3; ++kind) EXPECT_EQ(used[kind], inputs[kind].size());
    return items;
  }

  /// Runs a prompt with logits of all rows, so that no row skips a layer.
  Recorded record(const PromptName& prompt) const {
    TextModelDriver d = driver();
    d.set_media(0, media_of(prompt));
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
    out["logits"] = d.step({{0, file(prompt).ints(str_cat(prompt.name, "/input_ids")), true}});
    return out;
  }

  ModelConfig config_;
  std::shared_ptr<const TextWeights> weights_;
  std::map<std::string, GoldenFile, std::less<>> golden_;
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

/// What separates two bf16 numbers of that size.
float bf16_step(float x) { return std::ldexp(1.0f, std::ilogb(x) - 7); }

TEST_P(OracleTest, TensorsLayerByLayer) {
  Difference alone;
  for (const std::span<const PromptName> prompts : {std::span<const PromptName>(kTextPrompts), {kMediaPrompts}}) {
    std::map<std::string, Difference> by_name;
    for (const PromptName& prompt : prompts) {
      if (!has(prompt)) continue;
      const GoldenFile& golden = file(prompt);
      const std::string base = str_cat(prompt.name, "/");
      const auto rows = golden.ints(base + "rows");
      const Recorded recorded = record(prompt);
      for (const auto& [name, actual] : recorded) {
        const bool logits = name == "logits";
        const auto kept = logits ? golden.ints(base + "bf16/logits.rows") : rows;
        Difference here;
        compare(actual, kept, golden.floats(base + "bf16/" + name), here);
        by_name[name.starts_with("layer.") ? name.substr(name.rfind('.') + 1) : name].add(here);
        // What bf16 itself costs the reference; sums in another order may cost as much, mistakes cost more.
        Difference noise;
        compare_stored(golden.floats(base + "bf16/" + name), golden.floats(base + "f32/" + name), noise);
        EXPECT_LE(here.relative_rms(), 2 * noise.relative_rms()) << prompt.name << " " << name;
        if (std::string_view(prompt.name) == "one") alone.add(here);
      }
    }
    for (const auto& [name, d] : by_name)
      std::cout << "  " << member() << backend_name() << prompts.front().file << " " << name << ": " << d.to_string()
                << "\n";
  }
  std::cout << "  " << member() << backend_name() << "prompt of one token, all tensors: " << alone.to_string() << "\n";
  // A token that is its own only key has short sums. The truth turns no rounding early enough to spread; a backend may.
  if (backend() == ops::Backend::kRef) {
    EXPECT_LT(alone.share(), 0.001);
  }
}

TEST_P(OracleTest, GreedyTokens) {
  for (const std::span<const PromptName> prompts : {std::span<const PromptName>(kTextPrompts), {kMediaPrompts}}) {
    int equal = 0, near_ties = 0;
    for (const PromptName& prompt : prompts) {
      if (!has(prompt)) continue;
      const std::string base = str_cat(prompt.name, "/");
      const auto expected = file(prompt).ints(base + "bf16/greedy.tokens");
      const auto margins = file(prompt).floats(base + "bf16/greedy.margins");
      const auto errors = file(prompt).floats(base + "step.error");
      auto sorted = errors;
      std::ranges::sort(sorted);
      int ties_here = 0;
      TextModelDriver d = driver();
      const auto media = encoded_media_of(prompt);
      const bool blocks = std::ranges::any_of(media, &SoftItem::block);
      d.set_media(0, media);
      auto logits = d.prefill(file(prompt).ints(base + "input_ids"), blocks ? kMaxLength : 48);
      for (size_t step = 0; step < expected.size(); ++step) {
        for (const TokenId id : config_.generation.suppress_token_ids) logits[static_cast<size_t>(id)] = -INFINITY;
        // A lead that bf16's own noise in this prompt can turn: the reference's distance from its f32 logits, of which
        // that of one step is but a sample.
        const float best = logits[static_cast<size_t>(argmax(logits))];
        // Soft tokens of our own bring theirs along.
        const float slack = media.empty() ? 1.5f : 2.0f;
        const float noise = slack * std::max(errors[step], sorted[sorted.size() / 2]) + bf16_step(best);
        if (argmax(logits) == expected[step])
          ++equal;
        else if (margins[step] <= noise)
          ++ties_here;
        else
          ADD_FAILURE() << prompt.name << " step " << step << ": " << argmax(logits) << ", the reference has "
                        << expected[step] << " by " << margins[step];
        // The reference's token goes on, so that one near tie does not hide the steps after it.
        if (step + 1 < expected.size()) logits = d.step({{0, {expected[step]}}}).at(0);
      }
      EXPECT_LE(ties_here, std::max(3, static_cast<int>(expected.size()) / 5)) << prompt.name;
      near_ties += ties_here;
    }
    std::cout << "  " << member() << backend_name() << prompts.front().file << ": " << equal << " greedy tokens equal, "
              << near_ties << " near ties\n";
  }
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
