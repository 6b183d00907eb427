#pragma once
// What /metrics says about requests. Names and buckets: spec api.md section 9.

#include <string>
#include <vector>

#include "base/metrics.h"
#include "sampling/grammar/grammar_compiler.h"

namespace carat {

struct MetricBuckets {
  std::vector<double> time_to_first_token, inter_token_latency, e2e_request_latency;  ///< empty: the defaults
};

/// Handles into the registry, looked up once. Writing is lock-free, any thread.
class ApiMetrics {
 public:
  ApiMetrics(MetricsRegistry& registry, const std::string& model_name, const MetricBuckets& buckets);

  Counter& prompt_tokens;
  Counter& generation_tokens;
  Counter& cached_tokens;
  Counter& requests;
  Counter& aborted_requests;
  Histogram& time_to_first_token;
  Histogram& inter_token_latency;
  Histogram& e2e_latency;
  Histogram& queue_time;
  Histogram& time_per_output_token;
  GrammarMetrics grammar;
};

}  // namespace carat
