#pragma once
// A Runner that computes on the host: the text model, its K/V pages and its samplers on one thread of its own, with
// workers for the slices of an op.

#include <memory>

#include "config/model_config.h"
#include "engine/memory_budget.h"
#include "engine/runner.h"
#include "model/media_encoder.h"
#include "ops/context.h"
#include "weights/text_weights.h"

namespace carat {

struct CpuRunnerOptions {
  int max_step_tokens = 512;  ///< prompt chunks and decoding sequences together
  int num_threads = 1;        ///< the runner's own included
  ops::Backend backend = ops::Backend::kCpu;
  /// With an encoder: soft tokens of images, frames and clips that are kept for chunks and requests to come, at 2 * H
  /// bytes. The largest item must fit.
  int encoder_cache_tokens = 0;
  /// Steps in flight. At 1 the workers idle while the engine reads the results and makes the next step: tens of
  /// microseconds against a pass over all weights. At 2 they do not, but a step is made without knowing the tokens of
  /// the one before, so a sequence that ends by a stop string costs a row for nothing (a whole pass if it was alone),
  /// and a new request waits one step longer for its first. Host passes take milliseconds and more, hence 1.
  int pipeline_depth = 1;
};

class CpuRunner final : public Runner {
 public:
  /// Takes the pages of `budget`, the workspaces and the threads. `encoder` null: no media. It runs where a prefill
  /// slice needs an item that is not in the cache, so the step, with the sequences that decode in it, takes that much
  /// longer. Errors: kOverloaded if the memory is not there.
  static Result<std::unique_ptr<CpuRunner>> create(const ModelConfig& config,
                                                   std::shared_ptr<const TextWeights> weights,
                                                   const MemoryBudget& budget, const CpuRunnerOptions& options,
                                                   std::unique_ptr<MediaEncoder> encoder = nullptr);
  /// What the runner takes beside weights, pages and the encoder's own, for MemoryRequest::workspace_bytes.
  static int64_t workspace_bytes(const ModelConfig& config, int max_running, const CpuRunnerOptions& options);

  ~CpuRunner() override;  ///< finishes the steps in flight
  const RunnerInfo& info() const override;
  void launch(Step step) override;
  Result<StepResult> take() override;
  bool ready() const override;

 private:
  CpuRunner();
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace carat
