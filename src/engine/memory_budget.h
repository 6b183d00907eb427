#pragma once
// Who gets how much of the machine's memory: weights, K/V pages of both pools, workspaces. A pure function, so that
// start-up can print the plan, or refuse it with numbers, before anything is taken.

#include <cstdint>
#include <limits>
#include <optional>
#include <string>

#include "base/result.h"
#include "config/model_config.h"

namespace carat {

struct MemoryRequest {
  int64_t available_bytes = 0;  ///< what `fraction` is of: a card's memory, or what a host has to give before loading
  double fraction = 0.9;        ///< share of it for weights, K/V and workspaces together
  int64_t free_bytes = std::numeric_limits<int64_t>::max();  ///< and no more than this: others use the card too
  int64_t weight_bytes = 0;
  int64_t workspace_bytes = 0;   ///< activations and logits
  int64_t max_total_tokens = 0;  ///< in the pool of full-attention layers; 0: as many as fit
  int max_running = 0;           ///< sequences at once; 0: kDefaultMaxRunning, or fewer if memory is short
  int max_context = 0;           ///< 0: the configuration's
  int max_step_tokens = 512;
  int page_tokens = 64;
  std::optional<double>
      sliding_ratio;  ///< tokens of the sliding pool to those of the full pool; null: see plan_memory()
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
  /// Whether a sequence as long as the context fits.
  bool holds_context() const { return max_total_tokens() >= max_context; }
  /// The plan in a line for the start-up log.
  std::string describe() const;
};

/// Divides what weights and workspaces leave between the two pools of pages. The full pool gets what was asked for.
/// Else both pools hold as many tokens (so that short sequences fill both at once), but
/// - the sliding pool no more than it can use: the windows of `max_running` sequences, a step's tokens, and once more
///   the windows for the prefix cache; the rest goes to the full pool;
/// - the full pool at least one sequence of the whole context, as long as the sliding pool keeps the windows of
///   max_running sequences, or of kEnoughWindows if those are fewer.
/// `sliding_ratio` takes the place of these rules. Errors: kInvalidArgument for values out of range, kOverloaded with
/// the numbers and the flags that change them if it does not fit.
constexpr int kEnoughWindows = 64;
Result<MemoryBudget> plan_memory(const ModelConfig& config, const MemoryRequest& request);

/// "9.26 GiB"
std::string format_gib(int64_t bytes);

}  // namespace carat
