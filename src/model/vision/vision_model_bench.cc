// Pictures to soft tokens with published shapes and seeded weights, on all cores; the yardstick is the share of the
// time that the tower's linears alone would take, as ops_bench measures them.

#include <benchmark/benchmark.h>

#include <random>
#include <thread>
#include <vector>

#include "base/worker_pool.h"
#include "config/members.h"
#include "model/vision/vision_model.h"
#include "ops/ops.h"
#include "tensor/bf16.h"

namespace carat {
namespace {

/// 22 x 12 soft tokens: what a picture of 1280 x 720 becomes.
EncoderInput picture(const VisionConfig& config) {
  const int patch = config.patch_size(), per_token = VisionConfig::kTokenSize / patch;
  EncoderInput input;
  input.num_tokens = 22 * 12;
  input.grid_width = 22 * per_token;
  input.grid_height = 12 * per_token;
  std::mt19937 random(1);
  input.pixels.resize(static_cast<size_t>(input.grid_width * input.grid_height * patch * patch * 3));
  for (uint8_t& byte : input.pixels) byte = static_cast<uint8_t>(random());
  return input;
}

void encode(benchmark::State& state, const char* member) {
  const ModelConfig config = make_model_config(published_member(member));
  const auto weights = make_dummy_vision_weights(config, 1).value();
  const auto model = VisionModel::create(config, weights, 280).value();
  WorkerPool pool(static_cast<int>(std::thread::hardware_concurrency()));
  ops::Context ctx{ops::Backend::kCpu, &pool};
  const EncoderInput input = picture(*config.vision);
  const EncoderInput* const one = &input;
  std::vector<Bf16> out(static_cast<size_t>(input.num_tokens * config.text.hidden_size));
  for (auto _ : state) {
    model->encode(ctx, {&one, 1}, {out.data(), DType::kBf16, {input.num_tokens, config.text.hidden_size}});
    benchmark::ClobberMemory();
  }
  // Products of the linears, two operations each.
  const double rows = static_cast<double>(input.grid_width) * input.grid_height;
  state.counters["linear_Tflops"] = benchmark::Counter(rows * static_cast<double>(weights->size_bytes) * 1e-12,
                                                       benchmark::Counter::kIsIterationInvariantRate);
}

BENCHMARK_CAPTURE(encode, E2B, "E2B")->Unit(benchmark::kMillisecond)->UseRealTime();
BENCHMARK_CAPTURE(encode, 31B, "31B")->Unit(benchmark::kMillisecond)->UseRealTime();
BENCHMARK_CAPTURE(encode, 12B, "12B")->Unit(benchmark::kMillisecond)->UseRealTime();

}  // namespace
}  // namespace carat

BENCHMARK_MAIN();
