#pragma once
// Steps on a GPU: slot state, K/V pools and tables on the device, captured graphs for decode steps, one step ahead of
// the host.

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "config/model_config.h"
#include "engine/memory_budget.h"
#include "engine/runner.h"
#include "model/cuda_media_encoder.h"
#include "weights/text_weights.h"

namespace carat {

struct CudaRunnerOptions {
  int device = 0;
  double mem_fraction = 0.88;           ///< (weights + workspace + K/V pools) / GPU memory, at most
  int64_t max_total_tokens = 0;         ///< of the full-attention pool; 0: what memory allows
  std::optional<double> sliding_ratio;  ///< MemoryRequest::sliding_ratio
  int max_slots = 256;                  ///< sequences at once, at most
  int max_step_tokens = 4096;           ///< tokens of a step
  int max_context = 0;                  ///< 0: the model's
  /// Where the per-layer table of E2B and E4B goes. Null: on the GPU, unless a sequence as long as the context would
  /// fit only without it.
  std::optional<PleTable> ple_table;
  std::function<void(int64_t bytes_done, int64_t bytes_total)> load_progress;  ///< of files; may be null
  bool graphs = true;  ///< replay captured graphs for decode steps
  bool dependent_launches = true;
  std::optional<int> few_tokens;  ///< cuda::Launch::few_tokens, for measurements
  std::vector<TokenId> suppressed_token_ids;
  /// With an encoder: soft tokens that are kept for chunks and requests to come, at 2 * H bytes of GPU memory; the
  /// largest item must fit.
  int encoder_cache_tokens = 0;
};

/// Where the memory went, for the start-up lines.
struct CudaBudget {
  MemoryBudget plan;
  int64_t host_bytes = 0;  ///< of the per-layer table, if it is in host memory
  int64_t free_after = 0, total = 0;
  bool has_cublaslt = false;
  std::string matmul_library;  ///< where cuBLASLt was found, or why not
};

class CudaRunner : public Runner {
 public:
  /// `weights` null: seeded random ones, made on the device. `encoder` null: no media. Its memory is its own, taken
  /// before the plan is made; its work is enqueued ahead of the step that needs it, on the same stream. Errors:
  /// kUnsupported (card, shapes), kOverloaded (memory: what was needed, what is there, which flag changes it).
  static Result<std::unique_ptr<CudaRunner>> create(const ModelConfig& config,
                                                    std::shared_ptr<const TextWeights> weights, uint64_t seed,
                                                    const CudaRunnerOptions& options,
                                                    std::unique_ptr<CudaMediaEncoder> encoder = nullptr);
  virtual const CudaBudget& budget() const = 0;
};

}  // namespace carat
