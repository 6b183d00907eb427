#include "server/served.h"

namespace carat {
namespace {

/// A parser's flag; `auto` means ours if the model knows the marker that it looks for.
std::optional<std::string> resolve_parser(const std::optional<std::string>& flag, const Tokenizer& tokenizer,
                                          Marker marker) {
  if (flag != "auto") return flag;
  return MarkerIds(tokenizer).id(marker) ? std::optional<std::string>("gemma4") : std::nullopt;
}

}  // namespace

ApiSettings api_settings(const ServerOptions& o, const LoadedModel& model, const std::string& launch_command) {
  ApiSettings s;
  s.served_model_name = o.served_model_name.value_or(model.name);
  s.model_path = model.name;
  s.tokenizer_path = model.tokenizer_path;
  s.load_format = o.arguments.find("load_format")->as_string();
  s.weight_version = o.weight_version;
  s.version = CARAT_VERSION;
  s.context_length_given = o.context_length;
  s.model_sampling_defaults = o.model_sampling_defaults;
  s.preferred_sampling_params = o.preferred_sampling_params;
  s.default_chat_template_kwargs = o.default_chat_template_kwargs;
  s.reasoning_parser = resolve_parser(o.reasoning_parser, *model.tokenizer, Marker::kChannelOpen);
  s.tool_call_parser = resolve_parser(o.tool_call_parser, *model.tokenizer, Marker::kCallOpen);
  s.grammar_backend = o.grammar_backend;
  s.grammar.any_whitespace = o.json_any_whitespace;
  s.grammar.max_whitespace = o.json_max_whitespace;
  s.grammar.threads = o.grammar_threads;
  s.grammar.timeout = std::chrono::milliseconds(o.grammar_timeout_ms);
  s.constrain_auto_calls = o.tool_grammar;
  s.default_thinking_budget = o.default_thinking_budget;
  s.stream_interval = o.stream_interval;
  s.incremental_streaming_output = o.incremental_streaming_output;
  s.stream_default_include_usage = o.stream_default_include_usage;
  s.cache_report = o.enable_cache_report;
  s.response_store = o.enable_response_store;
  s.return_input_ids = o.return_input_ids;
  s.return_output_ids = o.return_output_ids;
  s.allow_auto_truncate = o.allow_auto_truncate;
  s.priority_scheduling = o.priority_scheduling;
  s.low_priority_values_first = o.low_priority_values_first;
  s.abort_on_priority_when_disabled = o.abort_on_priority_when_disabled;
  s.default_priority = o.default_priority_value;
  s.api_key = o.api_key;
  s.admin_api_key = o.admin_api_key;
  s.cors_allow_origins = o.cors_allow_origins;
  s.enable_metrics = o.enable_metrics;
  s.decode_graphs = o.decode_graphs;
  s.log_requests = o.log_requests;
  s.log_requests_level = o.log_requests_level;
  s.log_requests_json = o.log_requests_json;
  s.log_access = o.log_level_http <= LogLevel::kInfo;
  s.prep_threads = o.prep_threads;
  s.media = o.media;
  s.server_arguments = o.arguments;
  s.launch_command = launch_command;
  return s;
}

ServedModel served_model(const LoadedModel& model, Engine& engine, bool on_gpu, int64_t kv_bytes,
                         double startup_seconds) {
  ServedModel served;
  served.engine = &engine;
  served.tokenizer = model.tokenizer.get();
  served.config = &model.config;
  served.family = model.family;
  served.context_length = model.context_length;
  served.weights_bytes = model.weights ? model.weights->size_bytes : 0;
  served.on_gpu = on_gpu;
  served.kv_bytes = kv_bytes;
  served.startup_seconds = startup_seconds;
  served.markers = MarkerIds(*model.tokenizer);
  return served;
}

}  // namespace carat
