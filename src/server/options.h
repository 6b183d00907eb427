#pragma once
// The command line of `carat serve`: SGLang's flags (spec cli.md) and a few of our own, parsed by argparse's rules.

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "api/media_loader.h"
#include "base/json.h"
#include "base/log.h"
#include "base/result.h"

namespace carat {

/// What a flag does here.
enum class FlagMark {
  kDoes,     ///< does what it says
  kAccepts,  ///< value checked, no effect here; one warning if given
  kLater,    ///< value checked, its feature is not built yet; one warning that says so if given
  kRefuses,  ///< anything but the neutral value stops the start, because results would differ
};
enum class FlagKind { kSwitch, kInt, kHumanInt, kFloat, kText, kJson, kTexts, kInts, kFloats };

/// One row of the flag table.
struct Flag {
  std::string_view names;  ///< "--tp-size --tensor-parallel-size --tp"; the first names the argument in /server_info
  FlagKind kind = FlagKind::kText;
  FlagMark mark = FlagMark::kDoes;
  std::string_view fallback = "null";  ///< JSON
  std::string_view choices = {};       ///< "auto|slow"; empty: anything of the kind
  std::string_view supported = {};     ///< the choices that are served here; empty: all
  std::optional<double> min = {}, max = {};
  std::string_view help = {};
  std::string_view group = {};  ///< heading that begins at this row
};
std::span<const Flag> flag_table();

enum class LoadFormat { kAuto, kDummy, kScripted };
enum class DeviceChoice { kAuto, kCuda, kCpu };

/// The flags that have an effect, typed; the rest only shows in `arguments`.
struct ServerOptions {
  // Model
  std::optional<std::string> model_path;  ///< absent: the default, built in
  std::optional<std::string> tokenizer_path;
  LoadFormat load_format = LoadFormat::kAuto;
  std::optional<std::string> script;  ///< with kScripted
  std::optional<int> context_length;
  std::optional<std::string> served_model_name;
  std::string weight_version = "default";
  std::optional<std::string> chat_template;
  std::optional<std::string> revision;
  Json model_override_args;  ///< object
  // Parsers and defaults
  std::optional<std::string> reasoning_parser, tool_call_parser;
  bool model_sampling_defaults = true;
  Json default_chat_template_kwargs;  ///< object or null
  Json preferred_sampling_params;     ///< object or null
  bool trust_request_chat_template = false;
  bool grammar_backend = true;
  bool json_any_whitespace = true;
  std::optional<int> json_max_whitespace;
  bool tool_grammar = true;
  std::optional<int> default_thinking_budget;
  int grammar_threads = 2;
  int grammar_timeout_ms = 30000;
  int stream_interval = 1;
  bool incremental_streaming_output = false;
  bool stream_default_include_usage = false;
  bool enable_cache_report = false;
  bool enable_response_store = false;
  bool return_input_ids = false, return_output_ids = false;
  bool allow_auto_truncate = false;
  MediaOptions media;
  // Server
  std::string host = "127.0.0.1";
  int port = 30000;
  std::optional<std::string> api_key, admin_api_key;
  LogLevel log_level = LogLevel::kInfo, log_level_http = LogLevel::kInfo;
  bool log_requests = false;
  int log_requests_level = 2;
  bool log_requests_json = false;
  bool enable_metrics = false;
  std::vector<double> bucket_time_to_first_token, bucket_inter_token_latency, bucket_e2e_request_latency;
  bool collect_tokens_histogram = false;
  std::vector<double> prompt_tokens_buckets, generation_tokens_buckets;  ///< empty: the defaults
  int decode_log_interval = 40;
  bool skip_server_warmup = false;
  double watchdog_timeout_s = 300;
  std::vector<std::string> cors_allow_origins;
  int io_threads = 1;
  int prep_threads = 1;
  int max_body_mb = 64;
  int max_connections = 10000;
  bool language_model_only = false;  ///< encoders are neither loaded nor made
  // Memory and scheduling
  std::optional<double> mem_fraction_static;
  std::optional<int> max_running_requests, max_queued_requests;
  std::optional<int64_t> max_total_tokens;
  std::optional<int> chunked_prefill_size;
  int max_prefill_tokens = 16384;
  std::string schedule_policy = "fcfs";
  bool priority_scheduling = false;
  bool low_priority_values_first = false;
  std::optional<int> default_priority_value;
  bool abort_on_priority_when_disabled = false;
  int priority_preemption_threshold = 10;
  bool priority_preemption = true;
  std::optional<int> prefill_max_requests;
  double schedule_conservativeness = 1.0;
  std::optional<double> swa_full_tokens_ratio;  ///< null: see plan_memory()
  bool disable_radix_cache = false;
  std::optional<uint64_t> random_seed;
  // Devices
  DeviceChoice device = DeviceChoice::kAuto;
  int base_gpu_id = 0;
  bool decode_graphs = true;
  std::optional<int> cpu_threads;
  int tp_size = 1, dp_size = 1, ep_size = 1;
  // Speculation
  std::optional<std::string> speculative_algorithm, speculative_draft_model_path;

  Json arguments;                     ///< every flag under its SGLang name, given or default; secrets as "***"
  std::vector<std::string> warnings;  ///< one per given flag without effect
};

/// What to do after reading the command line: go on with `options`, or print `text` and exit.
struct ParsedCommandLine {
  std::optional<ServerOptions> options;
  int exit_status = 0;
  std::string text;  ///< for stdout if exit_status is 0, else for stderr
};

/// `args` without program and subcommand. Values, types and ranges are checked; nothing but a --config file is opened.
ParsedCommandLine parse_serve_command(std::span<const std::string> args);

/// Refuses legal options whose feature is not in this build: more than one device, speculative decoding.
/// Errors: kUnsupported, naming the flag and what to leave out.
Result<void> check_supported(const ServerOptions& options);

/// "32k" = 32000, "25.6k", "32Ki" = 32768, "100"; suffixes k M G T and Ki Mi Gi Ti are case-sensitive.
std::optional<int64_t> parse_human_int(std::string_view text);

}  // namespace carat
