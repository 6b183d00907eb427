// Host time of the engine per decode step and token: a scripted runner that answers at once. The yardstick is that
// runner alone, driven with the same number of slices.
#include <benchmark/benchmark.h>

#include "engine/engine_core.h"
#include "engine/scripted_runner.h"

namespace carat {
namespace {

RunnerInfo bench_info(int slots) {
  RunnerInfo info;
  info.vocab_size = 262144;
  info.max_context = 1 << 20;
  info.page_tokens = 64;
  info.window = 512;
  info.num_full_pages = 1 << 17;
  info.num_sliding_pages = 16 * slots + 64;
  info.max_slots = slots;
  info.max_step_tokens = 8192 + slots;
  info.pipeline_depth = 2;
  return info;
}

ScriptedAnswer forever(std::span<const TokenId>) {
  ScriptedAnswer answer;
  answer.tokens = {5, 6, 7};
  answer.end = ScriptedEnd::kLength;
  return answer;
}

void BM_YardstickRunner(benchmark::State& state) {
  const int slots = static_cast<int>(state.range(0));
  ScriptedRunner runner(bench_info(slots), forever);
  Step open;
  for (int i = 0; i < slots; ++i) {
    SlotOpen& o = open.opens.emplace_back();
    o.slot = i;
    o.prompt = std::make_shared<const std::vector<TokenId>>(512, 1);
    o.sampler.params.max_new_tokens = 1 << 30;
  }
  runner.launch(std::move(open));
  static_cast<void>(runner.take().value());
  for (auto _ : state) {
    Step step;
    for (int i = 0; i < slots; ++i) step.slices.push_back({.slot = i, .tokens = {}, .sample_slots = {i}});
    runner.launch(std::move(step));
    benchmark::DoNotOptimize(runner.take());
  }
  state.SetItemsProcessed(state.iterations() * slots);
}
BENCHMARK(BM_YardstickRunner)->Arg(1)->Arg(100)->Arg(256);

void BM_DecodeStep(benchmark::State& state) {
  const int slots = static_cast<int>(state.range(0));
  ScriptedRunner runner(bench_info(slots), forever);
  EngineOptions options;
  options.decode_log_interval = 0;
  EngineCore core(options, runner);
  std::vector<std::shared_ptr<RequestStream>> streams;
  for (int i = 0; i < slots; ++i) {
    Request request;
    request.prompt.assign(512, i);
    request.sampling.max_new_tokens = 1 << 20;
    request.stream = std::make_shared<RequestStream>();
    streams.push_back(request.stream);
    core.add(std::move(request));
  }
  while (core.stats().num_running < slots) core.step();
  for (auto _ : state) {
    core.step();
    for (const auto& stream : streams) benchmark::DoNotOptimize(stream->drain());
    if (core.stats().full_tokens_used > (int64_t{1} << 22))
      state.SkipWithError("the pool is too small for so many steps");
  }
  state.SetItemsProcessed(state.iterations() * slots);
}
BENCHMARK(BM_DecodeStep)->Arg(1)->Arg(100)->Arg(256)->Iterations(5000);

}  // namespace
}  // namespace carat

BENCHMARK_MAIN();
