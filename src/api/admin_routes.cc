// The endpoints beside generation. Source: spec api.md section 8.

#include <cmath>

#include "api/api_impl.h"
#include "api/writer_parts.h"
#include "base/log.h"
#include "base/str.h"

namespace carat {
namespace {

constexpr double kGiB = 1024.0 * 1024.0 * 1024.0;

void send_json(HttpReply& reply, const Json& json) { reply.send({200, "application/json", json.dump(), {}}); }

void send_text(HttpReply& reply, int status, std::string text) {
  reply.send({status, "text/plain; charset=utf-8", std::move(text), {}});
}

/// An administrative request's body; nothing is as good as {}.
Result<Json> admin_body(const HttpRequest& request) {
  return request.body.empty() ? Result<Json>(Json::object()) : parse_json(request.body);
}

}  // namespace

std::optional<double> parse_timeout(std::string_view text) {
  double seconds = 0;
  if (text.empty() || !parse_float(text, seconds) || !(seconds >= 0 && seconds <= 3600)) return std::nullopt;
  return seconds;
}

void Api::Impl::root(HttpRequest, ReplyPtr reply) {
  reply->send({200, "application/json", "\"SGLang is running\"", {}});
}

Json Api::Impl::card(const ServedModel& model) const {
  return Json::object({{"id", settings.served_model_name},
                       {"object", "model"},
                       {"created", created},
                       {"owned_by", "sglang"},
                       {"root", settings.served_model_name},
                       {"parent", nullptr},
                       {"max_model_len", model.context_length}});
}

void Api::Impl::models(HttpRequest, ReplyPtr reply) {
  send_json(*reply, Json::object({{"object", "list"}, {"data", Json::array({card(*model())})}}));
}

void Api::Impl::model_card(HttpRequest request, ReplyPtr reply) {
  const std::string name = request.path.substr(std::string_view("/v1/models/").size());
  if (name != settings.served_model_name) return send_error(*reply, unknown_model(name));
  send_json(*reply, card(*model()));
}

void Api::Impl::model_info(HttpRequest, ReplyPtr reply) {
  const ModelConfig& config = *model()->config;
  Json architectures = Json::array();
  for (const auto& name : config.architectures) architectures.push_back(name);
  const auto text_or_null = [](const std::optional<std::string>& text) { return text ? Json(*text) : Json(); };
  send_json(*reply, Json::object({{"model_path", settings.model_path},
                                  {"tokenizer_path", settings.tokenizer_path},
                                  {"served_model_name", settings.served_model_name},
                                  {"is_generation", true},
                                  {"preferred_sampling_params", settings.preferred_sampling_params},
                                  {"weight_version", settings.weight_version},
                                  {"load_format", settings.load_format},
                                  {"reasoning_parser", text_or_null(settings.reasoning_parser)},
                                  {"tool_call_parser", text_or_null(settings.tool_call_parser)},
                                  {"disaggregation_mode", "null"},
                                  {"has_image_understanding", media_loader->sees()},
                                  {"has_audio_understanding", media_loader->hears()},
                                  {"model_type", config.model_type},
                                  {"architectures", std::move(architectures)}}));
}

Json Api::Impl::internal_state(const ServedModel& m) const {
  const EngineStats stats = m.engine->stats();
  Json out = settings.server_arguments;
  out.set("last_gen_throughput", stats.generation_tokens_per_second);
  out.set("memory_usage", Json::object({{"weight", static_cast<double>(m.weights_bytes) / kGiB},
                                        {"kvcache", static_cast<double>(m.kv_bytes) / kGiB},
                                        {"token_capacity", stats.full_tokens_total},
                                        {"graph", 0.0}}));
  out.set("effective_max_running_requests_per_dp", m.engine->runner_info().max_slots);
  out.set("num_running_reqs", stats.num_running);
  out.set("num_queue_reqs", stats.num_queued);
  return out;
}

void Api::Impl::server_info(HttpRequest, ReplyPtr reply) {
  const ServedModel& m = *model();
  const EngineStats stats = m.engine->stats();
  Json out = settings.server_arguments;
  out.set("model_path", settings.model_path);
  out.set("tokenizer_path", settings.tokenizer_path);
  out.set("served_model_name", settings.served_model_name);
  out.set("context_length", m.context_length);
  out.set("max_total_num_tokens", stats.full_tokens_total);
  out.set("max_req_input_len", std::max(m.engine->max_sequence_tokens() - 1, 1));
  out.set("status", state.load() == ServingState::kReady ? "ready" : "not ready");
  out.set("internal_states", Json::array({internal_state(m)}));
  out.set("version", settings.version);
  out.set("kv_events", nullptr);
  out.set("launch_command", settings.launch_command);
  out.set("startup_time", m.startup_seconds);
  out.set("frontend", "carat");
  send_json(*reply, out);
}

void Api::Impl::flush_cache(HttpRequest request, ReplyPtr reply) {
  const std::string text = request.query_value("timeout");
  const auto timeout = parse_timeout(text.empty() ? "0" : text);
  if (!timeout)
    return send_text(*reply, 400,
                     str_cat("timeout must be a number of seconds between 0 and 3600, got '", text, "'\n"));
  const auto deadline =
      std::chrono::steady_clock::now() + std::chrono::milliseconds(static_cast<int64_t>(*timeout * 1000));
  on_prep(ErrorStyle::kPlain, reply, [this, flush = PendingFlush{reply, deadline}] { try_flush(flush); });
}

/// Flushes, or queues another try for the next tick until the deadline.
void Api::Impl::try_flush(const PendingFlush& flush) {
  if (model()->engine->flush_cache())
    return send_text(*flush.reply, 200,
                     "Cache flushed.\nPlease check backend logs for more details. (When there are running or waiting "
                     "requests, the operation will not be performed.)\n");
  if (std::chrono::steady_clock::now() >= flush.deadline)
    return send_text(*flush.reply, 400, "Flush cache failed: requests are running or waiting.\n");
  const std::lock_guard lock(waiting_mutex);
  flushes.push_back(flush);
}

void Api::Impl::abort_request(HttpRequest request, ReplyPtr reply) {
  const auto body = admin_body(request);
  if (!body) return send_error(*reply, schema_error(ErrorStyle::kOpenAi, body.error()));
  JsonFields fields(*body, "");
  const bool all = fields.boolean("abort_all").value_or(false);
  const std::string rid = fields.text("rid").value_or("");
  if (const auto ok = fields.status(); !ok) return send_error(*reply, schema_error(ErrorStyle::kOpenAi, ok.error()));
  if (all || !rid.empty()) model()->engine->abort(all ? std::string() : rid);
  send_text(*reply, 200, "");
}

void Api::Impl::configure_logging(HttpRequest request, ReplyPtr reply) {
  const auto body = admin_body(request);
  if (!body) return send_error(*reply, schema_error(ErrorStyle::kNative, body.error()));
  JsonFields fields(*body, "");
  RequestLog::Change change;
  change.requests = fields.boolean("log_requests");
  if (const auto level = fields.integer("log_requests_level", 0, 3)) change.level = static_cast<int>(*level);
  const auto format = fields.text("log_requests_format");
  if (format && *format != "text" && *format != "json")
    fields.fail("log_requests_format", str_cat("Input should be 'text' or 'json', got '", *format, "'"));
  if (format) change.json = *format == "json";
  const auto name = fields.text("log_level");
  const auto level = name ? parse_log_level(*name) : std::nullopt;
  if (name && !level)
    fields.fail("log_level", str_cat("Input should be debug, info, warning, error or critical, got '", *name, "'"));
  if (const auto ok = fields.status(); !ok) return send_error(*reply, schema_error(ErrorStyle::kNative, ok.error()));
  request_log.configure(change);
  if (level) set_log_level(*level);
  send_text(*reply, 200, "");
}

namespace {

std::optional<PauseMode> pause_mode(std::string_view name) {
  if (name == "abort") return PauseMode::kAbort;
  if (name == "retract") return PauseMode::kRetract;
  if (name == "in_place") return PauseMode::kInPlace;
  return std::nullopt;
}

}  // namespace

void Api::Impl::pause_generation(HttpRequest request, ReplyPtr reply) {
  const auto body = admin_body(request);
  if (!body) return send_error(*reply, schema_error(ErrorStyle::kNative, body.error()));
  JsonFields fields(*body, "");
  const std::string name = fields.text("mode").value_or("abort");
  const auto mode = pause_mode(name);
  if (!mode) fields.fail("mode", str_cat("Input should be 'abort', 'retract' or 'in_place', got '", name, "'"));
  if (const auto ok = fields.status(); !ok) return send_error(*reply, schema_error(ErrorStyle::kNative, ok.error()));
  model()->engine->pause(*mode);
  send_json(*reply, Json::object({{"message", "Generation paused successfully."}, {"status", "ok"}}));
}

void Api::Impl::continue_generation(HttpRequest, ReplyPtr reply) {
  model()->engine->resume();
  send_json(*reply, Json::object({{"message", "Generation continued successfully."}, {"status", "ok"}}));
}

/// None of SGLang's scheduler knobs exists here: nothing is updated, and the answer says so.
void Api::Impl::set_internal_state(HttpRequest, ReplyPtr reply) { send_json(*reply, Json::array({false})); }

void Api::Impl::start_profile(HttpRequest, ReplyPtr reply) { send_text(*reply, 200, "Start profiling.\n"); }

void Api::Impl::stop_profile(HttpRequest, ReplyPtr reply) {
  send_text(*reply, 200, "Stop profiling. This will take some time.\n");
}

void Api::Impl::refuse_embedding(HttpRequest, ReplyPtr reply) {
  send_error(*reply, request_error(ErrorStyle::kOpenAi,
                                   {Errc::kInvalidArgument,
                                    "This model does not appear to be an embedding model by default. Please add "
                                    "`--is-embedding` when launching the server or try another model."}));
}

void Api::Impl::not_built(HttpRequest request, ReplyPtr reply) {
  send_error(*reply, missing_endpoint(ErrorStyle::kOpenAi, request.path));
}

}  // namespace carat
