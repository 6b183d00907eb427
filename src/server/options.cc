#include "server/options.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <thread>
#include <utility>

#include "base/str.h"
#include "server/options_yaml.h"

namespace carat {
namespace {

constexpr std::string_view kProgram = "carat serve";

std::string usage_line() { return str_cat("usage: ", kProgram, " [MODEL] [--flag [VALUE ...]] ...\n"); }

std::string_view primary_name(const Flag& flag) { return flag.names.substr(0, flag.names.find(' ')); }

/// "--tp-size" -> "tp_size".
std::string argument_name(const Flag& flag) {
  std::string name(primary_name(flag).substr(2));
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}

std::string slashed_names(const Flag& flag) {
  std::string names(flag.names);
  std::replace(names.begin(), names.end(), ' ', '/');
  return names;
}

bool contains_choice(std::string_view choices, std::string_view value) {
  const auto all = split(choices, '|');
  return std::find(all.begin(), all.end(), value) != all.end();
}

std::string listed(std::string_view choices) {
  std::string out;
  for (const auto choice : split(choices, '|')) out += str_cat(out.empty() ? "" : ", ", "'", choice, "'");
  return out;
}

bool takes_list(FlagKind kind) {
  return kind == FlagKind::kTexts || kind == FlagKind::kInts || kind == FlagKind::kFloats;
}

Error bad_argument(const Flag& flag, std::string_view what) {
  return {Errc::kInvalidArgument, str_cat("argument ", slashed_names(flag), ": ", what)};
}

/// argparse's negative numbers: values, not flags.
bool is_negative_number(std::string_view text) {
  if (text.size() < 2 || text[0] != '-') return false;
  bool digits = false;
  int dots = 0;
  for (const char c : text.substr(1)) {
    if (c == '.')
      ++dots;
    else if (c >= '0' && c <= '9')
      digits = true;
    else
      return false;
  }
  return digits && dots <= 1;
}

bool looks_like_flag(std::string_view text) {
  return text.size() >= 2 && text[0] == '-' && !is_negative_number(text) && text.find(' ') == std::string_view::npos;
}

Result<Json> convert_number(const Flag& flag, double value, Json json) {
  if (flag.min && value < *flag.min)
    return bad_argument(flag, str_cat("must be at least ", *flag.min, ", got ", json.dump()));
  if (flag.max && value > *flag.max)
    return bad_argument(flag, str_cat("must be at most ", *flag.max, ", got ", json.dump()));
  return json;
}

Result<Json> convert_int(const Flag& flag, const std::string& text) {
  int64_t value = 0;
  if (!parse_int(trim(text), value)) return bad_argument(flag, str_cat("invalid int value: '", text, "'"));
  return convert_number(flag, static_cast<double>(value), value);
}

Result<Json> convert_human_int(const Flag& flag, const std::string& text) {
  const auto value = parse_human_int(text);
  if (!value)
    return bad_argument(flag, str_cat("invalid human_readable_int value: '", text,
                                      "' (digits, then nothing or one of k, M, G, T, Ki, Mi, Gi, Ti)"));
  return convert_number(flag, static_cast<double>(*value), *value);
}

Result<Json> convert_float(const Flag& flag, const std::string& text) {
  double value = 0;
  if (!parse_float(trim(text), value) || !std::isfinite(value))
    return bad_argument(flag, str_cat("invalid float value: '", text, "'"));
  return convert_number(flag, value, value);
}

Result<Json> convert_json(const Flag& flag, const std::string& text) {
  auto json = parse_json(text);
  if (!json) return bad_argument(flag, str_cat("invalid JSON: ", json.error().message));
  if (!json->is_object()) return bad_argument(flag, str_cat("must be a JSON object, got ", json->kind_name()));
  return std::move(*json);
}

Result<Json> convert_text(const Flag& flag, const std::string& text) {
  if (!flag.choices.empty() && !contains_choice(flag.choices, text))
    return bad_argument(flag, str_cat("invalid choice: '", text, "' (choose from ", listed(flag.choices), ")"));
  if (!flag.supported.empty() && !contains_choice(flag.supported, text))
    return bad_argument(flag, str_cat("'", text, "' is not supported here (supported: ", listed(flag.supported), ")"));
  return Json(text);
}

Result<Json> convert_one(const Flag& flag, const std::string& text) {
  switch (flag.kind) {
    case FlagKind::kInt:
    case FlagKind::kInts:
      return convert_int(flag, text);
    case FlagKind::kHumanInt:
      return convert_human_int(flag, text);
    case FlagKind::kFloat:
    case FlagKind::kFloats:
      return convert_float(flag, text);
    case FlagKind::kJson:
      return convert_json(flag, text);
    case FlagKind::kSwitch:
    case FlagKind::kText:
    case FlagKind::kTexts:
      break;
  }
  return convert_text(flag, text);
}

/// The flags that were given, by row.
class Given {
 public:
  Result<void> set(const Flag& flag, const std::vector<std::string>& texts) {
    if (flag.kind == FlagKind::kSwitch) return store(flag, Json(true));
    if (!takes_list(flag.kind)) {
      CARAT_TRY(auto value, convert_one(flag, texts.front()));
      return store(flag, std::move(value));
    }
    Json list = Json::array();
    for (const auto& text : texts) {
      CARAT_TRY(auto value, convert_one(flag, text));
      list.push_back(std::move(value));
    }
    return store(flag, std::move(list));
  }
  /// A switch turned off in a file: as if it had not been given.
  void clear(const Flag& flag) { values_.erase(&flag); }
  const Json* find(const Flag& flag) const {
    const auto it = values_.find(&flag);
    return it == values_.end() ? nullptr : &it->second;
  }

 private:
  Result<void> store(const Flag& flag, Json value) {
    values_[&flag] = std::move(value);
    return {};
  }
  std::map<const Flag*, Json> values_;
};

/// The row that `name` ("--tp") means: an exact name, else a unique prefix.
Result<const Flag*> find_flag(std::string_view name) {
  const Flag* found = nullptr;
  std::string matches;
  bool ambiguous = false;
  for (const Flag& flag : flag_table()) {
    for (const auto candidate : split(flag.names, ' ')) {
      if (candidate == name) return &flag;
      if (!candidate.starts_with(name)) continue;
      matches += str_cat(matches.empty() ? "" : ", ", candidate);
      ambiguous |= found != nullptr && found != &flag;
      found = &flag;
    }
  }
  if (ambiguous) return Error{Errc::kInvalidArgument, str_cat("ambiguous option: ", name, " could match ", matches)};
  if (found == nullptr) return Error{Errc::kInvalidArgument, str_cat("unrecognized arguments: ", name)};
  return found;
}

const Flag& flag_named(std::string_view name) {
  for (const Flag& flag : flag_table())
    if (primary_name(flag) == name) return flag;
  CARAT_CHECK(false, str_cat("no such flag: ", name));
  return flag_table().front();
}

struct CommandLine {
  Given given;
  bool help = false;
};

/// Where the command line is being read; argparse's grammar.
class CommandLineReader {
 public:
  explicit CommandLineReader(std::span<const std::string> args) : args_(args) {}

  Result<CommandLine> read(Given from_file) {
    CommandLine line{std::move(from_file), false};
    bool model_seen = false;
    while (next_ < args_.size()) {
      const std::string& arg = args_[next_];
      if (only_positionals_ || !looks_like_flag(arg)) {
        ++next_;
        if (model_seen) return Error{Errc::kInvalidArgument, str_cat("unrecognized arguments: ", arg)};
        model_seen = true;
        CARAT_TRY_VOID(line.given.set(flag_named("--model-path"), {arg}));
      } else if (arg == "--") {
        only_positionals_ = true;
        ++next_;
      } else if (arg == "-h" || (arg.size() >= 4 && std::string_view("--help").starts_with(arg))) {
        line.help = true;
        return line;
      } else {
        CARAT_TRY_VOID(read_flag(line.given));
      }
    }
    return line;
  }

 private:
  Result<void> read_flag(Given& given) {
    const std::string& arg = args_[next_++];
    const size_t equals = arg.find('=');
    CARAT_TRY(const Flag* flag, find_flag(std::string_view(arg).substr(0, equals)));
    if (flag->kind == FlagKind::kSwitch) {
      if (equals != std::string::npos)
        return bad_argument(*flag, str_cat("ignored explicit argument '", arg.substr(equals + 1), "'"));
      return given.set(*flag, {});
    }
    if (equals != std::string::npos) return given.set(*flag, {arg.substr(equals + 1)});
    const auto values = take_values(takes_list(flag->kind) ? std::numeric_limits<size_t>::max() : 1);
    if (values.empty())
      return bad_argument(*flag, takes_list(flag->kind) ? "expected at least one argument" : "expected one argument");
    return given.set(*flag, values);
  }

  std::vector<std::string> take_values(size_t most) {
    std::vector<std::string> values;
    while (values.size() < most && next_ < args_.size() && !looks_like_flag(args_[next_]))
      values.push_back(args_[next_++]);
    return values;
  }

  std::span<const std::string> args_;
  size_t next_ = 0;
  bool only_positionals_ = false;
};

/// The file named by the last --config, if any: found before the rest is read, since the command line overrides it.
Result<std::optional<std::string>> find_config_file(std::span<const std::string> args) {
  CARAT_TRY(const auto line, CommandLineReader(args).read({}));
  const Json* file = line.help ? nullptr : line.given.find(flag_named("--config"));
  return file ? std::optional(file->as_string()) : std::nullopt;
}

Result<Given> read_config_file(const std::string& path) {
  CARAT_TRY(const auto entries, read_yaml_flags(path));
  Given given;
  for (const auto& entry : entries) {
    std::string name = str_cat("--", entry.key);
    std::replace(name.begin(), name.end(), '_', '-');
    const auto flag = find_flag(name);
    if (!flag) return Error{Errc::kInvalidArgument, str_cat(path, ": unknown flag '", entry.key, "'")};
    if ((*flag)->kind == FlagKind::kSwitch) {
      const bool on = entry.values.size() == 1 && entry.values[0] == "true";
      if (!on && !(entry.values.size() == 1 && entry.values[0] == "false"))
        return Error{Errc::kInvalidArgument, str_cat(path, ": '", entry.key, "' must be true or false")};
      if (on) CARAT_TRY_VOID(given.set(**flag, {}));
      continue;
    }
    if (entry.values.empty() || (entry.values.size() > 1 && !takes_list((*flag)->kind)))
      return Error{Errc::kInvalidArgument, str_cat(path, ": '", entry.key, "' takes one value")};
    CARAT_TRY_VOID(given.set(**flag, entry.values));
  }
  return given;
}

Json fallback_of(const Flag& flag) {
  if (flag.kind == FlagKind::kSwitch) return Json(false);
  auto json = parse_json(flag.fallback);
  CARAT_CHECK(json.has_value(), str_cat("the default of ", flag.names, " is no JSON"));
  return std::move(*json);
}

bool is_secret(const Flag& flag) {
  const auto name = primary_name(flag);
  return name == "--api-key" || name == "--admin-api-key" || name == "--ssl-keyfile-password";
}

/// Numbers 1 and 1.0 are the same default.
bool same_value(const Json& a, const Json& b) {
  return a == b || (a.is_number() && b.is_number() && a.as_double() == b.as_double());
}

/// Typed access to what was given, else the default.
class Values {
 public:
  explicit Values(const Given& given) : given_(given) {}
  Json json(std::string_view name) const {
    const Flag& flag = flag_named(name);
    const Json* value = given_.find(flag);
    return value ? *value : fallback_of(flag);
  }
  bool on(std::string_view name) const { return json(name).as_bool(); }
  std::string text(std::string_view name) const { return json(name).as_string(); }
  std::optional<std::string> maybe_text(std::string_view name) const {
    const Json value = json(name);
    return value.is_null() ? std::nullopt : std::optional(value.as_string());
  }
  int integer(std::string_view name) const { return static_cast<int>(json(name).as_int()); }
  std::optional<int64_t> maybe_long(std::string_view name) const {
    const Json value = json(name);
    return value.is_null() ? std::nullopt : std::optional(value.as_int());
  }
  std::optional<int> maybe_integer(std::string_view name) const {
    const auto value = maybe_long(name);
    return value ? std::optional(static_cast<int>(*value)) : std::nullopt;
  }
  std::optional<double> maybe_number(std::string_view name) const {
    const Json value = json(name);
    return value.is_null() ? std::nullopt : std::optional(value.as_double());
  }
  std::vector<double> numbers(std::string_view name) const {
    std::vector<double> out;
    const Json value = json(name);
    if (value.is_array())
      for (const auto& item : value.as_array()) out.push_back(item.as_double());
    return out;
  }
  std::vector<std::string> texts(std::string_view name) const {
    std::vector<std::string> out;
    const Json value = json(name);
    if (value.is_array())
      for (const auto& item : value.as_array()) out.push_back(item.as_string());
    return out;
  }

 private:
  const Given& given_;
};

LoadFormat load_format_from(std::string_view text) {
  if (text == "dummy") return LoadFormat::kDummy;
  return text == "scripted" ? LoadFormat::kScripted : LoadFormat::kAuto;
}

DeviceChoice device_from(std::string_view text) {
  if (text == "cuda") return DeviceChoice::kCuda;
  return text == "cpu" ? DeviceChoice::kCpu : DeviceChoice::kAuto;
}

void read_model_flags(const Values& values, ServerOptions& o) {
  o.model_path = values.maybe_text("--model-path");
  o.tokenizer_path = values.maybe_text("--tokenizer-path");
  o.load_format = load_format_from(values.text("--load-format"));
  o.script = values.maybe_text("--script");
  o.context_length = values.maybe_integer("--context-length");
  o.served_model_name = values.maybe_text("--served-model-name");
  o.weight_version = values.text("--weight-version");
  o.chat_template = values.maybe_text("--chat-template");
  o.revision = values.maybe_text("--revision");
  o.model_override_args = values.json("--json-model-override-args");
  o.reasoning_parser = values.maybe_text("--reasoning-parser");
  o.tool_call_parser = values.maybe_text("--tool-call-parser");
  o.model_sampling_defaults = values.text("--sampling-defaults") == "model";
  o.default_chat_template_kwargs = values.json("--default-chat-template-kwargs");
  o.preferred_sampling_params = values.json("--preferred-sampling-params");
  o.trust_request_chat_template = values.on("--trust-request-chat-template");
  o.grammar_backend = values.text("--grammar-backend") != "none";
  o.json_any_whitespace = !values.on("--constrained-json-disable-any-whitespace");
  o.json_max_whitespace = values.maybe_integer("--constrained-json-max-whitespace-cnt");
  o.tool_grammar = values.text("--tool-grammar") == "auto";
  o.default_thinking_budget = values.maybe_integer("--default-thinking-budget");
  o.grammar_threads = values.integer("--grammar-threads");
  o.grammar_timeout_ms = values.integer("--grammar-timeout-ms");
  o.stream_interval = values.integer("--stream-interval");
  o.incremental_streaming_output = values.on("--incremental-streaming-output");
  o.stream_default_include_usage = values.on("--stream-response-default-include-usage");
  o.enable_cache_report = values.on("--enable-cache-report");
  o.enable_response_store = values.on("--enable-response-store");
  o.return_input_ids = values.on("--return-input-ids");
  o.return_output_ids = values.on("--return-output-ids");
  o.allow_auto_truncate = values.on("--allow-auto-truncate");
}

/// {"image": 4, "audio": 1}: counts of kinds.
Result<void> read_media_limits(const Json& limits, MediaOptions& media) {
  if (limits.is_null()) return {};
  const auto bad = [](std::string_view what) {
    return Error{Errc::kInvalidArgument, str_cat("argument --limit-mm-data-per-request: ", what)};
  };
  for (const auto& [key, value] : limits.as_object()) {
    std::optional<int>* most = key == "image"   ? &media.max_images
                               : key == "audio" ? &media.max_audios
                               : key == "video" ? &media.max_videos
                                                : nullptr;
    if (!most) return bad(str_cat("unknown kind '", key, "' (choose from 'image', 'audio', 'video')"));
    if (!value.is_int() || value.as_int() < 0 || value.as_int() > kMaxMediaPerPrompt)
      return bad(str_cat(key, " must be between 0 and ", kMaxMediaPerPrompt, ", got ", value.dump()));
    *most = static_cast<int>(value.as_int());
  }
  return {};
}

Result<void> read_media_flags(const Values& values, MediaOptions& media) {
  const int64_t max_mb = *values.maybe_long("--media-url-max-file-size-mb");
  const int64_t max_bytes = (max_mb > 0 ? max_mb : 1 << 20) << 20;
  media.fetch.max_bytes = media.limits.max_encoded_bytes = max_bytes;
  media.fetch.allow_private_addresses = values.on("--allow-private-media");
  for (const std::string& host : values.texts("--allowed-media-domains"))
    media.fetch.allowed_domains.push_back(to_lower_ascii(host));
  media.fetch.allowed_local_path = values.maybe_text("--allowed-local-media-path").value_or("");
  media.num_fetch_threads = values.integer("--mm-io-worker-num");
  media.num_threads = values.maybe_integer("--mm-processor-worker-num")
                          .value_or(std::max(1, static_cast<int>(std::thread::hardware_concurrency())));
  return read_media_limits(values.json("--limit-mm-data-per-request"), media);
}

/// SGLang's rule for buckets of lengths: "default", "tse MIDDLE BASE COUNT" (two-sided exponential) or "custom
/// BOUND...".
Result<std::vector<double>> length_buckets(std::string_view flag, const std::vector<std::string>& rule) {
  const auto bad = [&](std::string_view what) {
    return Error{Errc::kInvalidArgument, str_cat("argument ", flag, ": ", what)};
  };
  if (rule.empty() || (rule[0] == "default" && rule.size() == 1)) return std::vector<double>{};
  std::vector<double> numbers;
  for (size_t i = 1; i < rule.size(); ++i) {
    double number = 0;
    if (!parse_float(rule[i], number) || !std::isfinite(number)) return bad(str_cat("not a number: '", rule[i], "'"));
    numbers.push_back(number);
  }
  constexpr double kMaxBuckets = 1000;
  if (rule[0] == "tse") {
    if (numbers.size() != 3 || numbers[1] <= 1 || numbers[2] < 1 || numbers[2] > kMaxBuckets)
      return bad("tse takes MIDDLE, BASE above 1 and COUNT up to 1000");
    const double middle = numbers[0], base = numbers[1];
    const int half = static_cast<int>(std::ceil(numbers[2] / 2));
    numbers = {middle};
    for (double i = 1, distance = base; i <= half && std::isfinite(distance); ++i, distance *= base) {
      numbers.push_back(middle + distance);
      numbers.push_back(std::max(0.0, middle - distance));
    }
  } else if (rule[0] != "custom" || numbers.empty() || static_cast<double>(numbers.size()) > kMaxBuckets) {
    return bad("must be 'default', 'tse MIDDLE BASE COUNT' or 'custom BOUND ...'");
  }
  std::sort(numbers.begin(), numbers.end());
  numbers.erase(std::unique(numbers.begin(), numbers.end()), numbers.end());
  return numbers;
}

void read_server_flags(const Values& values, ServerOptions& o) {
  o.host = values.text("--host");
  o.port = values.integer("--port");
  o.api_key = values.maybe_text("--api-key");
  o.admin_api_key = values.maybe_text("--admin-api-key");
  o.log_level = *parse_log_level(values.text("--log-level"));
  o.log_level_http = *parse_log_level(values.maybe_text("--log-level-http").value_or(values.text("--log-level")));
  o.log_requests = values.on("--log-requests");
  o.log_requests_level = values.integer("--log-requests-level");
  o.log_requests_json = values.text("--log-requests-format") == "json";
  o.enable_metrics = values.on("--enable-metrics");
  o.bucket_time_to_first_token = values.numbers("--bucket-time-to-first-token");
  o.bucket_inter_token_latency = values.numbers("--bucket-inter-token-latency");
  o.bucket_e2e_request_latency = values.numbers("--bucket-e2e-request-latency");
  o.collect_tokens_histogram = values.on("--collect-tokens-histogram");
  o.decode_log_interval = values.integer("--decode-log-interval");
  o.skip_server_warmup = values.on("--skip-server-warmup");
  o.watchdog_timeout_s = *values.maybe_number("--watchdog-timeout");
  o.cors_allow_origins = values.texts("--cors-allow-origins");
  o.io_threads = values.integer("--io-threads");
  o.prep_threads = values.integer("--prep-threads");
  o.max_body_mb = values.integer("--max-body-mb");
  o.max_connections = values.integer("--max-connections");
}

void read_scheduling_flags(const Values& values, ServerOptions& o) {
  o.mem_fraction_static = values.maybe_number("--mem-fraction-static");
  o.max_running_requests = values.maybe_integer("--max-running-requests");
  o.max_queued_requests = values.maybe_integer("--max-queued-requests");
  o.max_total_tokens = values.maybe_long("--max-total-tokens");
  o.language_model_only = values.on("--language-model-only");
  o.chunked_prefill_size = values.maybe_integer("--chunked-prefill-size");
  o.max_prefill_tokens = values.integer("--max-prefill-tokens");
  o.schedule_policy = values.text("--schedule-policy");
  o.priority_scheduling = values.on("--enable-priority-scheduling");
  o.low_priority_values_first = values.on("--schedule-low-priority-values-first");
  o.default_priority_value = values.maybe_integer("--default-priority-value");
  o.abort_on_priority_when_disabled = values.on("--abort-on-priority-when-disabled");
  o.priority_preemption_threshold = values.integer("--priority-scheduling-preemption-threshold");
  o.priority_preemption = !values.on("--disable-priority-preemption");
  o.prefill_max_requests = values.maybe_integer("--prefill-max-requests");
  o.schedule_conservativeness = *values.maybe_number("--schedule-conservativeness");
  o.swa_full_tokens_ratio = values.maybe_number("--swa-full-tokens-ratio");
  o.disable_radix_cache = values.on("--disable-radix-cache");
  if (const auto seed = values.maybe_long("--random-seed")) o.random_seed = static_cast<uint64_t>(*seed);
  o.device = device_from(values.text("--device"));
  o.base_gpu_id = values.integer("--base-gpu-id");
  o.decode_graphs = !values.on("--disable-decode-cuda-graph") &&
                    values.maybe_text("--cuda-graph-backend-decode").value_or("") != "disabled";
  o.cpu_threads = values.maybe_integer("--cpu-threads");
  o.tp_size = values.integer("--tp-size");
  o.dp_size = values.integer("--dp-size");
  o.ep_size = values.integer("--ep-size");
  o.speculative_algorithm = values.maybe_text("--speculative-algorithm");
  o.speculative_draft_model_path = values.maybe_text("--speculative-draft-model-path");
}

/// Checks that concern several flags or one flag's text.
Result<void> check_together(const ServerOptions& o) {
  const auto bad = [](std::string_view flag, std::string_view what) {
    return Error{Errc::kInvalidArgument, str_cat("argument ", flag, ": ", what)};
  };
  if (o.served_model_name && o.served_model_name->find(':') != std::string::npos)
    return bad("--served-model-name", str_cat("must not contain ':', got '", *o.served_model_name, "'"));
  if (o.served_model_name && o.served_model_name->empty()) return bad("--served-model-name", "must not be empty");
  if (o.api_key && o.api_key->empty()) return bad("--api-key", "must not be empty");
  if (o.admin_api_key && o.admin_api_key->empty()) return bad("--admin-api-key", "must not be empty");
  if (o.chunked_prefill_size == 0) return bad("--chunked-prefill-size", "must be -1 or at least 1, got 0");
  if (o.mem_fraction_static && (*o.mem_fraction_static <= 0 || *o.mem_fraction_static >= 1))
    return bad("--mem-fraction-static", str_cat("must be between 0 and 1, got ", *o.mem_fraction_static));
  if (o.swa_full_tokens_ratio && *o.swa_full_tokens_ratio <= 0)
    return bad("--swa-full-tokens-ratio", str_cat("must be in (0, 1], got ", *o.swa_full_tokens_ratio));
  if (o.load_format == LoadFormat::kScripted && !o.script) return bad("--load-format", "scripted needs --script FILE");
  if (o.script && o.load_format != LoadFormat::kScripted) return bad("--script", "only with --load-format scripted");
  if (o.speculative_algorithm && !o.speculative_draft_model_path)
    return bad("--speculative-algorithm", "needs --speculative-draft-model-path");
  if (o.schedule_policy == "priority" && !o.priority_scheduling)
    return bad("--schedule-policy", "priority needs --enable-priority-scheduling");
  for (const auto* buckets :
       {&o.bucket_time_to_first_token, &o.bucket_inter_token_latency, &o.bucket_e2e_request_latency})
    if (!std::is_sorted(buckets->begin(), buckets->end(), std::less_equal<>()))
      return bad("--bucket-*", "buckets must ascend");
  return {};
}

Result<ServerOptions> to_options(const Given& given) {
  ServerOptions o;
  o.arguments = Json::object();
  for (const Flag& flag : flag_table()) {
    const Json* value = given.find(flag);
    const Json fallback = fallback_of(flag);
    o.arguments.set(argument_name(flag), value && is_secret(flag) ? Json("***") : (value ? *value : fallback));
    if (!value || same_value(*value, fallback)) continue;
    if (flag.mark == FlagMark::kRefuses)
      return bad_argument(flag, str_cat(value->dump(), " is not supported: ", flag.help));
    if (flag.mark == FlagMark::kAccepts)
      o.warnings.push_back(
          str_cat(primary_name(flag), " has no effect here", flag.help.empty() ? "" : ": ", flag.help));
    if (flag.mark == FlagMark::kLater)
      o.warnings.push_back(str_cat(primary_name(flag), " is accepted, but its feature is not built yet: ", flag.help));
  }
  const Values values(given);
  read_model_flags(values, o);
  read_server_flags(values, o);
  read_scheduling_flags(values, o);
  CARAT_TRY_VOID(read_media_flags(values, o.media));
  for (auto [flag, buckets] : {std::pair("--prompt-tokens-buckets", &o.prompt_tokens_buckets),
                               std::pair("--generation-tokens-buckets", &o.generation_tokens_buckets)}) {
    CARAT_TRY(*buckets, length_buckets(flag, values.texts(flag)));
  }
  CARAT_TRY_VOID(check_together(o));
  return o;
}

std::string value_form(const Flag& flag) {
  if (flag.kind == FlagKind::kSwitch) return "";
  std::string form;
  if (!flag.choices.empty() && flag.choices.size() < 60) {
    form = str_cat("{", flag.choices, "}");
    std::replace(form.begin(), form.end(), '|', ',');
  } else {
    form = to_lower_ascii(primary_name(flag).substr(2));
    std::transform(form.begin(), form.end(), form.begin(),
                   [](char c) { return c == '-' ? '_' : static_cast<char>(c >= 'a' && c <= 'z' ? c - 32 : c); });
  }
  return takes_list(flag.kind) ? str_cat(" ", form, " [", form, " ...]") : str_cat(" ", form);
}

std::string_view mark_note(FlagMark mark) {
  switch (mark) {
    case FlagMark::kDoes:
      return "";
    case FlagMark::kAccepts:
      return "[no effect] ";
    case FlagMark::kLater:
      return "[not built yet] ";
    case FlagMark::kRefuses:
      return "[refused if set] ";
  }
  return "";
}

std::string help_text() {
  std::string out = str_cat(usage_line(), "\nServes a Gemma 4 model over HTTP.\n");
  for (const Flag& flag : flag_table()) {
    if (!flag.group.empty()) out += str_cat("\n", flag.group, ":\n");
    std::string names(flag.names);
    for (size_t at = 0; (at = names.find(' ', at)) != std::string::npos; at += 2) names.replace(at, 1, ", ");
    out += str_cat("  ", names, value_form(flag), "\n");
    const bool shows_default = flag.fallback != "null";
    if (flag.help.empty() && flag.mark == FlagMark::kDoes) continue;
    out += str_cat("        ", mark_note(flag.mark), flag.help, shows_default ? " (default " : "",
                   shows_default ? flag.fallback : "", shows_default ? ")" : "", "\n");
  }
  out += "\nUnique prefixes of flags are accepted. See docs/api.md for limits and differences from SGLang.\n";
  return out;
}

ParsedCommandLine usage_error(const Error& error) {
  return {std::nullopt, 2, str_cat(usage_line(), kProgram, ": error: ", error.message, "\n")};
}

Result<CommandLine> read_all(std::span<const std::string> args) {
  CARAT_TRY(const auto file, find_config_file(args));
  Given from_file;
  if (file) {
    CARAT_TRY(from_file, read_config_file(*file));
  }
  return CommandLineReader(args).read(std::move(from_file));
}

}  // namespace

std::optional<int64_t> parse_human_int(std::string_view text) {
  static constexpr std::pair<std::string_view, double> kSuffixes[] = {
      {"Ki", 1024.0}, {"Mi", 1048576.0}, {"Gi", 1073741824.0}, {"Ti", 1099511627776.0},
      {"k", 1e3},     {"M", 1e6},        {"G", 1e9},           {"T", 1e12}};
  int64_t plain = 0;
  if (parse_int(text, plain)) return plain;
  for (const auto& [suffix, factor] : kSuffixes) {
    if (!text.ends_with(suffix)) continue;
    const auto digits = text.substr(0, text.size() - suffix.size());
    const bool clean = !digits.empty() && digits.find_first_not_of("0123456789.") == std::string_view::npos &&
                       digits.front() != '.' && digits.back() != '.';
    double value = 0;
    if (!clean || !parse_float(digits, value) || value * factor > 9e18) return std::nullopt;
    return static_cast<int64_t>(std::llround(std::floor(value * factor + 1e-6)));
  }
  return std::nullopt;
}

ParsedCommandLine parse_serve_command(std::span<const std::string> args) {
  const auto line = read_all(args);
  if (!line) return usage_error(line.error());
  if (line->help) return {std::nullopt, 0, help_text()};
  auto options = to_options(line->given);
  if (!options) return usage_error(options.error());
  return {std::move(*options), 0, {}};
}

Result<void> check_supported(const ServerOptions& o) {
  const auto missing = [](std::string_view what) { return Error{Errc::kUnsupported, std::string(what)}; };
  if (o.tp_size > 1)
    return missing(str_cat("--tp-size ", o.tp_size,
                           " needs several GPUs, and this build computes on one device; leave "
                           "it out (answers are the same)"));
  if (o.dp_size > 1)
    return missing(str_cat("--dp-size ", o.dp_size,
                           " needs several GPUs, and this build runs one replica; leave it "
                           "out"));
  if (o.ep_size > 1)
    return missing(str_cat("--ep-size ", o.ep_size,
                           " needs several GPUs, and this build computes on one device; leave "
                           "it out (answers are the same)"));
  if (o.speculative_algorithm)
    return missing(str_cat("--speculative-algorithm ", *o.speculative_algorithm,
                           " (multi-token prediction) is not in "
                           "this build; leave the --speculative-* flags out (answers are the same)"));
  return {};
}

}  // namespace carat
