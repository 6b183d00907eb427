#include "http/server.h"

#include <algorithm>
#include <atomic>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ip/v6_only.hpp>
#include <boost/asio/steady_timer.hpp>
#include <optional>

#include "base/log.h"
#include "base/str.h"
#include "http/connection.h"
#include "http/io_thread.h"

namespace carat {
namespace {

namespace asio = boost::asio;
using BoostError = boost::system::error_code;
using Tcp = asio::ip::tcp;

// Out of file descriptors: they come back when connections close.
constexpr auto kAcceptRetry = std::chrono::milliseconds(100);
constexpr int kListenBacklog = 4096;

Error bind_error(const HttpServerOptions& options, const char* what, const BoostError& ec) {
  return {Errc::kIo, str_cat("cannot ", what, " ", options.host, ":", options.port, ": ", ec.message())};
}

Result<Tcp::endpoint> resolve(const HttpServerOptions& options) {
  asio::io_context context;
  Tcp::resolver resolver(context);
  BoostError ec;
  const auto found = resolver.resolve(options.host.empty() ? "0.0.0.0" : options.host, str_cat(options.port),
                                      Tcp::resolver::passive, ec);
  if (ec || found.empty()) return bind_error(options, "resolve", ec);
  return found.begin()->endpoint();
}

/// One acceptor, on the first io thread, hands each connection to the thread that has fewest. (SO_REUSEPORT would
/// spread by hash: with a handful of streams often unevenly.)
class AsioHttpServer final : public HttpServer {
 public:
  AsioHttpServer(HttpServerOptions options, HttpHandler handler) : shared_(std::make_shared<HttpShared>()) {
    for (int i = 0; i < options.io_threads; ++i) io_threads_.push_back(std::make_shared<IoThread>(i));
    shared_->options = std::move(options);
    shared_->handler = std::move(handler);
    shared_->on_connection_closed = [this] { resume_accepting(); };
    acceptor_.emplace(io_threads_[0]->context());
    retry_timer_.emplace(io_threads_[0]->context());
  }

  ~AsioHttpServer() override {
    stop_accepting();
    for (const auto& io : io_threads_) io->stop_and_join();
    // Replies that outlive us keep their connection, which then has nobody to tell.
    shared_->on_connection_closed = [] {};
  }

  Result<void> listen() {
    const auto& options = shared_->options;
    CARAT_TRY(const auto endpoint, resolve(options));
    BoostError ec;
    acceptor_->open(endpoint.protocol(), ec);
    if (ec) return bind_error(options, "open a socket for", ec);
    acceptor_->set_option(Tcp::acceptor::reuse_address(true), ec);
    if (endpoint.address().is_v6()) acceptor_->set_option(asio::ip::v6_only(false), ec);
    acceptor_->bind(endpoint, ec);
    if (ec) return bind_error(options, "bind", ec);
    acceptor_->listen(kListenBacklog, ec);
    if (ec) return bind_error(options, "listen on", ec);
    port_ = acceptor_->local_endpoint(ec).port();
    return {};
  }

  void run() {
    accept_next();
    for (const auto& io : io_threads_) io->start();
  }

  int port() const override { return port_; }
  int num_io_threads() const override { return static_cast<int>(io_threads_.size()); }
  int num_connections() const override { return shared_->num_connections; }
  int num_active_requests() const override { return shared_->num_active_requests; }

  void post(int io_index, std::function<void()> work) override {
    CARAT_CHECK(io_index >= 0 && io_index < num_io_threads(), "no such io thread");
    io_threads_[static_cast<size_t>(io_index)]->post(std::move(work));
  }

  void stop_accepting() override {
    if (shared_->draining.exchange(true)) return;
    io_threads_[0]->post([this] {
      BoostError ec;
      acceptor_->close(ec);
      retry_timer_->cancel();
    });
    for (const auto& io : io_threads_)
      io->post([io = io.get()] { io->for_each_connection([](Connection& c) { c.drain(); }); });
  }

 private:
  bool full() const { return shared_->num_connections >= shared_->options.max_connections; }

  // The first io thread only (or before it runs), as the next three.
  void accept_next() {
    if (shared_->draining) return;
    paused_ = full();
    if (paused_ && full()) return;  // asked again: one may have closed before it could see paused_
    paused_ = false;
    const auto& io = *std::min_element(io_threads_.begin(), io_threads_.end(), [](const auto& a, const auto& b) {
      return a->num_connections < b->num_connections;
    });
    acceptor_->async_accept(io->context(), [this, io](const BoostError& ec, Tcp::socket socket) {
      if (ec == asio::error::operation_aborted || ec == asio::error::bad_descriptor) return;
      if (ec) return retry_later(ec);
      hand_over(io, std::move(socket));
      accept_next();
    });
  }

  void hand_over(const std::shared_ptr<IoThread>& io, Tcp::socket socket) {
    ++io->num_connections;
    ++shared_->num_connections;
    auto connection = std::make_shared<Connection>(shared_, io, std::move(socket));
    io->post([io = io.get(), connection = std::move(connection)] {
      io->add(connection);
      connection->start();
    });
  }

  void retry_later(const BoostError& ec) {
    log_warning("http: cannot accept a connection: ", ec.message());
    retry_timer_->expires_after(kAcceptRetry);
    retry_timer_->async_wait([this](const BoostError& e) {
      if (!e) accept_next();
    });
  }

  // Any io thread.
  void resume_accepting() {
    if (!full() && paused_.exchange(false)) io_threads_[0]->post([this] { accept_next(); });
  }

  const std::shared_ptr<HttpShared> shared_;
  std::vector<std::shared_ptr<IoThread>> io_threads_;
  std::optional<Tcp::acceptor> acceptor_;
  std::optional<asio::steady_timer> retry_timer_;
  std::atomic<bool> paused_{false};
  int port_ = 0;
};

}  // namespace

Result<std::unique_ptr<HttpServer>> HttpServer::start(HttpServerOptions options, HttpHandler handler) {
  if (options.port < 0 || options.port > 65535)
    return Error{Errc::kInvalidArgument, str_cat("port must be in [0, 65535], got ", options.port)};
  if (options.io_threads < 1)
    return Error{Errc::kInvalidArgument, str_cat("io_threads must be at least 1, got ", options.io_threads)};
  if (options.max_connections < 1)
    return Error{Errc::kInvalidArgument, str_cat("max_connections must be at least 1, got ", options.max_connections)};
  auto server = std::make_unique<AsioHttpServer>(std::move(options), std::move(handler));
  CARAT_TRY_VOID(server->listen());
  server->run();
  return std::unique_ptr<HttpServer>(std::move(server));
}

}  // namespace carat
