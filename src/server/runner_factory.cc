#include "server/runner_factory.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <limits>
#include <random>
#include <thread>

#include "base/log.h"
#include "base/str.h"
#include "engine/cpu_runner.h"
#include "engine/cuda_runner.h"
#include "engine/memory_budget.h"
#include "engine/scripted_runner.h"
#include "model/cuda_media_encoder.h"
#include "model/encoders.h"
#include "tensor/cuda/gpu_info.h"
#include "weights/host_memory.h"

namespace carat {
namespace {

// The CPU computes a prompt no faster in larger pieces, and others wait for the piece's end.
constexpr int kCpuChunk = 512;
// Without --max-total-tokens: as many tokens as one longest sequence or this many, not all of the machine's memory.
constexpr int64_t kDefaultCpuTokens = 262144;
constexpr double kDefaultFraction = 0.9;
// Soft tokens that are kept for later chunks and requests: ten minutes of sound or 58 pictures, 126 MB for the widest.
constexpr int kEncoderTokens = 16384;

// A script has no memory to run out of: enough for thousands of open streams.
constexpr int kScriptedSlots = 4096;
constexpr int64_t kScriptedTokens = int64_t{1} << 24;
constexpr int kScriptedPageTokens = 64;
constexpr int kScriptedStepTokens = 1 << 20;

struct CompiledRule {
  std::string match;
  ScriptedAnswer answer;
};

std::vector<CompiledRule> compile(const LoadedModel& model) {
  const auto end = model.tokenizer->find("<turn|>");
  const auto& ends = model.end_token_ids;
  std::vector<CompiledRule> out;
  for (const ScriptRule& rule : model.script) {
    CompiledRule compiled{rule.match, {}};
    compiled.answer.tokens = model.tokenizer->encode(rule.text);
    compiled.answer.tokens_per_step = rule.tokens_per_step;
    compiled.answer.ms_per_step = rule.ms_per_step;
    compiled.answer.end = rule.end;
    compiled.answer.end_token = end.value_or(ends.empty() ? 0 : ends.front());
    out.push_back(std::move(compiled));
  }
  return out;
}

/// The first rule whose text occurs in the prompt; a prompt that none matches ends at once.
ScriptedRunner::Script make_script(const LoadedModel& model) {
  return [rules = compile(model), tokenizer = model.tokenizer.get()](std::span<const TokenId> prompt) {
    const std::string text = tokenizer->decode(prompt, false);
    for (const CompiledRule& rule : rules)
      if (text.find(rule.match) != std::string::npos) return rule.answer;
    ScriptedAnswer nothing = rules.front().answer;
    nothing.tokens.clear();
    nothing.end = ScriptedEnd::kStop;
    return nothing;
  };
}

RunnerPlan make_scripted(const ServerOptions& options, const LoadedModel& model) {
  RunnerInfo info;
  info.vocab_size = model.config.text.vocab_size;
  info.max_context = model.context_length;
  info.page_tokens = kScriptedPageTokens;
  const int64_t tokens = options.max_total_tokens.value_or(std::max<int64_t>(kScriptedTokens, model.context_length));
  info.num_full_pages = static_cast<int>(
      std::clamp<int64_t>((tokens + info.page_tokens - 1) / info.page_tokens, 1, std::numeric_limits<int>::max() / 2));
  info.max_slots = options.max_running_requests.value_or(kScriptedSlots);
  info.max_step_tokens = info.max_media_tokens = kScriptedStepTokens;
  for (const ScriptRule& rule : model.script)
    info.max_tokens_per_decode = std::max(info.max_tokens_per_decode, rule.tokens_per_step);
  RunnerPlan plan;
  plan.max_step_tokens = info.max_step_tokens;
  plan.available_bytes = available_memory_bytes().value_or(0);
  plan.runner = std::make_unique<ScriptedRunner>(info, make_script(model));
  return plan;
}

int chunk_size(const ServerOptions& options) {
  const int wanted = options.chunked_prefill_size.value_or(kCpuChunk);
  return wanted < 0 ? options.max_prefill_tokens : std::min(wanted, options.max_prefill_tokens);
}

/// A chunk; or the largest picture, if the decoder has to see pictures whole.
int prompt_tokens_of_a_step(const ServerOptions& options, const LoadedModel& model) {
  const auto& vision = model.config.vision;
  if (!vision || !model.config.text.bidirectional_vision) return chunk_size(options);
  return std::max({chunk_size(options), vision->image_soft_tokens, vision->frame_soft_tokens});
}

/// The memory plan; without --max-total-tokens the K/V pool stays modest.
Result<MemoryBudget> plan_cpu_memory(const ServerOptions& options, const LoadedModel& model, MemoryRequest request) {
  CARAT_TRY(auto budget, plan_memory(model.config, request));
  const int64_t most = std::max<int64_t>(kDefaultCpuTokens, model.context_length);
  if (options.max_total_tokens || budget.max_total_tokens() <= most) return budget;
  request.max_total_tokens = most;
  return plan_memory(model.config, request);
}

Result<RunnerPlan> make_cpu(const ServerOptions& options, const LoadedModel& model) {
  const int cores = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  CpuRunnerOptions cpu;
  cpu.num_threads = options.cpu_threads.value_or(cores);
  MemoryRequest request;
  // Decoding sequences ride along with a prompt's chunk.
  request.max_running = options.max_running_requests.value_or(0);
  cpu.max_step_tokens =
      prompt_tokens_of_a_step(options, model) + (request.max_running > 0 ? request.max_running : kDefaultMaxRunning);
  if (model.config.vision || model.config.audio) cpu.encoder_cache_tokens = kEncoderTokens;
  request.available_bytes = available_memory_bytes().value_or(int64_t{4} << 30);
  request.fraction = options.mem_fraction_static.value_or(kDefaultFraction);
  request.weight_bytes = model.weights->size_bytes + model.encoders.size_bytes();
  request.max_total_tokens = options.max_total_tokens.value_or(0);
  request.max_context = model.context_length;
  request.max_step_tokens = cpu.max_step_tokens;
  request.sliding_ratio = options.swa_full_tokens_ratio;
  request.workspace_bytes = CpuRunner::workspace_bytes(
                                model.config, request.max_running > 0 ? request.max_running : kDefaultMaxRunning, cpu) +
                            Encoders::workspace_bytes(model.config);
  CARAT_TRY(const auto budget, plan_cpu_memory(options, model, request));
  log_info(budget.describe());
  RunnerPlan plan;
  plan.max_step_tokens = cpu.max_step_tokens;
  plan.kv_bytes = budget.full_bytes() + budget.sliding_bytes();
  plan.available_bytes = request.available_bytes;
  std::unique_ptr<MediaEncoder> encoders;
  if (cpu.encoder_cache_tokens > 0) {
    CARAT_TRY(encoders, Encoders::create(model.config, model.encoders));
  }
  CARAT_TRY(plan.runner, CpuRunner::create(model.config, model.weights, budget, cpu, std::move(encoders)));
  return plan;
}

// A GPU's step takes prompts in pieces that keep it busy without stopping the decoding sequences for long.
constexpr int kGpuChunk = 2048;
constexpr int kGpuStepTokens = 4096;
constexpr int kGpuSlots = 256;
constexpr double kDefaultGpuFraction = 0.88;
constexpr int kMinComputeCapability = 90;

/// Says how far loading is, every other second, and how fast it was.
class LoadLog {
 public:
  void hear(int64_t done, int64_t total) {
    const auto now = Clock::now();
    const double seconds = std::chrono::duration<double>(now - start_).count();
    if (done < total && now - last_ < std::chrono::seconds(2)) return;
    last_ = now;
    char text[128];
    std::snprintf(text, sizeof text, "%3.0f%% | %.2f of %.2f GB [%.2f s, %.2f GB/s]", 100 * fraction(done, total),
                  gb(done), gb(total), seconds, gb(done) / std::max(seconds, 1e-6));
    log_info("Loading safetensors checkpoint: ", text);
  }

 private:
  using Clock = std::chrono::steady_clock;
  static double gb(int64_t bytes) { return static_cast<double>(bytes) * 1e-9; }
  static double fraction(int64_t done, int64_t total) { return static_cast<double>(done) / static_cast<double>(total); }

  const Clock::time_point start_ = Clock::now();
  Clock::time_point last_ = start_;
};

void log_gpu_memory(int gpu, const CudaBudget& budget) {
  log_info("GPU ", gpu, " ", budget.plan.describe(), "; ", format_gib(budget.free_after), " of ",
           format_gib(budget.total), " left. Large products: ", budget.matmul_library, ".");
  if (!budget.has_cublaslt)
    log_warning("Without cuBLASLt our own kernels compute the large products, and prompts take several times as long.");
  if (budget.host_bytes > 0)
    log_info("The per-layer embeddings (", format_gib(budget.host_bytes),
             ") stay in host memory, since beside them the GPU would not hold a sequence of ", budget.plan.max_context,
             " tokens.");
  if (!budget.plan.holds_context())
    log_warning("A sequence can have at most ", budget.plan.max_total_tokens(), " tokens here, the context is ",
                budget.plan.max_context,
                ". More room for long ones: a lower --max-running-requests or --swa-full-tokens-ratio, or a higher "
                "--mem-fraction-static or --max-total-tokens.");
}

Result<RunnerPlan> make_gpu(const ServerOptions& options, int gpu, const LoadedModel& model) {
  LoadLog load_log;
  CudaRunnerOptions cuda;
  cuda.device = gpu;
  cuda.mem_fraction = options.mem_fraction_static.value_or(kDefaultGpuFraction);
  cuda.max_total_tokens = options.max_total_tokens.value_or(0);
  cuda.sliding_ratio = options.swa_full_tokens_ratio;
  cuda.max_slots = options.max_running_requests.value_or(kGpuSlots);
  cuda.max_step_tokens = std::min(options.max_prefill_tokens, kGpuStepTokens) + cuda.max_slots;
  cuda.max_context = model.context_length;
  cuda.graphs = options.decode_graphs;
  cuda.suppressed_token_ids = model.config.generation.suppress_token_ids;
  cuda.load_progress = [&](int64_t done, int64_t total) { load_log.hear(done, total); };
  std::unique_ptr<CudaMediaEncoder> encoders;
  if (model.config.vision || model.config.audio) {
    cuda.encoder_cache_tokens = kEncoderTokens;
    auto made = make_cuda_encoders(gpu, model.config, model.encoders);
    if (!made)
      return Error{made.error().code, str_cat(made.error().message, "; --language-model-only serves text without it")};
    encoders = std::move(*made);
  }
  CARAT_TRY(auto runner,
            CudaRunner::create(model.config, model.weights, weight_seed(options), cuda, std::move(encoders)));
  const CudaBudget& budget = runner->budget();
  log_gpu_memory(gpu, budget);
  RunnerPlan plan;
  plan.on_gpu = true;
  plan.max_step_tokens = cuda.max_step_tokens;
  plan.kv_bytes = budget.plan.full_bytes() + budget.plan.sliding_bytes();
  plan.available_bytes = budget.free_after;
  plan.runner = std::move(runner);
  return plan;
}

SchedulePolicy policy_from(std::string_view name) {
  if (name == "lpm") return SchedulePolicy::kLpm;
  if (name == "lof") return SchedulePolicy::kLof;
  return name == "random" ? SchedulePolicy::kRandom : SchedulePolicy::kFcfs;
}

uint64_t random_seed() {
  std::random_device device;
  return (static_cast<uint64_t>(device()) << 32) | device();
}

}  // namespace

Result<std::optional<int>> choose_gpu(const ServerOptions& options) {
  if (options.device == DeviceChoice::kCpu || options.load_format == LoadFormat::kScripted) return std::optional<int>();
  if (built_with_cuda()) return choose_among(options, list_gpus());
  if (options.device == DeviceChoice::kAuto) return std::optional<int>();
  return Error{Errc::kUnsupported,
               "--device cuda: this program was built without CUDA code; use --device cpu, or build with scripts/build "
               "--cuda on"};
}

Result<std::optional<int>> choose_among(const ServerOptions& options, const Result<std::vector<GpuInfo>>& gpus) {
  const auto refuse = [&](Errc code, std::string_view why) -> Result<std::optional<int>> {
    if (options.device == DeviceChoice::kCuda)
      return Error{code, str_cat("--device cuda: ", why, " --device cpu computes without a GPU.")};
    log_info(why, " Computing on the CPU.");
    return std::optional<int>();
  };
  if (!gpus) return refuse(gpus.error().code, gpus.error().message);
  if (gpus->empty())
    return refuse(Errc::kUnavailable,
                  "No GPU was found: there is no driver (libcuda.so.1), or no device is visible to this process.");
  if (options.base_gpu_id >= static_cast<int>(gpus->size()))
    return Error{Errc::kInvalidArgument, str_cat("--base-gpu-id ", options.base_gpu_id, ": this machine has ",
                                                 gpus->size(), " GPUs, numbered from 0")};
  const GpuInfo& gpu = (*gpus)[static_cast<size_t>(options.base_gpu_id)];
  const std::string name = str_cat("GPU ", gpu.index, " (", gpu.name, ")");
  if (gpu.compute_capability < kMinComputeCapability)
    return refuse(
        Errc::kUnsupported,
        str_cat(name, " has compute capability ", gpu.compute_capability / 10, ".", gpu.compute_capability % 10,
                ", the kernels need 9.0 (Hopper) or later; --base-gpu-id chooses another."));
  log_info(name, ": ", format_gib(gpu.memory_bytes), ".");
  return std::optional<int>(gpu.index);
}

Result<RunnerPlan> make_runner(const ServerOptions& options, std::optional<int> gpu, LoadedModel& model) {
  if (options.load_format == LoadFormat::kScripted) return make_scripted(options, model);
  if (gpu) {
    auto plan = make_gpu(options, *gpu, model);
    if (plan || options.device == DeviceChoice::kCuda) return plan;
    if (plan.error().code != Errc::kUnsupported) return plan;
    log_warning(plan.error().message, "; computing on the CPU.");
  }
  CARAT_TRY_VOID(load_for_cpu(options, model));
  return make_cpu(options, model);
}

EngineOptions engine_options(const ServerOptions& options, const LoadedModel& model, const RunnerPlan& plan) {
  const bool scripted = options.load_format == LoadFormat::kScripted;
  EngineOptions engine;
  engine.max_running = options.max_running_requests.value_or(0);
  engine.max_queued = options.max_queued_requests.value_or(0);
  engine.chunked_prefill_size = options.chunked_prefill_size.value_or(scripted      ? -1
                                                                      : plan.on_gpu ? kGpuChunk
                                                                                    : kCpuChunk);
  engine.max_prefill_tokens = std::min(options.max_prefill_tokens, plan.max_step_tokens);
  engine.prefix_cache = !options.disable_radix_cache;
  engine.policy = policy_from(options.schedule_policy);
  engine.priority_scheduling = options.priority_scheduling;
  engine.priority_preemption = options.priority_preemption;
  engine.priority_preemption_threshold = options.priority_preemption_threshold;
  engine.prefill_max_requests = options.prefill_max_requests.value_or(0);
  engine.schedule_conservativeness = options.schedule_conservativeness;
  engine.eos_token_ids = model.end_token_ids;
  engine.suppress_token_ids = model.config.generation.suppress_token_ids;
  engine.random_seed = options.random_seed.value_or(random_seed());
  engine.decode_log_interval = options.decode_log_interval;
  return engine;
}

}  // namespace carat
