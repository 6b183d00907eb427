#include "api/api_metrics.h"

namespace carat {
namespace {

const std::vector<double> kFirstToken = {0.1, 0.2, 0.4, 0.6, 0.8, 1, 2, 4, 6, 8, 10, 20, 40, 60, 80, 100, 200, 400};
const std::vector<double> kInterToken = {0.002, 0.004, 0.006, 0.008, 0.01, 0.015, 0.02, 0.025, 0.03, 0.035, 0.04, 0.06,
                                         0.08,  0.1,   0.2,   0.4,   0.6,  0.8,   1,    2,     4,    6,     8};
const std::vector<double> kEndToEnd = {0.1, 0.2, 0.4, 0.6, 0.8, 1,   2,   4,   6,    8,    10,
                                       20,  40,  60,  80,  100, 200, 400, 600, 1200, 1800, 2400};
const std::vector<double> kCompilation = {0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 90, 120, 240};
const std::vector<double> kQueue = {0.001, 0.005, 0.01, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600};

const std::vector<double>& given_or(const std::vector<double>& given, const std::vector<double>& fallback) {
  return given.empty() ? fallback : given;
}

}  // namespace

ApiMetrics::ApiMetrics(MetricsRegistry& r, const std::string& model_name, const MetricBuckets& buckets)
    : prompt_tokens(r.counter("sglang:prompt_tokens_total", "Prompt tokens processed.", {{"model_name", model_name}})),
      generation_tokens(r.counter("sglang:generation_tokens_total", "Tokens generated.", {{"model_name", model_name}})),
      cached_tokens(r.counter("sglang:cached_tokens_total", "Prompt tokens taken from the prefix cache.",
                              {{"model_name", model_name}, {"cache_source", "device"}})),
      requests(r.counter("sglang:num_requests_total", "Requests finished.", {{"model_name", model_name}})),
      aborted_requests(
          r.counter("sglang:num_aborted_requests_total", "Requests aborted.", {{"model_name", model_name}})),
      time_to_first_token(r.histogram("sglang:time_to_first_token_seconds", "Time to the first token in seconds.",
                                      given_or(buckets.time_to_first_token, kFirstToken),
                                      {{"model_name", model_name}})),
      inter_token_latency(r.histogram("sglang:inter_token_latency_seconds", "Time between two tokens in seconds.",
                                      given_or(buckets.inter_token_latency, kInterToken),
                                      {{"model_name", model_name}})),
      e2e_latency(r.histogram("sglang:e2e_request_latency_seconds", "Time of a whole request in seconds.",
                              given_or(buckets.e2e_request_latency, kEndToEnd), {{"model_name", model_name}})),
      queue_time(r.histogram("sglang:queue_time_seconds", "Time before a request is scheduled, in seconds.", kQueue,
                             {{"model_name", model_name}})),
      time_per_output_token(r.histogram(
          "sglang:request_time_per_output_token_seconds", "Mean time per token after the first one, by request.",
          given_or(buckets.inter_token_latency, kInterToken), {{"model_name", model_name}})),
      grammar{&r.counter("sglang:num_grammar_total", "Grammars asked for.", {{"model_name", model_name}}),
              &r.counter("sglang:num_grammar_cache_hit_total", "Grammars that were compiled before.",
                         {{"model_name", model_name}}),
              &r.counter("sglang:num_grammar_aborted_total", "Grammars that could not be made.",
                         {{"model_name", model_name}}),
              &r.histogram("sglang:grammar_compilation_time_seconds", "Time to compile a grammar in seconds.",
                           kCompilation, {{"model_name", model_name}})} {}

}  // namespace carat
