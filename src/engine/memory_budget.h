#pragma once
// Who gets how much of the machine's memory: weights, K/V pages of both pools, workspaces. A pure function, so that
// start-up can print the plan, or refuse it with numbers, before anything is taken.

#include <cstdint>
#include <string>

#include "base/result.h"
#include "config/model_config.h"

namespace carat {

struct MemoryRequest {
  int64_t available_bytes = 0;  ///< what the machine has for us, e.g. available_memory_bytes() before loading
  double fraction = 0.9;        ///< share of it for weights, K/V and workspaces together
  int64_t weight_bytes = 0;
  int64_t workspace_bytes = 0;   ///< activations and logits
  int64_t max_total_tokens = 0;  ///< in the pool of full-attention layers; 0: as many as fit
  int max_running = 0;           ///< sequences at once; 0: kDefaultMaxRunning, or fewer if memory is short
  int max_context = 0;           ///< 0: the configuration's
  int max_step_tokens = 512;
  int page_tokens = 64;
};

constexpr int kDefaultMaxRunning = 32;

struct MemoryBudget {
  int64_t weight_bytes = 0, workspace_bytes = 0;
  int64_t full_page_bytes = 0, sliding_page_bytes = 0;  ///< one page of all layers of that kind
  int num_full_pages = 0, num_sliding_pages = 0;
  int max_running = 0, max_context = 0, page_tokens = 0;

  int64_t full_bytes() const { return full_page_bytes * num_full_pages; }
  int64_t sliding_bytes() const { return sliding_page_bytes * num_sliding_pages; }
  int64_t total_bytes() const { return weight_bytes + workspace_bytes + full_bytes() + sliding_bytes(); }
  int64_t max_total_tokens() const { return int64_t{num_full_pages} * page_tokens; }
  /// The plan in a few lines for the start-up log.
  std::string describe() const;
};

/// The sliding pool gets the windows of `max_running` sequences, the tokens of a step, and once more the windows for
/// the prefix cache (fewer if memory is short); never more pages than the full pool, since no sequence has more. The
/// full pool gets what was asked, or the rest. Errors: kInvalidArgument for values out of range, kOverloaded with the
/// numbers if it does not fit.
Result<MemoryBudget> plan_memory(const ModelConfig& config, const MemoryRequest& request);

}  // namespace carat
