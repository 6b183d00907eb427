#pragma once
// A small HTTP/1.1 client (plain http) for our own programs. Boost stays inside client/*.cc.

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "http/response_parser.h"

namespace carat {

struct HttpUrl {
  std::string host;
  int port = 80;
  std::string path;  ///< without a slash at the end; "" for the root

  /// "127.0.0.1:30000", "[::1]:30000".
  std::string authority() const;
};
/// "http://host[:port][/path]"; a missing scheme means http. Errors: kInvalidArgument, kUnsupported for https.
Result<HttpUrl> parse_http_url(std::string_view url);

struct HttpClientOptions {
  double connect_timeout_s = 10;
  double idle_timeout_s = 600;  ///< nothing came for so long
};

struct HttpClientRequest {
  std::string method = "GET";
  std::string target = "/";  ///< appended to the base's path
  std::vector<HttpHeader> headers = {};
  std::string body = {};  ///< sent as application/json unless `headers` says otherwise
};

struct HttpClientResponse {
  HttpResponseHead head;
  std::string body;
  int status() const { return head.status; }
};

/// What an answer brings, in this order: on_head once, on_data often, on_done once. If the request fails before a head
/// came, only on_done.
struct HttpClientCallbacks {
  std::function<void(const HttpResponseHead&)> on_head;
  std::function<void(std::string_view)> on_data;
  std::function<void(Result<void>)> on_done;
};

/// One connection to one server, kept alive between requests; blocks. Errors: kIo with address and reason, kUnavailable
/// for time-outs, kCancelled. A status like 404 is an answer, not an error.
class HttpClient {
 public:
  explicit HttpClient(HttpUrl base, HttpClientOptions options = {});
  ~HttpClient();
  HttpClient(HttpClient&&) noexcept;

  Result<HttpClientResponse> request(const HttpClientRequest& request);
  /// Hands each server-sent event to on_event(name, data) as it comes, "[DONE]" included. An answer that is no event
  /// stream is returned as by request(). `stop`, where given, ends the request with kCancelled soon after it turns
  /// true; so does an on_event that returns false.
  Result<HttpClientResponse> stream(const HttpClientRequest& request,
                                    const std::function<bool(std::string_view name, std::string_view data)>& on_event,
                                    const std::atomic<bool>* stop = nullptr);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// Many requests at once to one server: a few threads, a pool of kept connections.
class HttpClientPool {
 public:
  HttpClientPool(HttpUrl base, HttpClientOptions options, int num_threads);
  /// Cancels what is open, then joins.
  ~HttpClientPool();
  /// Any thread, callbacks included. The callbacks of one request run on one thread.
  void send(const HttpClientRequest& request, HttpClientCallbacks callbacks);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace carat
