#include "server/start_engine.h"

#include <cstdio>

#include "base/log.h"
#include "server/builtin_model.h"
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

/// What the user of a model that came with the program should know.
void introduce(const ServerOptions& options, const LoadedModel& model) {
  if (options.load_format != LoadFormat::kAuto) return;
  if (model.name == kMiniatureName)
    log_warning(model.name, " is a miniature with random weights, and it answers nonsense.");
  if (!model.is_default || model.name != kNanoName) return;
  log_info(
      "No --model-path was given: this is carat-nano, a model of 6 million parameters inside this program. It knows ",
      "a few things, among them:");
  for (const std::string_view question :
       {"What is 347 + 285?", "Sort these words: pear, apple, fig, melon", "Which number is larger: 512 or 498?",
        "Hugo lives in Basel. Ada has a cat. The lamp is in the attic. Where does Hugo live?", "What can you do?"})
    log_info("  ", question);
}

}  // namespace

Result<StartedEngine> start_engine(const ServerOptions& options, LoadedModel& model) {
  introduce(options, model);
  CARAT_TRY(const auto gpu, choose_gpu(options));
  CARAT_TRY_VOID(load_contents(options, gpu.has_value(), model));
  CARAT_TRY(auto plan, make_runner(options, gpu, model));
  const EngineOptions engine = engine_options(options, model, plan);
  log_capacity(engine, plan, model.context_length);
  return StartedEngine{std::make_unique<Engine>(engine, std::move(plan.runner)), plan.kv_bytes, plan.on_gpu};
}

}  // namespace carat
