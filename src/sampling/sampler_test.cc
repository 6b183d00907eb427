#include "sampling/sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <random>

#include "sampling/passes.h"

namespace carat {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

/// Plain truth: the distribution a position is drawn from, with a full sort and doubles.
std::vector<double> reference_distribution(const SamplingParams& p, const std::vector<float>& logits) {
  const int n = static_cast<int>(logits.size());
  std::vector<int> order(n);
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return logits[a] > logits[b]; });
  std::vector<double> probs(n);
  const double best = logits[order[0]];
  double total = 0;
  for (int i = 0; i < n; ++i) total += probs[i] = std::exp((logits[i] - best) / p.temperature);
  for (double& x : probs) x /= total;
  const int k = p.top_k < 1 ? n : std::min(p.top_k, n);
  std::vector<bool> keep(n, false);
  double scale = 1;
  if (p.min_p > 0) {  // one after the other
    scale = 0;
    for (int r = 0; r < k; ++r) scale += probs[order[r]];
  }
  double before = 0;
  for (int r = 0; r < n; ++r) {
    const double prob = probs[order[r]];
    keep[order[r]] = r < k && (r == 0 || before / scale < p.top_p) && (prob >= p.min_p * probs[order[0]] * (1 - 1e-6));
    before += prob;
  }
  double kept = 0;
  for (int i = 0; i < n; ++i) kept += keep[i] ? probs[i] : 0;
  for (int i = 0; i < n; ++i) probs[i] = keep[i] ? probs[i] / kept : 0;
  return probs;
}

std::vector<float> random_logits(int n, uint64_t seed, float spread = 3) {
  std::mt19937_64 rng(seed);
  std::normal_distribution<float> normal(0, spread);
  std::vector<float> out(n);
  for (float& x : out) x = normal(rng);
  return out;
}

SamplerSpec spec_of(SamplingParams params, uint64_t seed = 1) {
  SamplerSpec spec;
  spec.params = std::move(params);
  spec.seed = seed;
  return spec;
}

TokenId sample_once(const SamplerSpec& spec, std::vector<float> logits, int64_t position,
                    PositionLogprobs* logprobs = nullptr, std::span<const TokenId> generated = {}) {
  SamplerScratch scratch;
  SequenceSampler sampler(spec, static_cast<int>(logits.size()), generated);
  return sampler.sample(logits, position, scratch, logprobs);
}

/// Chi-square of draws at many positions against the reference; cells expecting under 5 are pooled. The bound is the
/// mean plus five standard deviations, and the draws are fixed by the seed.
void expect_follows_reference(const SamplingParams& params, const std::vector<float>& logits, int draws) {
  const std::vector<double> expected = reference_distribution(params, logits);
  SamplerScratch scratch;
  SequenceSampler sampler(spec_of(params, 77), static_cast<int>(logits.size()));
  std::vector<int> seen(logits.size(), 0);
  for (int i = 0; i < draws; ++i) {
    std::vector<float> row = logits;
    ++seen[sampler.sample(row, i, scratch)];
  }
  double chi = 0, pooled_expected = 0;
  int cells = 0, pooled_seen = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    const double e = expected[i] * draws;
    if (expected[i] == 0) {
      ASSERT_EQ(seen[i], 0) << "token " << i << " is outside the kept set";
    } else if (e < 5) {
      pooled_expected += e;
      pooled_seen += seen[i];
    } else {
      chi += (seen[i] - e) * (seen[i] - e) / e;
      ++cells;
    }
  }
  if (pooled_expected >= 5) {
    chi += (pooled_seen - pooled_expected) * (pooled_seen - pooled_expected) / pooled_expected;
    ++cells;
  }
  const double freedom = std::max(1, cells - 1);
  EXPECT_LT(chi, freedom + 5 * std::sqrt(2 * freedom)) << cells << " cells";
}

class Passes : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override { ASSERT_TRUE(sampling::use_instruction_set(GetParam())); }
  void TearDown() override { sampling::use_instruction_set(sampling::instruction_sets().front()); }
};
INSTANTIATE_TEST_SUITE_P(InstructionSets, Passes,
                         testing::ValuesIn(sampling::instruction_sets().begin(), sampling::instruction_sets().end()),
                         [](const auto& set) { return std::string(set.param); });

TEST_P(Passes, AgreeWithPlainLoops) {
  for (const int n : {1, 7, 255, 256, 257, 512, 1000, 5000}) {
    std::vector<float> x = random_logits(n, n, 10);
    if (n > 300) x[300] = -kInf;
    std::vector<float> maxima(sampling::num_blocks(n));
    std::vector<double> sums(sampling::num_blocks(n));
    const float best = sampling::block_maxima(x, maxima);
    EXPECT_EQ(best, *std::max_element(x.begin(), x.end()));
    const double total = sampling::block_exp_sums(x, best, 0.7f, sums);
    double expected = 0;
    for (int b = 0; b < static_cast<int>(sums.size()); ++b) {
      double sum = 0;
      for (int i = b * 256; i < std::min(n, (b + 1) * 256); ++i) sum += std::exp((double(x[i]) - best) * 0.7f);
      EXPECT_NEAR(sums[b], sum, 1e-6 * sum + 1e-30);
      expected += sum;
    }
    EXPECT_NEAR(total, expected, 1e-6 * expected);
    std::vector<float> terms(n);
    sampling::exp_terms(x, best, 0.7f, terms);
    for (int i = 0; i < n; ++i) {
      const float exponent = (x[i] - best) * 0.7f;  // rounded as it is there
      const double term = std::exp(static_cast<double>(exponent));
      EXPECT_NEAR(terms[i], term, 1e-6 * term + 1e-30);
    }
  }
}

TEST_P(Passes, ExponentialIsAccurateOverItsRange) {
  std::vector<float> x(256);
  std::vector<double> sums(1);
  for (float z = 0; z > -86.5f; z -= 0.037f) {
    std::fill(x.begin(), x.end(), z);
    const double sum = sampling::block_exp_sums(x, 0, 1, sums);
    EXPECT_NEAR(sum / 256 / std::exp(static_cast<double>(z)), 1, 6e-7) << z;
  }
  std::fill(x.begin(), x.end(), -kInf);
  EXPECT_EQ(sampling::block_exp_sums(x, 0, 1, sums), 0);
}

TEST(Sampler, GreedyTakesTheFirstLargest) {
  SamplingParams params;
  params.temperature = 0;
  for (const int n : {1, 3, 256, 700, 262144}) {
    std::vector<float> logits = random_logits(n, 5);
    const int second = n - 1, first = n / 2;
    logits[first] = logits[second] = 100;
    EXPECT_EQ(sample_once(spec_of(params), logits, 0), first);
  }
  params.temperature = 1;
  params.top_k = 1;
  EXPECT_EQ(sample_once(spec_of(params), {1, 5, 5, 2}, 0), 1);
  params.top_k = -1;
  params.top_p = 1e-6f;
  EXPECT_EQ(sample_once(spec_of(params), {1, 5, 5, 2}, 0), 1);
}

TEST(Sampler, RowsWithoutFiniteLogitsYieldSomething) {
  SamplingParams params;
  EXPECT_EQ(sample_once(spec_of(params), {-kInf, -kInf}, 0), 0);
  EXPECT_EQ(sample_once(spec_of(params), {NAN, NAN, NAN}, 0), 0);
  EXPECT_EQ(sample_once(spec_of(params), {1, kInf, 2}, 0), 1);
}

TEST(Sampler, FollowsTheReferenceDistribution) {
  std::mt19937_64 rng(3);
  for (int c = 0; c < 40; ++c) {
    SamplingParams params;
    const float temperatures[] = {0.3f, 0.7f, 1, 1.5f};
    params.temperature = temperatures[rng() % 4];
    const int ks[] = {-1, -1, 2, 5, 20, 64, 100000};
    params.top_k = ks[rng() % 7];
    const float ps[] = {1, 1, 0.5f, 0.9f, 0.95f, 0.999f};
    params.top_p = ps[rng() % 6];
    const float mins[] = {0, 0, 0.02f, 0.1f};
    params.min_p = mins[rng() % 4];
    const int sizes[] = {3, 50, 300, 2000};
    SCOPED_TRACE(testing::Message() << "case " << c << " T " << params.temperature << " k " << params.top_k << " p "
                                    << params.top_p << " min " << params.min_p);
    expect_follows_reference(params, random_logits(sizes[rng() % 4], rng(), 2), 3000);
  }
}

TEST(Sampler, FlatRowsNeedMoreThanTheShortList) {
  SamplingParams params;
  params.top_p = 0.9f;
  expect_follows_reference(params, random_logits(6000, 9, 0.05f), 1000);
  params.min_p = 0.98f;
  expect_follows_reference(params, random_logits(6000, 10, 0.05f), 1000);
  std::vector<float> equal(5000, 1.0f);  // ties: the lower ids are kept
  expect_follows_reference({.top_p = 0.5f}, equal, 1000);
  expect_follows_reference({.top_k = 2000}, equal, 1000);
}

TEST(Sampler, KeepsExactlyTheReferencesSet) {
  // Every kept token is drawn at least once over many draws, and no other (checked inside).
  SamplingParams params{.temperature = 2, .top_p = 0.8f, .top_k = 10};
  const std::vector<float> logits = random_logits(5000, 4);
  expect_follows_reference(params, logits, 10000);
}

TEST(Sampler, DependsOnSeedAndPositionOnly) {
  const std::vector<float> logits = random_logits(1000, 6, 1);
  const SamplerSpec spec = spec_of({}, 42);
  std::map<TokenId, int> distinct;
  for (int position = 0; position < 50; ++position) {
    const TokenId alone = sample_once(spec, logits, position);
    SamplerScratch scratch;
    SequenceSampler sampler(spec, 1000);
    std::vector<float> other = random_logits(1000, position + 100);
    sampler.sample(other, position + 7, scratch);  // history and scratch do not matter
    std::vector<float> row = logits;
    EXPECT_EQ(sampler.sample(row, position, scratch), alone);
    ++distinct[alone];
  }
  EXPECT_GT(distinct.size(), 30u);
  EXPECT_EQ(sample_seed(5, 0), 5u);
  EXPECT_NE(sample_seed(5, 1), sample_seed(5, 2));
}

TEST(Sampler, UniformIsUniformOverSeedsAndPositions) {
  for (const bool by_seed : {true, false}) {
    std::vector<int> cells(256, 0);
    const int draws = 1 << 18;
    double previous = 0.5, product = 0;
    for (int i = 0; i < draws; ++i) {
      const double u = by_seed ? uniform_at(i, 3) : uniform_at(3, i);
      ASSERT_GE(u, 0);
      ASSERT_LT(u, 1);
      ++cells[static_cast<int>(u * 256)];
      product += (u - 0.5) * (previous - 0.5);
      previous = u;
    }
    double chi = 0;
    for (const int c : cells) chi += (c - draws / 256.0) * (c - draws / 256.0) / (draws / 256.0);
    EXPECT_LT(chi, 255 + 5 * std::sqrt(510.0));
    EXPECT_LT(std::abs(product / draws * 12), 5 / std::sqrt(static_cast<double>(draws)));
  }
}

TEST(Sampler, PenaltiesCountGeneratedTokensOnly) {
  SamplingParams params{.temperature = 0, .frequency_penalty = 0.5f, .presence_penalty = 0.25f};
  SamplerScratch scratch;
  SequenceSampler sampler(spec_of(params), 4);
  std::vector<TokenId> out;
  for (int i = 0; i < 4; ++i) {
    std::vector<float> row{2.0f, 1.5f, 1.0f, -1.0f};
    out.push_back(sampler.sample(row, i, scratch));
  }
  // 0 (2) -> 0 at 1.25, so 1 (1.5) -> 0 (1.25) again -> 0 at 0.75, 1 at 0.75, so 2 (1.0).
  EXPECT_EQ(out, (std::vector<TokenId>{0, 1, 0, 2}));
  // A sampler that begins with this history goes on the same.
  SequenceSampler resumed(spec_of(params), 4, out);
  std::vector<float> a{2.0f, 1.5f, 1.0f, -1.0f}, b = a;
  EXPECT_EQ(sampler.sample(a, 4, scratch), resumed.sample(b, 4, scratch));
  EXPECT_EQ(a, b);
}

TEST(Sampler, RepetitionPenaltyDividesPositiveAndMultipliesNegative) {
  SamplingParams params{.temperature = 0, .repetition_penalty = 2};
  SamplerScratch scratch;
  const std::vector<TokenId> history{0, 1};
  SequenceSampler sampler(spec_of(params), 3, history);
  std::vector<float> row{3.0f, -1.0f, -4.0f};
  sampler.sample(row, 0, scratch);
  EXPECT_EQ(row, (std::vector<float>{1.5f, -2.0f, -4.0f}));
}

TEST(Sampler, BiasBansAndMinimumLength) {
  SamplerSpec spec = spec_of({.temperature = 0});
  spec.params.logit_bias = {{2, 5.0f}};
  EXPECT_EQ(sample_once(spec, {3, 2, 1}, 0), 2);
  spec.suppressed_token_ids = {2, 1000000, -1};
  EXPECT_EQ(sample_once(spec, {3, 2, 1}, 0), 0);
  spec.end_token_ids = {0};
  spec.params.min_new_tokens = 2;
  const std::vector<TokenId> one{1}, two{1, 1};
  EXPECT_EQ(sample_once(spec, {3, 2, 1}, 0, nullptr, one), 1);
  EXPECT_EQ(sample_once(spec, {3, 2, 1}, 0, nullptr, two), 0);
}

TEST(Logprobs, AreTakenAfterTemperatureAndBeforeTopK) {
  SamplerSpec spec = spec_of({.temperature = 0.5f, .top_p = 0.5f, .top_k = 1});
  spec.logprobs = {.enabled = true, .num_top = 3, .token_ids = {4, 0}};
  const std::vector<float> logits{1, 4, 2, 4, 3};
  PositionLogprobs got;
  EXPECT_EQ(sample_once(spec, logits, 0, &got), 1);
  double total = 0;
  for (const float x : logits) total += std::exp(x / 0.5);
  const auto expected = [&](int i) { return logits[i] / 0.5 - std::log(total); };
  EXPECT_NEAR(got.logprob, expected(1), 1e-5);
  ASSERT_EQ(got.top.size(), 3u);
  const TokenId order[] = {1, 3, 4};  // ties: the lower id first
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(got.top[i].token, order[i]);
    EXPECT_NEAR(got.top[i].logprob, expected(order[i]), 1e-5);
  }
  ASSERT_EQ(got.ids.size(), 2u);
  EXPECT_EQ(got.ids[0].token, 4);
  EXPECT_NEAR(got.ids[1].logprob, expected(0), 1e-5);
}

TEST(Logprobs, GreedyUsesTemperatureOne) {
  SamplerSpec spec = spec_of({.temperature = 0});
  spec.logprobs = {.enabled = true, .num_top = 5};
  PositionLogprobs got;
  std::vector<float> logits = random_logits(262144, 8);
  const TokenId token = sample_once(spec, logits, 0, &got);
  double total = 0;
  for (const float x : logits) total += std::exp(static_cast<double>(x));
  EXPECT_NEAR(got.logprob, logits[token] - std::log(total), 1e-5);
  std::vector<int> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  std::partial_sort(order.begin(), order.begin() + 5, order.end(), [&](int a, int b) { return logits[a] > logits[b]; });
  ASSERT_EQ(got.top.size(), 5u);
  for (int i = 0; i < 5; ++i) EXPECT_EQ(got.top[i].token, order[i]);
  SamplerScratch scratch;
  const PositionLogprobs again = position_logprobs(logits, token, spec.logprobs, 1, scratch);
  EXPECT_EQ(again.logprob, got.logprob);
}

TEST(Logprobs, NeverMoreTopEntriesThanTokens) {
  SamplerSpec spec = spec_of({});
  spec.logprobs = {.enabled = true, .num_top = 20};
  PositionLogprobs got;
  sample_once(spec, {1, 2, 3}, 0, &got);
  EXPECT_EQ(got.top.size(), 3u);
}

}  // namespace
}  // namespace carat
