#include "engine/engine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <condition_variable>
#include <map>
#include <thread>

#include "engine/engine_core.h"
#include "engine/scripted_runner.h"

namespace carat {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using Tokens = std::vector<TokenId>;

constexpr TokenId kEnd = 9;

RunnerInfo small_info(int depth = 1, int per_decode = 1) {
  RunnerInfo info;
  info.vocab_size = 1000;
  info.max_context = 200;
  info.page_tokens = 4;
  info.window = 8;
  info.num_full_pages = 64;
  info.num_sliding_pages = 64;
  info.max_slots = 8;
  info.max_step_tokens = 64;
  info.pipeline_depth = depth;
  info.max_tokens_per_decode = per_decode;
  return info;
}

EngineOptions quiet_options() {
  EngineOptions options;
  options.eos_token_ids = {kEnd};
  options.decode_log_interval = 0;
  return options;
}

ScriptedAnswer say(Tokens tokens, bool ends = true) {
  ScriptedAnswer answer;
  answer.tokens = std::move(tokens);
  answer.end = ends ? ScriptedEnd::kStop : ScriptedEnd::kLength;
  answer.end_token = kEnd;
  return answer;
}

Request ask(std::string id, Tokens prompt, int max_new = 20) {
  Request request;
  request.id = std::move(id);
  request.prompt = std::move(prompt);
  request.sampling.max_new_tokens = max_new;
  request.sampling.temperature = 0;
  request.stream = std::make_shared<RequestStream>();
  return request;
}

struct Answer {
  Tokens tokens;
  std::vector<PositionLogprobs> logprobs, prompt_logprobs;
  std::optional<Finish> finish;
};

void add_events(std::map<int, Answer>& out, std::vector<SampleEvent> events) {
  for (SampleEvent& e : events) {
    Answer& a = out[e.sample];
    EXPECT_FALSE(a.finish) << "nothing comes after the end";
    a.tokens.insert(a.tokens.end(), e.tokens.begin(), e.tokens.end());
    a.logprobs.insert(a.logprobs.end(), e.logprobs.begin(), e.logprobs.end());
    a.prompt_logprobs.insert(a.prompt_logprobs.end(), e.prompt_logprobs.begin(), e.prompt_logprobs.end());
    if (e.finish) a.finish = std::move(e.finish);
  }
}

/// A core on a script, driven until nothing is left.
class Core {
 public:
  explicit Core(ScriptedRunner::Script script, RunnerInfo info = small_info(), EngineOptions options = quiet_options())
      : runner_(info, std::move(script)), core_(std::move(options), runner_) {}
  std::map<int, Answer> run(Request request) {
    const auto stream = request.stream;
    EXPECT_TRUE(core_.check(request));
    core_.add(std::move(request));
    finish();
    std::map<int, Answer> out;
    add_events(out, stream->drain());
    return out;
  }
  void finish() {
    for (int i = 0; i < 100000 && core_.step(); ++i) core_.check_invariants();
    EXPECT_TRUE(core_.idle());
  }
  EngineCore& operator*() { return core_; }
  EngineCore* operator->() { return &core_; }

 private:
  ScriptedRunner runner_;
  EngineCore core_;
};

const auto kHello = [](std::span<const TokenId>) { return say({1, 2, 3}); };
const auto kForever = [](std::span<const TokenId>) { return say({1, 2, 3}, false); };

class EachPipeline : public testing::TestWithParam<std::pair<int, int>> {
 protected:
  RunnerInfo info() const { return small_info(GetParam().first, GetParam().second); }
};
INSTANTIATE_TEST_SUITE_P(DepthAndTokens, EachPipeline,
                         testing::Values(std::pair(1, 1), std::pair(2, 1), std::pair(1, 4), std::pair(2, 3)));

TEST_P(EachPipeline, EndsAtTheEndTokenWhichCounts) {
  Core core(kHello, info());
  const auto out = core.run(ask("a", {5, 6}));
  ASSERT_EQ(out.size(), 1u);
  EXPECT_THAT(out.at(0).tokens, ElementsAre(1, 2, 3, kEnd));
  EXPECT_EQ(out.at(0).finish->reason, FinishReason::kStop);
  EXPECT_EQ(out.at(0).finish->matched_token, kEnd);
}

TEST_P(EachPipeline, LengthComesBeforeTheEndToken) {
  Core core(kHello, info());
  for (const int limit : {1, 2, 3, 4}) {
    const auto out = core.run(ask("a", {5, 6}, limit));
    EXPECT_EQ(out.at(0).tokens.size(), static_cast<size_t>(limit));
    EXPECT_EQ(out.at(0).finish->reason, FinishReason::kLength) << limit;
    EXPECT_FALSE(out.at(0).finish->matched_token);
  }
  EXPECT_EQ(core.run(ask("a", {5, 6}, 5)).at(0).finish->reason, FinishReason::kStop);
}

TEST_P(EachPipeline, StopIdsEndAndIgnoreEosIgnoresBoth) {
  Core core(kHello, info());
  Request request = ask("a", {5, 6}, 7);
  request.sampling.stop_token_ids = {2};
  auto out = core.run(std::move(request));
  EXPECT_THAT(out.at(0).tokens, ElementsAre(1, 2));
  EXPECT_EQ(out.at(0).finish->matched_token, 2);
  request = ask("a", {5, 6}, 7);
  request.sampling.stop_token_ids = {2};
  request.sampling.ignore_eos = true;
  out = core.run(std::move(request));
  EXPECT_THAT(out.at(0).tokens, ElementsAre(1, 2, 3, kEnd, kEnd, kEnd, kEnd));
  EXPECT_EQ(out.at(0).finish->reason, FinishReason::kLength);
}

TEST_P(EachPipeline, NoNewTokensComputesThePromptForTheCache) {
  Core core(kHello, info());
  Tokens prompt(20);
  for (int i = 0; i < 20; ++i) prompt[i] = 100 + i;
  Request request = ask("a", prompt, 0);
  request.num_samples = 2;
  const auto out = core.run(std::move(request));
  ASSERT_EQ(out.size(), 2u);
  EXPECT_THAT(out.at(1).tokens, IsEmpty());
  EXPECT_EQ(out.at(0).finish->reason, FinishReason::kLength);
  Request again = ask("b", prompt);
  const auto stream = again.stream;
  core.run(std::move(again));
  EXPECT_EQ(stream->stats().cached_tokens, 16);  // a whole number of pages, and a token is left to compute
}

TEST_P(EachPipeline, SamplesShareOnePrefill) {
  Core core(kForever, info());
  Request request = ask("a", Tokens(10, 7), 6);
  request.num_samples = 5;
  const auto stream = request.stream;
  const auto out = core.run(std::move(request));
  ASSERT_EQ(out.size(), 5u);
  for (const auto& [i, a] : out) EXPECT_THAT(a.tokens, ElementsAre(1, 2, 3, 1, 2, 3)) << i;
  EXPECT_EQ(stream->stats().cached_tokens, 0);
  EXPECT_EQ(core->stats().prompt_tokens_total, 10);
}

TEST_P(EachPipeline, MoreSamplesThanSlots) {
  Core core(kForever, info());
  Request request = ask("a", Tokens(10, 7), 6);
  request.num_samples = 30;
  const auto out = core.run(std::move(request));
  ASSERT_EQ(out.size(), 30u);
  for (const auto& [i, a] : out) EXPECT_EQ(a.tokens.size(), 6u);
}

TEST_P(EachPipeline, LogprobsComePerTokenAndForThePrompt) {
  EngineOptions options = quiet_options();
  options.chunked_prefill_size = 3;
  Core core(kHello, info(), options);
  for (const int start : {0, 1, 4, 9, 10, 50}) {
    Request request = ask("a", Tokens(10, 7));
    request.logprobs = {.enabled = true, .num_top = 2, .prompt_start = start, .token_ids = {5}};
    request.num_samples = 2;
    const auto out = core.run(std::move(request));
    ASSERT_EQ(out.size(), 2u);
    for (const auto& [i, a] : out) {
      EXPECT_EQ(a.logprobs.size(), a.tokens.size());
      ASSERT_EQ(a.prompt_logprobs.size(), static_cast<size_t>(std::max(0, 10 - start))) << start;
      for (size_t p = 0; p < a.prompt_logprobs.size(); ++p) {
        EXPECT_EQ(std::isnan(a.prompt_logprobs[p].logprob), start == 0 && p == 0);
        if (start + p > 0) {
          EXPECT_EQ(a.prompt_logprobs[p].top.size(), 2u);
        }
      }
    }
  }
}

TEST_P(EachPipeline, CancelEndsARequestAndItsPagesReturn) {
  Core core(kForever, info());
  Request request = ask("a", Tokens(10, 7), 100);
  const auto stream = request.stream;
  core->add(std::move(request));
  for (int i = 0; i < 6; ++i) core->step();
  EXPECT_FALSE(stream->drain().empty());
  stream->cancel();
  core.finish();
  std::map<int, Answer> out;
  add_events(out, stream->drain());
  EXPECT_EQ(out.at(0).finish->reason, FinishReason::kAbort);
  EXPECT_FALSE(out.at(0).finish->error);
  EXPECT_EQ(core->stats().full_tokens_used, 0);
  EXPECT_EQ(core->stats().aborted_total, 1);
}

TEST_P(EachPipeline, OneSampleCanBeCancelledAtEachState) {
  for (int victim = 0; victim < 3; ++victim)
    for (int steps = 0; steps < 8; ++steps) {
      EngineOptions options = quiet_options();
      options.chunked_prefill_size = 4;
      Core core(kForever, info(), options);
      Request request = ask("a", Tokens(10, 7), 6);
      request.num_samples = 3;
      const auto stream = request.stream;
      core->add(std::move(request));
      for (int i = 0; i < steps; ++i) core->step();
      stream->cancel_sample(victim);
      stream->cancel_sample(77);
      core.finish();
      std::map<int, Answer> out;
      add_events(out, stream->drain());
      ASSERT_EQ(out.size(), 3u);
      for (const auto& [i, a] : out) {
        ASSERT_TRUE(a.finish);
        if (i != victim) {
          EXPECT_EQ(a.tokens.size(), 6u) << victim << " " << steps;
        }
      }
    }
}

TEST_P(EachPipeline, AbortTakesPrefixesOfIds) {
  Core core(kForever, info());
  Request a = ask("job_1", {1}, 50), b = ask("job_2", {2}, 50), c = ask("other", {3}, 5);
  const auto sa = a.stream, sb = b.stream, sc = c.stream;
  core->add(std::move(a));
  core->add(std::move(b));
  core->add(std::move(c));
  core->step();
  core->abort("job_");
  core.finish();
  std::map<int, Answer> oa, ob, oc;
  add_events(oa, sa->drain());
  add_events(ob, sb->drain());
  add_events(oc, sc->drain());
  EXPECT_EQ(oa.at(0).finish->reason, FinishReason::kAbort);
  EXPECT_EQ(ob.at(0).finish->reason, FinishReason::kAbort);
  EXPECT_EQ(oc.at(0).finish->reason, FinishReason::kLength);
}

TEST_P(EachPipeline, PreemptedSequencesGoOnWhereTheyWere) {
  RunnerInfo tight = info();
  tight.num_full_pages = 16;  // 64 tokens for four that want 8 + 40
  Core core([](std::span<const TokenId> prompt) { return say({prompt[0], 2, 3, 4, 5}, false); }, tight);
  std::vector<std::shared_ptr<RequestStream>> streams;
  for (int i = 0; i < 4; ++i) {
    Request request = ask("a", Tokens(8, 20 + i), 40);
    streams.push_back(request.stream);
    core->add(std::move(request));
  }
  core.finish();
  for (int i = 0; i < 4; ++i) {
    std::map<int, Answer> out;
    add_events(out, streams[i]->drain());
    ASSERT_EQ(out.at(0).tokens.size(), 40u);
    for (int t = 0; t < 40; ++t) EXPECT_EQ(out.at(0).tokens[t], t % 5 == 0 ? 20 + i : t % 5 + 1);
  }
  EXPECT_GT(core->stats().num_preempted, 0);
}

TEST(EngineCore, LimitsAtTheDoor) {
  Core core(kHello);
  const auto error = [&](Request request) {
    const auto result = core->check(request);
    EXPECT_FALSE(result);
    EXPECT_EQ(result.error().code, Errc::kInvalidArgument);
    return result.error().message;
  };
  EXPECT_EQ(error(ask("a", {})), "Prompt cannot be empty");
  EXPECT_EQ(error(ask("a", Tokens(200, 1))),
            "The input (200 tokens) is longer than the model's context length (200 tokens).");
  EXPECT_TRUE(core->check(ask("a", Tokens(199, 1))));
  EXPECT_THAT(error(ask("a", {1000})), testing::HasSubstr("out-of-vocabulary token id 1000"));
  EXPECT_THAT(error(ask("a", {1}, -1)), testing::HasSubstr("max_new_tokens"));
  Request request = ask("a", {1});
  request.num_samples = 0;
  EXPECT_THAT(error(std::move(request)), testing::HasSubstr("n must be"));
  request = ask("a", {1});
  request.logprobs.token_ids = {-5};
  EXPECT_THAT(error(std::move(request)), testing::HasSubstr("token_ids_logprob"));

  RunnerInfo tight = small_info();
  tight.num_full_pages = 10;
  Core small(kForever, tight);
  EXPECT_EQ(small->max_sequence_tokens(), 40);
  EXPECT_FALSE(small->check(ask("a", Tokens(41, 1))));
  EXPECT_EQ(small.run(ask("a", Tokens(40, 1), 20)).at(0).tokens.size(), 1u);
  EXPECT_EQ(small.run(ask("a", Tokens(30, 1), 20)).at(0).tokens.size(), 10u);
}

MediaSpan item(int begin, int num_tokens, uint64_t hash = 1, EncoderInput::Kind kind = EncoderInput::Kind::kImage) {
  auto input = std::make_shared<EncoderInput>();
  input->kind = kind;
  input->hash = {hash, 0};
  input->num_tokens = num_tokens;
  return {begin, std::move(input)};
}

/// A model whose images see themselves whole. A step of 64 tokens has room for 56 beside what 8 sequences decode.
RunnerInfo media_info(int depth = 1) {
  RunnerInfo info = small_info(depth);
  info.max_media_tokens = 60;
  info.whole_media_blocks = true;
  return info;
}

TEST(EngineCore, MediaLimitsAtTheDoor) {
  const auto refusal = [](EngineCore& core, std::vector<MediaSpan> media) -> std::string {
    Request request = ask("a", Tokens(100, 1));
    request.media = std::move(media);
    const auto result = core.check(request);
    if (result) return "";
    EXPECT_EQ(result.error().code, Errc::kInvalidArgument);
    return result.error().message;
  };
  Core text_only(kHello), core(kHello, media_info());
  EXPECT_THAT(refusal(*text_only, {item(0, 1)}), testing::HasSubstr("takes text only"));
  EXPECT_EQ(refusal(*core, {item(0, 10), item(10, 10), item(90, 10)}), "");
  EXPECT_THAT(refusal(*core, {item(0, 10), item(9, 10)}), testing::HasSubstr("overlap"));
  EXPECT_THAT(refusal(*core, {item(20, 10), item(0, 10)}), testing::HasSubstr("overlap"));
  EXPECT_THAT(refusal(*core, {item(-1, 10)}), testing::HasSubstr("position -1 overlap others or lie outside"));
  EXPECT_THAT(refusal(*core, {item(91, 10)}), testing::HasSubstr("outside of the prompt of 100 tokens"));
  EXPECT_THAT(refusal(*core, {item(0, 0)}), testing::HasSubstr("Media of 0 tokens"));
  constexpr auto kAudio = EncoderInput::Kind::kAudio;
  EXPECT_EQ(refusal(*core, {item(0, 60, 1, kAudio)}), "");
  EXPECT_THAT(refusal(*core, {item(0, 61, 1, kAudio)}), testing::HasSubstr("encoders' cache (60 tokens)"));
  EXPECT_EQ(core->max_block_tokens(), 56);
  EXPECT_EQ(refusal(*core, {item(0, 56)}), "");
  EXPECT_EQ(refusal(*core, {item(44, 56)}), "");
  EXPECT_THAT(refusal(*core, {item(0, 57)}), testing::HasSubstr("raise --chunked-prefill-size"));
  EXPECT_THAT(refusal(*core, {item(0, 57, 1, EncoderInput::Kind::kVideoFrame)}), testing::HasSubstr("has room for 56"));
  RunnerInfo causal = media_info();
  causal.whole_media_blocks = false;
  EXPECT_EQ(refusal(*Core(kHello, causal), {item(0, 60)}), "") << "may be cut";
  // The window of 8 before the first token and a page's rest: (7 + 3 + 20) / 4 pages, and one that is begun.
  RunnerInfo few_pages = media_info();
  few_pages.num_sliding_pages = 8;
  Core tight(kHello, few_pages);
  EXPECT_EQ(refusal(*tight, {item(40, 18)}), "");
  EXPECT_THAT(refusal(*tight, {item(40, 19)}),
              testing::HasSubstr("needs 9 pages of the sliding KV cache, which has 8"));
  EXPECT_EQ(refusal(*tight, {item(0, 32)}), "") << "all of the prompt up to its end fits";
}

TEST(EngineCore, CachedPrefixesBelongToTheSameMedia) {
  Core core(kHello, media_info());
  const auto cached = [&](std::vector<MediaSpan> media) {
    Request request = ask("a", Tokens(30, 5));
    request.media = std::move(media);
    const auto stream = request.stream;
    core.run(std::move(request));
    return stream->stats().cached_tokens;
  };
  EXPECT_EQ(cached({}), 0);
  EXPECT_LE(cached({item(6, 10)}), 4) << "the ids alone say nothing";
  EXPECT_EQ(cached({item(6, 10)}), 28);
  EXPECT_LE(cached({item(6, 10, 2)}), 4) << "another image";
  EXPECT_EQ(cached({item(6, 10, 2)}), 28);
  EXPECT_LE(cached({item(7, 10)}), 4) << "the same image elsewhere";
  EXPECT_EQ(cached({}), 28);
}

/// What a hit leaves of an image is computed in one slice, and what follows may be cut.
TEST(EngineCore, AHitMayEndInsideAnImage) {
  RunnerInfo info = media_info();
  info.window = 0;
  info.num_sliding_pages = 0;  // every page of the cache is a place to go on from
  Core core(kHello, info);
  Request whole = ask("a", Tokens(30, 5)), image_last = ask("b", Tokens(26, 5));
  whole.media = image_last.media = {item(6, 20)};
  const auto stream = image_last.stream;
  core.run(std::move(whole));
  core.run(std::move(image_last));
  EXPECT_EQ(stream->stats().cached_tokens, 24);
}

TEST(EngineCore, ShortPromptsDoNotKeepAnImageWaiting) {
  EngineOptions options = quiet_options();
  options.max_prefill_tokens = 40;
  options.chunked_prefill_size = 8;  // an image is larger than a chunk
  Core core(kHello, media_info(), options);
  Request request = ask("image", Tokens(44, 5), 1);
  request.media = {item(2, 40)};
  const auto stream = request.stream;
  core->add(std::move(request));
  for (int turn = 0; turn < 10; ++turn) {
    for (int i = 0; i < 2; ++i) core->add(ask("short", Tokens(30, 100 + 2 * turn + i), 1));
    core->step();
  }
  EXPECT_FALSE(stream->drain().empty()) << "text, image, text: three steps are enough";
  core.finish();
}

TEST(EngineCore, TheContextBoundsTheAnswer) {
  Core core(kForever);
  EXPECT_EQ(core.run(ask("a", Tokens(190, 1), 100)).at(0).tokens.size(), 8u);  // context - 1 - prompt - 1
  EXPECT_EQ(core.run(ask("a", Tokens(199, 1), 100)).at(0).tokens.size(), 1u);
}

TEST(EngineCore, AFewSlidingPagesBoundTheSequence) {
  RunnerInfo info = small_info(2);
  info.num_sliding_pages = 3;
  Core core(kForever, info);
  EXPECT_EQ(core->max_sequence_tokens(), 12);
  EXPECT_EQ(core.run(ask("a", Tokens(6, 1), 100)).at(0).tokens.size(), 6u);
}

TEST(EngineCore, PausesAndGoesOn) {
  for (const PauseMode mode : {PauseMode::kInPlace, PauseMode::kRetract}) {
    Core core(kForever);
    Request running = ask("a", Tokens(20, 1), 30), waiting = ask("b", Tokens(5, 2), 3);
    const auto first = running.stream, second = waiting.stream;
    core->add(std::move(running));
    for (int i = 0; i < 8; ++i) core->step();
    core->pause(mode);
    core->add(std::move(waiting));
    while (core->step()) core->check_invariants();
    EXPECT_TRUE(core->stats().paused);
    EXPECT_EQ(core->num_open(), 2);
    const bool retracted = mode == PauseMode::kRetract;
    EXPECT_EQ(core->stats().num_running, retracted ? 0 : 1);
    EXPECT_EQ(core->flush_cache(), retracted) << "only who gave up its pages does not miss them";
    const size_t before = first->drain().size();
    EXPECT_GT(before, 0u);
    EXPECT_FALSE(core->step());
    EXPECT_TRUE(first->drain().empty() && second->drain().empty());
    core->resume();
    while (core->step()) core->check_invariants();
    EXPECT_TRUE(core->idle());
    EXPECT_FALSE(core->stats().paused);
    EXPECT_FALSE(first->drain().empty() || second->drain().empty());
  }
}
TEST(EngineCore, PauseMayAbort) {
  Core core(kForever);
  Request request = ask("a", Tokens(20, 1), 30);
  const auto stream = request.stream;
  core->add(std::move(request));
  for (int i = 0; i < 8; ++i) core->step();
  core->pause(PauseMode::kAbort);
  while (core->step()) core->check_invariants();
  EXPECT_TRUE(core->idle());
  const auto events = stream->drain();
  ASSERT_TRUE(!events.empty() && events.back().finish);
  EXPECT_EQ(events.back().finish->reason, FinishReason::kAbort);
  EXPECT_FALSE(events.back().finish->error);
}
TEST(EngineCore, ShortPromptsPassLongOnes) {
  EngineOptions options = quiet_options();
  options.chunked_prefill_size = 8;
  options.max_prefill_tokens = 16;
  Core core(kForever, small_info(), options);
  std::vector<std::shared_ptr<RequestStream>> streams;
  for (int i = 0; i < 3; ++i) {
    Request request = ask("long", Tokens(150, 10 + i), 1);  // the third finds no chunk slot
    request.prompt.resize(i == 2 ? 40 : 90);
    streams.push_back(request.stream);
    core->add(std::move(request));
  }
  core->step();
  Request request = ask("short", Tokens(5, 50), 1);
  const auto stream = request.stream;
  core->add(std::move(request));
  core->step();
  EXPECT_FALSE(stream->drain().empty()) << "one step is enough for it";
  for (const auto& s : streams) EXPECT_TRUE(s->drain().empty());
  core.finish();
}

TEST(EngineCore, PoliciesOrderTheQueue) {
  const auto order_of = [](EngineOptions options, std::vector<Request> requests, std::vector<Request> before = {}) {
    options.max_running = 1;
    Core core(kForever, small_info(), options);
    for (Request& r : before) core.run(std::move(r));
    std::vector<std::shared_ptr<RequestStream>> streams;
    for (Request& r : requests) {
      streams.push_back(r.stream);
      core->add(std::move(r));
    }
    std::vector<int> order;
    while (core->step())
      for (size_t i = 0; i < streams.size(); ++i)
        for (const SampleEvent& e : streams[i]->drain())
          if (e.finish) order.push_back(static_cast<int>(i));
    return order;
  };
  const auto three = [] {
    std::vector<Request> out;
    out.push_back(ask("a", Tokens(8, 1), 2));
    out.push_back(ask("b", Tokens(12, 2), 9));
    out.push_back(ask("c", Tokens(12, 3), 5));
    out[1].priority = 3;
    out[2].priority = 7;
    return out;
  };
  EngineOptions options = quiet_options();
  EXPECT_THAT(order_of(options, three()), ElementsAre(0, 1, 2));
  options.policy = SchedulePolicy::kLof;
  EXPECT_THAT(order_of(options, three()), ElementsAre(1, 2, 0));
  options.policy = SchedulePolicy::kLpm;
  std::vector<Request> before;
  before.push_back(ask("x", Tokens(12, 3), 1));
  EXPECT_THAT(order_of(options, three(), std::move(before)), ElementsAre(2, 0, 1));
  options.policy = SchedulePolicy::kRandom;
  std::map<std::vector<int>, int> seen;
  for (int seed = 0; seed < 20; ++seed) {
    options.random_seed = seed;
    ++seen[order_of(options, three())];
  }
  EXPECT_GT(seen.size(), 2u);
  options.policy = SchedulePolicy::kFcfs;
  options.priority_scheduling = true;
  EXPECT_THAT(order_of(options, three()), ElementsAre(2, 1, 0));
}

TEST(EngineCore, HighPriorityPushesLowPriorityOut) {
  for (const bool allowed : {true, false})
    for (const int depth : {1, 2}) {
      EngineOptions options = quiet_options();
      options.max_running = 1;
      options.priority_scheduling = true;
      options.priority_preemption = allowed;
      Core core(kForever, small_info(depth), options);
      Request low = ask("low", Tokens(8, 1), 30), high = ask("high", Tokens(8, 2), 3),
              near = ask("near", Tokens(8, 3), 3);
      high.priority = 11;
      near.priority = 10;
      const auto ls = low.stream, hs = high.stream, ns = near.stream;
      core->add(std::move(low));
      for (int i = 0; i < 5; ++i) core->step();
      core->add(std::move(near));
      core->add(std::move(high));
      std::vector<char> order;
      while (core->step()) {
        core->check_invariants();
        for (const auto& e : ls->drain())
          if (e.finish) order.push_back('l');
        for (const auto& e : hs->drain())
          if (e.finish) order.push_back('h');
        for (const auto& e : ns->drain())
          if (e.finish) order.push_back('n');
      }
      EXPECT_EQ(order.front(), allowed ? 'h' : 'l');
      EXPECT_EQ(ls->stats().num_preemptions, allowed ? 1 : 0);
    }
}

TEST(EngineCore, CachedPrefixesAreNotSharedAcrossSalts) {
  Core core(kHello);
  Tokens prompt(20, 5);
  const auto cached = [&](uint64_t salt) {
    Request request = ask("a", prompt);
    request.cache_salt = salt;
    const auto stream = request.stream;
    core.run(std::move(request));
    return stream->stats().cached_tokens;
  };
  EXPECT_EQ(cached(0), 0);
  EXPECT_EQ(cached(0), 16);
  EXPECT_EQ(cached(1), 0);
  EXPECT_EQ(cached(1), 16);
  EXPECT_TRUE(core->flush_cache());
  EXPECT_EQ(cached(0), 0);
  EXPECT_EQ(core->stats().full_tokens_used, 0);
}

TEST(EngineCore, AThirdRequestProfitsFromWhereTwoParted) {
  Core core(kHello);
  const auto cached = [&](TokenId tail) {
    Tokens prompt(60, tail);
    for (int i = 0; i < 40; ++i) prompt[i] = 100 + i;
    Request request = ask("a", prompt);
    const auto stream = request.stream;
    core.run(std::move(request));
    return stream->stats().cached_tokens;
  };
  EXPECT_EQ(cached(1), 0);
  EXPECT_EQ(cached(2), 0);  // the tokens are known, the window before position 40 is gone
  EXPECT_EQ(cached(3), 40);
}

TEST(EngineCore, CachedPromptsStayBehindPromptLogprobs) {
  Core core(kHello);
  core.run(ask("a", Tokens(20, 5)));
  Request request = ask("a", Tokens(20, 5));
  request.logprobs = {.enabled = true, .prompt_start = 10};
  const auto stream = request.stream;
  const auto out = core.run(std::move(request));
  EXPECT_EQ(out.at(0).prompt_logprobs.size(), 10u);
  EXPECT_LE(stream->stats().cached_tokens, 9);
}

TEST(EngineCore, UntrackedRequestsLeaveNoTrace) {
  Core core(kHello);
  Request request = ask("health", {0}, 1);
  request.untracked = true;
  core.run(std::move(request));
  const EngineStats stats = core->stats();
  EXPECT_EQ(stats.requests_total + stats.prompt_tokens_total + stats.generated_tokens_total, 0);
}

TEST(EngineCore, EndAllAnswersEveryoneOnce) {
  Core core(kForever, small_info(2));
  std::vector<std::shared_ptr<RequestStream>> streams;
  for (int i = 0; i < 20; ++i) {
    Request request = ask("a", Tokens(8, 1), 50);
    streams.push_back(request.stream);
    core->add(std::move(request));
  }
  for (int i = 0; i < 5; ++i) core->step();
  core->end_all(Error{Errc::kUnavailable, "bye"});
  EXPECT_TRUE(core->idle());
  core->check_invariants();
  for (const auto& s : streams) {
    std::map<int, Answer> out;
    add_events(out, s->drain());
    ASSERT_TRUE(out.at(0).finish);
    EXPECT_EQ(out.at(0).finish->error->code, Errc::kUnavailable);
  }
}

TEST_P(EachPipeline, ADeviceFailureIsReportedOnceAndLeavesNothing) {
  const auto script = [](std::span<const TokenId> prompt) {
    ScriptedAnswer answer = say({1, 2, 3, 4, 5, 6, 7}, false);
    if (prompt.front() == 9) answer.end = ScriptedEnd::kFault;
    return answer;
  };
  Core core(script, info());
  std::vector<std::shared_ptr<RequestStream>> streams;
  for (const TokenId first : {1, 9, 2}) {
    Request request = ask("a", {first, 5, 6}, 50);
    request.num_samples = 2;  // forks too
    streams.push_back(request.stream);
    core->add(std::move(request));
  }
  int turns = 0;
  while (core->step() && turns < 1000) ++turns;
  ASSERT_TRUE(core->failure());
  EXPECT_EQ(core->failure()->code, Errc::kUnavailable);
  EXPECT_FALSE(core->step());
  core->check_invariants();
  core->end_all(*core->failure());
  EXPECT_TRUE(core->idle());
  core->check_invariants();
  for (const auto& s : streams) {
    std::map<int, Answer> out;
    add_events(out, s->drain());
    ASSERT_EQ(out.size(), 2u);
    for (const auto& [sample, answer] : out) {
      ASSERT_TRUE(answer.finish);
      EXPECT_EQ(answer.finish->error->message, core->failure()->message);
      EXPECT_FALSE(answer.tokens.empty()) << "what was there before is kept";
    }
  }
}

TEST(RequestStream, NewsJoinsWhatIsUnread) {
  RequestStream stream;
  SampleEvent event;
  event.tokens = {1};
  stream.push(event);
  event.tokens = {2};
  event.finish = Finish{};
  stream.push(event);
  event.sample = 1;
  event.finish.reset();
  stream.push(event);
  const auto events = stream.drain();
  ASSERT_EQ(events.size(), 2u);
  EXPECT_THAT(events[0].tokens, ElementsAre(1, 2));
  EXPECT_TRUE(events[0].finish);
  EXPECT_TRUE(stream.drain().empty());
  EXPECT_TRUE(stream.wait(std::chrono::steady_clock::now()).empty());
}

TEST(StepLog, WritesTheLinesThatToolsLookFor) {
  const auto lines = [](int window) {
    RunnerInfo info = small_info();
    info.window = window;
    EngineOptions options = quiet_options();
    options.decode_log_interval = 2;
    Core core(kForever, info, options);
    testing::internal::CaptureStderr();
    core.run(ask("a", Tokens(10, 7), 4));
    return testing::internal::GetCapturedStderr();
  };
  const std::string hybrid = lines(8), plain = lines(0);
  EXPECT_THAT(hybrid,
              testing::ContainsRegex(
                  "Prefill batch, #new-seq: 1, #new-token: 10, #cached-token: 0, full token usage: 0.05, swa token "
                  "usage: 0.05, #running-req: 1, #queue-req: 0, #pending-token: 0, input throughput .token/s.: "
                  "[0-9]+.[0-9][0-9]"));
  EXPECT_THAT(hybrid,
              testing::ContainsRegex("Decode batch, #running-req: 1, #full token: 12, full token usage: 0.05, #swa "
                                     "token: [0-9]+, swa token usage: 0.0[0-9], gen throughput .token/s.: "
                                     "[0-9]+.[0-9][0-9], #queue-req: 0"));
  EXPECT_THAT(plain, testing::ContainsRegex("token usage: 0.05, #running-req"));
  EXPECT_THAT(plain, testing::ContainsRegex("#running-req: 1, #token: 12, token usage: 0.05, gen throughput"));
}

// ---- With its thread

std::map<int, Answer> wait_for_end(RequestStream& stream, int samples = 1) {
  std::map<int, Answer> out;
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  const auto ended = [&] {
    return std::count_if(out.begin(), out.end(), [](const auto& a) { return a.second.finish.has_value(); });
  };
  while (ended() < samples && std::chrono::steady_clock::now() < deadline) add_events(out, stream.wait(deadline));
  EXPECT_EQ(ended(), samples);
  return out;
}

std::unique_ptr<Runner> scripted(ScriptedRunner::Script script, RunnerInfo info = small_info(2)) {
  return std::make_unique<ScriptedRunner>(info, std::move(script));
}

TEST(Engine, ServesFromManyThreads) {
  EngineOptions options = quiet_options();
  Engine engine(options, scripted([](std::span<const TokenId> p) { return say({p[0], p[1]}); }));
  std::vector<std::thread> clients;
  for (int t = 0; t < 4; ++t)
    clients.emplace_back([&, t] {
      for (int i = 0; i < 50; ++i) {
        Request request = ask("a", {t, 100 + i});
        const auto stream = request.stream;
        ASSERT_TRUE(engine.submit(std::move(request)));
        EXPECT_THAT(wait_for_end(*stream).at(0).tokens, ElementsAre(t, 100 + i, kEnd));
      }
    });
  for (auto& c : clients) c.join();
  EXPECT_GE(engine.heartbeat_ns(), 0);
  engine.stop();
  EXPECT_EQ(engine.stats().num_open, 0);
  EXPECT_EQ(engine.stats().requests_total, 200);
}

TEST(Engine, WakesReadersOncePerStepAndWaker) {
  struct Collector : StreamWaker {
    std::mutex mutex;
    std::condition_variable wake_up;
    size_t largest = 0, ended = 0;
    void wake(std::vector<std::shared_ptr<RequestStream>> streams) override {
      const std::lock_guard lock(mutex);
      largest = std::max(largest, streams.size());
      for (const auto& s : streams)
        for (const auto& e : s->drain()) ended += e.finish.has_value();
      wake_up.notify_all();
    }
  };
  Collector collector;
  Engine engine(quiet_options(), scripted([](std::span<const TokenId>) {
                  ScriptedAnswer answer = say({1, 2, 3, 4, 5, 6, 7, 8});
                  answer.ms_per_step = 2;
                  return answer;
                }));
  for (int i = 0; i < 6; ++i) {
    Request request = ask("a", {i});
    request.stream = std::make_shared<RequestStream>(&collector);
    ASSERT_TRUE(engine.submit(std::move(request)));
  }
  std::unique_lock lock(collector.mutex);
  EXPECT_TRUE(collector.wake_up.wait_for(lock, std::chrono::seconds(60), [&] { return collector.ended == 6; }));
  EXPECT_GT(collector.largest, 1u);
  lock.unlock();
  engine.stop();
}

TEST(Engine, AFullQueueRefusesAtTheDoor) {
  EngineOptions options = quiet_options();
  options.max_running = 1;
  options.max_queued = 3;
  Engine engine(options, scripted([](std::span<const TokenId>) {
                  ScriptedAnswer answer = say({1}, false);
                  answer.ms_per_step = 5;
                  return answer;
                }));
  std::vector<std::shared_ptr<RequestStream>> accepted;
  int refused = 0;
  for (int i = 0; i < 10; ++i) {
    Request request = ask("a", {1}, 100);
    const auto stream = request.stream;
    const auto result = engine.submit(std::move(request));
    if (result) {
      accepted.push_back(stream);
    } else {
      ++refused;
      EXPECT_EQ(result.error().code, Errc::kOverloaded);
      EXPECT_EQ(result.error().message, "The request queue is full.");
    }
  }
  EXPECT_GE(refused, 6);
  EXPECT_GE(accepted.size(), 3u);
  EXPECT_FALSE(engine.flush_cache()) << "requests are running";
  EXPECT_EQ(engine.stats().num_open, static_cast<int>(accepted.size()));
  engine.abort("");
  for (const auto& s : accepted) EXPECT_EQ(wait_for_end(*s).at(0).finish->reason, FinishReason::kAbort);
}

TEST(Engine, StopEndsEverythingExactlyOnce) {
  auto engine = std::make_unique<Engine>(quiet_options(), scripted(kForever));
  std::vector<std::shared_ptr<RequestStream>> streams;
  for (int i = 0; i < 30; ++i) {
    Request request = ask("a", {1, 2, 3}, 190);
    streams.push_back(request.stream);
    ASSERT_TRUE(engine->submit(std::move(request)));
  }
  std::thread other([&] { engine->stop(); });
  engine->stop();
  other.join();
  const auto result = engine->submit(ask("late", {1}));
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, Errc::kUnavailable);
  EXPECT_FALSE(engine->flush_cache());
  for (const auto& s : streams) wait_for_end(*s);
}

TEST(Engine, EndsByItselfWhenTheDeviceFails) {
  Engine engine(quiet_options(), scripted([](std::span<const TokenId>) {
                  ScriptedAnswer answer = say({1, 2, 3});
                  answer.end = ScriptedEnd::kFault;
                  return answer;
                }));
  EXPECT_FALSE(engine.failure());
  Request request = ask("a", {1, 2, 3});
  const auto stream = request.stream;
  ASSERT_TRUE(engine.submit(std::move(request)));
  const auto answer = wait_for_end(*stream).at(0);
  EXPECT_THAT(answer.tokens, ElementsAre(1, 2, 3));
  ASSERT_TRUE(answer.finish->error);
  ASSERT_TRUE(engine.failure());
  EXPECT_EQ(answer.finish->error->message, engine.failure()->message);
  const auto late = engine.submit(ask("late", {1}));
  ASSERT_FALSE(late);
  EXPECT_EQ(late.error().code, Errc::kUnavailable);
  EXPECT_EQ(late.error().message, engine.failure()->message);
  EXPECT_FALSE(engine.flush_cache());
  engine.stop();
  EXPECT_EQ(engine.stats().num_open, 0);
}

TEST(ScriptedRunner, TakesItsTimePerStep) {
  Engine engine(quiet_options(), scripted(
                                     [](std::span<const TokenId>) {
                                       ScriptedAnswer answer = say({1, 2, 3, 4, 5, 6});
                                       answer.tokens_per_step = 3;
                                       answer.ms_per_step = 20;
                                       return answer;
                                     },
                                     small_info(1, 3)));
  const auto begin = std::chrono::steady_clock::now();
  Request request = ask("a", {1});
  const auto stream = request.stream;
  ASSERT_TRUE(engine.submit(std::move(request)));
  EXPECT_THAT(wait_for_end(*stream).at(0).tokens, ElementsAre(1, 2, 3, 4, 5, 6, kEnd));
  EXPECT_GE(std::chrono::steady_clock::now() - begin, std::chrono::milliseconds(40));  // 1 + 3 + 3
}

}  // namespace
}  // namespace carat
