#include "http/connection.h"

#include <boost/asio/buffer.hpp>
#include <boost/asio/post.hpp>

#include "base/log.h"
#include "base/str.h"

namespace carat {
namespace {

namespace asio = boost::asio;
using BoostError = boost::system::error_code;

// Requests that a client sends ahead of their turn are kept up to here; then reading pauses.
constexpr size_t kMaxReadAhead = 128 << 10;
// Reads per wake-up, so that one upload does not starve the other connections.
constexpr int kMaxReadsPerTurn = 16;
// How long a client may take to notice that we closed.
constexpr auto kLinger = std::chrono::seconds(2);
constexpr size_t kKeptCapacity = 256 << 10;

bool would_block(const BoostError& ec) { return ec == asio::error::would_block || ec == asio::error::try_again; }

std::string to_text(const asio::ip::tcp::endpoint& peer) {
  const auto address = peer.address().to_string();
  return peer.address().is_v6() ? str_cat("[", address, "]:", peer.port()) : str_cat(address, ":", peer.port());
}

class Reply final : public HttpReply {
 public:
  Reply(std::shared_ptr<Connection> connection, uint64_t answer)
      : connection_(std::move(connection)), answer_(answer) {}
  ~Reply() override { connection_->abandon(answer_); }
  void send(HttpResponse response) override { connection_->send(answer_, response); }
  void begin_stream(HttpResponse head) override { connection_->begin_stream(answer_, head); }
  void write(std::string_view chunk) override { connection_->write(answer_, chunk); }
  void end() override { connection_->end(answer_); }
  void on_disconnect(std::function<void()> callback) override {
    connection_->on_disconnect(answer_, std::move(callback));
  }
  int64_t backlog() const override { return connection_->backlog(answer_); }
  int io_index() const override { return connection_->io_index(); }

 private:
  const std::shared_ptr<Connection> connection_;
  const uint64_t answer_;
};

}  // namespace

HttpResponse HttpShared::error_response(int status, std::string_view reason) const {
  if (options.error_response) return options.error_response(status, reason);
  return {.status = status, .content_type = "text/plain; charset=utf-8", .body = str_cat(reason, "\n")};
}

Connection::Connection(std::shared_ptr<HttpShared> shared, std::shared_ptr<IoThread> io, asio::ip::tcp::socket socket)
    : shared_(std::move(shared)), io_(std::move(io)), socket_(std::move(socket)) {}

// ---- reading ----

void Connection::start() {
  BoostError ec;
  socket_.non_blocking(true, ec);
  socket_.set_option(asio::ip::tcp::no_delay(true), ec);
  const auto peer = socket_.remote_endpoint(ec);
  if (ec) return close(false);
  peer_ = to_text(peer);
  next_request();
}

void Connection::next_request() {
  phase_ = Phase::kReading;
  request_begun_ = false;
  continue_sent_ = false;
  deadline_ = SteadyClock::now() + std::chrono::seconds(shared_->options.idle_timeout_s);
  parser_.emplace(RequestParser::Limits{shared_->options.max_body_bytes, shared_->options.max_header_bytes});
  // Not from here: this may run inside the handler of another request.
  if (unparsed() > 0) asio::post(io_->context(), [self = shared_from_this()] { self->parse_input(); });
  wait_readable();
}

void Connection::wait_readable() {
  if (wants_read_ || phase_ == Phase::kClosed) return;
  if (phase_ == Phase::kAnswering && unparsed() > kMaxReadAhead) return;
  wants_read_ = true;
  // Reading goes on while a request is answered: it is how a disconnect is noticed.
  socket_.async_wait(asio::ip::tcp::socket::wait_read, [self = shared_from_this()](const BoostError& ec) {
    self->wants_read_ = false;
    if (!ec) self->read();
  });
}

void Connection::read() {
  auto& scratch = io_->scratch();
  for (int i = 0; i < kMaxReadsPerTurn; ++i) {
    if (phase_ == Phase::kClosed) return;
    if (phase_ == Phase::kAnswering && unparsed() > kMaxReadAhead) return;
    BoostError ec;
    const size_t size = socket_.read_some(asio::buffer(scratch), ec);
    if (would_block(ec)) break;
    if (ec) return close(false);
    take({scratch.data(), size});
    if (size < scratch.size()) break;
  }
  wait_readable();
}

void Connection::take(std::string_view bytes) {
  if (phase_ == Phase::kLingering || phase_ == Phase::kClosed) return;
  if (phase_ == Phase::kAnswering || unparsed() > 0) {
    input_.erase(0, std::exchange(input_begin_, 0));
    input_ += bytes;
    return parse_input();
  }
  input_.assign(bytes.substr(parser_->feed(bytes)));
  input_begin_ = 0;
  react();
}

void Connection::parse_input() {
  if (phase_ != Phase::kReading || unparsed() == 0) return;
  input_begin_ += parser_->feed(std::string_view(input_).substr(input_begin_));
  react();
}

void Connection::react() {
  switch (parser_->state()) {
    case RequestParser::State::kDone:
      return dispatch();
    case RequestParser::State::kFailed:
      return refuse(parser_->failure_status(), parser_->failure_reason());
    case RequestParser::State::kHead:
    case RequestParser::State::kBody:
      break;
  }
  if (parser_->begun() && !std::exchange(request_begun_, true))
    deadline_ = SteadyClock::now() + std::chrono::seconds(shared_->options.read_timeout_s);
  if (parser_->state() == RequestParser::State::kBody && parser_->wants_continue() &&
      !std::exchange(continue_sent_, true)) {
    {
      const std::lock_guard lock(mutex_);
      out_ += "HTTP/1.1 100 Continue\r\n\r\n";
    }
    flush();
  }
}

void Connection::dispatch() {
  auto request = parser_->take();
  request.peer = peer_;
  phase_ = Phase::kAnswering;
  deadline_.reset();
  ++shared_->num_active_requests;
  uint64_t number = 0;
  {
    const std::lock_guard lock(mutex_);
    number = answer_.number + 1;
    answer_ = {.number = number,
               .state = AnswerState::kWaiting,
               .framing = {.keep_alive = parser_->keep_alive(), .http10 = parser_->http10()},
               .is_head = request.method == "HEAD",
               .on_disconnect = nullptr};
    date_ = io_->date();
  }
  io_->run_turn([&] {
    auto reply = std::make_shared<Reply>(shared_from_this(), number);
    shared_->handler(std::move(request), std::move(reply));
  });
}

void Connection::refuse(int status, std::string_view reason) {
  log_debug("http: ", peer_, " refused with ", status, ": ", reason);
  phase_ = Phase::kAnswering;
  deadline_.reset();
  ++shared_->num_active_requests;
  {
    const std::lock_guard lock(mutex_);
    answer_ = {.number = answer_.number + 1,
               .state = AnswerState::kWaiting,
               .framing = {.keep_alive = false},
               .is_head = false,
               .on_disconnect = nullptr};
    date_ = io_->date();
    append_answer(shared_->error_response(status, reason));
  }
  flush();
}

void Connection::check_deadline(SteadyClock::time_point now) {
  if (write_deadline_ && now > *write_deadline_) {
    log_debug("http: ", peer_, " did not read for ", shared_->options.write_timeout_s, " s");
    return close(true);
  }
  if (!deadline_ || now <= *deadline_) return;
  if (phase_ == Phase::kReading && request_begun_)
    return refuse(408, str_cat("The request did not arrive within ", shared_->options.read_timeout_s, " s."));
  close(false);
}

void Connection::drain() {
  if (phase_ == Phase::kReading && !request_begun_ && unparsed() == 0) close(false);
}

// ---- writing ----

bool Connection::is_open_answer(uint64_t answer) const {
  return answer_.number == answer &&
         (answer_.state == AnswerState::kWaiting || answer_.state == AnswerState::kStreaming);
}

void Connection::append_head(const HttpResponse& response, http_wire::Framing::Body body) {
  using Body = http_wire::Framing::Body;
  auto& framing = answer_.framing;
  framing.body = response.status == 204 || response.status == 304 ? Body::kNone : body;
  if (framing.http10 && framing.body == Body::kChunked) framing.body = Body::kUntilClose;
  if (framing.body == Body::kUntilClose || shared_->draining) framing.keep_alive = false;
  http_wire::append_head(out_, response, framing, date_);
}

void Connection::append_body(std::string_view bytes) {
  using Body = http_wire::Framing::Body;
  if (answer_.is_head || answer_.framing.body == Body::kNone) return;
  if (answer_.framing.body == Body::kChunked)
    http_wire::append_chunk(out_, bytes);
  else
    out_ += bytes;
}

void Connection::append_answer(const HttpResponse& response) {
  append_head(response, http_wire::Framing::Body::kLength);
  append_body(response.body);
  answer_.state = AnswerState::kEnded;
  answer_.on_disconnect = nullptr;
}

template <class Change>
void Connection::change(uint64_t answer, const Change& change_answer) {
  {
    const std::lock_guard lock(mutex_);
    if (closed_ || !is_open_answer(answer)) return;
    change_answer();
    if (std::exchange(dirty_, true)) return;
  }
  io_->schedule_flush(shared_from_this());
}

void Connection::send(uint64_t answer, const HttpResponse& response) {
  change(answer, [&] {
    CARAT_DCHECK(answer_.state == AnswerState::kWaiting, "send() within a stream");
    if (answer_.state == AnswerState::kWaiting) append_answer(response);
  });
}

void Connection::begin_stream(uint64_t answer, const HttpResponse& head) {
  change(answer, [&] {
    CARAT_DCHECK(answer_.state == AnswerState::kWaiting, "begin_stream() called twice");
    if (answer_.state != AnswerState::kWaiting) return;
    append_head(head, http_wire::Framing::Body::kChunked);
    append_body(head.body);
    answer_.state = AnswerState::kStreaming;
  });
}

void Connection::write(uint64_t answer, std::string_view chunk) {
  change(answer, [&] {
    CARAT_DCHECK(answer_.state == AnswerState::kStreaming, "write() before begin_stream()");
    if (answer_.state != AnswerState::kStreaming) return;
    append_body(chunk);
    const auto backlog = static_cast<int64_t>(sending_left_ + out_.size());
    if (backlog <= shared_->options.max_stream_backlog) return;
    answer_.state = AnswerState::kBroken;
    out_.clear();
  });
}

int64_t Connection::backlog(uint64_t answer) {
  const std::lock_guard lock(mutex_);
  return answer_.number == answer ? static_cast<int64_t>(sending_left_ + out_.size()) : 0;
}

void Connection::end(uint64_t answer) {
  change(answer, [&] {
    CARAT_DCHECK(answer_.state == AnswerState::kStreaming, "end() before begin_stream()");
    if (answer_.state != AnswerState::kStreaming) return;
    if (answer_.framing.body == http_wire::Framing::Body::kChunked && !answer_.is_head) out_ += http_wire::kLastChunk;
    answer_.state = AnswerState::kEnded;
    answer_.on_disconnect = nullptr;
  });
}

void Connection::abandon(uint64_t answer) {
  change(answer, [&] {
    answer_.on_disconnect = nullptr;
    if (answer_.state == AnswerState::kStreaming)
      answer_.state = AnswerState::kBroken;
    else
      append_answer(shared_->error_response(500, "The request was not answered."));
  });
}

void Connection::on_disconnect(uint64_t answer, std::function<void()> callback) {
  {
    const std::lock_guard lock(mutex_);
    if (answer_.number != answer || answer_.state == AnswerState::kEnded) return;
    if (!closed_) {
      answer_.on_disconnect = std::move(callback);
      return;
    }
  }
  io_->post(std::move(callback));
}

void Connection::flush() {
  if (phase_ == Phase::kClosed) return;
  bool broken = false;
  {
    const std::lock_guard lock(mutex_);
    dirty_ = false;
    broken = answer_.state == AnswerState::kBroken;
  }
  if (broken) {
    log_debug("http: ", peer_, " was cut off in the middle of a stream");
    return close(true);
  }
  if (wants_write_) return;
  while (true) {
    while (sent_ < sending_.size()) {
      BoostError ec;
      const size_t size = socket_.write_some(asio::buffer(sending_.data() + sent_, sending_.size() - sent_), ec);
      if (would_block(ec)) return wait_writable();
      if (ec) return close(false);
      sent_ += size;
    }
    sent_ = 0;
    if (sending_.capacity() > kKeptCapacity)
      sending_ = std::string();
    else
      sending_.clear();
    const std::lock_guard lock(mutex_);
    sending_left_ = 0;
    if (out_.empty()) break;
    sending_.swap(out_);
  }
  write_deadline_.reset();
  if (phase_ == Phase::kAnswering) answer_sent();
}

void Connection::wait_writable() {
  {
    const std::lock_guard lock(mutex_);
    sending_left_ = sending_.size() - sent_;
  }
  wants_write_ = true;
  write_deadline_ = SteadyClock::now() + std::chrono::seconds(shared_->options.write_timeout_s);
  socket_.async_wait(asio::ip::tcp::socket::wait_write, [self = shared_from_this()](const BoostError& ec) {
    self->wants_write_ = false;
    if (!ec) self->flush();
  });
}

/// Everything written so far is on its way: was it the whole answer?
void Connection::answer_sent() {
  bool keep_alive = false;
  {
    const std::lock_guard lock(mutex_);
    if (answer_.state != AnswerState::kEnded) return;
    keep_alive = answer_.framing.keep_alive && !shared_->draining;
  }
  --shared_->num_active_requests;
  if (keep_alive)
    next_request();
  else
    linger();
}

// ---- closing ----

// Closing a socket with unread bytes resets it, and the client may lose the answer: so say that we have finished, and
// read until the client has too.
void Connection::linger() {
  phase_ = Phase::kLingering;
  deadline_ = SteadyClock::now() + kLinger;
  BoostError ec;
  socket_.shutdown(asio::ip::tcp::socket::shutdown_send, ec);
  if (ec) return close(false);
  wait_readable();
}

void Connection::close_now() { close(false); }

void Connection::close(bool reset) {
  if (phase_ == Phase::kClosed) return;
  const auto self = shared_from_this();
  if (phase_ == Phase::kAnswering) --shared_->num_active_requests;
  phase_ = Phase::kClosed;
  BoostError ec;
  if (reset) socket_.set_option(asio::socket_base::linger(true, 0), ec);
  socket_.close(ec);
  std::function<void()> callback;
  {
    const std::lock_guard lock(mutex_);
    closed_ = true;
    callback = std::exchange(answer_.on_disconnect, nullptr);
    out_ = std::string();
  }
  sending_ = std::string();
  input_ = std::string();
  if (callback) io_->post(std::move(callback));
  io_->remove(*this);
  --io_->num_connections;
  --shared_->num_connections;
  shared_->on_connection_closed();
}

}  // namespace carat
