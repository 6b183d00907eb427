// One row of Gemma's vocabulary, per way of sampling; the yardstick is one read of the row.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <random>

#include "sampling/passes.h"
#include "sampling/sampler.h"

namespace carat {
namespace {

constexpr int kVocab = 262144;

std::vector<float> row_like_a_model(float spread) {
  std::mt19937_64 rng(1);
  std::normal_distribution<float> normal(0, spread);
  std::vector<float> out(kVocab);
  for (float& x : out) x = normal(rng);
  return out;
}

/// `peaks`: so many tokens stand out, as they do in text; without them the row is much flatter than a model's.
void run(benchmark::State& state, SamplerSpec spec, float spread = 3, int peaks = 0) {
  std::vector<float> row = row_like_a_model(spread);
  for (int i = 0; i < peaks; ++i) row[i * 1009] += 14;
  SamplerScratch scratch;
  SequenceSampler sampler(spec, kVocab);
  PositionLogprobs logprobs;
  int64_t position = 0;
  for (auto _ : state)
    benchmark::DoNotOptimize(sampler.sample(row, position++, scratch, spec.logprobs.enabled ? &logprobs : nullptr));
  state.SetBytesProcessed(state.iterations() * kVocab * 4);
}

SamplerSpec with(SamplingParams params, LogprobParams logprobs = {}) {
  SamplerSpec spec;
  spec.params = std::move(params);
  spec.logprobs = std::move(logprobs);
  return spec;
}

void BM_YardstickMaximum(benchmark::State& state) {
  const std::vector<float> row = row_like_a_model(3);
  std::vector<float> maxima(sampling::num_blocks(kVocab));
  for (auto _ : state) benchmark::DoNotOptimize(sampling::block_maxima(row, maxima));
  state.SetBytesProcessed(state.iterations() * kVocab * 4);
}
BENCHMARK(BM_YardstickMaximum)->Unit(benchmark::kMicrosecond);

#define CARAT_SAMPLER_BENCH(name, ...)                                 \
  void BM_##name(benchmark::State& state) { run(state, __VA_ARGS__); } \
  BENCHMARK(BM_##name)->Unit(benchmark::kMicrosecond)

CARAT_SAMPLER_BENCH(Greedy, with({.temperature = 0}));
CARAT_SAMPLER_BENCH(GreedyTop20Logprobs, with({.temperature = 0}, {.enabled = true, .num_top = 20}));
CARAT_SAMPLER_BENCH(Plain, with({.temperature = 1}));
CARAT_SAMPLER_BENCH(ChatDefaults, with({.temperature = 1, .top_p = 0.95f, .top_k = 64}));
CARAT_SAMPLER_BENCH(TopK64, with({.temperature = 1, .top_k = 64}));
CARAT_SAMPLER_BENCH(TopP95, with({.temperature = 1, .top_p = 0.95f}));
CARAT_SAMPLER_BENCH(TopP95Peaked, with({.temperature = 1, .top_p = 0.95f}), 3, 50);
CARAT_SAMPLER_BENCH(TopP95Flat, with({.temperature = 1, .top_p = 0.95f}), 0.1f);
CARAT_SAMPLER_BENCH(MinP, with({.temperature = 1, .min_p = 0.05f}));

}  // namespace
}  // namespace carat

BENCHMARK_MAIN();
