#pragma once
// What /metrics says about requests. Names and buckets: spec api.md section 9.

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "api/generation.h"
#include "api/media_loader.h"
#include "base/metrics.h"
#include "sampling/grammar/grammar_compiler.h"

namespace carat {

struct MetricBuckets {
  std::vector<double> time_to_first_token, inter_token_latency, e2e_request_latency;  ///< empty: the defaults
  /// --collect-tokens-histogram; absent: none. Inside: empty for the defaults.
  std::optional<std::vector<double>> prompt_tokens, generation_tokens;
};

/// When a sample's tokens arrived at the answer.
struct SampleTimes {
  std::chrono::steady_clock::time_point received, first_token, last_token;  ///< without tokens all are the first
  std::chrono::steady_clock::time_point ended{};
};

/// What happens to requests, counted by sample as SGLang does. Writing is lock-free, any thread.
class ApiMetrics {
 public:
  ApiMetrics(MetricsRegistry& registry, const std::string& model_name, const MetricBuckets& buckets);

  /// `num_tokens` tokens of a sample have arrived `gap_s` seconds after those before, or after the request.
  void count_tokens(bool first, double gap_s, size_t num_tokens);
  void count_sample(const Prompt& prompt, const Sample& sample, const SampleTimes& times, bool aborted);
  void count_prompt(const Prompt& prompt);

  const GrammarMetrics grammar;
  const MediaMetrics media;

 private:
  Histogram& stage(const char* name);

  MetricsRegistry& registry_;
  const std::string model_name_;
  Counter& prompt_tokens_;
  Counter& generation_tokens_;
  Counter& cached_tokens_;
  Counter& requests_;
  Counter& aborted_requests_;
  Counter& structured_requests_;
  Histogram& time_to_first_token_;
  Histogram& inter_token_latency_;
  Histogram& e2e_latency_;
  Histogram& queue_time_;
  Histogram& time_per_output_token_;
  Histogram& tokenize_;  ///< of per_stage_req_latency_seconds, as are the next three
  Histogram& waiting_;
  Histogram& prefill_;
  Histogram& decode_;
  Histogram* prompt_lengths_ = nullptr;
  Histogram* generation_lengths_ = nullptr;
};

}  // namespace carat
