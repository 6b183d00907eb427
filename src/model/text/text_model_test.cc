#include "model/text/text_model.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <cstdlib>
#include <new>
#include <random>

#include "base/str.h"
#include "model/text/text_model_testing.h"

namespace {
std::atomic<int64_t> num_allocations{0};
}

// Counts what the process allocates; the other forms of new end here.
[[gnu::noinline]] void* operator new(size_t size) {
  ++num_allocations;
  if (void* p = std::malloc(size ? size : 1)) return p;
  throw std::bad_alloc();
}
[[gnu::noinline]] void* operator new(size_t size, const std::nothrow_t&) noexcept {
  ++num_allocations;
  return std::malloc(size ? size : 1);
}
[[gnu::noinline]] void operator delete(void* p) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete(void* p, size_t) noexcept { std::free(p); }

namespace carat {
namespace {

using testing::argmax;
using testing::Piece;
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
  d.prefill(prompt(100, 6), 100);
  d.step({{0, {5}}});
  const int64_t before = num_allocations;
  d.repeat();
  d.repeat_logits();
  EXPECT_EQ(num_allocations - before, 0);
}

INSTANTIATE_TEST_SUITE_P(Members, TextModelTest, ::testing::Values("e2b", "e4b", "12b", "26b-a4b", "31b"),
                         [](const auto& suite) {
                           std::string name = suite.param;
                           std::erase(name, '-');
                           return name;
                         });

}  // namespace
}  // namespace carat
