#pragma once
// One connection of the client, asynchronous; shared by the blocking client and the pool.

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "client/http_client.h"

namespace carat {

/// Lives on the thread that runs `context`; one request at a time.
class ClientConnection : public std::enable_shared_from_this<ClientConnection> {
 public:
  ClientConnection(boost::asio::io_context& context, const HttpUrl& base, const HttpClientOptions& options);

  /// The callbacks run later, never inside this call. on_done may send again.
  void send(const HttpClientRequest& request, HttpClientCallbacks callbacks);
  /// Ends the request in flight with kCancelled and closes.
  void cancel();

 private:
  using Clock = std::chrono::steady_clock;
  void connect();
  void write();
  void wait_readable();
  void read();
  void received(std::string_view bytes);
  void watch();
  void fail(Error error);
  void finish(Result<void> result);
  void close();
  Error io_error(std::string_view what, const boost::system::error_code& ec) const;

  boost::asio::io_context& context_;
  const HttpUrl base_;
  const HttpClientOptions options_;
  boost::asio::ip::tcp::socket socket_;
  boost::asio::steady_timer timer_;
  bool watching_ = false;
  uint64_t generation_ = 0;  // of the socket: what an older one still reports is void

  std::string bytes_;  // of the request
  std::optional<ResponseParser> parser_;
  HttpClientCallbacks callbacks_;
  bool to_head_ = false;
  bool active_ = false;
  bool connected_ = false;
  bool reused_ = false;  // an old connection, which the server may have closed meanwhile
  Clock::time_point last_activity_;
};

}  // namespace carat
