// Decode and prefill on a GPU without the engine: the runner alone, driven as the engine drives it (two steps in
// flight). Seeded random weights.
//   carat_cuda_runner_bench --model google/gemma-4-E2B-it [--batch 1,8,100] [--prompt 512] [--chunk 2048] [--steps 200]
//   [--graphs 0|1] [--dependent 0|1] [--sampling greedy|chat|logprobs] [--ple-table device|host] [--load FOLDER]
// chat: temperature 1, top-k 64, top-p 0.95; logprobs: the same with 20 log-probabilities.
// Prompts of --prompt tokens (up to the model's context less --steps) in chunks of --chunk, then decode steps. Prints
// the time of prompts and of their last chunk, ms per decode step, tokens per second and the share of the weight and
// K/V bytes' floor at the card's read ceiling (--gbps, default 3141 for an H100). --load reads the weights of a
// checkpoint instead, and prints how fast.
#include <chrono>
#include <cstdio>
#include <filesystem>
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
  int prompt = 512, chunk = 2048, steps = 200;
  std::string load;
  double gbps = 3141;
  SamplerSpec sampler;
  CudaRunnerOptions runner;
};

void run(Runner& runner, const ModelConfig& config, const Options& o, int batch) {
  const RunnerInfo& info = runner.info();
  const int P = info.page_tokens, chunk = std::min(o.chunk, info.max_step_tokens);
  const int pages_per_seq = (o.prompt + o.steps + 2 + P - 1) / P;
  // As many sliding pages as the engine would hold: the window, a chunk, and the page that is being filled.
  const int ring = std::min(pages_per_seq, (info.window + std::max(chunk, o.steps)) / P + 3);
  if (batch * pages_per_seq > info.num_full_pages || batch * ring > info.num_sliding_pages)
    std::printf("(the pools are too small: sequences share pages)\n");
  const auto add_pages = [&](Step& step, int b, int first, int end) {
    for (int p = first; p < end; ++p) {
      step.pages.push_back({b, KvPool::kFull, p, (b * pages_per_seq + p) % info.num_full_pages});
      step.pages.push_back({b, KvPool::kSliding, p, (b * ring + p % ring) % info.num_sliding_pages});
    }
  };
  const auto prompt = std::make_shared<std::vector<TokenId>>();
  for (int i = 0; i < o.prompt; ++i) prompt->push_back(1000 + i * 37 % 5000);
  int64_t id = 0;
  const double start = now();
  double last_chunk = 0;
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
    int pages = 0;
    for (int at = 0; at < o.prompt; at += chunk) {
      Slice slice;
      slice.slot = b;
      const int n = std::min(chunk, o.prompt - at);
      slice.tokens.assign(prompt->begin() + at, prompt->begin() + at + n);
      if (at + n == o.prompt) slice.sample_slots = {b};
      step.slices = {slice};
      const int end = at + n == o.prompt ? pages_per_seq : (at + n + P - 1) / P;
      add_pages(step, b, pages, end);
      pages = end;
      const double begin = now();
      runner.launch(step);
      runner.take().value();
      last_chunk = now() - begin;
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
      "%s batch %d: prompt %d in %.2f ms each (%.0f tok/s, last chunk of %d in %.2f ms); decode %.3f ms a step, %.1f "
      "tok/s; floor %.3f ms (dense weights and KV at %.0f GB/s), share %.1f %%\n",
      o.model.c_str(), batch, o.prompt, prefill * 1e3 / batch, o.prompt * batch / prefill,
      o.prompt - (o.prompt - 1) / chunk * chunk, last_chunk * 1e3, ms, batch / ms * 1e3, bytes / o.gbps * 1e-6, o.gbps,
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
    else if (name == "--chunk")
      o.chunk = std::stoi(value);
    else if (name == "--load")
      o.load = value;
    else if (name == "--ple-table")
      o.runner.ple_table = value == "host" ? PleTable::kHost : PleTable::kDevice;
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
  if (!o.load.empty()) o.model = o.load;
  const auto config = o.load.empty() ? builtin_model_config(o.model) : std::optional(load_model_config(o.load).value());
  if (!config) {
    std::fprintf(stderr, "unknown model %s\n", o.model.c_str());
    return 2;
  }
  if (o.prompt + o.steps > config->text.max_position_embeddings || o.steps <= 16) {
    std::fprintf(stderr, "the context is %d tokens, --steps more than 16\n", config->text.max_position_embeddings);
    return 2;
  }
  std::shared_ptr<const TextWeights> weights;
  if (!o.load.empty()) weights = load_text_weights(std::filesystem::path(o.load), *config).value();
  const double start = now();
  o.runner.load_progress = [&](int64_t done, int64_t total) {
    if (done < total) return;
    std::printf("weights: %.2f GB in %.2f s\n", static_cast<double>(total) * 1e-9, now() - start);
  };
  auto runner = CudaRunner::create(*config, weights, 1, o.runner);
  if (!runner) {
    std::fprintf(stderr, "%s\n", runner.error().message.c_str());
    return 1;
  }
  const CudaBudget& b = (*runner)->budget();
  std::printf("%s ready in %.2f s: %s; %s on the host; %s of %s left; %s\n", o.model.c_str(), now() - start,
              b.plan.describe().c_str(), format_gib(b.host_bytes).c_str(), format_gib(b.free_after).c_str(),
              format_gib(b.total).c_str(), b.matmul_library.c_str());
  for (const int batch : o.batches) run(**runner, *config, o, batch);
  return 0;
}

}  // namespace
}  // namespace carat

int main(int argc, char** argv) { return carat::main_of(argc, argv); }
