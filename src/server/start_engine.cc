#include "server/start_engine.h"

#include <cstdio>

#include "base/log.h"
#include "server/runner_factory.h"

namespace carat {
namespace {

void log_capacity(const EngineOptions& engine, const RunnerPlan& plan, int context_length) {
  const RunnerInfo& info = plan.runner->info();
  char memory[32];
  std::snprintf(memory, sizeof memory, "%.2f", static_cast<double>(plan.available_bytes) / (1 << 30));
  log_info("max_total_num_tokens=", int64_t{info.num_full_pages} * info.page_tokens,
           ", chunked_prefill_size=", engine.chunked_prefill_size, ", max_prefill_tokens=", engine.max_prefill_tokens,
           ", max_running_requests=", engine.max_running > 0 ? engine.max_running : info.max_slots,
           ", context_len=", context_length, ", available_gpu_mem=", memory, " GB");
}

}  // namespace

Result<StartedEngine> start_engine(const ServerOptions& options, LoadedModel& model) {
  if (model.is_default && options.load_format != LoadFormat::kScripted)
    log_warning("No --model-path was given: this is a miniature with random weights, and it answers nonsense.");
  CARAT_TRY(const auto gpu, choose_gpu(options));
  CARAT_TRY_VOID(load_contents(options, gpu.has_value(), model));
  CARAT_TRY(auto plan, make_runner(options, gpu, model));
  const EngineOptions engine = engine_options(options, model, plan);
  log_capacity(engine, plan, model.context_length);
  return StartedEngine{std::make_unique<Engine>(engine, std::move(plan.runner)), plan.kv_bytes, plan.on_gpu};
}

}  // namespace carat
