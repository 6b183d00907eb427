// Decode and prefill on a GPU without the engine: the runner alone, driven as the engine drives it (two steps in
// flight). Seeded random weights.
//   carat_cuda_runner_bench --model google/gemma-4-E2B-it [--batch 1,8,100] [--prompt 512] [--steps 200] [--graphs 0|1]
//   [--dependent 0|1] [--sampling greedy|chat|logprobs]
// chat: temperature 1, top-k 64, top-p 0.95; logprobs: the same with 20 log-probabilities.
// Prints ms per decode step, tokens per second and the share of the weight bytes' floor at the card's read ceiling
// (--gbps, default 3141 for an H100).
#include <chrono>
#include <cstdio>
#include <string>
#include <vector>

#include "base/str.h"
#include "config/model_size.h"
#include "engine/cuda_runner.h"

namespace carat {
namespace {

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

struct Options {
  std::string model = "google/gemma-4-E2B-it";
  std::vector<int> batches{1};
  int prompt = 512, steps = 200;
  double gbps = 3141;
  SamplerSpec sampler;
  CudaRunnerOptions runner;
};

void run(Runner& runner, const ModelConfig& config, const Options& o, int batch) {
  const RunnerInfo& info = runner.info();
  const int pages_per_seq = (o.prompt + o.steps + 2 + 63) / 64;
  const auto prompt = std::make_shared<std::vector<TokenId>>();
  for (int i = 0; i < o.prompt; ++i) prompt->push_back(1000 + i * 37 % 5000);
  int64_t id = 0;
  const double start = now();
  for (int b = 0; b < batch; ++b) {
    Step step;
    step.id = id++;
    SlotOpen open;
    open.slot = b;
    open.prompt = prompt;
    open.sampler = o.sampler;
    open.sampler.seed = static_cast<uint64_t>(b);
    open.sampler.params.max_new_tokens = 1 << 20;
    step.opens.push_back(open);
    for (int p = 0; p < pages_per_seq; ++p) {
      step.pages.push_back({b, KvPool::kFull, p, (b * pages_per_seq + p) % info.num_full_pages});
      step.pages.push_back({b, KvPool::kSliding, p, (b * pages_per_seq + p) % info.num_sliding_pages});
    }
    for (int at = 0; at < o.prompt; at += info.max_step_tokens) {
      Slice slice;
      slice.slot = b;
      const int n = std::min(info.max_step_tokens, o.prompt - at);
      slice.tokens.assign(prompt->begin() + at, prompt->begin() + at + n);
      if (at + n == o.prompt) slice.sample_slots = {b};
      step.slices = {slice};
      runner.launch(step);
      runner.take().value();
      step = Step{};
      step.id = id++;
    }
  }
  const double prefill = now() - start;
  const auto decode = [&](int steps) {
    Step step;
    for (int b = 0; b < batch; ++b) {
      Slice slice;
      slice.slot = b;
      slice.sample_slots = {b};
      step.slices.push_back(slice);
    }
    step.id = id++;
    runner.launch(step);
    for (int i = 1; i < steps; ++i) {
      step.id = id++;
      runner.launch(step);
      runner.take().value();
    }
    runner.take().value();
  };
  decode(8);  // captures the graph
  const double begin = now();
  decode(o.steps - 16);
  const double ms = (now() - begin) / (o.steps - 16) * 1e3;
  const double bytes = static_cast<double>(bytes_per_decoded_token(config.text)) +
                       batch * static_cast<double>(kv_read_bytes(config.text, o.prompt + o.steps / 2));
  std::printf(
      "%s batch %d: prompt %d in %.2f ms each; decode %.3f ms a step, %.1f tok/s; floor %.3f ms (dense weights and KV "
      "at %.0f GB/s), share %.1f %%\n",
      o.model.c_str(), batch, o.prompt, prefill * 1e3 / batch, ms, batch / ms * 1e3, bytes / o.gbps * 1e-6, o.gbps,
      bytes / o.gbps * 1e-6 / ms * 100);
  Step close;
  close.id = id++;
  for (int b = 0; b < batch; ++b) close.closes.push_back(b);
  runner.launch(close);
  runner.take().value();
}

int main_of(int argc, char** argv) {
  Options o;
  o.runner.max_slots = 128;
  o.sampler.params.temperature = 0;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string name = argv[i], value = argv[i + 1];
    if (name == "--model")
      o.model = value;
    else if (name == "--prompt")
      o.prompt = std::stoi(value);
    else if (name == "--steps")
      o.steps = std::stoi(value);
    else if (name == "--few")
      o.runner.few_tokens = std::stoi(value);
    else if (name == "--gbps")
      o.gbps = std::stod(value);
    else if (name == "--graphs")
      o.runner.graphs = value == "1";
    else if (name == "--dependent")
      o.runner.dependent_launches = value == "1";
    else if (name == "--sampling" && value == "greedy")
      o.sampler.params.temperature = 0;
    else if (name == "--sampling" && (value == "chat" || value == "logprobs")) {
      o.sampler.params.temperature = 1;
      o.sampler.params.top_k = 64;
      o.sampler.params.top_p = 0.95f;
      if (value == "logprobs") o.sampler.logprobs = {true, 20, std::nullopt, {}};
    } else if (name == "--batch") {
      o.batches.clear();
      for (const auto piece : split(value, ',')) o.batches.push_back(std::stoi(std::string(piece)));
    } else {
      std::fprintf(stderr, "unknown option %s\n", name.c_str());
      return 2;
    }
  }
  const auto config = builtin_model_config(o.model);
  if (!config) {
    std::fprintf(stderr, "unknown model %s\n", o.model.c_str());
    return 2;
  }
  const double start = now();
  auto runner = CudaRunner::create(*config, nullptr, 1, o.runner);
  if (!runner) {
    std::fprintf(stderr, "%s\n", runner.error().message.c_str());
    return 1;
  }
  const CudaBudget& b = (*runner)->budget();
  std::printf("%s ready in %.1f s: weights %.2f GiB, workspace %.2f, pools %.2f + %.2f, free %.2f of %.2f; %s\n",
              o.model.c_str(), now() - start, b.weights / 1073741824.0, b.workspace / 1073741824.0,
              b.full_pool / 1073741824.0, b.sliding_pool / 1073741824.0, b.free_after / 1073741824.0,
              b.total / 1073741824.0, b.matmul_library.c_str());
  for (const int batch : o.batches) run(**runner, *config, o, batch);
  return 0;
}

}  // namespace
}  // namespace carat

int main(int argc, char** argv) { return carat::main_of(argc, argv); }
