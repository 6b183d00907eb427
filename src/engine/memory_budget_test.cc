#include "engine/memory_budget.h"

#include <gmock/gmock.h>

namespace carat {
namespace {

using ::testing::HasSubstr;

constexpr int64_t kGiB = int64_t{1} << 30;

ModelConfig model(std::string_view name) { return builtin_model_config(name).value(); }

TEST(MemoryBudget, PagesHaveTheBytesOfTheSpecification) {
  MemoryRequest request;
  request.available_bytes = 64 * kGiB;
  const MemoryBudget e2b = plan_memory(model("google/gemma-4-E2B-it"), request).value();
  EXPECT_EQ(e2b.full_page_bytes, 64 * 3 * 2048);
  EXPECT_EQ(e2b.sliding_page_bytes, 64 * 12 * 1024);
  const MemoryBudget moe = plan_memory(model("google/gemma-4-26B-A4B-it"), request).value();
  EXPECT_EQ(moe.full_page_bytes, 64 * 5 * 4096);
  EXPECT_EQ(moe.sliding_page_bytes, 64 * 25 * 8192);
}

TEST(MemoryBudget, StaysWithinTheFraction) {
  for (const int64_t gib : {10, 12, 16, 24, 64}) {
    MemoryRequest request;
    request.available_bytes = gib * kGiB;
    request.fraction = 0.8;
    request.weight_bytes = 6 * kGiB;
    request.workspace_bytes = kGiB / 2;
    const MemoryBudget budget = plan_memory(model("google/gemma-4-E4B-it"), request).value();
    EXPECT_LE(budget.total_bytes(), static_cast<int64_t>(0.8 * static_cast<double>(request.available_bytes)));
    EXPECT_GE(budget.max_running, 1);
    EXPECT_GE(budget.num_full_pages, budget.num_sliding_pages);
    // One window, the page it may straddle, and a page to grow into.
    EXPECT_GE(budget.num_sliding_pages, 512 / 64 + 2) << gib;
  }
}

TEST(MemoryBudget, GivesWhatWasAskedOrRefusesWithNumbers) {
  MemoryRequest request;
  request.available_bytes = 16 * kGiB;
  request.max_total_tokens = 10000;
  request.max_running = 4;
  const MemoryBudget budget = plan_memory(model("google/gemma-4-12B-it"), request).value();
  EXPECT_EQ(budget.num_full_pages, 157);
  EXPECT_EQ(budget.max_total_tokens(), 157 * 64);
  EXPECT_EQ(budget.max_running, 4);
  EXPECT_LE(budget.num_sliding_pages, 157);

  request.max_total_tokens = 100'000'000;
  const auto refused = plan_memory(model("google/gemma-4-12B-it"), request);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Errc::kOverloaded);
  EXPECT_THAT(refused.error().message, HasSubstr("--max-total-tokens 100000000"));
}

/// A card: most of its memory is ours, and steps are large.
MemoryRequest card(int64_t gib, int64_t weight_gib, int max_running = 256) {
  MemoryRequest request;
  request.available_bytes = gib * kGiB;
  request.fraction = 0.88;
  request.weight_bytes = weight_gib * kGiB;
  request.workspace_bytes = kGiB;
  request.max_running = max_running;
  request.max_step_tokens = 4096 + max_running;
  return request;
}

TEST(MemoryBudget, CardsServeTheWholeContextWhereMemoryAllows) {
  struct Case {
    const char* model;
    int64_t gib, weights;
  };
  for (const Case& c : {Case{"google/gemma-4-E2B-it", 80, 9}, Case{"google/gemma-4-E4B-it", 80, 15},
                        Case{"google/gemma-4-12B-it", 80, 23}, Case{"google/gemma-4-26B-A4B-it", 80, 48},
                        Case{"google/gemma-4-12B-it", 140, 23}, Case{"google/gemma-4-26B-A4B-it", 140, 48}}) {
    const MemoryBudget budget = plan_memory(model(c.model), card(c.gib, c.weights)).value();
    EXPECT_TRUE(budget.holds_context()) << c.model << ": " << budget.describe();
    const int window_pages = model(c.model).text.sliding_window / 64 + 1;
    EXPECT_GE(budget.num_sliding_pages, kEnoughWindows * window_pages) << c.model;
    EXPECT_EQ(budget.max_running, 256);
  }
}

TEST(MemoryBudget, ShortSequencesFillBothPoolsAtOnce) {
  const MemoryBudget budget = plan_memory(model("google/gemma-4-31B-it"), card(140, 58)).value();
  EXPECT_FALSE(budget.holds_context());
  EXPECT_NEAR(budget.num_full_pages, budget.num_sliding_pages, 12);
  // Fewer sequences, or the flag, leave room for the longest one.
  const MemoryBudget few = plan_memory(model("google/gemma-4-31B-it"), card(140, 58, 32)).value();
  EXPECT_TRUE(few.holds_context());
  EXPECT_GE(few.num_sliding_pages, 32 * (1024 / 64 + 2));
  MemoryRequest request = card(140, 58);
  request.sliding_ratio = 0.1;
  const MemoryBudget flagged = plan_memory(model("google/gemma-4-31B-it"), request).value();
  EXPECT_TRUE(flagged.holds_context());
  EXPECT_NEAR(flagged.num_sliding_pages, flagged.num_full_pages / 10, 2);
  EXPECT_LE(flagged.total_bytes(), static_cast<int64_t>(0.88 * 140.0 * static_cast<double>(kGiB)));
}

TEST(MemoryBudget, RefusalsNameLimitAndFlags) {
  MemoryRequest request = card(80, 58);
  request.weight_bytes = 70 * kGiB;
  const std::string by_fraction = plan_memory(model("google/gemma-4-31B-it"), request).error().message;
  EXPECT_THAT(by_fraction, HasSubstr("weights take 70.00 GiB, workspaces 1.00 GiB"));
  EXPECT_THAT(by_fraction, HasSubstr("70.40 GiB that --mem-fraction-static 0.88 allows of 80.00 GiB"));
  request.free_bytes = 30 * kGiB;
  EXPECT_THAT(plan_memory(model("google/gemma-4-31B-it"), request).error().message,
              HasSubstr("30.00 GiB that are free of 80.00 GiB"));
}

TEST(MemoryBudget, LowersTheNumberOfSequencesOnlyIfNoneWasAsked) {
  MemoryRequest request;
  request.available_bytes = 3 * kGiB;
  EXPECT_LT(plan_memory(model("google/gemma-4-31B-it"), request).value().max_running, kDefaultMaxRunning);
  request.max_running = 20;
  EXPECT_EQ(plan_memory(model("google/gemma-4-31B-it"), request).value().max_running, 20);
}

TEST(MemoryBudget, SmallPoolsNeedNoMoreSlidingPagesThanFullOnes) {
  MemoryRequest request;
  request.available_bytes = 16 * kGiB;
  request.max_total_tokens = 640;
  const MemoryBudget budget = plan_memory(model("google/gemma-4-E2B-it"), request).value();
  EXPECT_EQ(budget.num_full_pages, 10);
  EXPECT_EQ(budget.num_sliding_pages, 10);
  EXPECT_EQ(budget.max_running, kDefaultMaxRunning);
}

TEST(MemoryBudget, RefusesNonsense) {
  MemoryRequest request;
  request.available_bytes = kGiB;
  request.fraction = 0;
  EXPECT_EQ(plan_memory(model("google/gemma-4-E2B-it"), request).error().code, Errc::kInvalidArgument);
  request.fraction = 0.9;
  request.max_running = -1;
  EXPECT_EQ(plan_memory(model("google/gemma-4-E2B-it"), request).error().code, Errc::kInvalidArgument);
  request.max_running = 0;
  request.max_total_tokens = std::numeric_limits<int64_t>::max();
  EXPECT_EQ(plan_memory(model("google/gemma-4-E2B-it"), request).error().code, Errc::kInvalidArgument);
  request.max_total_tokens = 0;
  request.sliding_ratio = 1.5;
  EXPECT_THAT(plan_memory(model("google/gemma-4-E2B-it"), request).error().message, HasSubstr("1.5"));
  request.sliding_ratio.reset();
  request.weight_bytes = 2 * kGiB;
  EXPECT_EQ(plan_memory(model("google/gemma-4-E2B-it"), request).error().code, Errc::kOverloaded);
}

TEST(MemoryBudget, DescribesItself) {
  MemoryRequest request;
  request.available_bytes = 16 * kGiB;
  request.weight_bytes = 9 * kGiB;
  EXPECT_THAT(plan_memory(model("google/gemma-4-E2B-it"), request).value().describe(), HasSubstr("weights 9.00 GiB"));
}

}  // namespace
}  // namespace carat
