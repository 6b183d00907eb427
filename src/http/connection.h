#pragma once
// One client's socket: reads requests one after the other, hands each to the handler, writes the answers in order.

#include <atomic>
#include <boost/asio/ip/tcp.hpp>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>

#include "http/io_thread.h"
#include "http/request_parser.h"
#include "http/server.h"
#include "http/wire.h"

namespace carat {

/// What the connections of one server share. Any thread.
struct HttpShared {
  HttpServerOptions options;
  HttpHandler handler;
  std::function<void()> on_connection_closed;
  std::atomic<int> num_connections{0};
  std::atomic<int> num_active_requests{0};
  std::atomic<bool> draining{false};

  HttpResponse error_response(int status, std::string_view reason) const;
};

/// Lives on one io thread. The reply methods alone may be called by any thread: they change what is guarded by mutex_
/// and leave the rest to flush(). A call that belongs to an answer names it by its number, so that a reply kept after
/// its end cannot touch the next one.
class Connection : public std::enable_shared_from_this<Connection> {
 public:
  Connection(std::shared_ptr<HttpShared> shared, std::shared_ptr<IoThread> io, boost::asio::ip::tcp::socket socket);

  // The io thread only.
  void start();
  void flush();
  void check_deadline(SteadyClock::time_point now);
  /// No new requests: closes at once if no request has begun, else after the answer.
  void drain();
  void close_now();
  size_t place = 0;  ///< IoThread's

  // The reply's, any thread.
  void send(uint64_t answer, const HttpResponse& response);
  void begin_stream(uint64_t answer, const HttpResponse& head);
  void write(uint64_t answer, std::string_view chunk);
  void end(uint64_t answer);
  void abandon(uint64_t answer);
  void on_disconnect(uint64_t answer, std::function<void()> callback);
  int64_t backlog(uint64_t answer);
  int io_index() const { return io_->index(); }

 private:
  enum class Phase { kReading, kAnswering, kLingering, kClosed };
  enum class AnswerState { kWaiting, kStreaming, kEnded, kBroken };
  struct Answer {
    uint64_t number = 0;
    AnswerState state = AnswerState::kEnded;
    http_wire::Framing framing;
    bool is_head = false;  // of the method HEAD: no body
    std::function<void()> on_disconnect;
  };

  size_t unparsed() const { return input_.size() - input_begin_; }
  void wait_readable();
  void read();
  void take(std::string_view bytes);
  void parse_input();
  void react();
  void dispatch();
  void refuse(int status, std::string_view reason);
  void answer_sent();
  void next_request();
  void linger();
  void wait_writable();
  /// `reset` drops what the system still holds for the client, who then sees a broken connection instead of an end.
  void close(bool reset);

  bool is_open_answer(uint64_t answer) const;
  void append_head(const HttpResponse& response, http_wire::Framing::Body body);
  void append_body(std::string_view bytes);
  void append_answer(const HttpResponse& response);
  /// Applies a change to an answer that is still open, under mutex_; wakes the io thread if it is the first change
  /// since the last flush.
  template <class Change>
  void change(uint64_t answer, const Change& change_answer);

  const std::shared_ptr<HttpShared> shared_;
  const std::shared_ptr<IoThread> io_;

  boost::asio::ip::tcp::socket socket_;
  std::string peer_;
  Phase phase_ = Phase::kReading;
  std::optional<RequestParser> parser_;
  std::string input_;  // read, from input_begin_ on not yet parsed: an unfinished head, or pipelined requests
  size_t input_begin_ = 0;
  bool request_begun_ = false;
  bool continue_sent_ = false;
  bool wants_read_ = false;  // a wait for the socket to become readable is pending
  std::optional<SteadyClock::time_point> deadline_;

  std::string sending_;  // being written; what follows it gathers in out_
  size_t sent_ = 0;
  bool wants_write_ = false;  // the socket is full
  std::optional<SteadyClock::time_point> write_deadline_;

  mutable std::mutex mutex_;  // guards what follows
  std::string out_;
  size_t sending_left_ = 0;  // of sending_, as of the last time the socket was full
  Answer answer_;
  std::string date_;  // of the io thread when the request came
  bool dirty_ = false;
  bool closed_ = false;
};

}  // namespace carat
