#pragma once
// The HTTP API: routes, keys, and the life of requests from body to answer. Source: spec api.md.

#include <functional>
#include <memory>
#include <string_view>

#include "api/api_metrics.h"
#include "api/served_model.h"
#include "base/metrics.h"
#include "http/server.h"

namespace carat {

/// What /health and new requests get.
enum class ServingState {
  kStarting,  ///< health is red; generation is refused until there is a model, then served (warm-up)
  kReady,
  kRed,       ///< about to stop: health is red, requests are still served
  kDraining,  ///< new requests are refused, running ones end
};

/// Thread-safe where not said otherwise. Handlers run on io threads, preparation on a task pool of its own.
class Api {
 public:
  Api(ApiSettings settings, MetricsRegistry& registry, const MetricBuckets& buckets);
  ~Api();

  HttpHandler handler();
  /// The body of what the HTTP server itself refuses.
  static HttpErrorFormatter error_formatter();
  /// Before publish(); `server` outlives the engine.
  void attach_server(HttpServer& server);
  /// Starts serving `model`. Once; what it points to outlives the requests.
  void publish(const ServedModel& model);
  void set_state(ServingState state);
  ServingState state() const;
  /// Called a few times a second by the main thread: time-outs of probes, waiting flushes, gauges.
  void tick();
  /// Ends preparation: joins its threads. Call when the engine has stopped and before the server goes.
  void stop();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace carat
