#pragma once
// An HTTP/1.1 server with limits and server-sent events. Knows nothing of language models. Boost stays inside
// http/*.cc.

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace carat {

struct HttpHeader {
  std::string name, value;
};

struct HttpRequest {
  std::string method;  ///< upper case
  std::string path;    ///< percent-decoded, without the query
  std::string query;   ///< as sent, without "?"
  std::vector<HttpHeader> headers;
  std::string body;
  std::string peer;  ///< "127.0.0.1:4711"

  /// The first header of that name (case-insensitive), or null.
  const std::string* header(std::string_view name) const;
  /// A query parameter's percent-decoded value, or the fallback.
  std::string query_value(std::string_view name, std::string_view fallback = "") const;
};

struct HttpResponse {
  int status = 200;
  std::string content_type = "application/json";
  std::string body = {};
  std::vector<HttpHeader> headers = {};
};

/// The way back to one client. Any thread may call; work is passed to the connection's io thread. Exactly one of send()
/// or begin_stream()..end() answers; a reply that dies unanswered sends 500, one that dies within a stream cuts the
/// connection, so that the client sees an incomplete answer. Calls after the answer or after a disconnect do nothing.
/// Status line, Date, Content-Length, Transfer-Encoding and Connection are ours; `headers` adds the others. The answer
/// to HEAD is written like that to GET, only its body is left out.
class HttpReply {
 public:
  virtual ~HttpReply() = default;
  virtual void send(HttpResponse response) = 0;
  virtual void begin_stream(HttpResponse head) = 0;  ///< `body` is the first chunk, may be empty
  /// Appends to the stream. Chunks written within one posted piece of work, or while the socket is full, are merged. A
  /// client that lets more than HttpServerOptions::max_stream_backlog bytes pile up is disconnected.
  virtual void write(std::string_view chunk) = 0;
  virtual void end() = 0;
  /// Bytes of the stream that the socket has not taken yet: a writer whose chunks repeat earlier ones waits instead of
  /// piling them up.
  virtual int64_t backlog() const = 0;
  /// Called once, on the io thread, never from inside another call, if the client goes away before the answer is
  /// complete (soon, if it already has). A client that only half-closes counts as gone: the two look alike.
  virtual void on_disconnect(std::function<void()> callback) = 0;
  /// Which io thread the connection lives on: HttpServer::post(io_index, ...) runs there.
  virtual int io_index() const = 0;
};

/// What the server itself answers when a request never reaches the handler (malformed, too large, too slow), and when a
/// handler drops its reply. Any io thread.
using HttpErrorFormatter = std::function<HttpResponse(int status, std::string_view reason)>;

struct HttpServerOptions {
  std::string host = "127.0.0.1";
  int port = 30000;  ///< 0: any free port
  int io_threads = 1;
  int64_t max_body_bytes = 64 << 20;  ///< more: 413
  int max_header_bytes = 64 << 10;    ///< more: 431
  int max_connections = 10000;        ///< more: accepting pauses
  int64_t max_stream_backlog = 32 << 20;
  int idle_timeout_s = 75;                 ///< between requests
  int read_timeout_s = 60;                 ///< a whole request, from its first byte; 408
  int write_timeout_s = 60;                ///< no progress of a write
  HttpErrorFormatter error_response = {};  ///< empty: plain text
};

/// Runs on the connection's io thread; must not block. Answers now or later through `reply`. Any method reaches it,
/// HEAD and OPTIONS included.
using HttpHandler = std::function<void(HttpRequest request, std::shared_ptr<HttpReply> reply)>;

class HttpServer {
 public:
  /// Binds, listens, starts the io threads. Errors: kIo with address and reason (in use, no permission, unknown host).
  static Result<std::unique_ptr<HttpServer>> start(HttpServerOptions options, HttpHandler handler);
  /// Closes everything (open requests see a disconnect) and joins.
  virtual ~HttpServer() = default;
  virtual int port() const = 0;
  virtual int num_io_threads() const = 0;
  /// Runs `work` on an io thread, never inside this call. Any thread. One posted work that writes to many streams is
  /// the cheapest way to deliver a step: no lock is contended and no chunk is posted by itself.
  virtual void post(int io_index, std::function<void()> work) = 0;
  /// No new connections; open ones finish their current answer and are closed after it.
  virtual void stop_accepting() = 0;
  virtual int num_connections() const = 0;
  virtual int num_active_requests() const = 0;
};

}  // namespace carat
