#include "api/api_metrics.h"

namespace carat {
namespace {

const std::vector<double> kFirstToken = {0.1, 0.2, 0.4, 0.6, 0.8, 1, 2, 4, 6, 8, 10, 20, 40, 60, 80, 100, 200, 400};
const std::vector<double> kInterToken = {0.002, 0.004, 0.006, 0.008, 0.01, 0.015, 0.02, 0.025, 0.03, 0.035, 0.04, 0.06,
                                         0.08,  0.1,   0.2,   0.4,   0.6,  0.8,   1,    2,     4,    6,     8};
const std::vector<double> kEndToEnd = {0.1, 0.2, 0.4, 0.6, 0.8, 1,   2,   4,   6,    8,    10,
                                       20,  40,  60,  80,  100, 200, 400, 600, 1200, 1800, 2400};
const std::vector<double> kQueue = {0,   0.001, 0.005, 0.01, 0.05, 0.1,  0.2,  0.5,  1,    2,   3,    4,   5,   10,
                                    15,  20,    30,    40,   50,   60,   70,   80,   90,   100, 200,  300, 400, 500,
                                    600, 700,   800,   900,  1e3,  1200, 1400, 1600, 1800, 2e3, 2500, 3e3};
const std::vector<double> kCompilation = {0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 90, 120, 240};
const std::vector<double> kMedium = {0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 10, 30};
const std::vector<double> kLengths = {100,   300,   500,   700,   1000,  1500,  2000,  3000,  4000,  5000,
                                      6000,  7000,  8000,  9000,  10000, 12500, 15000, 17500, 20000, 22500,
                                      25000, 27500, 30000, 35000, 40000, 60000, 80000, 1e5,   2e5,   3e5};

/// SGLang's for stages: 1 ms to about 20 minutes.
std::vector<double> stage_buckets() {
  std::vector<double> out;
  double bound = 0.001;
  for (int i = 0; i < 30; ++i, bound *= 1.62) out.push_back(bound);
  return out;
}

MediaMetrics media_metrics(MetricsRegistry& r, const std::string& model_name) {
  MediaMetrics out;
  for (const MediaKind kind : {MediaKind::kImage, MediaKind::kAudio, MediaKind::kVideo}) {
    const MetricLabels labels = {{"model_name", model_name}, {"modality", std::string(to_string(kind))}};
    out.kinds[static_cast<size_t>(kind)] = {
        &r.histogram("sglang:mm_media_download_seconds", "Time to fetch a medium from elsewhere.", kMedium, labels),
        &r.histogram("sglang:mm_media_load_seconds", "Time to fetch and decode a medium.", kMedium, labels),
        &r.counter("sglang:mm_media_failed_total", "Media that could not be had or read.", labels)};
  }
  return out;
}

double seconds(std::chrono::steady_clock::duration time) { return std::chrono::duration<double>(time).count(); }

const std::vector<double>& given_or(const std::vector<double>& given, const std::vector<double>& fallback) {
  return given.empty() ? fallback : given;
}

}  // namespace

ApiMetrics::ApiMetrics(MetricsRegistry& r, const std::string& model_name, const MetricBuckets& buckets)
    : grammar{&r.counter("sglang:num_grammar_total", "Grammars asked for.", {{"model_name", model_name}}),
              &r.counter("sglang:num_grammar_cache_hit_total", "Grammars that were compiled before.",
                         {{"model_name", model_name}}),
              &r.counter("sglang:num_grammar_aborted_total", "Grammars that could not be made.",
                         {{"model_name", model_name}}),
              &r.histogram("sglang:grammar_compilation_time_seconds", "Time to compile a grammar in seconds.",
                           kCompilation, {{"model_name", model_name}})},
      media(media_metrics(r, model_name)),
      registry_(r),
      model_name_(model_name),
      prompt_tokens_(r.counter("sglang:prompt_tokens_total", "Prompt tokens processed.", {{"model_name", model_name}})),
      generation_tokens_(
          r.counter("sglang:generation_tokens_total", "Tokens generated.", {{"model_name", model_name}})),
      cached_tokens_(r.counter("sglang:cached_tokens_total", "Prompt tokens taken from the prefix cache.",
                               {{"model_name", model_name}, {"cache_source", "device"}})),
      requests_(r.counter("sglang:num_requests_total", "Requests finished.", {{"model_name", model_name}})),
      aborted_requests_(
          r.counter("sglang:num_aborted_requests_total", "Requests aborted.", {{"model_name", model_name}})),
      structured_requests_(
          r.counter("sglang:num_so_requests_total", "Requests whose answer has a form.", {{"model_name", model_name}})),
      time_to_first_token_(r.histogram("sglang:time_to_first_token_seconds", "Time to the first token in seconds.",
                                       given_or(buckets.time_to_first_token, kFirstToken),
                                       {{"model_name", model_name}})),
      inter_token_latency_(r.histogram("sglang:inter_token_latency_seconds", "Time between two tokens in seconds.",
                                       given_or(buckets.inter_token_latency, kInterToken),
                                       {{"model_name", model_name}})),
      e2e_latency_(r.histogram("sglang:e2e_request_latency_seconds", "Time of a whole request in seconds.",
                               given_or(buckets.e2e_request_latency, kEndToEnd), {{"model_name", model_name}})),
      queue_time_(r.histogram("sglang:queue_time_seconds", "Time before a request is scheduled, in seconds.", kQueue,
                              {{"model_name", model_name}})),
      time_per_output_token_(r.histogram(
          "sglang:request_time_per_output_token_seconds", "Mean time per token after the first one, by request.",
          given_or(buckets.inter_token_latency, kInterToken), {{"model_name", model_name}})),
      tokenize_(stage("tokenize")),
      waiting_(stage("prefill_waiting")),
      prefill_(stage("prefill_forward")),
      decode_(stage("decode_loop")) {
  if (buckets.prompt_tokens)
    prompt_lengths_ = &r.histogram("sglang:prompt_tokens_histogram", "Tokens of prompts.",
                                   given_or(*buckets.prompt_tokens, kLengths), {{"model_name", model_name}});
  if (buckets.generation_tokens)
    generation_lengths_ = &r.histogram("sglang:generation_tokens_histogram", "Tokens of answers.",
                                       given_or(*buckets.generation_tokens, kLengths), {{"model_name", model_name}});
}

Histogram& ApiMetrics::stage(const char* name) {
  static const std::vector<double> buckets = stage_buckets();
  return registry_.histogram("sglang:per_stage_req_latency_seconds", "Time that requests spend in each stage.", buckets,
                             {{"model_name", model_name_}, {"stage", name}});
}

/// A step of k tokens that took t counts as k gaps of t / k.
void ApiMetrics::count_tokens(bool first, double gap_s, size_t num_tokens) {
  if (first) return time_to_first_token_.observe(gap_s);
  inter_token_latency_.observe(gap_s / static_cast<double>(num_tokens), num_tokens);
}

void ApiMetrics::count_sample(const Prompt& prompt, const Sample& sample, const SampleTimes& times, bool aborted) {
  requests_.add();
  if (aborted || (sample.end && sample.end->reason == FinishReason::kAbort)) aborted_requests_.add();
  const AnswerForm& form = prompt.prepared.params.form;
  if (form.answer || form.calls_required) structured_requests_.add();
  const double num_tokens = static_cast<double>(sample.tokens.size());
  generation_tokens_.add(num_tokens);
  if (generation_lengths_) generation_lengths_->observe(num_tokens);
  e2e_latency_.observe(seconds(times.ended - times.received));
  if (num_tokens > 1) time_per_output_token_.observe(seconds(times.last_token - times.first_token) / (num_tokens - 1));
}

void ApiMetrics::count_prompt(const Prompt& prompt) {
  const double num_tokens = static_cast<double>(prompt.prepared.ids.size());
  prompt_tokens_.add(num_tokens);
  cached_tokens_.add(static_cast<double>(prompt.stats.cached_tokens));
  if (prompt_lengths_) prompt_lengths_->observe(num_tokens);
  const RequestStats& stats = prompt.stats;
  const auto observe = [](Histogram& histogram, auto begin, auto end) {
    if (end > begin && begin != decltype(begin){}) histogram.observe(seconds(end - begin));
  };
  observe(queue_time_, stats.queued, stats.scheduled);
  observe(tokenize_, prompt.received, stats.queued);
  observe(waiting_, stats.queued, stats.scheduled);
  observe(prefill_, stats.scheduled, stats.first_token);
  observe(decode_, stats.first_token, stats.finished);
}

}  // namespace carat
