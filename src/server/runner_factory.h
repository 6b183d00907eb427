#pragma once
// The runner that --device and --load-format ask for, and the engine's options.

#include <memory>

#include "base/result.h"
#include "engine/engine.h"
#include "engine/runner.h"
#include "server/model_source.h"
#include "server/options.h"

namespace carat {

struct RunnerPlan {
  std::unique_ptr<Runner> runner;
  int max_step_tokens = 0;
  int64_t kv_bytes = 0;
  int64_t available_bytes = 0;  ///< of memory, before anything was taken
};

/// Errors: kOverloaded with numbers if memory is short.
Result<RunnerPlan> make_runner(const ServerOptions& options, const LoadedModel& model);
EngineOptions engine_options(const ServerOptions& options, const LoadedModel& model, const RunnerPlan& plan);

}  // namespace carat
