#pragma once
// The way back to a client with what every answer gets: CORS headers, HTTP metrics, a line in the access log.

#include <atomic>
#include <memory>
#include <vector>

#include "api/request_log.h"
#include "base/metrics.h"
#include "http/server.h"

namespace carat {

/// What a WatchedReply reports to; outlives it.
struct ReplyWatch {
  MetricsRegistry* registry = nullptr;  ///< null: nothing is counted
  std::string endpoint;                 ///< a route's path, for labels: clients must not be able to invent series
  std::atomic<int>* active = nullptr;
  const RequestLog* log = nullptr;  ///< null: no access log
};

std::shared_ptr<HttpReply> watch_reply(std::shared_ptr<HttpReply> reply, const HttpRequest& request,
                                       std::vector<HttpHeader> headers, ReplyWatch watch);

}  // namespace carat
