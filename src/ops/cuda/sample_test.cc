// sample() against SequenceSampler: many combinations of parameters on rows of every kind, at the real vocabulary and
// at small odd ones. Where u or a limit lies within 2e-6 of a border either neighbour is right, since the sums of the
// two run in different orders.
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <numeric>
#include <random>
#include <vector>

#include "base/str.h"
#include "ops/cuda/cuda_testing.h"
#include "sampling/sampler.h"

namespace carat::cuda {
namespace {

constexpr int kVocab = 262144, kMaxRows = 256;
constexpr float kInfinity = std::numeric_limits<float>::infinity();

struct Case {
  SamplerSpec spec;
  std::vector<TokenId> generated;
  std::vector<uint32_t> mask;  ///< empty: none
  std::vector<Bf16> logits;
  int position = 17;
  TokenId first_allowed() const {
    for (size_t i = 0; i < mask.size(); ++i)
      if (mask[i] != 0) return static_cast<TokenId>(i * 32 + static_cast<size_t>(std::countr_zero(mask[i])));
    return 0;
  }
  bool allows(TokenId t) const { return mask.empty() || (mask[static_cast<size_t>(t / 32)] >> (t % 32) & 1) != 0; }
};
struct Got {
  std::vector<int32_t> tokens, last_tokens;
  std::vector<SampleResult> results;
  std::vector<int> counts;  ///< of each case's token, afterwards
};

bool is_greedy(const SamplingParams& p) { return p.temperature < 1e-6f || p.top_k == 1; }
bool is_penalised(const SamplingParams& p) {
  return p.frequency_penalty != 0 || p.presence_penalty != 0 || p.repetition_penalty != 1;
}

/// Whether `token` is a right sample when sums may be off by a few millionths. x: adjusted logits.
bool acceptable(std::vector<float> x, const SamplingParams& p, double u, TokenId token) {
  for (float& v : x) v = std::isnan(v) ? -kInfinity : v;
  const float best = *std::max_element(x.begin(), x.end()), scale = 1.0f / p.temperature;
  const auto weight = [&](TokenId i) { return std::exp(static_cast<double>((x[i] - best) * scale)); };
  std::vector<TokenId> order(x.size());
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(), [&](TokenId a, TokenId b) { return x[a] > x[b] || (x[a] == x[b] && a < b); });
  const size_t k = p.top_k < 1 ? order.size() : std::min(order.size(), static_cast<size_t>(p.top_k));
  double total = 0;
  for (size_t i = 0; i < (p.min_p > 0 ? k : order.size()); ++i) total += weight(order[i]);
  for (const double slack : {-2e-6, 0.0, 2e-6}) {
    size_t n = k;
    if (p.top_p < 1) {
      double sum = 0;
      for (size_t i = 0; i < k; ++i) {
        sum += weight(order[i]);
        if (sum >= (static_cast<double>(p.top_p) + slack) * total) {
          n = i + 1;
          break;
        }
      }
    }
    if (p.min_p > 0) {
      const float floor = best + p.temperature * std::log(p.min_p);
      while (n > 1 && x[order[n - 1]] < floor) --n;
    }
    std::vector<TokenId> kept(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(n));
    std::sort(kept.begin(), kept.end());
    double all = 0, before = 0;
    for (const TokenId i : kept) all += weight(i);
    for (const TokenId i : kept) {
      if (i == token) {
        if (weight(i) > 0 && u >= before / all - 2e-6 && u <= (before + weight(i)) / all + 2e-6) return true;
        break;
      }
      before += weight(i);
    }
  }
  return false;
}

class CudaSample : public testing::CudaOpsTest {
 protected:
  void SetUp() override {
    CudaOpsTest::SetUp();
    if (IsSkipped()) return;
    scratch_ = poisoned(sample_scratch_bytes(kMaxRows));
    stream_.fill(scratch_.data(), 0, scratch_.size());
  }
  std::vector<float> normal(int n, float deviation) {
    std::normal_distribution<float> d(0.0f, deviation);
    std::vector<float> v(static_cast<size_t>(n));
    for (float& x : v) x = std::clamp(d(rng_), -30.0f, 30.0f);
    return v;
  }
  static std::vector<Bf16> rounded(const std::vector<float>& x) { return std::vector<Bf16>(x.begin(), x.end()); }
  int below(int n) { return std::uniform_int_distribution<int>(0, n - 1)(rng_); }
  template <class T>
  T one_of(std::initializer_list<T> values) {
    return values.begin()[below(static_cast<int>(values.size()))];
  }

  /// Runs the cases as the rows of one launch; timed if `repeat` > 1.
  Got run(const std::vector<Case>& cases, int repeat = 1, double* microseconds = nullptr) {
    const int vocab = static_cast<int>(cases[0].logits.size()), count = static_cast<int>(cases.size());
    std::vector<Bf16> logits;
    std::vector<int32_t> ids;
    std::vector<uint16_t> counts;
    std::vector<uint32_t> masks;
    std::vector<TokenBias> biases;
    std::vector<SampleRow> rows(cases.size());
    std::vector<size_t> counts_at, biases_at, masks_at, ids_at;
    for (size_t i = 0; i < cases.size(); ++i) {
      const Case& c = cases[i];
      const SamplingParams& p = c.spec.params;
      logits.insert(logits.end(), c.logits.begin(), c.logits.end());
      counts_at.push_back(counts.size());
      biases_at.push_back(biases.size());
      masks_at.push_back(masks.size());
      ids_at.push_back(ids.size());
      if (is_penalised(p)) {
        counts.resize(counts.size() + static_cast<size_t>(vocab));
        for (const TokenId t : c.generated) ++counts[counts_at[i] + static_cast<size_t>(t)];
      }
      masks.insert(masks.end(), c.mask.begin(), c.mask.end());
      for (const auto& [token, bias] : p.logit_bias) biases.push_back({token, bias});
      for (const TokenId t : c.spec.suppressed_token_ids) biases.push_back({t, -kInfinity});
      if (static_cast<int>(c.generated.size()) < p.min_new_tokens)
        for (const TokenId t : c.spec.end_token_ids) biases.push_back({t, -kInfinity});
      std::stable_sort(biases.begin() + static_cast<std::ptrdiff_t>(biases_at[i]), biases.end(),
                       [](const TokenBias& a, const TokenBias& b) { return a.token < b.token; });
      ids.insert(ids.end(), c.spec.logprobs.token_ids.begin(), c.spec.logprobs.token_ids.end());
      SampleRow& r = rows[i];
      r.logits_row = r.sample = static_cast<int32_t>(i);
      r.slot = count - 1 - static_cast<int32_t>(i);
      r.greedy = is_greedy(p);
      r.u = uniform_at(c.spec.seed, c.position);
      r.inverse_temperature = p.temperature < 1e-6f ? 1.0f : 1.0f / p.temperature;
      r.top_k = std::max(p.top_k, 0);
      r.top_p = p.top_p;
      r.min_p_offset = p.min_p > 0 ? p.temperature * std::log(p.min_p) : -kInfinity;
      r.frequency_penalty = p.frequency_penalty;
      r.presence_penalty = p.presence_penalty;
      r.repetition_penalty = p.repetition_penalty;
      r.num_biases = static_cast<int32_t>(biases.size() - biases_at[i]);
      r.logprobs = c.spec.logprobs.enabled;
      r.num_top = c.spec.logprobs.num_top;
      r.num_ids = static_cast<int32_t>(c.spec.logprobs.token_ids.size());
    }
    const auto d_logits = upload(logits), d_counts = upload(counts), d_biases = upload(biases), d_masks = upload(masks),
               d_ids = upload(ids);
    for (size_t i = 0; i < cases.size(); ++i) {
      rows[i].counts = is_penalised(cases[i].spec.params) ? d_counts.as<uint16_t>() + counts_at[i] : nullptr;
      rows[i].mask = cases[i].mask.empty() ? nullptr : d_masks.as<uint32_t>() + masks_at[i];
      rows[i].biases = d_biases.as<TokenBias>() + biases_at[i];
      rows[i].ids = d_ids.as<int32_t>() + ids_at[i];
    }
    const auto d_rows = upload(rows);
    const auto d_last = upload(std::vector<int32_t>(cases.size(), -7)),
               d_sampled = upload(std::vector<int32_t>(cases.size(), -7));
    const auto d_results = upload(std::vector<SampleResult>(cases.size()));
    const auto go = [&] {
      sample(launch_, d_rows.as<SampleRow>(), count, d_logits.data(), vocab, d_last.as<int32_t>(),
             d_sampled.as<int32_t>(), d_results.as<SampleResult>(), scratch_.data());
    };
    go();
    if (repeat > 1) {
      const auto begin = Event::create(true), end = Event::create(true);
      begin->record(stream_);
      for (int i = 0; i < repeat; ++i) go();
      end->record(stream_);
      end->synchronize();
      *microseconds = 1e3 * static_cast<double>(Event::elapsed_ms(*begin, *end)) / repeat;
    }
    Got got;
    got.tokens = download<int32_t>(d_sampled, cases.size());
    got.last_tokens = download<int32_t>(d_last, cases.size());
    got.results = download<SampleResult>(d_results, cases.size());
    for (size_t i = 0; i < cases.size(); ++i) {
      uint16_t n = 0;
      if (rows[i].counts) stream_.copy_to_host(&n, rows[i].counts + got.tokens[i], sizeof n);
      stream_.synchronize();
      got.counts.push_back(n);
    }
    return got;
  }

  void check(const std::vector<Case>& cases) {
    const Got got = run(cases);
    SamplerScratch scratch;
    for (size_t i = 0; i < cases.size(); ++i) {
      const Case& c = cases[i];
      const SamplingParams& p = c.spec.params;
      const std::string what = str_cat(
          "case ", i, " V ", c.logits.size(), " T ", p.temperature, " k ", p.top_k, " p ", p.top_p, " min_p ", p.min_p,
          " penalties ", p.frequency_penalty, " ", p.presence_penalty, " ", p.repetition_penalty, " generated ",
          c.generated.size(), " biases ", p.logit_bias.size(), c.mask.empty() ? "" : " masked", " seed ", c.spec.seed);
      std::vector<float> x(c.logits.size());
      std::transform(c.logits.begin(), c.logits.end(), x.begin(), [](Bf16 v) { return static_cast<float>(v); });
      SequenceSampler host(c.spec, static_cast<int>(x.size()), c.generated);
      for (size_t t = 0; t < x.size(); ++t)
        if (!c.allows(static_cast<TokenId>(t))) x[t] = -kInfinity;
      PositionLogprobs logprobs;
      TokenId want = host.sample(x, c.position, scratch, c.spec.logprobs.enabled ? &logprobs : nullptr);
      if (!c.mask.empty() && *std::max_element(x.begin(), x.end()) == -kInfinity) want = c.first_allowed();
      const TokenId token = got.tokens[i];
      ++checked_;
      if (token != want) {
        ++differ_;
        ASSERT_TRUE(token >= 0 && token < static_cast<int>(x.size())) << what << ": " << token;
        ASSERT_TRUE(!is_greedy(p) && acceptable(x, p, uniform_at(c.spec.seed, c.position), token))
            << what << ": got " << token << ", want " << want;
      }
      EXPECT_EQ(token, got.last_tokens[cases.size() - 1 - i]) << what;
      const auto counted = 1 + std::count(c.generated.begin(), c.generated.end(), token);
      EXPECT_EQ(got.counts[i], is_penalised(p) ? counted : 0) << what;
      if (!c.spec.logprobs.enabled) continue;
      const SampleResult& r = got.results[i];
      const auto expect_logprob = [&](float have, float need) {
        if (std::isnan(need))  // a row without any finite logit, or a NaN logit, which the device bans
          EXPECT_FALSE(std::isfinite(have)) << what;
        else if (std::isinf(need))
          EXPECT_EQ(have, need) << what;
        else
          EXPECT_NEAR(have, need, 1e-4f * std::max(1.0f, std::fabs(need) * 0.01f)) << what;
      };
      if (token == want) expect_logprob(r.logprob, logprobs.logprob);
      size_t finite = 0;
      for (const float v : x) finite += std::isfinite(v);
      ASSERT_EQ(static_cast<size_t>(r.num_top), std::min(finite, logprobs.top.size())) << what;
      for (int t = 0; t < r.num_top; ++t) {
        EXPECT_EQ(r.top_ids[t], logprobs.top[static_cast<size_t>(t)].token) << what << " top " << t;
        expect_logprob(r.top_logprobs[t], logprobs.top[static_cast<size_t>(t)].logprob);
      }
      for (size_t t = 0; t < logprobs.ids.size(); ++t) expect_logprob(r.id_logprobs[t], logprobs.ids[t].logprob);
    }
  }

  /// Rows of every kind: smooth, peaked, few values, flat, with bans in the row itself.
  std::vector<Bf16> any_logits(int vocab) {
    std::vector<float> x = normal(vocab, one_of({0.3f, 1.0f, 3.0f, 8.0f}));
    switch (below(8)) {
      case 0:
        for (float& v : x) v = std::round(v);
        break;
      case 1:
        std::fill(x.begin(), x.end(), one_of({0.0f, -3.0f, 5.5f}));
        break;
      case 2:
        for (float& v : x) v = below(10) == 0 ? v : -kInfinity;
        x[static_cast<size_t>(below(vocab))] = 2.0f;
        break;
      case 3:
        for (int i = 0; i < 5; ++i) x[static_cast<size_t>(below(vocab))] = 29.0f;
        break;
      case 4:
        for (int i = 0; i < 3; ++i) x[static_cast<size_t>(below(vocab))] = std::numeric_limits<float>::quiet_NaN();
        break;
      default:
        break;
    }
    if (below(40) == 0) std::fill(x.begin(), x.end(), -kInfinity);
    return rounded(x);
  }
  Case any_case(int vocab) {
    Case c;
    SamplingParams& p = c.spec.params;
    c.logits = any_logits(vocab);
    c.spec.seed = rng_();
    c.position = below(100000);
    p.temperature = one_of({0.0f, 0.2f, 0.7f, 1.0f, 1.0f, 2.0f, 50.0f});
    p.top_k = one_of({-1, -1, -1, 1, 2, 5, 64, 64, 300, 1024, 5000});
    p.top_p = one_of({1.0f, 1.0f, 0.95f, 0.95f, 0.5f, 0.01f, 0.999f, 0.999999f});
    p.min_p = one_of({0.0f, 0.0f, 0.0f, 0.05f, 0.5f, 1.0f});
    if (below(3) == 0) {
      p.frequency_penalty = one_of({0.0f, 0.3f, -0.5f, 2.0f});
      p.presence_penalty = one_of({0.0f, 0.7f, -1.0f});
      p.repetition_penalty = one_of({1.0f, 1.3f, 0.8f, 2.0f});
      const int n = one_of({0, 1, 5, 200, 9000});
      const int range = one_of({3, 100, vocab});
      for (int i = 0; i < n; ++i) c.generated.push_back(below(std::min(range, vocab)));
    }
    if (below(4) == 0)
      for (int i = one_of({1, 2, 50, 500}); i > 0; --i)
        p.logit_bias.emplace_back(below(vocab), one_of({-100.0f, 100.0f, 0.37f, -1.2f, 5.0f}));
    if (below(4) == 0)
      for (int i = 0; i < 3; ++i) c.spec.end_token_ids.push_back(below(vocab));
    if (below(4) == 0) c.spec.suppressed_token_ids = {below(vocab), 0, vocab - 1};
    p.min_new_tokens = one_of({0, 10});
    if (below(4) == 0) {
      c.mask.resize(static_cast<size_t>(vocab + 31) / 32);
      const int share = one_of({2, 30, 3000});  // one of so many tokens is allowed, and one at least
      for (int t = 0; t < vocab; ++t)
        if (below(share) == 0) c.mask[static_cast<size_t>(t / 32)] |= 1u << (t % 32);
      const int one = below(vocab);
      c.mask[static_cast<size_t>(one / 32)] |= 1u << (one % 32);
    }
    if (below(3) == 0) {
      c.spec.logprobs.enabled = true;
      c.spec.logprobs.num_top = std::min(vocab, one_of({0, 1, 5, 20, 32}));
      for (int i = one_of({0, 0, 3, 32}); i > 0; --i) c.spec.logprobs.token_ids.push_back(below(vocab));
    }
    return c;
  }
  void check_random(int vocab, int rows, int rounds) {
    for (int round = 0; round < rounds && !HasFatalFailure(); ++round) {
      std::vector<Case> cases;
      for (int i = 0; i < rows; ++i) cases.push_back(any_case(vocab));
      check(cases);
    }
    std::printf("V %d: %d rows, %d with the other neighbour of a border\n", vocab, checked_, differ_);
    EXPECT_LE(differ_, 2 + checked_ / 100);
  }

  DeviceBuffer scratch_;
  int checked_ = 0, differ_ = 0;
};

TEST_F(CudaSample, MatchesTheHostAtSmallVocabularies) {
  for (const int vocab : {8, 24, 256, 264, 1000, 4104, 9992}) check_random(vocab, 100, 4);
}

TEST_F(CudaSample, MatchesTheHostAtTheRealVocabulary) { check_random(kVocab, 50, 10); }

TEST_F(CudaSample, TheUsualChatParametersGiveTheHostsTokens) {
  std::vector<Case> cases;
  const auto logits = rounded(normal(kVocab, 3.0f));
  for (int i = 0; i < 200; ++i) {
    Case c;
    c.logits = logits;
    c.spec.seed = static_cast<uint64_t>(i);
    c.spec.params.top_k = 64;
    c.spec.params.top_p = 0.95f;
    cases.push_back(c);
  }
  check(cases);
  EXPECT_LE(differ_, 1);
}

TEST_F(CudaSample, TiesGoToTheLowerId) {
  std::vector<Case> cases;
  for (const float value : {0.0f, -0.0f, 7.0f, -30.0f})
    for (const int k : {-1, 1, 64, 1000, 20000})
      for (const float p : {1.0f, 0.95f, 0.3f}) {
        Case c;
        c.logits.assign(kVocab, Bf16(value));
        c.logits[5] = c.logits[100000] = Bf16(value == 7.0f ? 8.0f : value);
        c.spec.seed = cases.size();
        c.spec.params.top_k = k;
        c.spec.params.top_p = p;
        c.spec.logprobs = {true, 20, std::nullopt, {0, 5, kVocab - 1}};
        if (k == 64) c.spec.params.logit_bias = {{3, -1.0f}, {9, 0.25f}, {kVocab - 1, 0.25f}};
        cases.push_back(c);
      }
  check(cases);
}

TEST_F(CudaSample, BansAndPenaltiesOfTheBestTokens) {
  std::vector<Case> cases;
  const auto logits = rounded(normal(kVocab, 3.0f));
  std::vector<TokenId> order(kVocab);
  std::iota(order.begin(), order.end(), 0);
  std::partial_sort(order.begin(), order.begin() + 600, order.end(), [&](TokenId a, TokenId b) {
    return static_cast<float>(logits[static_cast<size_t>(a)]) > static_cast<float>(logits[static_cast<size_t>(b)]);
  });
  for (const float t : {0.0f, 0.05f, 1.0f})
    for (int kind = 0; kind < 4; ++kind) {
      Case c;
      c.logits = logits;
      c.spec.seed = cases.size();
      c.spec.params.temperature = t;
      c.spec.params.top_k = 64;
      c.spec.logprobs = {true, 20, std::nullopt, {order[0], order[500]}};
      if (kind == 0) c.spec.suppressed_token_ids.assign(order.begin(), order.begin() + 300);
      if (kind == 1) {
        c.spec.end_token_ids.assign(order.begin(), order.begin() + 3);
        c.spec.params.min_new_tokens = 1;
      }
      if (kind == 2) {
        c.spec.params.frequency_penalty = 0.01f;
        c.spec.params.repetition_penalty = 1.1f;
        for (int i = 0; i < 10000; ++i) c.generated.push_back(order[static_cast<size_t>(i % (i < 2000 ? 7 : 600))]);
      }
      if (kind == 3)
        for (int i = 0; i < kMaxSampleBiases; ++i)
          c.spec.params.logit_bias.emplace_back(i * 256 + 1, 0.004f * static_cast<float>(i));
      cases.push_back(c);
    }
  check(cases);
}

TEST_F(CudaSample, MasksLeaveWhatTheyAllow) {
  std::vector<Case> cases;
  const auto logits = rounded(normal(kVocab, 3.0f));
  const std::initializer_list<std::vector<TokenId>> sets = {
      {}, {0}, {kVocab - 1}, {31, 32}, {255, 256, 100000}, {7, 8, 9, 10, 11, 262000}};
  for (const auto& set : sets)
    for (const float t : {0.0f, 1.0f})
      for (const int k : {-1, 64}) {
        Case c;
        c.logits = logits;
        c.mask.resize(kVocab / 32);
        for (const TokenId token : set) c.mask[static_cast<size_t>(token / 32)] |= 1u << (token % 32);
        c.spec.seed = cases.size();
        c.spec.params.temperature = t;
        c.spec.params.top_k = k;
        c.spec.params.top_p = k == 64 ? 0.9f : 1.0f;
        c.spec.params.logit_bias = {{5, 100.0f}};         // not even a bias lets a token through
        c.spec.suppressed_token_ids = {kVocab - 1, 256};  // one set is banned wholly
        c.spec.logprobs = {true, 4, std::nullopt, {0, 5, 256}};
        cases.push_back(c);
      }
  check(cases);
  const Got got = run(cases);
  for (size_t i = 0; i < cases.size(); ++i) {
    const auto& set = sets.begin()[i / 4];
    const std::vector<TokenId> right = set.empty() ? std::vector<TokenId>{0} : set;
    EXPECT_NE(std::find(right.begin(), right.end(), got.tokens[i]), right.end()) << got.tokens[i];
  }
}

TEST_F(CudaSample, RowsDoNotDependOnOthersAndRepeat) {
  std::vector<Case> cases;
  for (int i = 0; i < 40; ++i) cases.push_back(any_case(kVocab));
  for (Case& c : cases) c.spec.logprobs = {true, 8, std::nullopt, {}};
  const Got all = run(cases), again = run(cases);
  for (size_t i = 0; i < cases.size(); ++i) {
    const Got one = run({cases[i]});
    EXPECT_EQ(all.tokens[i], one.tokens[0]);
    EXPECT_EQ(all.tokens[i], again.tokens[i]);
    EXPECT_EQ(0, std::memcmp(&all.results[i], &one.results[0], offsetof(SampleResult, id_logprobs)));
    EXPECT_EQ(0, std::memcmp(&all.results[i], &again.results[i], offsetof(SampleResult, id_logprobs)));
  }
}

TEST_F(CudaSample, Speed) {
  const auto time = [&](const char* what, int rows, float deviation, const std::function<void(Case&)>& change) {
    std::vector<Case> cases;
    for (int i = 0; i < rows; ++i) {
      Case c;
      c.logits = i < 4 ? rounded(normal(kVocab, deviation)) : cases[static_cast<size_t>(i % 4)].logits;
      c.spec.seed = static_cast<uint64_t>(i);
      change(c);
      cases.push_back(std::move(c));
    }
    double us = 0;
    run(cases, 50, &us);
    std::printf("%-52s %3d rows, deviation %.1f: %7.1f us\n", what, rows, deviation, us);
  };
  for (const int rows : {1, 8, 100, 200})
    time("top-k 64, top-p 0.95", rows, 3.0f, [](Case& c) {
      c.spec.params.top_k = 64;
      c.spec.params.top_p = 0.95f;
    });
  time("temperature only", 100, 3.0f, [](Case&) {});
  for (const float deviation : {3.0f, 1.0f, 0.3f})
    time("top-p 0.95", 100, deviation, [](Case& c) { c.spec.params.top_p = 0.95f; });
  time("top-k 1024", 100, 3.0f, [](Case& c) { c.spec.params.top_k = 1024; });
  time("min-p 0.05", 100, 3.0f, [](Case& c) { c.spec.params.min_p = 0.05f; });
  for (const int rows : {1, 100})
    time("top-k 64, top-p 0.95, mask of every 50th token", rows, 3.0f, [](Case& c) {
      c.spec.params.top_k = 64;
      c.spec.params.top_p = 0.95f;
      c.mask.resize(kVocab / 32);
      for (int t = 0; t < kVocab; t += 50) c.mask[static_cast<size_t>(t / 32)] |= 1u << (t % 32);
    });
  time("greedy, 20 logprobs", 100, 3.0f, [](Case& c) {
    c.spec.params.temperature = 0;
    c.spec.logprobs = {true, 20, std::nullopt, {}};
  });
  time("top-k 64, top-p 0.95, penalty on 1000 tokens", 100, 3.0f, [](Case& c) {
    c.spec.params.top_k = 64;
    c.spec.params.top_p = 0.95f;
    c.spec.params.repetition_penalty = 1.1f;
    for (int i = 0; i < 1000; ++i) c.generated.push_back(i * 97);
  });
}

}  // namespace
}  // namespace carat::cuda
