#pragma once
// `carat bench`: sglang.bench_serving's load, data, measurements and report.

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "client/bench_backend.h"
#include "client/bench_data.h"
#include "client/bench_http.h"
#include "client/bench_metrics.h"

namespace carat {

struct BenchOptions {
  std::string backend = "sglang";
  std::string host = "127.0.0.1";
  int port = 30000;
  std::string base_url = {};  ///< instead of host and port
  std::string model = {};
  std::string tokenizer = {};
  BenchDataOptions data = {};
  BenchGoals goodput = {};  ///< limits that a good request keeps
  double request_rate = 0;  ///< requests per second; 0 stands for infinity, as does "inf"
  std::optional<int> max_concurrency = {};
  bool disable_stream = false;
  bool disable_ignore_eos = false;
  bool return_logprob = false;
  double temperature = 0.0;
  double top_p = 1.0;
  std::string extra_request_body = {};
  std::string output_file = {};
  bool output_details = false;
  std::string tag = {};
  bool flush_cache = false;
  double flush_cache_timeout_s = 60;
  int warmup_requests = 1;
  double ready_check_timeout_s = 60;
  bool disable_tqdm = false;
  int client_threads = 1;
  bool engine_only = false;
  std::vector<std::string> engine_args = {};  ///< what follows "--", for the engine

  bool rate_is_infinite() const { return request_rate <= 0; }
};

/// Errors: kInvalidArgument naming the option, its value and what is allowed.
Result<BenchOptions> parse_bench_options(std::span<const std::string> args);
std::string bench_help();

/// Submits `requests` in order, at most max_concurrency at a time, all at once or in exponential gaps drawn from
/// `random`; returns when all have ended. `on_done`, where given, hears how many have; any thread.
std::vector<BenchOutput> run_load(BenchBackend& backend, const std::vector<BenchRequest>& requests,
                                  std::optional<int> max_concurrency, double request_rate, NumpyRandom& random,
                                  const std::function<void(int num_done)>& on_done = {});

/// Makes the backend of --engine-only. Its tokenizer_path() names the tokenizer unless --tokenizer does.
using BenchEngineFactory = std::function<Result<std::unique_ptr<BenchBackend>>(const BenchOptions&)>;

/// The command: `args` without the program's and the command's name. Returns the exit status: 0, 1 (failed), 2 (usage).
/// Without a factory --engine-only is refused.
int run_bench(std::span<const std::string> args, const BenchEngineFactory& make_engine = {});

}  // namespace carat
