// The CUDA runner against the host's model on miniatures of all five members: the same weights, chunks, batches and
// steps. What the kernels sum in another order moves a logit by about a bf16 step, so greedy choices may differ where
// two candidates are nearly equal, and nowhere else.
#include "engine/cuda_runner.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <numeric>
#include <random>
#include <utility>

#include "base/str.h"
#include "engine/media_spans.h"
#include "model/media_encoder_testing.h"
#include "model/text/cuda_testing.h"
#include "model/text/text_model_testing.h"
#include "ops/cuda/cuda_ops.h"
#include "sampling/constraint_testing.h"
#include "sampling/token_mask.h"
#include "tensor/cuda/device.h"
#include "tensor/cuda/gpu_info.h"

namespace carat {
namespace {

using testing::argmax;
using testing::fake_input;
using testing::soft_items;
using testing::TextModelDriver;

constexpr int kPageTokens = 64, kMaxLength = 512, kPages = kMaxLength / kPageTokens;
/// Two logits closer than this may change places: a few bf16 steps at the size of soft-capped logits (16 to 30: 0.125).
constexpr float kNearTie = 0.5f;

/// FakeEncoder's soft tokens, enqueued as a real encoder's would be.
class FakeCudaEncoder final : public CudaMediaEncoder {
 public:
  FakeCudaEncoder(int hidden_size, int* num_encoded) : hidden_size_(hidden_size), num_encoded_(num_encoded) {}
  void encode(const cuda::Launch& launch, const cuda::Stream&, std::span<const Item> items) override {
    for (const Item& item : items) {
      ++*num_encoded_;
      std::vector<int32_t> rows(static_cast<size_t>(item.input->num_tokens));
      std::iota(rows.begin(), rows.end(), 0);
      const void* const values = upload(testing::fake_soft_tokens(*item.input, hidden_size_));
      cuda::gather_rows(launch, item.soft_tokens, values, static_cast<const int32_t*>(upload(rows)),
                        item.input->num_tokens, hidden_size_);
    }
  }

 private:
  template <class T>
  const void* upload(const std::vector<T>& values) {
    const int64_t bytes = static_cast<int64_t>(values.size() * sizeof(T));
    memory_.push_back(cuda::DeviceBuffer::allocate(bytes).value());
    stream_.copy_to_device(memory_.back().data(), values.data(), bytes);
    stream_.synchronize();
    return memory_.back().data();
  }
  int hidden_size_;
  int* num_encoded_;
  cuda::Stream stream_ = cuda::Stream::create().value();
  std::vector<cuda::DeviceBuffer> memory_;
};

class CudaRunnerTest : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    const auto gpus = list_gpus();
    if (!gpus || gpus->empty()) GTEST_SKIP() << "no GPU on this machine";
    const char* root = std::getenv("CARAT_TEST_ROOT");
    auto config = load_model_config(str_cat(root ? root : CARAT_SOURCE_DIR, "/tests/golden/", GetParam()));
    ASSERT_TRUE(config) << config.error().message;
    config_ = std::move(*config);
    weights_ = testing::calm_weights(config_, 1);
  }
  std::unique_ptr<CudaRunner> runner(bool graphs = true, bool dependent = true, int max_step_tokens = 256,
                                     int encoder_cache_tokens = 0) {
    CudaRunnerOptions o;
    o.max_slots = 16;
    o.max_step_tokens = max_step_tokens;
    o.max_total_tokens = 16 * kMaxLength;
    o.mem_fraction = 0.5;
    o.graphs = graphs;
    o.dependent_launches = dependent;
    o.encoder_cache_tokens = encoder_cache_tokens;
    std::unique_ptr<CudaMediaEncoder> encoder;
    if (encoder_cache_tokens > 0) {
      CARAT_CHECK(cuda::use_device(0).has_value(), "there is a GPU");
      encoder = std::make_unique<FakeCudaEncoder>(config_.text.hidden_size, &num_encoded_);
    }
    auto r = CudaRunner::create(config_, weights_, 0, o, std::move(encoder));
    CARAT_CHECK(r.has_value(), r.has_value() ? "" : r.error().message);
    next_full_ = next_sliding_ = 0;
    num_sliding_ = (*r)->info().num_sliding_pages;
    return std::move(*r);
  }
  std::vector<TokenId> prompt(int length, uint32_t seed) const {
    std::mt19937 random(seed);
    std::vector<TokenId> out;
    for (int i = 0; i < length; ++i)
      out.push_back(static_cast<TokenId>(random() % static_cast<uint32_t>(config_.text.vocab_size)));
    return out;
  }
  SlotOpen open(int slot, const std::vector<TokenId>& tokens, int top = 0) const {
    SlotOpen o;
    o.slot = slot;
    o.prompt = std::make_shared<const std::vector<TokenId>>(tokens);
    o.sampler.params.temperature = 0;
    o.sampler.params.max_new_tokens = 1 << 20;
    o.sampler.logprobs.enabled = top > 0;
    o.sampler.logprobs.num_top = top;
    return o;
  }
  SlotOpen open(int slot, const std::vector<TokenId>& tokens, const std::vector<MediaSpan>& media) const {
    SlotOpen o = open(slot, tokens);
    o.media = std::make_shared<const std::vector<MediaSpan>>(media);
    return o;
  }
  void add_pages(Step& step, int slot, int num_pages = kPages) {
    for (int i = 0; i < num_pages; ++i) {
      step.pages.push_back({slot, KvPool::kFull, i, next_full_++});
      step.pages.push_back({slot, KvPool::kSliding, i, next_sliding_++});
      CARAT_CHECK(next_sliding_ <= num_sliding_, "a test that uses pages that there are");
    }
  }
  static Slice slice(int slot, std::vector<TokenId> tokens, bool sampled = true) {
    Slice s;
    s.slot = slot;
    s.tokens = std::move(tokens);
    if (sampled) s.sample_slots = {slot};
    return s;
  }
  /// Prefills `tokens` in chunks, then decodes; what was sampled.
  std::vector<TokenId> generate(Runner& r, int slot, const std::vector<TokenId>& tokens, int chunk, int count) {
    return generate(r, open(slot, tokens), chunk, count);
  }
  std::vector<TokenId> generate(Runner& r, const SlotOpen& opened, int chunk, int count) {
    std::vector<TokenId> out, tokens = *opened.prompt;
    const int slot = opened.slot;
    Step step;
    step.opens = {opened};
    add_pages(step, slot);
    for (size_t at = 0, end = 0; at < tokens.size(); at = end) {
      end = std::min(tokens.size(), at + static_cast<size_t>(chunk));
      if (opened.media && r.info().whole_media_blocks) {
        const int begin = static_cast<int>(at), uncut = uncut_end(*opened.media, begin, static_cast<int>(end));
        end = static_cast<size_t>(uncut > begin ? uncut : begin + smallest_slice(*opened.media, begin));
      }
      step.slices = {slice(slot,
                           {tokens.begin() + static_cast<int64_t>(at), tokens.begin() + static_cast<int64_t>(end)},
                           end == tokens.size())};
      r.launch(std::move(step));
      const auto result = r.take().value();
      if (end == tokens.size()) out.push_back(result.slots.at(0).tokens.at(0));
      step = Step{};
    }
    // Two steps in flight, as the engine does it.
    Step decode;
    decode.slices = {slice(slot, {})};
    r.launch(decode);
    for (int i = 1; i < count; ++i) {
      if (i + 1 < count) r.launch(decode);
      out.push_back(r.take()->slots.at(0).tokens.at(0));
    }
    Step close;
    close.closes = {slot};
    r.launch(close);
    EXPECT_TRUE(r.take());
    return out;
  }
  /// The same as generate() for a prompt of any length: pages come with each chunk, and sliding pages are used again as
  /// soon as the window has passed them, as the engine does it.
  std::vector<TokenId> generate_long(Runner& r, const std::vector<TokenId>& tokens, int chunk, int count) {
    const int length = static_cast<int>(tokens.size());
    const int ring = (config_.text.sliding_window + chunk) / kPageTokens + 2;
    int pages = 0;
    const auto add_pages_to = [&](Step& step, int end) {
      for (; pages * kPageTokens < end; ++pages) {
        step.pages.push_back({0, KvPool::kFull, pages, pages});
        step.pages.push_back({0, KvPool::kSliding, pages, pages % ring});
      }
    };
    Step step;
    step.opens = {open(0, tokens)};
    for (int at = 0; at < length; at += chunk) {
      const int end = std::min(length, at + chunk);
      add_pages_to(step, end);
      step.slices = {slice(0, {tokens.begin() + at, tokens.begin() + end}, end == length)};
      r.launch(std::exchange(step, {}));
      if (end < length) static_cast<void>(r.take().value());
    }
    std::vector<TokenId> out = {r.take()->slots.at(0).tokens.at(0)};
    while (static_cast<int>(out.size()) < count) {
      add_pages_to(step, length + static_cast<int>(out.size()));
      step.slices = {slice(0, {})};
      r.launch(std::exchange(step, {}));
      out.push_back(r.take()->slots.at(0).tokens.at(0));
    }
    return out;
  }
  /// Fails if a token was clearly not the best by the host's model, given everything before it.
  void expect_greedy(const std::vector<TokenId>& tokens, const std::vector<TokenId>& generated, const std::string& what,
                     const std::vector<MediaSpan>& media = {}) {
    TextModelDriver::Options o;
    o.max_length = static_cast<int>(tokens.size() + generated.size()) + kPageTokens;
    o.num_threads = 2;
    TextModelDriver driver(config_, weights_, o);
    driver.set_media(0, soft_items(media, config_.text));
    auto logits = driver.prefill(tokens, 512);
    int ties = 0;
    for (size_t i = 0; i < generated.size(); ++i) {
      const float best = logits[static_cast<size_t>(argmax(logits))], got = logits[static_cast<size_t>(generated[i])];
      EXPECT_GE(got, best - kNearTie) << what << ": token " << i << " is " << generated[i] << ", the host prefers "
                                      << argmax(logits);
      ties += generated[i] != argmax(logits);
      if (i + 1 < generated.size()) logits = driver.step({{0, {generated[i]}}}).at(0);
    }
    EXPECT_LE(ties, static_cast<int>(generated.size()) / 4) << what << ": too many near ties";
  }

  ModelConfig config_;
  std::shared_ptr<const TextWeights> weights_;
  PageId next_full_ = 0, next_sliding_ = 0;
  int num_sliding_ = 0;  ///< pages of the last runner()
  int num_encoded_ = 0;
};

TEST_P(CudaRunnerTest, GreedyTextIsTheHosts) {
  const int w = config_.text.sliding_window;
  for (const int length : {1, 5, w - 1, w, w + 1, std::min(3 * w + 7, kMaxLength - 40)}) {
    const auto tokens = prompt(length, static_cast<uint32_t>(length));
    const auto r = runner();
    expect_greedy(tokens, generate(*r, 0, tokens, 256, 24), str_cat(GetParam(), " prompt ", length));
  }
}

TEST_P(CudaRunnerTest, ChunksGraphsAndDependentLaunchesDoNotMatter) {
  const auto tokens = prompt(std::min(2 * config_.text.sliding_window + 9, kMaxLength - 40), 3);
  const auto whole = runner();
  const auto expected = generate(*whole, 0, tokens, 256, 20);
  for (const int chunk : {7, 64, 100}) {
    const auto r = runner();
    expect_greedy(tokens, generate(*r, 1, tokens, chunk, 20), str_cat(GetParam(), " chunks of ", chunk));
  }
  EXPECT_EQ(generate(*runner(false, true), 0, tokens, 256, 20), expected) << "without graphs";
  EXPECT_EQ(generate(*runner(true, false), 0, tokens, 256, 20), expected) << "without dependent launches";
  EXPECT_EQ(generate(*runner(false, false), 2, tokens, 256, 20), expected) << "without either, in another slot";
}

TEST_P(CudaRunnerTest, MixedStepsOfManySequences) {
  const auto r = runner();
  std::vector<std::vector<TokenId>> prompts, out(11);
  for (int i = 0; i < 11; ++i) prompts.push_back(prompt(1 + i * 13, 100 + static_cast<uint32_t>(i)));
  // A new sequence joins with every step while the others decode.
  for (int n = 0; n < 11 + 8; ++n) {
    Step step;
    for (int i = 0; i < std::min(n, 11); ++i) step.slices.push_back(slice(i, {}));
    if (n < 11) {
      step.opens = {open(n, prompts[static_cast<size_t>(n)])};
      add_pages(step, n, 4);
      step.slices.push_back(slice(n, prompts[static_cast<size_t>(n)]));
    }
    r->launch(step);
    const auto sampled = r->take().value();
    for (const auto& s : sampled.slots) out[static_cast<size_t>(s.slot)].push_back(s.tokens.at(0));
  }
  for (int i = 0; i < 11; ++i)
    expect_greedy(prompts[static_cast<size_t>(i)], out[static_cast<size_t>(i)], str_cat(GetParam(), " sequence ", i));
}

TEST_P(CudaRunnerTest, LogprobsOfPromptAndSamples) {
  const auto tokens = prompt(90, 8);
  TextModelDriver::Options o;
  o.max_logit_rows = 128;
  TextModelDriver driver(config_, weights_, o);
  const auto host = driver.step({{0, tokens, true}});
  const auto host_logprob = [&](size_t row, TokenId token) {
    const auto& x = host[row];
    double total = 0;
    for (const float v : x) total += std::exp(static_cast<double>(v));
    return static_cast<double>(x[static_cast<size_t>(token)]) - std::log(total);
  };
  const auto r = runner();
  Step step;
  SlotOpen s = open(0, tokens, 3);
  s.sampler.logprobs.prompt_start = 1;
  step.opens = {s};
  add_pages(step, 0);
  step.slices = {slice(0, tokens)};
  step.slices[0].prompt_logprob_begin = 1;
  step.slices[0].prompt_logprob_end = 90;
  r->launch(step);
  const auto result = r->take().value();
  ASSERT_EQ(result.slots.size(), 1u);
  const auto& scores = result.slots[0].prompt_logprobs;
  ASSERT_EQ(scores.size(), 89u);
  double sum = 0;
  for (size_t i = 0; i < scores.size(); ++i) {
    const double want = host_logprob(i, tokens[i + 1]);
    EXPECT_NEAR(scores[i].logprob, want, 0.8) << i;
    sum += std::abs(scores[i].logprob - want);
    EXPECT_EQ(scores[i].top.size(), 3u);
  }
  EXPECT_LT(sum / 89, 0.12) << "mean difference of log-probabilities";
  ASSERT_EQ(result.slots[0].logprobs.size(), 1u);
  EXPECT_EQ(result.slots[0].logprobs[0].top.at(0).token, result.slots[0].tokens.at(0));
  EXPECT_NEAR(result.slots[0].logprobs[0].logprob, host_logprob(89, result.slots[0].tokens.at(0)), 0.8);
}

/// Images over page borders, longer than a chunk, longer than the window, side by side; sound; what is left of an item
/// in a later chunk comes from the cache.
TEST_P(CudaRunnerTest, PromptsWithMediaAreTheHosts) {
  const auto tokens = prompt(250, 21);
  const std::vector<MediaSpan> media = {{3, fake_input(1, 70)},
                                        {73, fake_input(2, 9, EncoderInput::Kind::kVideoFrame)},
                                        {90, fake_input(3, 33, EncoderInput::Kind::kAudio)},
                                        {130, fake_input(4, 110)}};
  const auto whole = runner(true, true, 256, 300);
  const auto expected = generate(*whole, open(0, tokens, media), 256, 20);
  expect_greedy(tokens, expected, str_cat(GetParam(), " with media"), media);
  EXPECT_EQ(num_encoded_, 4);
  EXPECT_EQ(generate(*whole, open(1, tokens, media), 256, 20), expected) << "from the encoder's cache";
  EXPECT_EQ(num_encoded_, 4);
  num_encoded_ = 0;
  for (const int chunk : {40, 100}) {
    const auto r = runner(true, true, 256, 300);
    expect_greedy(tokens, generate(*r, open(1, tokens, media), chunk, 20), str_cat(GetParam(), " in chunks of ", chunk),
                  media);
  }
  EXPECT_EQ(num_encoded_, 8) << "once a runner";
  // A cache that holds one item.
  EXPECT_EQ(generate(*runner(true, true, 256, 110), open(0, tokens, media), 256, 20), expected);
  EXPECT_EQ(num_encoded_, 12);
  EXPECT_EQ(generate(*runner(false, false, 256, 300), open(0, tokens, media), 256, 20), expected)
      << "without graphs and dependent launches";
}

TEST_P(CudaRunnerTest, MediaBesideDecodingSequences) {
  const auto r = runner(true, true, 256, 200);
  EXPECT_EQ(r->info().max_media_tokens, 200);
  EXPECT_EQ(r->info().whole_media_blocks, config_.text.bidirectional_vision);
  std::vector<std::vector<TokenId>> prompts, out(6);
  std::vector<std::vector<MediaSpan>> media;
  for (int i = 0; i < 6; ++i) {
    prompts.push_back(prompt(60 + i * 13, 300 + static_cast<uint32_t>(i)));
    media.push_back(i % 3 == 0 ? std::vector<MediaSpan>{}
                               : std::vector<MediaSpan>{{5, fake_input(static_cast<uint64_t>(i % 2), 50)}});
  }
  for (int n = 0; n < 12; ++n) {
    Step step;
    for (int i = 0; i < std::min(n, 6); ++i) step.slices.push_back(slice(i, {}));
    if (n < 6) {
      const auto i = static_cast<size_t>(n);
      step.opens = {open(n, prompts[i], media[i])};
      add_pages(step, n);
      step.slices.push_back(slice(n, prompts[i]));
    }
    r->launch(step);
    const auto sampled = r->take().value();
    for (const auto& s : sampled.slots) out[static_cast<size_t>(s.slot)].push_back(s.tokens.at(0));
  }
  for (size_t i = 0; i < 6; ++i) expect_greedy(prompts[i], out[i], str_cat(GetParam(), " sequence ", i), media[i]);
  EXPECT_EQ(num_encoded_, 2);
}

/// An image of more tokens than the logits buffer has rows; then one at the prompt's end.
TEST_P(CudaRunnerTest, PromptLogprobsAroundMedia) {
  const auto tokens = prompt(200, 22);
  for (const std::vector<MediaSpan>& media :
       {std::vector<MediaSpan>{{40, fake_input(1, 100)}, {150, fake_input(2, 10)}}, {{120, fake_input(3, 80)}}}) {
    TextModelDriver::Options o;
    o.max_logit_rows = 256;
    TextModelDriver driver(config_, weights_, o);
    driver.set_media(0, soft_items(media, config_.text));
    const auto host = driver.step({{0, tokens, true}});
    const auto r = runner(true, true, 256, 120);
    Step step;
    SlotOpen s = open(0, tokens, media);
    s.sampler.logprobs.enabled = true;
    s.sampler.logprobs.prompt_start = 1;
    step.opens = {s};
    add_pages(step, 0);
    step.slices = {slice(0, tokens)};
    step.slices[0].prompt_logprob_begin = 1;
    step.slices[0].prompt_logprob_end = 200;
    r->launch(step);
    const auto result = r->take().value();
    ASSERT_EQ(result.slots.size(), 1u);
    ASSERT_EQ(result.slots[0].prompt_logprobs.size(), 199u);
    double sum = 0;
    int far = 0;
    for (size_t i = 0; i < 199; ++i) {
      double total = 0;
      for (const float v : host[i]) total += std::exp(static_cast<double>(v));
      const double want = static_cast<double>(host[i][static_cast<size_t>(tokens[i + 1])]) - std::log(total);
      const double got = result.slots[0].prompt_logprobs[i].logprob;
      far += std::abs(got - want) > 0.8;
      sum += std::abs(got - want);
    }
    // A rounding may swap two experts of nearly equal weight, which moves a row by more than roundings do.
    EXPECT_LE(far, config_.text.moe ? 4 : 0);
    EXPECT_LT(sum / 199, 0.12) << "mean difference of log-probabilities";
    EXPECT_GE(host[199][static_cast<size_t>(result.slots[0].tokens.at(0))],
              host[199][static_cast<size_t>(argmax(host[199]))] - kNearTie);
  }
}

TEST_P(CudaRunnerTest, ForksContinueFromOnePrompt) {
  const auto tokens = prompt(70, 5);
  const auto r = runner();
  Step step;
  step.opens = {open(0, tokens), open(1, tokens), open(2, tokens)};
  add_pages(step, 0);
  step.slices = {slice(0, tokens)};
  step.slices[0].sample_slots = {0, 1, 2};
  r->launch(step);
  auto result = r->take().value();
  ASSERT_EQ(result.slots.size(), 3u);
  std::vector<std::vector<TokenId>> out(3);
  for (const auto& s : result.slots) out[static_cast<size_t>(s.slot)].push_back(s.tokens.at(0));
  // The first page is shared, the second (partly filled) copied.
  Step next;
  for (int slot = 1; slot < 3; ++slot) {
    for (const KvPool pool : {KvPool::kFull, KvPool::kSliding}) {
      PageId& fresh = pool == KvPool::kFull ? next_full_ : next_sliding_;
      next.pages.push_back({slot, pool, 0, 0});
      next.copies.push_back({pool, 1, fresh});
      next.pages.push_back({slot, pool, 1, fresh++});
    }
  }
  for (int slot = 0; slot < 3; ++slot) next.slices.push_back(slice(slot, {}));
  for (int i = 0; i < 6; ++i) {
    r->launch(next);
    next.pages.clear();
    next.copies.clear();
    const auto sampled = r->take().value();
    for (const auto& s : sampled.slots) out[static_cast<size_t>(s.slot)].push_back(s.tokens.at(0));
  }
  EXPECT_EQ(out[1], out[0]);
  EXPECT_EQ(out[2], out[0]);
  expect_greedy(tokens, out[0], "forks");
}

/// What the device samples, with graphs and without, is what the host's sampler makes of the same logits. Greedy, chat
/// parameters, every penalty after a preemption, early bans, biases, min-p; with log-probabilities and without; and
/// answers of a form beside them: greedy, sampled, with penalties, resumed after a preemption.
TEST_P(CudaRunnerTest, TheDeviceSamplesWhatTheHostSamples) {
  constexpr int kSlots = 12, kFirstBound = 8, kCount = 40;
  const auto plan = testing::runs_of_letters_and_digits(config_.text.vocab_size);
  const auto token_of = [](char c) {
    TokenId t = 0;
    while (testing::letter_or_digit(t) != c) ++t;
    return t;
  };
  const auto opened = [&](int slot) {
    SlotOpen o = open(slot, prompt(20 + slot, static_cast<uint32_t>(slot)), slot % 2 == 0 ? 0 : 7);
    SamplingParams& p = o.sampler.params;
    o.sampler.seed = static_cast<uint64_t>(slot) + 77;
    p.temperature = slot < 2 ? 0.0f : 1.0f;
    if (slot == 2 || slot == 3) p.top_k = 20, p.top_p = 0.95f;
    if (slot == 4) p.frequency_penalty = 0.4f, p.presence_penalty = 0.3f, p.repetition_penalty = 1.2f;
    if (slot == 4) o.generated = prompt(30, 9);
    if (slot == 5) p.logit_bias = {{3, 2.5f}, {1, 30.0f}}, o.sampler.suppressed_token_ids = {2, 7};
    if (slot == 6) p.min_new_tokens = 20, p.logit_bias = {{5, 40.0f}}, o.sampler.end_token_ids = {5, 6};
    if (slot == 7) p.min_p = 0.05f, o.sampler.logprobs.token_ids = {0, 11};
    if (slot >= kFirstBound) p.constraint = plan, o.sampler.end_token_ids = {1};
    if (slot == 8) p.temperature = 0;
    if (slot == 10) p.frequency_penalty = 0.4f, p.min_new_tokens = 30;
    if (slot == 11)
      for (const char c : {'b', 'c', 'd', '7'}) o.generated.push_back(token_of(c));
    return o;
  };
  const auto generate_all = [&](bool on_host, bool graphs) {
    std::vector<SlotResult> out(kSlots);
    const auto r = runner(graphs, true, 512);
    Step step;
    for (int slot = 0; slot < kSlots; ++slot) {
      SlotOpen o = opened(slot);
      // More biases than the device keeps, of no effect.
      if (on_host) o.sampler.params.logit_bias.resize(cuda::kMaxSampleBiases + 8, {0, 0.0f});
      std::vector<TokenId> tokens = *o.prompt;
      tokens.insert(tokens.end(), o.generated.begin(), o.generated.end());
      step.opens.push_back(std::move(o));
      add_pages(step, slot, 2);
      step.slices.push_back(slice(slot, tokens));
    }
    r->launch(std::move(step));
    Step decode;
    for (int slot = 0; slot < kSlots; ++slot) decode.slices.push_back(slice(slot, {}));
    for (int i = 0; i < kCount; ++i) {
      if (i + 1 < kCount) r->launch(decode);
      const StepResult taken = r->take().value();
      for (const SlotResult& s : taken.slots) {
        SlotResult& all = out[static_cast<size_t>(s.slot)];
        all.tokens.insert(all.tokens.end(), s.tokens.begin(), s.tokens.end());
        all.logprobs.insert(all.logprobs.end(), s.logprobs.begin(), s.logprobs.end());
      }
    }
    return out;
  };
  const auto host = generate_all(true, true), device = generate_all(false, true), plain = generate_all(false, false);
  for (size_t slot = 0; slot < kSlots; ++slot) {
    ASSERT_EQ(device[slot].tokens.size(), size_t{kCount});
    EXPECT_EQ(device[slot].tokens, host[slot].tokens) << "slot " << slot;
    EXPECT_EQ(plain[slot].tokens, device[slot].tokens) << "slot " << slot << " without graphs";
    ASSERT_EQ(device[slot].logprobs.size(), slot % 2 == 0 ? 0u : size_t{kCount}) << "slot " << slot;
    if (device[slot].tokens != host[slot].tokens) continue;
    for (size_t i = 0; i < device[slot].logprobs.size(); ++i) {
      const PositionLogprobs &got = device[slot].logprobs[i], &want = host[slot].logprobs[i];
      EXPECT_NEAR(got.logprob, want.logprob, 1e-4f) << "slot " << slot << " token " << i;
      ASSERT_EQ(got.top.size(), 7u);
      for (size_t t = 0; t < got.top.size(); ++t) EXPECT_EQ(got.top[t].token, want.top[t].token);
      ASSERT_EQ(got.ids.size(), want.ids.size());
      for (size_t t = 0; t < got.ids.size(); ++t) EXPECT_NEAR(got.ids[t].logprob, want.ids[t].logprob, 1e-3f);
    }
  }
  for (size_t slot = kFirstBound; slot < kSlots; ++slot) {
    TokenConstraint form(plan, std::vector<TokenId>{1}, 0, config_.text.vocab_size,
                         opened(static_cast<int>(slot)).generated);
    std::vector<uint32_t> mask(static_cast<size_t>(num_mask_words(config_.text.vocab_size)));
    for (const TokenId token : device[slot].tokens) {
      ASSERT_TRUE(form.fill_mask(mask));
      ASSERT_TRUE(mask_has(mask, token)) << "slot " << slot;
      form.accept(token);
      if (token == 1) break;
    }
  }
  const auto early = device[6].tokens.begin() + 20;
  EXPECT_EQ(std::count(device[6].tokens.begin(), early, 5) + std::count(device[6].tokens.begin(), early, 6), 0);
  EXPECT_GT(std::count(early, device[6].tokens.end(), 5), 0) << "the bias brings the end token once it is allowed";
}

TEST_P(CudaRunnerTest, LongContextsUseSlidingPagesAgain) {
  const auto tokens = prompt(3000, 11);
  for (const int chunk : {256, 200}) {
    const auto r = runner();
    expect_greedy(tokens, generate_long(*r, tokens, chunk, 12),
                  str_cat(GetParam(), " long prompt in chunks of ", chunk));
  }
}

TEST_P(CudaRunnerTest, WeightsFromFilesAreThoseFromMemory) {
  const auto folder = std::filesystem::temp_directory_path() / str_cat("carat_cuda_runner_", GetParam(), "_", getpid());
  const auto in_memory = weights_;
  ASSERT_TRUE(write_checkpoint(folder, config_, *in_memory, 3'000'000));
  const auto from_files = load_text_weights(folder, config_);
  ASSERT_TRUE(from_files) << from_files.error().message;
  const auto tokens = prompt(100, 12);
  const auto expected = generate(*runner(), 0, tokens, 256, 16);
  weights_ = *from_files;
  EXPECT_EQ(generate(*runner(), 0, tokens, 256, 16), expected);

  // A file that is shortened between opening and reading is an error with its name.
  const auto& file = (*from_files)->files.back();
  std::filesystem::resize_file(file.path, 1000);
  CudaRunnerOptions o;
  o.max_total_tokens = kMaxLength;
  const auto r = CudaRunner::create(config_, weights_, 0, o);
  ASSERT_FALSE(r);
  EXPECT_EQ(r.error().code, Errc::kIo);
  EXPECT_NE(r.error().message.find(file.path.string()), std::string::npos) << r.error().message;
  std::filesystem::remove_all(folder);
}

TEST_P(CudaRunnerTest, MorePageTableEntriesThanAStepCarries) {
  const auto tokens = prompt(70, 5);
  const auto expected = generate(*runner(), 0, tokens, 256, 4);
  const auto r = runner();
  Step step;
  step.opens = {open(0, tokens)};
  add_pages(step, 0);
  // Another slot's, over and over: thousands of entries come first, the ones that count come last.
  const auto wanted = std::exchange(step.pages, {});
  for (int i = 0; i < 100'000; ++i) step.pages.push_back({1, KvPool::kFull, i % kPages, 40});
  step.pages.insert(step.pages.end(), wanted.begin(), wanted.end());
  step.slices = {slice(0, tokens)};
  r->launch(step);
  std::vector<TokenId> out = {r->take()->slots.at(0).tokens.at(0)};
  Step decode;
  decode.slices = {slice(0, {})};
  while (out.size() < expected.size()) {
    r->launch(decode);
    out.push_back(r->take()->slots.at(0).tokens.at(0));
  }
  EXPECT_EQ(out, expected);
}

TEST_P(CudaRunnerTest, APerLayerTableInHostMemoryChangesNothing) {
  if (config_.text.ple_size == 0) GTEST_SKIP() << "this member has no per-layer embeddings";
  const auto tokens = prompt(100, 6);
  CudaRunnerOptions o;
  o.max_slots = 16;
  o.max_step_tokens = 256;
  o.max_total_tokens = 16 * kMaxLength;
  std::vector<TokenId> out[2];
  for (const PleTable table : {PleTable::kDevice, PleTable::kHost}) {
    o.ple_table = table;
    const auto r = CudaRunner::create(config_, weights_, 0, o);
    ASSERT_TRUE(r) << r.error().message;
    EXPECT_EQ((*r)->budget().host_bytes > 0, table == PleTable::kHost);
    next_full_ = next_sliding_ = 0;
    out[table == PleTable::kHost] = generate(**r, 0, tokens, 64, 16);
  }
  EXPECT_EQ(out[0], out[1]);
}

TEST_P(CudaRunnerTest, WhatDoesNotFitIsRefusedWithNumbersAndFlags) {
  CudaRunnerOptions o;
  o.max_total_tokens = int64_t{1} << 40;
  const auto r = CudaRunner::create(config_, weights_, 0, o);
  ASSERT_FALSE(r);
  EXPECT_EQ(r.error().code, Errc::kOverloaded);
  EXPECT_NE(r.error().message.find("--max-total-tokens"), std::string::npos) << r.error().message;
}

class CudaRunnerFailure : public CudaRunnerTest {
 protected:
  /// In a process of its own: a context that has failed stays so. Exits with 0 if all was as it should be.
  [[noreturn]] void fail_between_steps() {
    const auto r = runner();
    const auto tokens = prompt(20, 1);
    Step step;
    step.opens = {open(0, tokens)};
    add_pages(step, 0);
    step.slices = {slice(0, tokens)};
    r->launch(step);
    if (!r->take()) std::exit(2);
    Step decode;
    decode.slices = {slice(0, {})};
    r->launch(decode);  // one step is in flight, or done, when the failure comes
    const auto stream = cuda::Stream::create().value();
    cuda::Launch bad;
    bad.stream = stream.handle();
    cuda::fill_random(bad, reinterpret_cast<void*>(uintptr_t{256}), 1024, 0, 1, 1);
    r->launch(decode);
    auto result = r->take();
    if (result) result = r->take();
    if (result) std::exit(3);
    std::fprintf(stderr, "%s\n", result.error().message.c_str());
    std::exit(0);
  }
};

TEST_P(CudaRunnerFailure, IsReportedByTake) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(fail_between_steps(), ::testing::ExitedWithCode(0), "The GPU has failed: an illegal memory access");
}
INSTANTIATE_TEST_SUITE_P(Members, CudaRunnerFailure, ::testing::Values("e2b"));

INSTANTIATE_TEST_SUITE_P(Members, CudaRunnerTest, ::testing::Values("e2b", "e4b", "12b", "26b-a4b", "31b"),
                         [](const auto& param) {
                           std::string name = param.param;
                           for (char& c : name)
                             if (c == '-') c = '_';
                           return name;
                         });

}  // namespace
}  // namespace carat
