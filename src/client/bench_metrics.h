#pragma once
// What is measured of each request, and what is made of it: the definitions, the printed report and the JSON line of
// sglang.bench_serving.

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/json.h"
#include "client/bench_data.h"

namespace carat {

/// One request's measurement. Filled by one thread; times are seconds of one steady clock.
struct BenchOutput {
  bool success = false;
  std::string error = {};
  double start_s = 0;
  double ttft_s = 0;     ///< from start to the first text; 0 if none came
  double latency_s = 0;  ///< from start to the last event
  int prompt_len = 0;
  int output_len = 0;
  std::vector<double> itl_s = {};
  std::string generated_text = {};
  std::vector<std::string> text_chunks = {};  ///< where deltas are streamed: that of each gap

  /// Begins with what the request asks for; the server's own counts replace it.
  void begin(double now, const BenchRequest& request);
  /// Something came, be it without text.
  void on_event(double now) { latency_s = now - start_s; }
  /// Text came and `total_tokens` have now been generated: the gap is shared among the new ones. Without a new one the
  /// gap goes on.
  void on_tokens(double now, int total_tokens);
  /// Text came, of how many tokens is not said: one gap.
  void on_text(double now, std::string_view text);
  void fail(std::string why);

 private:
  double last_text_s_ = 0;
  int last_tokens_ = 0;
};

struct BenchStats {
  double mean = 0, median = 0, std = 0, p90 = 0, p95 = 0, p99 = 0, max = 0;
};
/// All zero for no values. Percentiles are interpolated linearly, as numpy's; std is that of the population.
BenchStats bench_stats(std::vector<double> values);

/// How many requests met every given limit. Names: "ttft", "tpot", "e2el".
using BenchGoals = std::vector<std::pair<std::string, double>>;  ///< name and milliseconds, in the order given
struct BenchGoodput {
  BenchGoals goals_ms;
  double request_goodput = 0;  ///< good requests per second
  double attainment = 0;       ///< good requests of all sent
  std::vector<double> attainment_by_goal;
};
BenchGoodput compute_goodput(const BenchGoals& goals_ms, const std::vector<BenchOutput>& outputs, double duration_s);

struct BenchMetrics {
  double duration_s = 0;
  int completed = 0;
  int64_t total_input = 0, total_input_vision = 0, total_output = 0, total_output_retokenized = 0;
  BenchStats ttft_ms, tpot_ms, itl_ms, e2e_ms;
  double request_throughput = 0, input_throughput = 0, output_throughput = 0, total_throughput = 0;
  double concurrency = 0;
  double max_output_tokens_per_s = 0;
  int max_concurrent_requests = 0;
  double accept_length = 0;             ///< 0: the server did not say
  std::optional<BenchGoodput> goodput;  ///< if asked for
};

/// `count_tokens` re-tokenises generated text. With an accept length and text_chunks, each gap is divided by the tokens
/// of its chunk.
BenchMetrics compute_bench_metrics(const std::vector<BenchRequest>& requests, const std::vector<BenchOutput>& outputs,
                                   double duration_s, double accept_length,
                                   const std::function<int(std::string_view)>& count_tokens);

/// What the report repeats of the options.
struct BenchRunInfo {
  std::string backend;
  std::string tag = {};
  BenchDataOptions data = {};
  double request_rate = 0;  ///< infinity: all at once
  std::optional<int> max_concurrency = {};
  Json server_info = {};
};

/// The printed report, from an empty line to the closing one.
std::string format_bench_report(const BenchRunInfo& info, const BenchMetrics& metrics);
/// The line of the result file, without its line end. `details` adds lists with one entry per request. An infinite rate
/// is written `Infinity`, as Python does.
std::string format_bench_json(const BenchRunInfo& info, const BenchMetrics& metrics,
                              const std::vector<BenchOutput>* details);

}  // namespace carat
