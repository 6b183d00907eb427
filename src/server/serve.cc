#include "server/serve.h"

#include <sys/resource.h>

#include <chrono>
#include <cinttypes>
#include <cstdlib>
#include <filesystem>
#include <optional>
#include <thread>

#include "api/api.h"
#include "base/log.h"
#include "base/str.h"
#include "http/server.h"
#include "server/model_source.h"
#include "server/served.h"
#include "server/signals.h"
#include "server/start_engine.h"
#include "server/warmup.h"

namespace carat {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::milliseconds kTick{100};
/// Health is red this long before requests are refused, so that balancers notice first.
constexpr std::chrono::milliseconds kRedTime{500};
/// Streams that are still open then are cut.
constexpr std::chrono::seconds kDrainTime{300};
/// For answers to leave after the engine has failed.
constexpr std::chrono::seconds kAbandonTime{5};
/// For the last bytes of answers to leave.
constexpr std::chrono::milliseconds kFlushTime{200};
constexpr std::chrono::seconds kWarmupTime{600};
/// On the CPU the prompt's pass has touched all that a decode step uses, and each step costs a read of the weights.
constexpr int kCpuWarmupTokens = 1;
constexpr int kGpuWarmupTokens = 8;

void raise_open_file_limit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == limit.rlim_max) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

HttpServerOptions http_options(const ServerOptions& o) {
  HttpServerOptions http;
  http.host = o.host;
  http.port = o.port;
  http.io_threads = o.io_threads;
  http.max_body_bytes = static_cast<int64_t>(o.max_body_mb) << 20;
  http.max_connections = o.max_connections;
  http.error_response = Api::error_formatter();
  return http;
}

/// Everything that runs, in the order in which it must be taken down.
class Server {
 public:
  Server(const ServerOptions& options, std::string launch_command, SignalWatch& signals)
      : options_(options), launch_command_(std::move(launch_command)), signals_(signals) {}

  ~Server() {
    if (engine_) engine_->stop();
    if (api_) api_->stop();
    http_.reset();
    api_.reset();
    engine_.reset();
  }

  Result<void> start() {
    CARAT_TRY_VOID(open());
    CARAT_TRY_VOID(load());
    signals_.serving();
    if (!options_.skip_server_warmup)
      CARAT_TRY_VOID(send_warmup(options_.host, http_->port(), options_.api_key,
                                 on_gpu_ ? kGpuWarmupTokens : kCpuWarmupTokens, kWarmupTime));
    api_->set_state(ServingState::kReady);
    announce();
    return {};
  }

  /// Until the first signal, or until the engine has failed.
  void run() {
    while (signals_.received() == 0 && !engine_->failure()) {
      std::this_thread::sleep_for(kTick);
      api_->tick();
      watch_engine();
    }
  }

  /// Lets go of the clients in an orderly way. The exit status: 1 if the engine has failed.
  int end() {
    if (!engine_->failure()) drain();
    if (const auto failure = engine_->failure()) {
      abandon(*failure);
      return 1;
    }
    log_info("Stopped.");
    return 0;
  }

 private:
  void drain() {
    log_info("Signal ", signals_.received(), ": health is red, ", http_->num_active_requests(),
             " requests are being answered. A second signal ends at once.");
    api_->set_state(ServingState::kRed);
    engine_->resume();  // a paused one would never end
    keep_serving_until([](auto waited) { return waited >= kRedTime; });
    api_->set_state(ServingState::kDraining);
    keep_serving_until([this](auto waited) { return http_->num_active_requests() == 0 || waited >= kDrainTime; });
    http_->stop_accepting();
    engine_->stop();
    std::this_thread::sleep_for(kFlushTime);
  }

  /// The engine has ended all requests with its error already; the answers have to leave.
  void abandon(const Error& failure) {
    api_->set_state(ServingState::kDraining);
    log_error(failure.message,
              " All requests were ended with an error (503 where nothing was sent yet); the process ends.");
    keep_serving_until([this](auto waited) { return http_->num_active_requests() == 0 || waited >= kAbandonTime; });
    http_->stop_accepting();
    std::this_thread::sleep_for(kFlushTime);
  }

  /// Configuration, tokenizer and port: what can go wrong soon goes wrong first.
  Result<void> open() {
    CARAT_TRY_VOID(check_media_folder());
    CARAT_TRY(model_, open_model(options_));
    MetricBuckets buckets{options_.bucket_time_to_first_token,
                          options_.bucket_inter_token_latency,
                          options_.bucket_e2e_request_latency,
                          {},
                          {}};
    if (options_.collect_tokens_histogram) {
      buckets.prompt_tokens = options_.prompt_tokens_buckets;
      buckets.generation_tokens = options_.generation_tokens_buckets;
    }
    api_ = std::make_unique<Api>(api_settings(options_, model_, launch_command_), registry_, buckets);
    CARAT_TRY(http_, HttpServer::start(http_options(options_), api_->handler()));
    api_->attach_server(*http_);
    log_info("Listening on http://", options_.host, ":", http_->port(), "; loading ", model_.name, ".");
    return {};
  }

  Result<void> check_media_folder() const {
    const auto& folder = options_.media.fetch.allowed_local_path;
    std::error_code error;
    if (folder.empty() || std::filesystem::is_directory(folder, error)) return {};
    return Error{Errc::kNotFound, str_cat("--allowed-local-media-path: '", folder.string(), "' is no folder")};
  }

  Result<void> load() {
    CARAT_TRY(auto started, start_engine(options_, model_));
    engine_ = std::move(started.engine);
    on_gpu_ = started.on_gpu;
    const double seconds = std::chrono::duration<double>(Clock::now() - started_).count();
    api_->publish(served_model(model_, *engine_, on_gpu_, started.kv_bytes, seconds));
    return {};
  }

  void announce() const {
    const std::string url = str_cat("http://", reachable_host(options_.host), ":", http_->port());
    log_info("Try: curl ", url, "/v1/chat/completions -H 'Content-Type: application/json' ",
             options_.api_key ? "-H 'Authorization: Bearer KEY' " : "",
             "-d '{\"messages\": [{\"role\": \"user\", \"content\": \"Hello\"}], \"max_tokens\": 64}'");
    log_info("The server is fired up and ready to roll!");
  }

  template <class Done>
  void keep_serving_until(Done done) {
    const auto start = Clock::now();
    while (!done(Clock::now() - start)) {
      std::this_thread::sleep_for(std::min<std::chrono::milliseconds>(kTick, std::chrono::milliseconds(20)));
      api_->tick();
      watch_engine();
    }
  }

  /// A step that never ends cannot be mended from inside: the supervisor restarts us.
  void watch_engine() const {
    if (options_.watchdog_timeout_s <= 0 || engine_->stats().num_running == 0) return;
    const auto now = std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now().time_since_epoch()).count();
    const double age_s = static_cast<double>(now - engine_->heartbeat_ns()) * 1e-9;
    if (age_s < options_.watchdog_timeout_s) return;
    log_error("Watchdog: no step has ended for ", age_s, " s (--watchdog-timeout ", options_.watchdog_timeout_s,
              "). The process ends.");
    std::abort();
  }

  const ServerOptions& options_;
  const std::string launch_command_;
  SignalWatch& signals_;
  const Clock::time_point started_ = Clock::now();
  LoadedModel model_;
  MetricsRegistry registry_;
  std::unique_ptr<Api> api_;
  std::unique_ptr<HttpServer> http_;
  std::unique_ptr<Engine> engine_;
  bool on_gpu_ = false;
};

}  // namespace

int serve(const ServerOptions& options, const std::string& launch_command) {
  set_log_level(options.log_level);
  for (const std::string& warning : options.warnings) log_warning(warning);
  if (const auto ok = check_supported(options); !ok) {
    log_error(ok.error().message);
    return 1;
  }
  raise_open_file_limit();
  SignalWatch signals;
  Server server(options, launch_command, signals);
  if (const auto started = server.start(); !started) {
    log_error(started.error().message);
    return 1;
  }
  server.run();
  return server.end();
}

}  // namespace carat
