#pragma once
// What the log says about requests: a line for each HTTP answer, and with --log-requests what came in and what went
// out, as text or as one JSON object per line.

#include <atomic>
#include <chrono>
#include <optional>
#include <span>
#include <string>

#include "api/generation.h"
#include "base/json.h"
#include "http/server.h"

namespace carat {

/// Where a request came from; what is left of an HttpRequest when its body has been parsed.
struct RequestOrigin {
  std::string method, path, peer;
};

/// Any thread.
class RequestLog {
 public:
  struct Settings {
    bool requests = false;  ///< --log-requests
    int level = 2;          ///< 0 identity, 1 also parameters, 2 also texts up to 2,048 bytes each, 3 everything
    bool json = false;
    bool access = true;  ///< a line per HTTP answer; health checks and metrics only at debug level
    std::string weight_version = "default";
  };
  explicit RequestLog(Settings settings) : access_(settings.access), weight_version_(settings.weight_version) {
    configure({settings.requests, settings.level, settings.json});
  }

  struct Change {
    std::optional<bool> requests;
    std::optional<int> level;
    std::optional<bool> json;
  };
  /// While serving, too: POST /configure_logging.
  void configure(const Change& change);

  bool requests() const { return requests_.load(std::memory_order_relaxed); }
  /// `prompts`: what the request became; empty if it was refused.
  void received(const RequestOrigin& origin, const Json& body, std::span<const PreparedPrompt> prompts) const;
  void finished(const Tokenizer& tokenizer, std::span<const Prompt> prompts) const;

  bool access() const { return access_; }
  void answered(const RequestOrigin& origin, int status, std::chrono::steady_clock::duration took) const;

 private:
  void write(std::string_view event, std::string_view title, Json members) const;

  std::atomic<bool> requests_{false}, json_{false};
  std::atomic<int> level_{2};
  const bool access_;
  const std::string weight_version_;
};

}  // namespace carat
