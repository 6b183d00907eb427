#include "api/api.h"

#include <algorithm>
#include <array>
#include <cstdlib>

#include "api/answer_form.h"
#include "api/api_impl.h"
#include "api/native_request.h"
#include "api/watched_reply.h"
#include "api/writer_parts.h"
#include "base/log.h"
#include "base/str.h"

namespace carat {
namespace {

bool is_json_content(const HttpRequest& request) {
  const std::string* type = request.header("Content-Type");
  if (!type) return false;
  const std::string_view media = trim(std::string_view(*type).substr(0, type->find(';')));
  return equals_ignore_case_ascii(media, "application/json");
}

/// The header that names a replica for the request; there is one replica, so that any integer will do.
Result<void> check_routing_headers(const HttpRequest& request) {
  const std::string* rank = request.header("X-Data-Parallel-Rank");
  int64_t value = 0;
  if (!rank || parse_int(trim(*rank), value)) return {};
  return Error{Errc::kInvalidArgument,
               str_cat("Invalid X-Data-Parallel-Rank header: must be an integer, got '", *rank, "'")};
}

/// One line for a request whose sounds are longer than the model hears: no answer has a place for it.
void log_unheard(const PreparedGeneration& generation, std::span<const LoadedMedium> media) {
  double seconds = 0;
  for (const LoadedMedium& medium : media) seconds += medium.unheard_s;
  if (seconds == 0) return;
  log_info("Request ", generation.prompts.front().id, ": this model hears the first ",
           kMaxLogMelSamples / kAudioSampleRate, " s of a sound; ", seconds, " s were left out.");
}

SglextOptions sglext_of_headers(const HttpRequest& request) {
  const auto on = [&](std::string_view name) {
    const std::string* value = request.header(name);
    return value && *value == "1";
  };
  SglextOptions out;
  out.input_ids = on("X-Sglext-Return-Input-Ids");
  out.output_ids = on("X-Sglext-Return-Output-Ids");
  out.framed_ids = on("X-Sglext-Ids-Framed");
  return out;
}

bool method_listed(std::string_view methods, std::string_view method) {
  const auto all = split(methods, ' ');
  return std::find(all.begin(), all.end(), method) != all.end();
}

}  // namespace

void send_error(HttpReply& reply, const ErrorReply& error) {
  reply.send({error.status, "application/json", error.body, {}});
}

std::span<const Api::Impl::Route> Api::Impl::routes() {
  using I = Impl;
  constexpr auto kOpenAi = ErrorStyle::kOpenAi;
  constexpr auto kNative = ErrorStyle::kNative;
  constexpr auto kResponses = ErrorStyle::kResponses;
  constexpr auto kAnthropic = ErrorStyle::kAnthropic;
  constexpr auto kOllama = ErrorStyle::kOllama;
  constexpr auto kPlain = ErrorStyle::kPlain;
  static constexpr auto kRoutes = std::to_array<Route>({
      {"/v1/chat/completions", "POST", &I::chat, kOpenAi, false, true},
      {"/invocations", "POST", &I::chat, kOpenAi, false, true},
      {"/v1/completions", "POST", &I::completions, kOpenAi, false, true},
      {"/generate", "POST PUT", &I::native, kNative, false, true},
      {"/vertex_generate", "POST", &I::vertex, kNative, false, true},
      {"/v1/models", "GET", &I::models, kOpenAi, false, true},
      {"/v1/models/*", "GET", &I::model_card, kOpenAi, false, true},
      {"/health", "GET HEAD", &I::health},
      {"/ping", "GET HEAD", &I::health},
      {"/health_generate", "GET", &I::health_generate},
      {"/ready", "GET HEAD", &I::ready},
      {"/model_info", "GET", &I::model_info, kPlain, false, true},
      {"/get_model_info", "GET", &I::model_info, kPlain, false, true},
      {"/server_info", "GET", &I::server_info, kPlain, false, true},
      {"/get_server_info", "GET", &I::server_info, kPlain, false, true},
      {"/v1/loads", "GET", &I::loads, kPlain, false, true},
      {"/metrics", "GET", &I::metrics_text},
      {"/flush_cache", "GET POST", &I::flush_cache, kPlain, true, true},
      {"/abort_request", "POST", &I::abort_request, kPlain, true, true},
      {"/pause_generation", "POST", &I::pause_generation, kNative, true, true},
      {"/continue_generation", "POST", &I::continue_generation, kNative, true, true},
      {"/configure_logging", "GET POST", &I::configure_logging, kNative, true},
      {"/set_internal_state", "POST PUT", &I::set_internal_state, kNative, true, true},
      {"/open_session", "GET POST", &I::not_built, kOpenAi},
      {"/close_session", "GET POST", &I::not_built, kOpenAi},
      {"/start_profile", "GET POST", &I::start_profile, kPlain, true, true},
      {"/stop_profile", "GET POST", &I::stop_profile, kPlain, true, true},
      {"/tokenize", "POST", &I::tokenize, kOpenAi, false, true},
      {"/v1/tokenize", "POST", &I::tokenize, kOpenAi, false, true},
      {"/detokenize", "POST", &I::detokenize, kOpenAi, false, true},
      {"/v1/detokenize", "POST", &I::detokenize, kOpenAi, false, true},
      {"/v1/embeddings", "POST", &I::refuse_embedding, kOpenAi},
      {"/v1/classify", "POST", &I::refuse_embedding, kOpenAi},
      {"/classify", "POST", &I::refuse_embedding, kOpenAi},
      {"/encode", "POST", &I::refuse_embedding, kOpenAi},
      {"/v1/rerank", "POST PUT", &I::refuse_embedding, kOpenAi},
      {"/v1/score", "POST", &I::not_built, kOpenAi},
      {"/v1/decisions", "POST", &I::not_built, kOpenAi},
      {"/v1/systemone", "POST", &I::not_built, kOpenAi},
      {"/v1/responses", "POST", &I::responses, kResponses, false, true},
      {"/v1/responses/*", "GET", &I::find_response, kResponses},
      {"/v1/responses/*", "POST", &I::cancel_response, kResponses},
      {"/v1/messages", "POST", &I::messages, kAnthropic, false, true},
      {"/api/chat", "POST", &I::ollama_chat, kOllama, false, true},
      {"/api/generate", "POST", &I::ollama_generate, kOllama, false, true},
      {"/api/tags", "GET", &I::ollama_tags, kOllama, false, true},
      {"/api/show", "POST", &I::ollama_show, kOllama, false, true},
      {"/api/version", "GET HEAD", &I::ollama_version, kOllama},
      {"/v1/messages/count_tokens", "POST", &I::count_message_tokens, kAnthropic, false, true},
      {"/parse_function_call", "POST", &I::parse_function_call, kOpenAi, false, true},
      {"/separate_reasoning", "POST", &I::separate_reasoning, kOpenAi, false, true},
      {"/", "GET HEAD", &I::root},
  });
  return kRoutes;
}

Api::Impl::Impl(ApiSettings s, MetricsRegistry& r, const MetricBuckets& buckets)
    : settings(std::move(s)),
      registry(r),
      access{settings.api_key, settings.admin_api_key, settings.cors_allow_origins},
      request_log({settings.log_requests, settings.log_requests_level, settings.log_requests_json, settings.log_access,
                   settings.weight_version}),
      created(unix_seconds()) {
  if (settings.enable_metrics) metrics.emplace(registry, settings.served_model_name, buckets);
  const char* generation = std::getenv("SGLANG_ENABLE_HEALTH_ENDPOINT_GENERATION");
  if (generation)
    health_generates = std::string_view(generation) != "0" && !equals_ignore_case_ascii(generation, "false");
  if (settings.response_store) stored_responses = std::make_unique<ResponseStore>();
  prep = std::make_unique<TaskPool>(settings.prep_threads, kMaxPrepQueue, "prep");
}

const Api::Impl::Route* Api::Impl::find_route(const HttpRequest& request, bool& path_known) const {
  for (const Route& route : routes()) {
    const bool prefix = route.path.ends_with('*');
    const auto stem = route.path.substr(0, route.path.size() - (prefix ? 1 : 0));
    const bool matches =
        prefix ? request.path.starts_with(stem) && request.path.size() > stem.size() : request.path == stem;
    if (!matches) continue;
    path_known = true;
    if (method_listed(route.methods, request.method)) return &route;
  }
  return nullptr;
}

ReplyPtr Api::Impl::decorate(const HttpRequest& request, std::string_view endpoint, ReplyPtr reply) {
  auto headers = access.cors_headers(request);
  const RequestLog* log = request_log.access() ? &request_log : nullptr;
  if (headers.empty() && !metrics && !log) return reply;
  return watch_reply(std::move(reply), request, std::move(headers),
                     {metrics ? &registry : nullptr, std::string(endpoint), &http_active, log});
}

void Api::Impl::dispatch(HttpRequest request, ReplyPtr reply) {
  bool path_known = false;
  const Route* route = find_route(request, path_known);
  reply = decorate(request, route ? route->path : "other", std::move(reply));
  if (!access.key_opens(request, route && route->administrative)) return send_error(*reply, unauthorized());
  if (request.method == "OPTIONS" && !route) {
    const std::string* origin = request.header("Origin");
    const bool allowed = origin && access.origin_listed(*origin);
    return reply->send(
        {allowed ? 200 : 400, "text/plain; charset=utf-8", allowed ? "OK" : "Disallowed CORS origin", {}});
  }
  if (!access.origin_may_call(request)) return send_error(*reply, forbidden());
  if (!route) {
    if (!path_known) return send_error(*reply, unknown_path(request.path));
    return send_error(*reply, wrong_method(request.method, request.path));
  }
  if (route->needs_model && !model())
    return send_error(*reply, request_error(route->style, {Errc::kUnavailable, "The server is starting."}));
  (this->*route->handler)(std::move(request), std::move(reply));
}

void Api::Impl::on_prep(ErrorStyle style, const ReplyPtr& reply, std::function<void()> work) {
  if (prep->submit(std::move(work))) return;
  send_error(*reply, request_error(style, {Errc::kOverloaded, "The request queue is full."}));
}

void Api::Impl::generate_with(Prepare prepare, ErrorStyle style, HttpRequest request, ReplyPtr reply) {
  const auto received = std::chrono::steady_clock::now();
  if (!accepts_requests())
    return send_error(*reply, request_error(style, {Errc::kUnavailable, "The server is shutting down."}));
  const bool any_type = style == ErrorStyle::kNative || style == ErrorStyle::kOllama;
  if (!any_type && !is_json_content(request))
    return send_error(*reply, schema_error(style, {Errc::kInvalidArgument,
                                                   "Unsupported Media Type: Only 'application/json' is allowed"}));
  if (const auto ok = check_routing_headers(request); !ok) return send_error(*reply, request_error(style, ok.error()));
  const SglextOptions sglext = sglext_of_headers(request);
  const int io = reply->io_index();
  auto job = std::make_shared<GenerationJob>(job_context, *wakers[static_cast<size_t>(io)], reply);
  auto gone = std::make_shared<std::atomic<bool>>(false);
  reply->on_disconnect([weak = std::weak_ptr(job), gone] {
    gone->store(true);
    if (const auto alive = weak.lock()) alive->on_disconnect();
  });
  // std::function copies, so the body and what comes out of it travel by shared pointer.
  auto body_text = std::make_shared<std::string>(std::move(request.body));
  const RequestOrigin origin{request.method, request.path, request.peer};
  on_prep(style, reply, [this, prepare, style, received, io, job, reply, body_text, sglext, origin, gone] {
    RequestStage stage = RequestStage::kSchema;
    bool native_stream = false;
    auto prepared = [&]() -> Result<PreparedGeneration> {
      CARAT_TRY(const auto body, parse_json(*body_text));
      std::string().swap(*body_text);  // megabytes, with media
      native_stream = style == ErrorStyle::kNative && native_streams(body);
      PrepareContext context = prepare_context();
      context.sglext = sglext;
      auto ready = prepare(context, body, stage);
      if (request_log.requests())
        request_log.received(origin, body, ready ? ready->prompts : std::vector<PreparedPrompt>{});
      return ready;
    }();
    if (!prepared) {
      const Refusal refusal{prepared.error(), style, stage == RequestStage::kSchema, native_stream};
      return server->post(io, [job, refusal] { job->refuse(refusal); });
    }
    prepared->received = received;
    auto ready = std::make_shared<PreparedGeneration>(std::move(*prepared));
    const auto start = [this, style, io, job, reply, ready, native_stream](const Result<void>& made) {
      if (!made) {
        const Refusal refusal{made.error(), style, false, native_stream};
        return server->post(io, [job, refusal] { job->refuse(refusal); });
      }
      if (ready->background) return run_in_background(io, ready, *reply);
      server->post(io, [job, ready] { job->start(std::move(*ready)); });
    };
    load_media(ready, gone, [this, ready, start](const Result<void>& loaded) {
      if (!loaded) return start(loaded);
      make_plans(grammars.get(), *model(), ready, start);
    });
  });
}

void Api::Impl::load_media(std::shared_ptr<PreparedGeneration> generation,
                           std::shared_ptr<const std::atomic<bool>> cancelled, std::function<void(Result<void>)> done) {
  std::vector<MediaPart> parts;
  for (PreparedPrompt& prompt : generation->prompts)
    for (PlacedMedium& medium : prompt.to_load) parts.push_back(medium.take_part());
  if (parts.empty()) return done({});
  media_pool->load(std::move(parts), std::move(cancelled),
                   [this, generation = std::move(generation), done = std::move(done)](auto loaded) {
                     done([&]() -> Result<void> {
                       CARAT_TRY_VOID(loaded);
                       log_unheard(*generation, *loaded);
                       std::span<const LoadedMedium> left = *loaded;
                       for (PreparedPrompt& prompt : generation->prompts) {
                         if (prompt.to_load.empty()) continue;
                         const size_t count = prompt.to_load.size();
                         CARAT_TRY_VOID(add_loaded_media(prompt, left.first(count), *model(), settings));
                         left = left.subspan(count);
                       }
                       return {};
                     }());
                   });
}

Api::Api(ApiSettings settings, MetricsRegistry& registry, const MetricBuckets& buckets)
    : impl_(std::make_unique<Impl>(std::move(settings), registry, buckets)) {}
Api::~Api() = default;

HttpHandler Api::handler() {
  return [impl = impl_.get()](HttpRequest request, ReplyPtr reply) {
    impl->dispatch(std::move(request), std::move(reply));
  };
}

HttpErrorFormatter Api::error_formatter() {
  return [](int status, std::string_view reason) {
    const ErrorReply error = http_error(status, reason);
    return HttpResponse{error.status, "application/json", error.body, {}};
  };
}

void Api::attach_server(HttpServer& server) {
  impl_->server = &server;
  for (int i = 0; i < server.num_io_threads(); ++i) impl_->wakers.push_back(std::make_unique<IoWaker>(server, i));
}

void Api::publish(const ServedModel& model) {
  Impl& impl = *impl_;
  impl.served = model;
  impl.job_context = {model.engine, model.tokenizer, impl.metrics ? &*impl.metrics : nullptr, &impl.served.markers,
                      &impl.request_log};
  impl.served.plain_plan = plain_plan(*model.tokenizer, model.markers);
  impl.media_loader = std::make_unique<MediaLoader>(*model.config, impl.settings.media,
                                                    impl.metrics ? impl.metrics->media : MediaMetrics{});
  impl.media_pool = std::make_unique<MediaPool>(
      [loader = impl.media_loader.get()](const MediaPart& part, const auto& stopped) {
        return loader->load(part, stopped);
      },
      impl.settings.media);
  if (impl.settings.grammar_backend)
    impl.grammars = std::make_unique<GrammarCompiler>(
        grammar_vocabulary(*model.tokenizer, model.markers, model.config->text.vocab_size), impl.settings.grammar,
        impl.metrics ? impl.metrics->grammar : GrammarMetrics{});
  impl.model_.store(&impl.served, std::memory_order_release);
}

void Api::set_state(ServingState state) {
  impl_->state.store(state);
  if (state == ServingState::kDraining && impl_->media_pool) impl_->media_pool->stop_fetching();
}
ServingState Api::state() const { return impl_->state.load(); }

void Api::tick() {
  if (!impl_->model()) return;
  impl_->expire_probes();
  std::vector<PendingFlush> waiting;
  {
    const std::lock_guard lock(impl_->waiting_mutex);
    waiting.swap(impl_->flushes);
  }
  for (const PendingFlush& flush : waiting) impl_->try_flush(flush);
}

void Api::stop() {
  impl_->prep.reset();
  impl_->media_pool.reset();
  impl_->grammars.reset();
}

}  // namespace carat
