#pragma once
// The runner that --device and --load-format ask for, and the engine's options.

#include <memory>
#include <optional>
#include <vector>

#include "base/result.h"
#include "engine/engine.h"
#include "engine/runner.h"
#include "server/model_source.h"
#include "server/options.h"
#include "tensor/cuda/gpu_info.h"

namespace carat {

/// The GPU to compute on, if --device and the machine say so; logs why not where that may surprise. Errors:
/// kUnsupported or kUnavailable if --device cuda cannot be had, kInvalidArgument for a --base-gpu-id that is not there.
Result<std::optional<int>> choose_gpu(const ServerOptions& options);
/// The same for a program with CUDA code on a machine whose driver says this.
Result<std::optional<int>> choose_among(const ServerOptions& options, const Result<std::vector<GpuInfo>>& gpus);

struct RunnerPlan {
  std::unique_ptr<Runner> runner;
  bool on_gpu = false;
  int max_step_tokens = 0;
  int64_t kv_bytes = 0;
  int64_t available_bytes = 0;  ///< of memory, before anything was taken
};

/// Errors: kOverloaded with numbers if memory is short.
Result<RunnerPlan> make_runner(const ServerOptions& options, std::optional<int> gpu, LoadedModel& model);
EngineOptions engine_options(const ServerOptions& options, const LoadedModel& model, const RunnerPlan& plan);

}  // namespace carat
