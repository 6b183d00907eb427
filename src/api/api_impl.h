#pragma once
// The inside of Api, shared by the files that hold its routes.

#include <atomic>
#include <mutex>
#include <vector>

#include "api/access.h"
#include "api/api.h"
#include "api/job.h"
#include "api/media_pool.h"
#include "api/prepare.h"
#include "api/request_log.h"
#include "base/task_pool.h"

namespace carat {

/// Requests that wait for a prep thread; more get 503.
inline constexpr size_t kMaxPrepQueue = 65536;
/// How long /health waits for the engine's answer.
inline constexpr std::chrono::seconds kHealthTimeout{20};

using ReplyPtr = std::shared_ptr<HttpReply>;

/// A health check's one-token generation. Any answer of the engine makes it green.
class HealthProbe final : public NewsListener {
 public:
  explicit HealthProbe(ReplyPtr reply)
      : reply_(std::move(reply)), deadline_(std::chrono::steady_clock::now() + kHealthTimeout) {}
  void watch(std::shared_ptr<ListenedStream> stream) { stream_ = std::move(stream); }
  void on_news(size_t) override { answer(200); }
  void answer(int status);
  bool expired() const { return std::chrono::steady_clock::now() >= deadline_; }
  bool answered() const { return answered_.load(); }
  int io_index() const { return io_index_; }

 private:
  ReplyPtr reply_;
  const int io_index_ = reply_->io_index();
  std::shared_ptr<ListenedStream> stream_;
  const std::chrono::steady_clock::time_point deadline_;
  std::atomic<bool> answered_ = false;
};

/// A /flush_cache that waits for idleness.
struct PendingFlush {
  ReplyPtr reply;
  std::chrono::steady_clock::time_point deadline;
};

/// What a text route answers: a body, or one made of a prompt's ids once its media are loaded.
struct AnswerOfIds {
  PromptTokens prompt;
  std::function<Json(std::span<const TokenId>)> body;
};
using TextAnswer = std::variant<Json, AnswerOfIds>;

struct Api::Impl {
  Impl(ApiSettings s, MetricsRegistry& r, const MetricBuckets& buckets);

  using Member = void (Impl::*)(HttpRequest, ReplyPtr);
  struct Route {
    std::string_view path;
    std::string_view methods;  ///< "GET POST"
    Member handler;
    ErrorStyle style = ErrorStyle::kPlain;
    bool administrative = false;
    bool needs_model = false;
  };
  static std::span<const Route> routes();

  void dispatch(HttpRequest request, ReplyPtr reply);
  const Route* find_route(const HttpRequest& request, bool& path_known) const;
  ReplyPtr decorate(const HttpRequest& request, std::string_view endpoint, ReplyPtr reply);

  // Generation: api.cc
  using Prepare = Result<PreparedGeneration> (*)(const PrepareContext&, const Json&, RequestStage&);
  void chat(HttpRequest request, ReplyPtr reply) {
    generate_with(&prepare_chat, ErrorStyle::kOpenAi, std::move(request), std::move(reply));
  }
  void completions(HttpRequest request, ReplyPtr reply) {
    generate_with(&prepare_completion, ErrorStyle::kOpenAi, std::move(request), std::move(reply));
  }
  void responses(HttpRequest request, ReplyPtr reply) {
    generate_with(&prepare_responses, ErrorStyle::kResponses, std::move(request), std::move(reply));
  }
  void messages(HttpRequest request, ReplyPtr reply) {
    generate_with(&prepare_messages, ErrorStyle::kAnthropic, std::move(request), std::move(reply));
  }
  void ollama_chat(HttpRequest request, ReplyPtr reply) {
    generate_with(&prepare_ollama_chat, ErrorStyle::kOllama, std::move(request), std::move(reply));
  }
  void ollama_generate(HttpRequest request, ReplyPtr reply) {
    generate_with(&prepare_ollama_generate, ErrorStyle::kOllama, std::move(request), std::move(reply));
  }
  void native(HttpRequest request, ReplyPtr reply) {
    generate_with(&prepare_native, ErrorStyle::kNative, std::move(request), std::move(reply));
  }
  void vertex(HttpRequest request, ReplyPtr reply) {
    generate_with(&prepare_vertex, ErrorStyle::kNative, std::move(request), std::move(reply));
  }
  void generate_with(Prepare prepare, ErrorStyle style, HttpRequest request, ReplyPtr reply);
  /// Loads the media that the prompts wait for and settles the prompts; then calls `done` once, at once if there are
  /// none, else on a media thread. `cancelled`: the client has gone. Errors: as MediaPool::load(), add_loaded_media().
  void load_media(std::shared_ptr<PreparedGeneration> generation, std::shared_ptr<const std::atomic<bool>> cancelled,
                  std::function<void(Result<void>)> done);
  /// Runs `work` on a prep thread, or answers 503.
  void on_prep(ErrorStyle style, const ReplyPtr& reply, std::function<void()> work);

  // Stored responses: responses_routes.cc
  /// Answers the client at once and lets the run go on without it. Any thread.
  void run_in_background(int io, const std::shared_ptr<PreparedGeneration>& prepared, HttpReply& reply);
  void find_response(HttpRequest request, ReplyPtr reply);
  void cancel_response(HttpRequest request, ReplyPtr reply);
  PrepareContext prepare_context() const { return {*model(), settings, *media_loader, {}, stored_responses.get()}; }

  // What Ollama's clients ask before they generate: ollama_routes.cc
  void ollama_tags(HttpRequest, ReplyPtr reply);
  void ollama_show(HttpRequest, ReplyPtr reply);
  void ollama_version(HttpRequest, ReplyPtr reply);

  // Small endpoints: admin_routes.cc
  void root(HttpRequest, ReplyPtr reply);
  void models(HttpRequest, ReplyPtr reply);
  void model_card(HttpRequest request, ReplyPtr reply);
  void model_info(HttpRequest, ReplyPtr reply);
  void server_info(HttpRequest, ReplyPtr reply);
  void flush_cache(HttpRequest request, ReplyPtr reply);
  void abort_request(HttpRequest request, ReplyPtr reply);
  void pause_generation(HttpRequest request, ReplyPtr reply);
  void continue_generation(HttpRequest, ReplyPtr reply);
  void configure_logging(HttpRequest request, ReplyPtr reply);
  void set_internal_state(HttpRequest, ReplyPtr reply);
  void start_profile(HttpRequest, ReplyPtr reply);
  void stop_profile(HttpRequest, ReplyPtr reply);
  void refuse_embedding(HttpRequest, ReplyPtr reply);
  void not_built(HttpRequest request, ReplyPtr reply);
  void try_flush(const PendingFlush& flush);
  Json card(const ServedModel& model) const;
  Json internal_state(const ServedModel& model) const;

  // Load: load_routes.cc
  void loads(HttpRequest request, ReplyPtr reply);
  void metrics_text(HttpRequest request, ReplyPtr reply);
  void update_engine_metrics();

  // Texts: text_routes.cc
  void tokenize(HttpRequest request, ReplyPtr reply);
  void detokenize(HttpRequest request, ReplyPtr reply);
  void count_message_tokens(HttpRequest request, ReplyPtr reply);
  void parse_function_call(HttpRequest request, ReplyPtr reply);
  void separate_reasoning(HttpRequest request, ReplyPtr reply);
  using TextFunction = Result<TextAnswer> (*)(const PrepareContext&, const Json&, RequestStage&);
  void answer_of_ids(ErrorStyle style, AnswerOfIds answer, std::shared_ptr<const std::atomic<bool>> cancelled,
                     const ReplyPtr& reply);
  void answer_text(ErrorStyle style, TextFunction function, HttpRequest& request, const ReplyPtr& reply);

  // Health: health_routes.cc
  void health(HttpRequest request, ReplyPtr reply);
  void health_generate(HttpRequest, ReplyPtr reply);
  void ready(HttpRequest, ReplyPtr reply);
  void probe(ReplyPtr reply);
  void expire_probes();

  const ServedModel* model() const { return model_.load(std::memory_order_acquire); }
  bool accepts_requests() const { return model() && state.load() != ServingState::kDraining; }

  const ApiSettings settings;
  MetricsRegistry& registry;
  AccessRules access;
  RequestLog request_log;
  std::optional<ApiMetrics> metrics;
  std::mutex engine_metrics_mutex;  ///< update_engine_metrics(): one at a time
  std::atomic<ServingState> state = ServingState::kStarting;
  std::atomic<int> http_active = 0;
  const int64_t created;
  bool health_generates = true;

  HttpServer* server = nullptr;
  std::vector<std::unique_ptr<IoWaker>> wakers;  ///< one per io thread
  ServedModel served;
  std::atomic<const ServedModel*> model_ = nullptr;
  JobContext job_context;
  std::unique_ptr<ResponseStore> stored_responses;  ///< null: not enabled
  std::unique_ptr<TaskPool> prep;
  std::unique_ptr<MediaLoader> media_loader;  ///< set by publish(), as the next
  std::unique_ptr<MediaPool> media_pool;
  std::unique_ptr<GrammarCompiler> grammars;  ///< set by publish(); null without a grammar backend

  std::mutex waiting_mutex;  ///< guards the next two
  std::vector<std::shared_ptr<HealthProbe>> probes;
  std::vector<PendingFlush> flushes;
};

/// Reads a query or body value as seconds in [0, 3600].
std::optional<double> parse_timeout(std::string_view text);
void send_error(HttpReply& reply, const ErrorReply& error);

}  // namespace carat
