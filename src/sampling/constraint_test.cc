#include "sampling/constraint.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <random>

#include "base/json.h"
#include "sampling/constraint_testing.h"
#include "sampling/sampler.h"
#include "sampling/token_mask.h"

namespace carat {
namespace {

using ::testing::HasSubstr;
using testing::SmallVocabulary;
using V = SmallVocabulary;
using Kind = GrammarSource::Kind;
using Start = ConstraintPlan::Start;

const SmallVocabulary& vocabulary() {
  static const SmallVocabulary it;
  return it;
}

GrammarCompiler& compiler() {
  static GrammarCompiler it(vocabulary().grammar(), {.any_whitespace = false, .timeout = std::chrono::minutes(5)});
  return it;
}

std::shared_ptr<const Grammar> grammar(Kind kind, std::string text) {
  auto made = compiler().compile_now({kind, std::move(text)});
  EXPECT_TRUE(made) << made.error().message;
  return *made;
}

std::shared_ptr<const Grammar> yes_or_no() { return grammar(Kind::kRegex, "yes|no"); }
std::shared_ptr<const Grammar> calls() {
  return grammar(Kind::kCalls, R"([{"name":"f","parameters":{"properties":{"a":{"type":"integer"}},"required":["a"]}},)"
                               R"({"name":"go","parameters":null}])");
}

const std::vector<TokenId> kEnds{V::kEnd, V::kTurnEnd};

/// A sequence that follows a plan.
class Sequel {
 public:
  explicit Sequel(ConstraintPlan plan, int min_new_tokens = 0, std::vector<TokenId> ends = kEnds,
                  std::span<const TokenId> generated = {})
      : constraint_(std::make_shared<const ConstraintPlan>(std::move(plan)), ends, min_new_tokens, vocabulary().size(),
                    generated),
        mask_(static_cast<size_t>(num_mask_words(vocabulary().size()))) {}

  Sequel& feed(TokenId token) {
    constraint_.accept(token);
    return *this;
  }
  Sequel& feed(std::string_view text) {
    for (const TokenId token : vocabulary().tokens(text)) feed(token);
    return *this;
  }
  bool free() { return !constraint_.fill_mask(mask_); }
  bool allows(TokenId token) { return free() || mask_has(mask_, token); }
  bool allows(char c) { return allows(vocabulary().at(c)); }
  std::string failure() const {
    const auto error = constraint_.failure();
    return error ? error->message : "";
  }
  bool may_end() { return allows(V::kEnd) && allows(V::kTurnEnd); }
  int num_allowed() {
    if (free()) return vocabulary().size();
    int count = 0;
    for (const uint32_t word : mask_) count += std::popcount(word);
    return count;
  }
  /// The only token that is possible, if there is one.
  std::optional<TokenId> only() { return num_allowed() == 1 ? std::optional(mask_first(mask_)) : std::nullopt; }

 private:
  TokenConstraint constraint_;
  std::vector<uint32_t> mask_;
};

ConstraintPlan answer_plan(Start start = Start::kAnswer) {
  ConstraintPlan plan = vocabulary().plan();
  plan.start = start;
  plan.answer = yes_or_no();
  return plan;
}

ConstraintPlan call_plan(bool required = false, bool single = false, Start start = Start::kAnswer) {
  ConstraintPlan plan = vocabulary().plan();
  plan.start = start;
  plan.call = calls();
  plan.call_required = required;
  plan.single_call = single;
  return plan;
}

TEST(Mask, AddsRemovesAndApplies) {
  std::vector<uint32_t> mask(3, 0);
  EXPECT_TRUE(mask_empty(mask));
  mask_add(mask, 64);
  mask_add(mask, 33);
  EXPECT_EQ(mask_first(mask), 33);
  mask_remove(mask, 33);
  EXPECT_EQ(mask_first(mask), 64);
  mask_add_all(mask, 70);
  EXPECT_TRUE(mask_has(mask, 69));
  EXPECT_EQ(mask[2], 0x3Fu);
  mask_remove(mask, 5);
  std::ranges::fill(mask.begin() + 1, mask.begin() + 2, 0u);
  std::vector<float> logits(70, 1.0f);
  apply_mask(mask, logits);
  for (int t = 0; t < 70; ++t) EXPECT_EQ(std::isfinite(logits[static_cast<size_t>(t)]), mask_has(mask, t)) << t;
}

TEST(Constraint, AnswersBeginWithTheFirstTokenAndEndWhereTheGrammarDoes) {
  Sequel run(answer_plan());
  EXPECT_EQ(run.num_allowed(), 2);
  EXPECT_TRUE(run.allows('y') && run.allows('n'));
  EXPECT_FALSE(run.may_end());
  run.feed("ye");
  EXPECT_EQ(run.only(), vocabulary().at('s'));
  run.feed("s");
  EXPECT_TRUE(run.may_end());
  EXPECT_EQ(run.num_allowed(), 2);
}

TEST(Constraint, AnEndMayComeWhereTheGrammarCouldGoOn) {
  ConstraintPlan plan = vocabulary().plan();
  plan.answer = grammar(Kind::kRegex, "[0-9]+");
  Sequel run(std::move(plan));
  EXPECT_FALSE(run.may_end());
  run.feed("1");
  EXPECT_TRUE(run.may_end());
  EXPECT_TRUE(run.allows('2'));
}

TEST(Constraint, TheFirstTokenOpensAThoughtOrBeginsTheAnswer) {
  Sequel answers(answer_plan(Start::kMaybeThought));
  EXPECT_EQ(answers.num_allowed(), 3);
  EXPECT_TRUE(answers.allows(V::kThoughtOpen));
  answers.feed("n");
  EXPECT_EQ(answers.only(), vocabulary().at('o'));

  Sequel thinks(answer_plan(Start::kMaybeThought));
  thinks.feed(V::kThoughtOpen).feed(V::kLabel).feed("\nno, maybe");
  EXPECT_EQ(thinks.num_allowed(), vocabulary().size() - 2) << "all but the ends: an answer is still to come";
  EXPECT_FALSE(thinks.may_end());
  thinks.feed(V::kThoughtClose);
  EXPECT_EQ(thinks.num_allowed(), 2) << "the grammar begins exactly here";
  thinks.feed("no");
  EXPECT_TRUE(thinks.may_end());
}

TEST(Constraint, AThoughtThatThePromptOpenedIsFreeUntilItsEnd) {
  Sequel run(answer_plan(Start::kThought));
  run.feed("anything");
  EXPECT_FALSE(run.may_end());
  EXPECT_TRUE(run.allows(V::kThoughtOpen));
  run.feed(V::kThoughtClose);
  EXPECT_EQ(run.num_allowed(), 2);
}

TEST(Constraint, WithoutThoughtMarkersTheAnswerBeginsAtOnce) {
  ConstraintPlan plan = answer_plan(Start::kThought);
  plan.markers = {};
  EXPECT_EQ(Sequel(std::move(plan)).num_allowed(), 2);
}

TEST(Constraint, CallsAreFreeUntilOneOpens) {
  Sequel run(call_plan());
  EXPECT_TRUE(run.free());
  run.feed("text ");
  EXPECT_TRUE(run.free());
  run.feed(V::kCallOpen);
  EXPECT_EQ(run.num_allowed(), 2) << "'c' and \"call\"";
  run.feed("call:f");
  EXPECT_EQ(run.only(), vocabulary().at('{'));
  run.feed("{a:-1");
  EXPECT_FALSE(run.may_end());
  run.feed("2}");
  EXPECT_EQ(run.only(), V::kCallClose);
  run.feed(V::kCallClose);
  EXPECT_TRUE(run.free()) << "text or another call";
  run.feed(V::kCallOpen).feed("call:go{}");
  EXPECT_EQ(run.only(), V::kCallClose);
}

TEST(Constraint, OnlyDeclaredNamesAreCalled) {
  Sequel run(call_plan());
  run.feed(V::kCallOpen).feed("call:");
  EXPECT_EQ(run.num_allowed(), 2);
  EXPECT_TRUE(run.allows('f') && run.allows('g'));
}

TEST(Constraint, ASingleCallIsNotFollowedByAnother) {
  Sequel run(call_plan(false, true));
  run.feed(V::kCallOpen).feed("call:go{}").feed(V::kCallClose);
  EXPECT_FALSE(run.allows(V::kCallOpen));
  EXPECT_TRUE(run.allows('x') && run.may_end());
  EXPECT_EQ(run.num_allowed(), vocabulary().size() - 1);
}

TEST(Constraint, RequiredCallsAreAllThatMayCome) {
  Sequel run(call_plan(true));
  EXPECT_EQ(run.only(), V::kCallOpen);
  run.feed(V::kCallOpen).feed("call:go{}").feed(V::kCallClose);
  EXPECT_EQ(run.num_allowed(), 3) << "another call or the end";
  EXPECT_TRUE(run.allows(V::kCallOpen) && run.may_end());

  Sequel single(call_plan(true, true));
  single.feed(V::kCallOpen).feed("call:go{}").feed(V::kCallClose);
  EXPECT_EQ(single.num_allowed(), 2);
  EXPECT_TRUE(single.may_end());

  Sequel thinking(call_plan(true, false, Start::kMaybeThought));
  EXPECT_EQ(thinking.num_allowed(), 2);
  thinking.feed(V::kThoughtOpen).feed("hm");
  EXPECT_FALSE(thinking.may_end());
  thinking.feed(V::kThoughtClose);
  EXPECT_EQ(thinking.only(), V::kCallOpen);
}

TEST(Constraint, ACallMayEndAThought) {
  Sequel run(call_plan(true, false, Start::kThought));
  run.feed("let me ").feed(V::kCallOpen);
  EXPECT_EQ(run.num_allowed(), 2);
  run.feed("call:go{}").feed(V::kCallClose);
  EXPECT_TRUE(run.may_end());
  EXPECT_FALSE(run.allows('x'));
}

TEST(Constraint, AnAnswerInAFormMayBeACallInstead) {
  ConstraintPlan plan = call_plan();
  plan.answer = yes_or_no();
  Sequel calls_first(plan);
  EXPECT_EQ(calls_first.num_allowed(), 3);
  calls_first.feed(V::kCallOpen).feed("call:go{}").feed(V::kCallClose);
  EXPECT_EQ(calls_first.num_allowed(), 3) << "another call or the end, but no answer";
  EXPECT_TRUE(calls_first.allows(V::kCallOpen) && calls_first.may_end());
  Sequel answers(plan);
  answers.feed("y");
  EXPECT_FALSE(answers.allows(V::kCallOpen));
}

TEST(Constraint, EndsWaitForTheMinimumUnlessNothingElseIsPossible) {
  ConstraintPlan plan = vocabulary().plan();
  plan.answer = grammar(Kind::kRegex, "[0-9]{1,4}");
  Sequel run(plan, 3);
  run.feed("1");
  EXPECT_FALSE(run.may_end());
  run.feed("2");
  EXPECT_FALSE(run.may_end());
  run.feed("3");
  EXPECT_TRUE(run.may_end());
  Sequel longer(plan, 100);
  longer.feed("123");
  EXPECT_FALSE(longer.may_end());
  longer.feed("4");
  EXPECT_TRUE(longer.may_end()) << "the form outweighs the minimum";
}

TEST(Constraint, StopTokensThatAreTextEndWholeAnswersOnly) {
  ConstraintPlan plan = vocabulary().plan();
  plan.answer = grammar(Kind::kRegex, "[0-9]+\\.");
  Sequel run(std::move(plan), 0, {V::kEnd, vocabulary().at('7'), vocabulary().at('.')});
  EXPECT_FALSE(run.allows('7'));
  run.feed("1");
  EXPECT_FALSE(run.allows('7') || run.allows('.') || run.allows(V::kEnd));
}

TEST(Constraint, WhatTheMaskForbadeEndsTheForm) {
  Sequel run(answer_plan());
  run.feed("y");
  EXPECT_EQ(run.failure(), "");
  run.feed("x");
  EXPECT_EQ(run.num_allowed(), 2);
  EXPECT_TRUE(run.may_end());
  EXPECT_THAT(run.failure(), HasSubstr("dead end"));
  Sequel endless(answer_plan(), 0, {});
  endless.feed("yx");
  EXPECT_TRUE(endless.free()) << "nothing could end it";
}

TEST(Constraint, ASequenceWithoutEndTokensIsNotStuck) {
  Sequel run(answer_plan(), 0, {});
  run.feed("yes");
  EXPECT_EQ(run.num_allowed(), vocabulary().size());
}

TEST(Constraint, AnEndInADeadEndIsAFailure) {
  ConstraintPlan plan = vocabulary().plan();
  plan.answer = grammar(Kind::kRegex, "a\xC3\xBC");  // no token has the second byte
  Sequel run(std::move(plan));
  run.feed("a").feed(vocabulary().size() - 2);
  EXPECT_TRUE(run.may_end());
  EXPECT_EQ(run.failure(), "");
  run.feed(V::kEnd);
  EXPECT_THAT(run.failure(), HasSubstr("dead end"));
}

TEST(Constraint, WholeAnswersAreNoFailures) {
  Sequel run(answer_plan());
  run.feed("yes").feed(V::kEnd);
  EXPECT_EQ(run.failure(), "");
}

TEST(Constraint, AGrammarThatTakesTooLongIsAFailure) {
  ConstraintPlan plan = vocabulary().plan();
  plan.answer = grammar(Kind::kEbnf, "root ::= root root root | root root | \"a\"");
  Sequel run(std::move(plan));
  int length = 0;
  for (; length < 5000 && run.allows('a'); ++length) run.feed("a");
  EXPECT_LT(length, 5000) << "each token costs more than the one before";
  EXPECT_GT(length, 50);
  EXPECT_TRUE(run.may_end());
  EXPECT_EQ(run.num_allowed(), 2);
  EXPECT_THAT(run.failure(), HasSubstr("too ambiguous: 3 tokens took more than 20 ms each"));
}

// ---- Thinking budget

std::string forced_text(Sequel& run) {
  std::vector<TokenId> out;
  while (const auto token = run.only()) {
    out.push_back(*token);
    run.feed(*token);
  }
  return vocabulary().text(out);
}

ConstraintPlan budget_plan(int budget, Start start = Start::kMaybeThought) {
  ConstraintPlan plan = vocabulary().plan();
  plan.start = start;
  plan.thinking_budget = budget;
  return plan;
}

TEST(ThinkingBudget, ClosesTheThoughtWhenItIsSpent) {
  Sequel run(budget_plan(6));
  run.feed(V::kThoughtOpen).feed(V::kLabel).feed("\nab");
  EXPECT_TRUE(run.free());
  run.feed("c");
  EXPECT_EQ(forced_text(run), "\n<channel|>");
  EXPECT_TRUE(run.free()) << "the answer follows";
  run.feed("answer");
  EXPECT_TRUE(run.free());
}

TEST(ThinkingBudget, DoesNotRepeatTheNewline) {
  Sequel run(budget_plan(5));
  run.feed(V::kThoughtOpen).feed(V::kLabel).feed("\na\n");
  EXPECT_EQ(forced_text(run), "<channel|>");
}

TEST(ThinkingBudget, SmallBudgetsStillGiveAWholeLabel) {
  for (const int budget : {0, 1}) {
    Sequel run(budget_plan(budget));
    EXPECT_TRUE(run.free());
    run.feed(V::kThoughtOpen);
    EXPECT_EQ(forced_text(run), "thought\n<channel|>");
  }
  Sequel two(budget_plan(2));
  two.feed(V::kThoughtOpen).feed(V::kLabel);
  EXPECT_EQ(forced_text(two), "\n<channel|>");
  Sequel three(budget_plan(3));
  three.feed(V::kThoughtOpen).feed(V::kLabel).feed("\n");
  EXPECT_EQ(forced_text(three), "<channel|>");
  Sequel other_label(budget_plan(2));
  other_label.feed(V::kThoughtOpen).feed("x");
  EXPECT_EQ(forced_text(other_label), "\n<channel|>");
}

TEST(ThinkingBudget, CountsThePromptsThoughtFromHereOn) {
  Sequel none(budget_plan(0, Start::kThought));
  EXPECT_EQ(forced_text(none), "<channel|>");
  Sequel some(budget_plan(2, Start::kThought));
  EXPECT_TRUE(some.free());
  some.feed("ab");
  EXPECT_EQ(forced_text(some), "\n<channel|>");
}

TEST(ThinkingBudget, IsNotTouchedByThoughtsThatEndInTime) {
  Sequel run(budget_plan(10));
  run.feed(V::kThoughtOpen).feed(V::kLabel).feed("\nab").feed(V::kThoughtClose);
  EXPECT_TRUE(run.free());
  run.feed("a long answer of more tokens than that");
  EXPECT_TRUE(run.free());
  // All thoughts share it: 6 are gone, 4 are left.
  run.feed(V::kThoughtOpen).feed(V::kLabel).feed("\n");
  EXPECT_TRUE(run.free());
  run.feed("x");
  EXPECT_EQ(forced_text(run), "\n<channel|>");
}

TEST(ThinkingBudget, TheAnswersGrammarFollows) {
  ConstraintPlan plan = budget_plan(4);
  plan.answer = yes_or_no();
  Sequel run(std::move(plan));
  run.feed(V::kThoughtOpen).feed(V::kLabel).feed("\nx");
  EXPECT_EQ(forced_text(run), "\n<channel|>");
  EXPECT_EQ(run.num_allowed(), 2);
}

// ---- Replay, samples, sampler

/// Logits of a model that knows its position only.
std::vector<float> logits_at(uint64_t seed, int position) {
  std::mt19937_64 random(seed * 1000 + static_cast<uint64_t>(position));
  std::normal_distribution<float> normal(0, 2);
  std::vector<float> out(static_cast<size_t>(vocabulary().size()));
  for (float& x : out) x = normal(random);
  return out;
}

std::vector<TokenId> sample_all(SequenceSampler& sampler, uint64_t seed, int position, int most) {
  SamplerScratch scratch;
  std::vector<TokenId> out;
  for (int i = 0; i < most; ++i) {
    std::vector<float> logits = logits_at(seed, position + i);
    out.push_back(sampler.sample(logits, position + i, scratch));
    if (std::ranges::count(kEnds, out.back()) > 0) break;
  }
  return out;
}

SamplerSpec sampler_spec(ConstraintPlan plan, uint64_t seed) {
  SamplerSpec spec;
  spec.params.constraint = std::make_shared<const ConstraintPlan>(std::move(plan));
  spec.end_token_ids = kEnds;
  spec.suppressed_token_ids = {V::kOther};
  spec.seed = seed;
  return spec;
}

/// After a preemption the sampler begins anew with what was generated, and goes on as if nothing had happened.
TEST(ConstrainedSampler, GoesOnAfterAPreemptionAnywhere) {
  for (uint64_t seed = 0; seed < 30; ++seed) {
    ConstraintPlan plan = call_plan(seed % 2 == 0, seed % 3 == 0, Start::kMaybeThought);
    plan.thinking_budget = static_cast<int>(seed % 7);
    const SamplerSpec spec = sampler_spec(plan, seed);
    SequenceSampler whole(spec, vocabulary().size());
    const auto expected = sample_all(whole, seed, 5, 60);
    for (size_t cut = 0; cut < expected.size(); cut += 3) {
      SequenceSampler first(spec, vocabulary().size());
      auto tokens = sample_all(first, seed, 5, static_cast<int>(cut));
      SequenceSampler second(spec, vocabulary().size(), tokens);
      const auto rest = sample_all(second, seed, 5 + static_cast<int>(cut), 60 - static_cast<int>(cut));
      tokens.insert(tokens.end(), rest.begin(), rest.end());
      ASSERT_EQ(tokens, expected) << "seed " << seed << ", cut " << cut;
    }
  }
}

TEST(ConstrainedSampler, SamplesOfOneRequestDoNotTouchEachOther) {
  const SamplerSpec spec = sampler_spec(answer_plan(), 1);
  SequenceSampler a(spec, vocabulary().size());
  const auto first = vocabulary().text(sample_all(a, 1, 0, 10));
  SequenceSampler b(spec, vocabulary().size());
  const auto second = vocabulary().text(sample_all(b, 2, 0, 10));
  for (const std::string& text : {first, second})
    EXPECT_TRUE(text.starts_with("yes<") || text.starts_with("no<")) << text;
}

TEST(ConstrainedSampler, MasksThatAreReadyGiveTheSameTokens) {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    const SamplerSpec spec = sampler_spec(call_plan(true), seed);
    SequenceSampler lazy(spec, vocabulary().size()), eager(spec, vocabulary().size());
    SamplerScratch scratch;
    for (int i = 0; i < 30; ++i) {
      std::vector<float> row = logits_at(seed, i), copy = row;
      eager.next_mask()->prepare();
      eager.next_mask()->prepare();
      ASSERT_EQ(eager.sample(row, i, scratch), lazy.sample(copy, i, scratch));
    }
  }
}

TEST(ConstrainedSampler, BiasesAndBansCannotBreakTheForm) {
  SamplerSpec spec = sampler_spec(answer_plan(), 3);
  spec.params.logit_bias = {{vocabulary().at('x'), 100.0f}, {vocabulary().at('e'), -INFINITY}};
  spec.suppressed_token_ids = {vocabulary().at('n')};
  for (const float temperature : {0.0f, 1.0f}) {
    spec.params.temperature = temperature;
    SequenceSampler sampler(spec, vocabulary().size());
    const std::string text = vocabulary().text(sample_all(sampler, 3, 0, 10));
    EXPECT_TRUE(text.starts_with("yes<")) << text << ": the only way left, though 'e' has no chance";
  }
}

TEST(ConstrainedSampler, RowsOfNotNumbersYieldAllowedTokens) {
  SequenceSampler sampler(sampler_spec(answer_plan(), 3), vocabulary().size());
  SamplerScratch scratch;
  std::vector<float> row(static_cast<size_t>(vocabulary().size()), NAN);
  const TokenId token = sampler.sample(row, 0, scratch);
  EXPECT_TRUE(token == vocabulary().at('y') || token == vocabulary().at('n')) << token;
}

TEST(ConstrainedSampler, LogprobsAreTakenUnderTheMask) {
  SamplerSpec spec = sampler_spec(answer_plan(), 3);
  spec.logprobs = {.enabled = true, .num_top = 3, .prompt_start = {}, .token_ids = {vocabulary().at('x')}};
  SequenceSampler sampler(spec, vocabulary().size());
  SamplerScratch scratch;
  std::vector<float> row(static_cast<size_t>(vocabulary().size()), 1.0f);
  PositionLogprobs got;
  sampler.sample(row, 0, scratch, &got);
  EXPECT_NEAR(got.logprob, std::log(0.5), 1e-5);
  EXPECT_NEAR(got.top[1].logprob, std::log(0.5), 1e-5);
  EXPECT_EQ(got.ids[0].logprob, -INFINITY);
}

}  // namespace
}  // namespace carat
