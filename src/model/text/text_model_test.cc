#include "model/text/text_model.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "base/str.h"
#include "model/allocations_testing.h"
#include "model/text/text_model_testing.h"

namespace carat {
namespace {

using testing::argmax;
using testing::Piece;
using testing::SoftItem;
using testing::TextModelDriver;

/// A member's form at small sizes, with seeded weights.
class TextModelTest : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    config_ = load_model_config(str_cat(CARAT_SOURCE_DIR, "/tests/golden/", GetParam())).value();
    weights_ = make_dummy_text_weights(config_, 1).value();
  }

  TextModelDriver driver(TextModelDriver::Options options = {}) const { return {config_, weights_, options}; }

  std::vector<TokenId> prompt(int length, uint32_t seed) const {
    std::mt19937 random(seed);
    std::vector<TokenId> out;
    for (int i = 0; i < length; ++i) out.push_back(static_cast<TokenId>(random() % 300));
    return out;
  }

  SoftItem item(int begin, int num_tokens, bool vision, uint32_t seed) const {
    SoftItem out{begin, num_tokens, vision && config_.text.bidirectional_vision, {}};
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    for (int i = 0; i < num_tokens * config_.text.hidden_size; ++i) out.values.emplace_back(normal(random));
    return out;
  }
  /// For a prompt of 150 tokens: an image over a page's border, a frame behind it, sound, another
  /// image.
  std::vector<SoftItem> items() const {
    return {item(50, 30, true, 1), item(80, 1, true, 2), item(83, 20, false, 3), item(105, 40, true, 4)};
  }

  ModelConfig config_;
  std::shared_ptr<const TextWeights> weights_;
};

TEST_P(TextModelTest, SkippedRowsChangeNothing) {
  TextModelDriver all = driver(), last = driver();
  const auto tokens = prompt(100, 1);
  const auto rows = all.step({{0, tokens, true}});
  ASSERT_EQ(rows.size(), tokens.size());
  EXPECT_EQ(rows.back(), last.prefill(tokens, 100));
  // What the skipped rows stored is the same too.
  EXPECT_EQ(all.step({{0, {7}}}), last.step({{0, {7}}}));
}

TEST_P(TextModelTest, ChunksChangeNothing) {
  const auto tokens = prompt(150, 2);
  TextModelDriver whole = driver();
  const auto expected = whole.prefill(tokens, 150);
  const auto next = whole.step({{0, {9}}});
  for (const int chunk : {1, 7, 64}) {
    TextModelDriver chunked = driver();
    EXPECT_EQ(chunked.prefill(tokens, chunk), expected) << "chunks of " << chunk;
    EXPECT_EQ(chunked.step({{0, {9}}}), next) << "chunks of " << chunk;
  }
}

TEST_P(TextModelTest, NeighboursChangeNothing) {
  constexpr int kSequences = 16;
  TextModelDriver together = driver({.num_sequences = kSequences, .max_length = 192});
  std::vector<Piece> first, second;
  for (int s = 0; s < kSequences; ++s) {
    first.push_back({s, prompt(1 + s * 5, static_cast<uint32_t>(s))});
    // Half of them decode while the others go on with their prompts.
    second.push_back({s, prompt(s % 2 ? 1 : 20, 100 + static_cast<uint32_t>(s))});
  }
  std::vector<std::vector<std::vector<float>>> outs;
  for (size_t at = 0; at < kSequences; at += 4)
    for (auto& logits :
         together.step({first.begin() + static_cast<int64_t>(at), first.begin() + static_cast<int64_t>(at) + 4}))
      outs.push_back({std::move(logits)});
  const auto mixed = together.step(second);
  ASSERT_EQ(mixed.size(), size_t{kSequences});
  for (size_t s = 0; s < kSequences; ++s) {
    TextModelDriver alone = driver({.max_length = 192});
    EXPECT_EQ(alone.step({{0, first[s].tokens}})[0], outs[s][0]) << "sequence " << s;
    EXPECT_EQ(alone.step({{0, second[s].tokens}})[0], mixed[s]) << "sequence " << s;
  }
}

TEST_P(TextModelTest, CpuBackendIsCloseToTheTruth) {
  TextModelDriver truth = driver({.backend = ops::Backend::kRef}), cpu = driver({.num_threads = 2});
  const auto tokens = prompt(100, 3);
  const auto expected = truth.step({{0, tokens, true}}), actual = cpu.step({{0, tokens, true}});
  double squares = 0, norm = 0;
  for (size_t t = 0; t < expected.size(); ++t) {
    for (size_t i = 0; i < expected[t].size(); ++i) {
      squares += std::pow(expected[t][i] - actual[t][i], 2);
      norm += std::pow(expected[t][i], 2);
    }
  }
  // Sums in another order turn a rounding here and there, and the layers spread it: up to what bf16 costs against f32,
  // 1 to 4 % of the logits (the noise in tests/golden).
  EXPECT_LT(std::sqrt(squares / norm), 0.04);
}

TEST_P(TextModelTest, ThreadsChangeNothing) {
  const auto tokens = prompt(150, 4);
  TextModelDriver one = driver();
  const auto expected = one.prefill(tokens, 150);
  TextModelDriver two = driver({.num_threads = 3});
  EXPECT_EQ(two.prefill(tokens, 17), expected);
}

TEST_P(TextModelTest, SoftRowsCountAndTheirIdsDoNot) {
  const auto tokens = prompt(150, 7);
  auto other_ids = tokens;
  for (const SoftItem& i : items()) std::fill_n(other_ids.begin() + i.begin, i.num_tokens, config_.media.image.value());
  TextModelDriver text = driver(), soft = driver(), other = driver(), changed = driver();
  soft.set_media(0, items());
  other.set_media(0, items());
  auto changed_items = items();
  changed_items[1] = item(80, 1, true, 9);
  changed.set_media(0, changed_items);
  const auto expected = soft.prefill(tokens, 150);
  EXPECT_NE(expected, text.prefill(tokens, 150));
  EXPECT_EQ(expected, other.prefill(other_ids, 150));
  EXPECT_NE(expected, changed.prefill(tokens, 150));
}

/// Wherever a prompt is cut, if not inside of a block; and where a cached beginning ends, inside of one too.
TEST_P(TextModelTest, ChunksOfMediaChangeNothing) {
  const auto tokens = prompt(150, 8);
  TextModelDriver whole = driver();
  whole.set_media(0, items());
  const auto expected = whole.step({{0, tokens, true}});
  const bool blocks = config_.text.bidirectional_vision;
  for (const std::vector<int>& ends : blocks ? std::vector<std::vector<int>>{{50, 80, 81, 150}, {80, 95, 105, 145, 150}}
                                             : std::vector<std::vector<int>>{{60, 70, 90, 110, 150}}) {
    TextModelDriver d = driver({.num_threads = 3});
    d.set_media(0, items());
    for (int begin = 0; const int end : ends) {
      const auto got = d.step({{0, {tokens.begin() + begin, tokens.begin() + end}, true}});
      for (int t = begin; t < end; ++t)
        EXPECT_EQ(got[static_cast<size_t>(t - begin)], expected[static_cast<size_t>(t)]);
      begin = end;
    }
    for (const int cached : {64, 106, 128}) {
      d.cut(0, cached);
      EXPECT_EQ(d.step({{0, {tokens.begin() + cached, tokens.end()}}}).at(0), expected.back()) << cached;
    }
  }
}

/// On members whose images see themselves whole, an early row of a block depends on a later one; sound stays causal.
TEST_P(TextModelTest, OnlyBlocksSeeAhead) {
  const auto tokens = prompt(150, 9);
  const auto rows = [&](size_t changed_item) {
    auto media = items();
    if (changed_item < media.size())
      for (size_t i = media[changed_item].values.size() - static_cast<size_t>(config_.text.hidden_size);
           i < media[changed_item].values.size(); ++i)
        media[changed_item].values[i] = Bf16(0.5f);  // its last row
    TextModelDriver d = driver();
    d.set_media(0, std::move(media));
    return d.step({{0, tokens, true}});
  };
  const auto original = rows(99), image = rows(0), sound = rows(2);
  EXPECT_EQ(image[49], original[49]);
  EXPECT_EQ(image[50] != original[50], config_.text.bidirectional_vision);
  EXPECT_NE(image[79], original[79]);
  EXPECT_EQ(sound[101], original[101]);
  EXPECT_NE(sound[102], original[102]);
}

TEST_P(TextModelTest, LogitsComeInBlocks) {
  TextModelDriver wide = driver({.max_logit_rows = 40}), narrow = driver({.max_logit_rows = 3});
  const auto tokens = prompt(40, 5);
  EXPECT_EQ(wide.step({{0, tokens, true}}), narrow.step({{0, tokens, true}}));
}

TEST_P(TextModelTest, LayoutNamesTheLayersThatOwnKeys) {
  const auto layout = TextModel::kv_layout(config_);
  for (const auto& store : layout) {
    const LayerConfig& layer = config_.text.layers[static_cast<size_t>(store.layer)];
    EXPECT_EQ(layer.kv_source, store.layer);
    EXPECT_EQ(layer.kind, store.kind);
    EXPECT_EQ(layer.head_dim, store.head_dim);
  }
  EXPECT_EQ(static_cast<int>(layout.size()), config_.text.first_shared_layer);
}

TEST_P(TextModelTest, AStepAllocatesNothing) {
  TextModelDriver d = driver({.num_threads = 2});
  d.set_media(0, {item(20, 30, true, 1)});
  d.prefill(prompt(100, 6), 100);
  const int64_t before_media = testing::num_allocations();
  d.repeat();
  EXPECT_EQ(testing::num_allocations() - before_media, 0);
  d.step({{0, {5}}});
  const int64_t before = testing::num_allocations();
  d.repeat();
  d.repeat_logits();
  EXPECT_EQ(testing::num_allocations() - before, 0);
}

INSTANTIATE_TEST_SUITE_P(Members, TextModelTest, ::testing::Values("e2b", "e4b", "12b", "26b-a4b", "31b"),
                         [](const auto& suite) {
                           std::string name = suite.param;
                           std::erase(name, '-');
                           return name;
                         });

}  // namespace
}  // namespace carat
