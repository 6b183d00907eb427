#include "engine/cpu_runner.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "base/str.h"
#include "model/media_encoder_testing.h"
#include "model/text/text_model_testing.h"

namespace carat {
namespace {

using testing::argmax;
using testing::fake_input;
using testing::FakeEncoder;
using testing::soft_items;
using testing::TextModelDriver;

constexpr int kPageTokens = 64, kMaxContext = 320;

/// Plays the engine: hands out pages and makes steps.
class CpuRunnerTest : public ::testing::Test {
 protected:
  CpuRunnerTest()
      : config_(load_model_config(str_cat(CARAT_SOURCE_DIR, "/tests/golden/e2b")).value()),
        weights_(make_dummy_text_weights(config_, 1).value()) {}

  std::unique_ptr<CpuRunner> runner(int max_running = 4, int pipeline_depth = 1, int encoder_cache_tokens = 0) {
    MemoryRequest request;
    request.available_bytes = int64_t{1} << 30;
    request.max_running = max_running;
    request.max_context = kMaxContext;
    request.max_total_tokens = 4096;
    CpuRunnerOptions options;
    options.max_step_tokens = 256;
    options.num_threads = 2;
    options.pipeline_depth = pipeline_depth;
    MemoryBudget budget = plan_memory(config_, request).value();
    budget.num_sliding_pages = budget.num_full_pages;  // so that a page has the same number in both pools
    options.encoder_cache_tokens = encoder_cache_tokens;
    auto encoder = encoder_cache_tokens > 0 ? std::make_unique<FakeEncoder>(&num_encoded_) : nullptr;
    return CpuRunner::create(config_, weights_, budget, options, std::move(encoder)).value();
  }

  static std::vector<TokenId> prompt(int length, uint32_t seed) {
    std::mt19937 random(seed);
    std::vector<TokenId> out;
    for (int i = 0; i < length; ++i) out.push_back(static_cast<TokenId>(random() % 300));
    return out;
  }

  static SlotOpen open(int slot, const std::vector<TokenId>& prompt, int max_new_tokens = 32) {
    SlotOpen o;
    o.slot = slot;
    o.prompt = std::make_shared<const std::vector<TokenId>>(prompt);
    o.sampler.params.temperature = 0;
    o.sampler.params.max_new_tokens = max_new_tokens;
    return o;
  }

  /// Pages for positions [0, kMaxContext) of a slot, fresh ones in both pools.
  void add_pages(Step& step, int slot) {
    for (int logical = 0; logical < kMaxContext / kPageTokens; ++logical) {
      step.pages.push_back({slot, KvPool::kFull, logical, next_page_});
      step.pages.push_back({slot, KvPool::kSliding, logical, next_page_++});
    }
  }

  static Slice prefill(int slot, std::vector<TokenId> tokens, bool sampled = true) {
    Slice slice;
    slice.slot = slot;
    slice.tokens = std::move(tokens);
    if (sampled) slice.sample_slots = {slot};
    return slice;
  }
  static Slice decode(int slot) { return prefill(slot, {}); }

  static StepResult run(Runner& runner, Step step) {
    runner.launch(std::move(step));
    return runner.take().value();
  }

  static SlotOpen open(int slot, const std::vector<TokenId>& prompt, std::vector<MediaSpan> media) {
    SlotOpen o = open(slot, prompt);
    o.media = std::make_shared<const std::vector<MediaSpan>>(std::move(media));
    return o;
  }

  std::vector<TokenId> expected(const std::vector<TokenId>& prompt, int count,
                                const std::vector<MediaSpan>& media = {}) const {
    TextModelDriver driver(config_, weights_, {});
    driver.set_media(0, soft_items(media, config_.text));
    std::vector<TokenId> out = {argmax(driver.prefill(prompt, 512))};
    while (static_cast<int>(out.size()) < count) out.push_back(argmax(driver.step({{0, {out.back()}}}).at(0)));
    return out;
  }

  ModelConfig config_;
  std::shared_ptr<const TextWeights> weights_;
  PageId next_page_ = 0;
  int num_encoded_ = 0;
};

TEST_F(CpuRunnerTest, DecodesAsTheModelDoes) {
  const auto tokens = prompt(90, 1);
  const auto r = runner();
  Step step;
  step.id = 5;
  step.opens = {open(2, tokens)};
  add_pages(step, 2);
  step.slices = {prefill(2, tokens)};
  StepResult result = run(*r, step);
  EXPECT_EQ(result.id, 5);
  std::vector<TokenId> out;
  for (int i = 0; i < 8; ++i) {
    ASSERT_EQ(result.slots.size(), 1u);
    EXPECT_EQ(result.slots[0].slot, 2);
    ASSERT_EQ(result.slots[0].tokens.size(), 1u);
    out.push_back(result.slots[0].tokens[0]);
    Step next;
    next.slices = {decode(2)};
    result = run(*r, next);
  }
  EXPECT_EQ(out, expected(tokens, 8));
}

TEST_F(CpuRunnerTest, MixesChunksAndDecodes) {
  const auto a = prompt(100, 2), b = prompt(30, 3);
  const auto r = runner();
  Step first;
  first.opens = {open(0, a), open(1, b)};
  add_pages(first, 0);
  add_pages(first, 1);
  first.slices = {prefill(1, b), prefill(0, {a.begin(), a.begin() + 37}, false)};
  StepResult result = run(*r, first);
  ASSERT_EQ(result.slots.size(), 1u);
  std::vector<TokenId> out_b = result.slots[0].tokens, out_a;
  Step second;
  second.slices = {decode(1), prefill(0, {a.begin() + 37, a.end()})};
  result = run(*r, second);
  ASSERT_EQ(result.slots.size(), 2u);
  out_b.push_back(result.slots[0].tokens.at(0));
  out_a.push_back(result.slots[1].tokens.at(0));
  Step third;
  third.slices = {decode(0), decode(1)};
  result = run(*r, third);
  out_a.push_back(result.slots[0].tokens.at(0));
  out_b.push_back(result.slots[1].tokens.at(0));
  EXPECT_EQ(out_a, expected(a, 2));
  EXPECT_EQ(out_b, expected(b, 3));
}

TEST_F(CpuRunnerTest, OneStepAheadGivesTheSameTokens) {
  const auto tokens = prompt(20, 4);
  const auto r = runner(4, 2);
  Step first;
  first.opens = {open(0, tokens)};
  add_pages(first, 0);
  first.slices = {prefill(0, tokens)};
  r->launch(first);
  std::vector<TokenId> out;
  for (int i = 0; i < 6; ++i) {
    Step next;
    next.id = i + 1;
    next.slices = {decode(0)};
    r->launch(next);
    const StepResult result = r->take().value();
    EXPECT_EQ(result.id, i);
    out.push_back(result.slots.at(0).tokens.at(0));
  }
  out.push_back(r->take()->slots.at(0).tokens.at(0));
  EXPECT_EQ(out, expected(tokens, 7));
}

TEST_F(CpuRunnerTest, EndsAtTheLimitAndAtEndTokens) {
  const auto tokens = prompt(20, 5);
  const auto expected_tokens = expected(tokens, 3);
  const auto r = runner();
  Step first;
  first.opens = {open(0, tokens, 2), open(1, tokens)};
  first.opens[1].sampler.end_token_ids = {expected_tokens[0]};
  add_pages(first, 0);
  add_pages(first, 1);
  first.slices = {prefill(0, tokens), prefill(1, tokens)};
  run(*r, first);
  Step next;
  next.slices = {decode(0), decode(1)};
  StepResult result = run(*r, next);
  ASSERT_EQ(result.slots.size(), 2u);
  EXPECT_EQ(result.slots[0].tokens, std::vector<TokenId>{expected_tokens[1]});
  EXPECT_TRUE(result.slots[1].tokens.empty());
  result = run(*r, next);
  EXPECT_TRUE(result.slots.at(0).tokens.empty());
}

TEST_F(CpuRunnerTest, SamplesOfOneRequestGoOnFromTheSameRow) {
  const auto tokens = prompt(70, 6);
  const auto r = runner();
  Step first;
  first.opens = {open(0, tokens), open(3, tokens)};
  for (auto& o : first.opens) {
    o.sampler.params.temperature = 1.5f;
    o.sampler.seed = 17 + static_cast<uint64_t>(o.slot);
  }
  add_pages(first, 0);
  first.slices = {prefill(0, tokens)};
  first.slices[0].sample_slots = {0, 3};
  const StepResult forked = run(*r, first);
  ASSERT_EQ(forked.slots.size(), 2u);
  EXPECT_EQ(forked.slots[1].slot, 3);

  // The follower shares the first page and gets a copy of the second, which both will write.
  Step second;
  second.copies = {{KvPool::kFull, 1, 40}, {KvPool::kSliding, 1, 40}};
  for (const KvPool pool : {KvPool::kFull, KvPool::kSliding}) {
    second.pages.push_back({3, pool, 0, 0});
    second.pages.push_back({3, pool, 1, 40});
  }
  second.slices = {decode(0), decode(3)};
  const StepResult both = run(*r, second);

  // Each sample alone, in a runner of its own, yields the same.
  for (const size_t sample : {0u, 1u}) {
    next_page_ = 0;
    const auto alone = runner();
    Step step;
    step.opens = {first.opens[sample]};
    add_pages(step, first.opens[sample].slot);
    step.slices = {prefill(first.opens[sample].slot, tokens)};
    EXPECT_EQ(run(*alone, step).slots.at(0).tokens, forked.slots[sample].tokens);
    Step next;
    next.slices = {decode(first.opens[sample].slot)};
    EXPECT_EQ(run(*alone, next).slots.at(0).tokens, both.slots.at(sample).tokens);
  }
}

TEST_F(CpuRunnerTest, LogprobsOfPromptAndSamples) {
  const auto tokens = prompt(100, 7);
  TextModelDriver driver(config_, weights_, {});
  const auto logits = driver.step({{0, tokens, true}});
  const auto logprob = [&](size_t row, TokenId token) {
    double sum = 0;
    for (const float value : logits[row]) sum += std::exp(static_cast<double>(value));
    return static_cast<double>(logits[row][static_cast<size_t>(token)]) - std::log(sum);
  };

  const auto r = runner(2);  // fewer logit rows at once than are wanted
  Step first;
  first.opens = {open(0, tokens)};
  first.opens[0].sampler.logprobs = {.enabled = true, .num_top = 3, .prompt_start = 30, .token_ids = {5}};
  add_pages(first, 0);
  first.slices = {prefill(0, {tokens.begin(), tokens.begin() + 50}, false)};
  first.slices[0].prompt_logprob_begin = 30;
  first.slices[0].prompt_logprob_end = 51;
  StepResult result = run(*r, first);
  ASSERT_EQ(result.slots.size(), 1u);
  EXPECT_TRUE(result.slots[0].tokens.empty());
  auto all = result.slots[0].prompt_logprobs;
  Step second;
  second.slices = {prefill(0, {tokens.begin() + 50, tokens.end()})};
  second.slices[0].prompt_logprob_begin = 51;
  second.slices[0].prompt_logprob_end = 100;
  result = run(*r, second);
  ASSERT_EQ(result.slots.size(), 1u);
  all.insert(all.end(), result.slots[0].prompt_logprobs.begin(), result.slots[0].prompt_logprobs.end());
  ASSERT_EQ(all.size(), 70u);
  for (size_t i = 0; i < all.size(); ++i) {
    const size_t position = 30 + i;
    EXPECT_NEAR(all[i].logprob, logprob(position - 1, tokens[position]), 1e-4);
    EXPECT_EQ(all[i].top.size(), 3u);
    EXPECT_NEAR(all[i].ids.at(0).logprob, logprob(position - 1, 5), 1e-4);
  }
  ASSERT_EQ(result.slots[0].logprobs.size(), 1u);
  EXPECT_NEAR(result.slots[0].logprobs[0].logprob, logprob(99, argmax(logits[99])), 1e-4);
}

TEST_F(CpuRunnerTest, ASlotIsClosedAndOpenedByOneStep) {
  const auto a = prompt(40, 8), b = prompt(50, 9);
  const auto r = runner();
  Step first;
  first.opens = {open(0, a)};
  add_pages(first, 0);
  first.slices = {prefill(0, a)};
  run(*r, first);
  Step second;
  second.closes = {0};
  second.opens = {open(0, b)};
  add_pages(second, 0);
  second.slices = {prefill(0, b)};
  EXPECT_EQ(run(*r, second).slots.at(0).tokens, expected(b, 1));
}

TEST_F(CpuRunnerTest, APrefixInThePagesIsNotComputedAgain) {
  const auto tokens = prompt(100, 10);
  const auto r = runner();
  Step first;
  first.opens = {open(0, tokens)};
  add_pages(first, 0);
  first.slices = {prefill(0, tokens)};
  const StepResult whole = run(*r, first);
  Step second;
  second.opens = {open(1, tokens)};
  second.opens[0].cached_length = 64;
  add_pages(second, 1);
  for (const KvPool pool : {KvPool::kFull, KvPool::kSliding}) second.pages.push_back({1, pool, 0, 0});
  second.slices = {prefill(1, {tokens.begin() + 64, tokens.end()})};
  EXPECT_EQ(run(*r, second).slots.at(0).tokens, whole.slots.at(0).tokens);
}

TEST_F(CpuRunnerTest, AnItemIsEncodedOnceForChunksAndRequests) {
  const auto tokens = prompt(120, 11), other = prompt(60, 12);
  const std::vector<MediaSpan> media = {{10, fake_input(1, 50)}, {70, fake_input(2, 20)}},
                               same = {{5, fake_input(1, 50)}};
  const auto r = runner(4, 1, 80);
  Step first;
  first.opens = {open(0, tokens, media)};
  add_pages(first, 0);
  first.slices = {prefill(0, {tokens.begin(), tokens.begin() + 30}, false)};
  run(*r, first);
  EXPECT_EQ(num_encoded_, 1);
  Step second;
  second.slices = {prefill(0, {tokens.begin() + 30, tokens.begin() + 75}, false)};
  run(*r, second);
  EXPECT_EQ(num_encoded_, 2);
  Step third;
  third.opens = {open(1, other, same)};
  add_pages(third, 1);
  third.slices = {prefill(0, {tokens.begin() + 75, tokens.end()}), prefill(1, other)};
  const StepResult result = run(*r, third);
  EXPECT_EQ(num_encoded_, 2);
  Step next;
  next.slices = {decode(0), decode(1)};
  const StepResult more = run(*r, next);
  for (const auto& [slot, want] : {std::pair(0u, expected(tokens, 2, media)), std::pair(1u, expected(other, 2, same))})
    EXPECT_EQ((std::vector<TokenId>{result.slots.at(slot).tokens.at(0), more.slots.at(slot).tokens.at(0)}), want);
  EXPECT_NE(expected(tokens, 2, media), expected(tokens, 2)) << "the test sees its media";
}

TEST_F(CpuRunnerTest, AStepMayNeedMoreThanTheCacheHolds) {
  const auto tokens = prompt(120, 13);
  const std::vector<MediaSpan> media = {{0, fake_input(1, 40)}, {40, fake_input(2, 40)}, {80, fake_input(1, 40)}};
  const auto r = runner(4, 1, 40);
  EXPECT_EQ(r->info().max_media_tokens, 40);
  Step step;
  step.opens = {open(0, tokens, media)};
  add_pages(step, 0);
  step.slices = {prefill(0, tokens)};
  EXPECT_EQ(run(*r, step).slots.at(0).tokens, expected(tokens, 1, media));
  EXPECT_EQ(num_encoded_, 3);
}

TEST_F(CpuRunnerTest, TheEncodersCacheIsPartOfTheBudget) {
  CpuRunnerOptions options;
  const int64_t text = CpuRunner::workspace_bytes(config_, 4, options);
  options.encoder_cache_tokens = 1000;
  EXPECT_EQ(CpuRunner::workspace_bytes(config_, 4, options) - text,
            int64_t{1000 + options.max_step_tokens} * config_.text.hidden_size * 2);
}

TEST_F(CpuRunnerTest, StatesItsLimits) {
  const auto r = runner(3, 2);
  EXPECT_EQ(r->info().max_slots, 3);
  EXPECT_EQ(r->info().pipeline_depth, 2);
  EXPECT_EQ(r->info().window, config_.text.sliding_window);
  EXPECT_EQ(r->info().vocab_size, config_.text.vocab_size);
  EXPECT_EQ(r->info().num_full_pages, 4096 / kPageTokens);
  EXPECT_FALSE(r->ready());
  EXPECT_EQ(r->info().max_media_tokens, 0);
  EXPECT_FALSE(r->info().whole_media_blocks);
  EXPECT_EQ(runner(3, 2, 50)->info().max_media_tokens, 50);
}

}  // namespace
}  // namespace carat
