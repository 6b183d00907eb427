#pragma once
// What the routes serve and how they were told to behave.

#include <optional>
#include <string>
#include <vector>

#include "api/media_loader.h"
#include "api/params.h"
#include "base/json.h"
#include "chat/render.h"
#include "config/model_config.h"
#include "engine/engine.h"
#include "output/markers.h"
#include "sampling/constraint.h"
#include "sampling/grammar/grammar_compiler.h"
#include "tokenizer/tokenizer.h"

namespace carat {

/// From the command line; constant while serving.
struct ApiSettings {
  std::string served_model_name;
  std::string model_path, tokenizer_path;
  std::string load_format = "auto";
  std::string weight_version = "default";
  std::string version;
  std::optional<int> context_length_given;  ///< --context-length
  bool model_sampling_defaults = true;
  Json preferred_sampling_params;     ///< object or null
  Json default_chat_template_kwargs;  ///< object or null
  /// "gemma4", or absent: thoughts (calls) stay in the content.
  std::optional<std::string> reasoning_parser, tool_call_parser;
  bool grammar_backend = true;  ///< false: constrained requests are refused
  GrammarOptions grammar;
  bool constrain_auto_calls = true;            ///< --tool-grammar auto
  std::optional<int> default_thinking_budget;  ///< of requests that say nothing
  int stream_interval = 1;
  bool incremental_streaming_output = false;
  bool stream_default_include_usage = false;
  bool cache_report = false;
  bool response_store = false;
  bool return_input_ids = false, return_output_ids = false;  ///< `sglext` ids in every chat answer
  bool allow_auto_truncate = false;
  bool priority_scheduling = false, low_priority_values_first = false, abort_on_priority_when_disabled = false;
  std::optional<int> default_priority;
  std::optional<std::string> api_key, admin_api_key;
  std::vector<std::string> cors_allow_origins;
  bool enable_metrics = false;
  bool decode_graphs = true;  ///< where there is a GPU
  bool log_requests = false;
  int log_requests_level = 2;
  bool log_requests_json = false;
  bool log_access = true;  ///< a line per HTTP answer
  int prep_threads = 1;
  MediaOptions media;
  Json server_arguments;  ///< for /server_info
  std::string launch_command;
};

/// A loaded model, ready to run. Its parts belong to the server and outlive the routes.
struct ServedModel {
  Engine* engine = nullptr;
  const Tokenizer* tokenizer = nullptr;
  const ModelConfig* config = nullptr;
  ChatFamily family = ChatFamily::kSmall;
  int context_length = 0;
  bool on_gpu = false;
  int64_t weights_bytes = 0, kv_bytes = 0;
  double startup_seconds = 0;
  MarkerIds markers;          ///< the tokenizer's
  ConstraintPlan plain_plan;  ///< of plain_plan()
};

}  // namespace carat
