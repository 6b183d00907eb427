// The whole engine over the CPU runner: what a request gets does not depend on who else runs, on chunks, on the prefix
// cache, on preemption, nor on how many steps are in flight; with images and sound or without.

#include <gtest/gtest.h>

#include <random>

#include "base/str.h"
#include "engine/cpu_runner.h"
#include "engine/engine.h"
#include "model/media_encoder_testing.h"
#include "model/text/text_model_testing.h"
#include "sampling/constraint_testing.h"
#include "sampling/grammar/grammar_compiler.h"
#include "sampling/token_mask.h"

namespace carat {
namespace {

using testing::argmax;
using testing::fake_input;
using testing::FakeEncoder;
using testing::soft_items;
using testing::TextModelDriver;
using Tokens = std::vector<TokenId>;

struct Setting {
  const char* member;
  int pipeline_depth;
  int max_total_tokens;  ///< of the full pool
  int chunk;
};

class EngineCpuTest : public ::testing::TestWithParam<Setting> {
 protected:
  EngineCpuTest()
      : config_(load_model_config(str_cat(CARAT_SOURCE_DIR, "/tests/golden/", GetParam().member)).value()),
        weights_(make_dummy_text_weights(config_, 1).value()) {}

  std::unique_ptr<Engine> engine() const {
    MemoryRequest request;
    request.available_bytes = int64_t{1} << 30;
    request.max_running = 6;
    request.max_context = 400;
    request.max_total_tokens = GetParam().max_total_tokens;
    request.max_step_tokens = 128;
    CpuRunnerOptions options;
    options.max_step_tokens = 128;
    options.num_threads = 2;
    options.pipeline_depth = GetParam().pipeline_depth;
    options.encoder_cache_tokens = 100;  // for a few of the items below
    auto runner = CpuRunner::create(config_, weights_, plan_memory(config_, request).value(), options,
                                    std::make_unique<FakeEncoder>())
                      .value();
    EngineOptions engine_options;
    engine_options.chunked_prefill_size = GetParam().chunk;
    engine_options.decode_log_interval = 0;
    return std::make_unique<Engine>(engine_options, std::move(runner));
  }

  static Tokens prompt(int length, uint32_t seed) {
    std::mt19937 random(seed);
    Tokens out;
    for (int i = 0; i < length; ++i) out.push_back(static_cast<TokenId>(random() % 300));
    return out;
  }

  static Request ask(std::string id, Tokens prompt, int max_new_tokens) {
    Request request;
    request.id = std::move(id);
    request.prompt = std::move(prompt);
    request.sampling.max_new_tokens = max_new_tokens;
    request.sampling.temperature = 0;
    request.stream = std::make_shared<RequestStream>();
    return request;
  }

  static Tokens collect(RequestStream& stream) {
    Tokens out;
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(120);
    while (std::chrono::steady_clock::now() < deadline) {
      for (const SampleEvent& event : stream.wait(deadline)) {
        out.insert(out.end(), event.tokens.begin(), event.tokens.end());
        if (event.finish) {
          EXPECT_EQ(event.finish->reason, FinishReason::kLength);
          return out;
        }
      }
    }
    ADD_FAILURE() << "no end in time";
    return out;
  }

  Tokens expected(const Tokens& prompt, int count, std::shared_ptr<const ConstraintPlan> plan = nullptr,
                  const std::vector<MediaSpan>& media = {}) const {
    TextModelDriver driver(config_, weights_, {});
    driver.set_media(0, soft_items(media, config_.text));
    std::optional<TokenConstraint> constraint;
    if (plan) constraint.emplace(std::move(plan), std::span<const TokenId>(), 0, config_.text.vocab_size);
    std::vector<uint32_t> mask(static_cast<size_t>(num_mask_words(config_.text.vocab_size)));
    const auto next = [&](std::vector<float> logits) {
      if (constraint && constraint->fill_mask(mask)) apply_mask(mask, logits);
      const TokenId token = argmax(logits);
      if (constraint) constraint->accept(token);
      return token;
    };
    Tokens out = {next(driver.prefill(prompt, 512))};
    while (static_cast<int>(out.size()) < count) out.push_back(next(driver.step({{0, {out.back()}}}).at(0)));
    return out;
  }

  ModelConfig config_;
  std::shared_ptr<const TextWeights> weights_;
};

TEST_P(EngineCpuTest, ManyRequestsGetWhatEachWouldGetAlone) {
  const auto e = engine();
  const Tokens common = prompt(130, 99);
  std::vector<Request> requests;
  for (int i = 0; i < 12; ++i) {
    Tokens tokens = i % 3 == 0 ? common : prompt(1 + 23 * i, static_cast<uint32_t>(i));
    const Tokens tail = prompt(1 + i, 200 + static_cast<uint32_t>(i));
    tokens.insert(tokens.end(), tail.begin(), tail.end());
    requests.push_back(ask(str_cat("r", i), std::move(tokens), 5 + 7 * (i % 4)));
  }
  for (const Request& request : requests) ASSERT_TRUE(e->submit(request));
  for (const Request& request : requests)
    EXPECT_EQ(collect(*request.stream), expected(request.prompt, request.sampling.max_new_tokens)) << request.id;
  // Once more, now that prefixes are cached.
  Request again = ask("again", requests[9].prompt, 8);
  ASSERT_TRUE(e->submit(again));
  EXPECT_EQ(collect(*again.stream), expected(again.prompt, 8));
  if (GetParam().max_total_tokens >= 4096) {
    EXPECT_GE(again.stream->stats().cached_tokens, 128);
  }
}

TEST_P(EngineCpuTest, PreemptedRequestsGoOnWhereTheyWere) {
  const auto e = engine();
  std::vector<Request> requests;
  for (int i = 0; i < 6; ++i)
    requests.push_back(ask(str_cat("r", i), prompt(30 + i, 300 + static_cast<uint32_t>(i)), 150));
  for (const Request& request : requests) ASSERT_TRUE(e->submit(request));
  int preemptions = 0;
  for (const Request& request : requests) {
    EXPECT_EQ(collect(*request.stream), expected(request.prompt, 150)) << request.id;
    preemptions += request.stream->stats().num_preemptions;
  }
  // Six times 3 pages are needed at the end; 512 tokens are 8 pages.
  EXPECT_EQ(preemptions > 0, GetParam().max_total_tokens == 512);
}

TEST_P(EngineCpuTest, ConstrainedAndFreeRequestsSideBySide) {
  const auto e = engine();
  const auto plan = testing::runs_of_letters_and_digits(config_.text.vocab_size);
  std::vector<Request> requests;
  for (int i = 0; i < 6; ++i) {
    requests.push_back(ask(str_cat("r", i), prompt(30 + i, 400 + static_cast<uint32_t>(i)), 150));
    if (i % 3 != 0) requests.back().sampling.constraint = plan;
  }
  for (const Request& request : requests) ASSERT_TRUE(e->submit(request));
  for (const Request& request : requests)
    EXPECT_EQ(collect(*request.stream), expected(request.prompt, 150, request.sampling.constraint)) << request.id;
}

TEST_P(EngineCpuTest, AnAnswerThatLeavesItsFormEndsWithTheReason) {
  const auto e = engine();
  GrammarVocabulary vocabulary;
  vocabulary.pieces.assign(static_cast<size_t>(config_.text.vocab_size), "a");
  GrammarCompiler compiler(std::move(vocabulary), {.timeout = std::chrono::minutes(5)});
  auto plan = std::make_shared<ConstraintPlan>();
  plan->answer = compiler.compile_now({GrammarSource::Kind::kRegex, "aab"}).value();  // nothing spells the last one
  Request request = ask("dead end", prompt(40, 7), 50);
  request.sampling.constraint = plan;
  Request neighbour = ask("neighbour", prompt(50, 8), 50);
  for (const Request& r : {request, neighbour}) ASSERT_TRUE(e->submit(r));
  Tokens tokens;
  std::optional<Finish> end;
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  while (!end && std::chrono::steady_clock::now() < deadline)
    for (SampleEvent& event : request.stream->wait(deadline)) {
      tokens.insert(tokens.end(), event.tokens.begin(), event.tokens.end());
      end = std::move(event.finish);
    }
  ASSERT_TRUE(end);
  EXPECT_EQ(end->reason, FinishReason::kAbort);
  ASSERT_TRUE(end->error);
  EXPECT_EQ(end->error->code, Errc::kInvalidArgument);
  EXPECT_EQ(tokens.size(), 3u) << "two of the form, and whatever else came";
  EXPECT_EQ(collect(*neighbour.stream), expected(neighbour.prompt, 50));
}

TEST_P(EngineCpuTest, PromptsWithMedia) {
  const auto e = engine();
  const auto image = fake_input(1, 40), other_image = fake_input(2, 40), frame = fake_input(3, 9),
             sound = fake_input(4, 45, EncoderInput::Kind::kAudio);
  const std::vector<std::vector<MediaSpan>> kinds = {
      {{20, image}},
      {{20, other_image}},
      {},
      {{3, frame}, {13, frame}, {30, image}, {71, sound}},
      {{60, sound}},
      {{0, image}, {40, other_image}},
  };
  std::vector<Request> requests;
  for (int round = 0; round < 2; ++round) {
    for (size_t kind = 0; kind < kinds.size(); ++kind) {
      // The same ids for all, then another tail each.
      Tokens tokens = prompt(120, 500);
      tokens.push_back(static_cast<TokenId>(requests.size()));
      requests.push_back(ask(str_cat("r", requests.size()), std::move(tokens), round == 0 ? 100 : 6));
      requests.back().media = kinds[kind];
    }
  }
  for (const Request& request : requests) ASSERT_TRUE(e->submit(request));
  int cached = 0, preemptions = 0;
  for (const Request& request : requests) {
    EXPECT_EQ(collect(*request.stream),
              expected(request.prompt, request.sampling.max_new_tokens, nullptr, request.media))
        << request.id;
    cached += request.stream->stats().cached_tokens;
    preemptions += request.stream->stats().num_preemptions;
  }
  // Six times 4 pages are needed at the end; 512 tokens are 8 pages.
  EXPECT_EQ(preemptions > 0, GetParam().max_total_tokens == 512);
  if (GetParam().max_total_tokens >= 4096) {
    EXPECT_GT(cached, 0);
  }
}

INSTANTIATE_TEST_SUITE_P(Settings, EngineCpuTest,
                         ::testing::Values(Setting{"e2b", 1, 4096, 512}, Setting{"e2b", 2, 4096, 32},
                                           Setting{"e2b", 2, 512, 64}, Setting{"e4b", 1, 512, 50},
                                           Setting{"12b", 2, 4096, 64}, Setting{"26b-a4b", 1, 512, 64},
                                           Setting{"31b", 2, 512, 33}),
                         [](const auto& suite) {
                           std::string name = str_cat(suite.param.member, "_depth", suite.param.pipeline_depth, "_pool",
                                                      suite.param.max_total_tokens, "_chunk", suite.param.chunk);
                           std::erase(name, '-');
                           return name;
                         });

}  // namespace
}  // namespace carat
