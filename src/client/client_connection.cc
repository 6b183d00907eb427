#include "client/client_connection.h"

#include <array>
#include <boost/asio/buffer.hpp>
#include <boost/asio/connect.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/write.hpp>

#include "base/str.h"

namespace carat {
namespace {

namespace asio = boost::asio;
using BoostError = boost::system::error_code;
using Tcp = asio::ip::tcp;

constexpr int kMaxReadsPerTurn = 8;
// One for all connections of a thread: what is read is handed on before the next read.
thread_local std::array<char, 64 << 10> scratch;

std::string to_bytes(const HttpUrl& base, const HttpClientRequest& request) {
  std::string out = str_cat(request.method, " ", base.path, request.target, " HTTP/1.1\r\nHost: ", base.authority(),
                            "\r\nUser-Agent: carat\r\nAccept: */*\r\n");
  bool has_type = false;
  for (const auto& h : request.headers) {
    out += str_cat(h.name, ": ", h.value, "\r\n");
    has_type = has_type || equals_ignore_case_ascii(h.name, "content-type");
  }
  if (!request.body.empty() && !has_type) out += "Content-Type: application/json\r\n";
  if (!request.body.empty() || request.method == "POST" || request.method == "PUT")
    out += str_cat("Content-Length: ", request.body.size(), "\r\n");
  out += "\r\n";
  out += request.body;
  return out;
}

std::chrono::steady_clock::duration to_duration(double seconds) {
  return std::chrono::duration_cast<std::chrono::steady_clock::duration>(std::chrono::duration<double>(seconds));
}

}  // namespace

ClientConnection::ClientConnection(asio::io_context& context, const HttpUrl& base, const HttpClientOptions& options)
    : context_(context), base_(base), options_(options), socket_(context), timer_(context) {}

Error ClientConnection::io_error(std::string_view what, const BoostError& ec) const {
  return {Errc::kIo, str_cat("cannot ", what, " ", base_.authority(), ": ", ec.message())};
}

void ClientConnection::send(const HttpClientRequest& request, HttpClientCallbacks callbacks) {
  CARAT_CHECK(!active_, "one request at a time");
  active_ = true;
  callbacks_ = std::move(callbacks);
  bytes_ = to_bytes(base_, request);
  to_head_ = request.method == "HEAD";
  parser_.reset();
  reused_ = connected_;
  last_activity_ = Clock::now();
  watch();
  asio::post(context_, [self = shared_from_this()] {
    if (self->active_) self->connected_ ? self->write() : self->connect();
  });
}

void ClientConnection::connect() {
  BoostError ec;
  Tcp::resolver resolver(context_);
  // Blocks, but is nearly always a number or localhost; the pool resolves a name once per connection.
  const auto found = resolver.resolve(base_.host, str_cat(base_.port), ec);
  if (ec) return fail(io_error("resolve", ec));
  const uint64_t generation = ++generation_;
  asio::async_connect(socket_, found,
                      [self = shared_from_this(), generation](const BoostError& e, const Tcp::endpoint&) {
                        if (generation != self->generation_ || !self->active_) return;
                        if (e) return self->fail(self->io_error("connect to", e));
                        BoostError ignored;
                        self->socket_.non_blocking(true, ignored);
                        self->socket_.set_option(Tcp::no_delay(true), ignored);
                        self->connected_ = true;
                        self->last_activity_ = Clock::now();
                        self->wait_readable();
                        self->write();
                      });
}

void ClientConnection::write() {
  parser_.emplace(
      to_head_,
      [this](const HttpResponseHead& head) {
        if (callbacks_.on_head) callbacks_.on_head(head);
      },
      [this](std::string_view data) {
        if (callbacks_.on_data) callbacks_.on_data(data);
      });
  asio::async_write(socket_, asio::buffer(bytes_),
                    [self = shared_from_this(), generation = generation_](const BoostError& ec, size_t) {
                      // A server may answer and close before it has read everything (413): its answer is worth more
                      // than our error, and the end of reading decides.
                      if (generation == self->generation_ && !ec) self->last_activity_ = Clock::now();
                    });
}

void ClientConnection::wait_readable() {
  socket_.async_wait(Tcp::socket::wait_read,
                     [self = shared_from_this(), generation = generation_](const BoostError& ec) {
                       if (generation == self->generation_ && !ec) self->read();
                     });
}

void ClientConnection::read() {
  const uint64_t generation = generation_;
  for (int i = 0; i < kMaxReadsPerTurn; ++i) {
    BoostError ec;
    const size_t size = socket_.read_some(asio::buffer(scratch), ec);
    if (ec == asio::error::would_block) break;
    if (ec) {
      if (!active_ || !parser_) return close();  // the server let go of an idle connection
      if (reused_ && !parser_->begun()) {
        reused_ = false;
        close();
        return connect();
      }
      if (ec == asio::error::eof) {
        parser_->end_of_input();
        if (parser_->done()) return finish({});
        return fail({Errc::kIo, str_cat(base_.authority(), ": ", parser_->error())});
      }
      return fail(io_error("read from", ec));
    }
    last_activity_ = Clock::now();
    received({scratch.data(), size});
    if (generation != generation_) return;
    if (size < scratch.size()) break;
  }
  wait_readable();
}

void ClientConnection::received(std::string_view bytes) {
  if (!active_ || !parser_) return close();  // nobody asked
  parser_->feed(bytes);
  if (!active_) return;  // a callback cancelled
  if (!parser_->error().empty()) return fail({Errc::kIo, str_cat(base_.authority(), ": ", parser_->error())});
  if (parser_->done()) finish({});
}

void ClientConnection::watch() {
  if (std::exchange(watching_, true)) return;
  const auto limit = to_duration(connected_ ? options_.idle_timeout_s : options_.connect_timeout_s);
  timer_.expires_at(std::max(last_activity_ + limit, Clock::now() + std::chrono::milliseconds(1)));
  timer_.async_wait([weak = weak_from_this()](const BoostError&) {
    const auto self = weak.lock();
    if (!self) return;
    self->watching_ = false;
    if (!self->active_) return;
    const double limit_s = self->connected_ ? self->options_.idle_timeout_s : self->options_.connect_timeout_s;
    if (Clock::now() - self->last_activity_ < to_duration(limit_s)) return self->watch();
    self->fail({Errc::kUnavailable,
                str_cat(self->base_.authority(), self->connected_ ? " sent nothing for " : " did not accept within ",
                        limit_s, " s")});
  });
}

void ClientConnection::cancel() {
  if (active_) fail({Errc::kCancelled, "the request was cancelled"});
}

void ClientConnection::fail(Error error) {
  close();
  finish(std::move(error));
}

void ClientConnection::finish(Result<void> result) {
  if (!active_) return;
  active_ = false;
  if (result && !parser_->keep_alive()) close();
  timer_.cancel();
  const auto self = shared_from_this();
  // A copy, since on_done may send again.
  const auto callbacks = std::exchange(callbacks_, {});
  if (callbacks.on_done) callbacks.on_done(std::move(result));
}

void ClientConnection::close() {
  ++generation_;
  connected_ = false;
  BoostError ec;
  socket_.close(ec);
}

}  // namespace carat
