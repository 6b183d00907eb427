#include "client/http_client.h"

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/post.hpp>
#include <mutex>
#include <thread>

#include "base/str.h"
#include "client/client_connection.h"
#include "client/sse.h"

namespace carat {

namespace asio = boost::asio;

std::string HttpUrl::authority() const {
  return host.find(':') == std::string::npos ? str_cat(host, ":", port) : str_cat("[", host, "]:", port);
}

Result<HttpUrl> parse_http_url(std::string_view url) {
  const auto bad = [&](std::string_view why) {
    return Error{Errc::kInvalidArgument, str_cat("'", url, "' is no http URL: ", why)};
  };
  auto rest = url;
  if (const auto scheme = rest.find("://"); scheme != std::string_view::npos) {
    if (equals_ignore_case_ascii(rest.substr(0, scheme), "https"))
      return Error{Errc::kUnsupported, str_cat("'", url, "': only plain http is spoken, no https")};
    if (!equals_ignore_case_ascii(rest.substr(0, scheme), "http")) return bad("unknown scheme");
    rest.remove_prefix(scheme + 3);
  }
  HttpUrl out;
  const auto slash = rest.find_first_of("/?#");
  if (slash != std::string_view::npos) {
    if (rest[slash] != '/') return bad("a query has no place here");
    out.path = std::string(rest.substr(slash));
    while (!out.path.empty() && out.path.back() == '/') out.path.pop_back();
  }
  auto authority = rest.substr(0, slash);
  if (authority.find('@') != std::string_view::npos) return bad("user names are not supported");
  std::string_view port;
  if (authority.starts_with('[')) {
    const auto end = authority.find(']');
    if (end == std::string_view::npos) return bad("']' is missing");
    out.host = std::string(authority.substr(1, end - 1));
    authority.remove_prefix(end + 1);
    if (!authority.empty() && authority[0] != ':') return bad("only a port may follow ']'");
    port = authority.empty() ? authority : authority.substr(1);
    if (!authority.empty() && port.empty()) return bad("the port is empty");
  } else {
    const auto colon = authority.rfind(':');
    if (colon != authority.find(':')) return bad("an IPv6 address needs brackets");
    out.host = std::string(authority.substr(0, colon));
    if (colon != std::string_view::npos) {
      port = authority.substr(colon + 1);
      if (port.empty()) return bad("the port is empty");
    }
  }
  if (out.host.empty()) return bad("the host is missing");
  if (!port.empty()) {
    int64_t number = 0;
    if (!parse_int(port, number) || number < 1 || number > 65535) return bad("the port must be in [1, 65535]");
    out.port = static_cast<int>(number);
  }
  return out;
}

// ---- blocking ----

struct HttpClient::Impl {
  Impl(HttpUrl base, HttpClientOptions options)
      : connection(std::make_shared<ClientConnection>(context, base, options)) {}

  asio::io_context context{1};
  std::shared_ptr<ClientConnection> connection;

  Result<void> run(const HttpClientRequest& request, HttpClientCallbacks callbacks, const std::atomic<bool>* stop) {
    std::optional<Result<void>> outcome;
    callbacks.on_done = [&](Result<void> result) { outcome.emplace(std::move(result)); };
    connection->send(request, std::move(callbacks));
    while (!outcome) {
      context.restart();
      if (stop == nullptr) {
        context.run_one();
        continue;
      }
      context.run_one_for(std::chrono::milliseconds(20));
      if (stop->load()) connection->cancel();
    }
    return std::move(*outcome);
  }
};

HttpClient::HttpClient(HttpUrl base, HttpClientOptions options)
    : impl_(std::make_unique<Impl>(std::move(base), options)) {}
HttpClient::~HttpClient() {
  if (impl_) impl_->connection->cancel();
}
HttpClient::HttpClient(HttpClient&&) noexcept = default;

Result<HttpClientResponse> HttpClient::request(const HttpClientRequest& request) {
  HttpClientResponse response;
  CARAT_TRY_VOID(impl_->run(request,
                            {.on_head = [&](const HttpResponseHead& head) { response.head = head; },
                             .on_data = [&](std::string_view data) { response.body += data; },
                             .on_done = nullptr},
                            nullptr));
  return response;
}

Result<HttpClientResponse> HttpClient::stream(const HttpClientRequest& request,
                                              const std::function<bool(std::string_view, std::string_view)>& on_event,
                                              const std::atomic<bool>* stop) {
  HttpClientResponse response;
  SseReader reader;
  bool is_stream = false;
  bool go_on = true;
  CARAT_TRY_VOID(impl_->run(request,
                            {.on_head =
                                 [&](const HttpResponseHead& head) {
                                   response.head = head;
                                   const auto* type = head.header("content-type");
                                   is_stream = type != nullptr && type->starts_with("text/event-stream");
                                 },
                             .on_data =
                                 [&](std::string_view data) {
                                   if (!is_stream) {
                                     response.body += data;
                                     return;
                                   }
                                   reader.feed(data, [&](std::string_view name, std::string_view event) {
                                     go_on = go_on && on_event(name, event);
                                   });
                                   if (!go_on) impl_->connection->cancel();
                                 },
                             .on_done = nullptr},
                            stop));
  return response;
}

// ---- pool ----

struct HttpClientPool::Impl {
  struct Worker {
    asio::io_context context{1};
    asio::executor_work_guard<asio::io_context::executor_type> work{context.get_executor()};
    std::thread thread;
    std::vector<std::shared_ptr<ClientConnection>> idle, busy;
  };

  HttpUrl base;
  HttpClientOptions options;
  std::vector<std::unique_ptr<Worker>> workers;
  std::atomic<unsigned> next{0};

  void start(Worker& worker, const HttpClientRequest& request, HttpClientCallbacks callbacks) {
    std::shared_ptr<ClientConnection> connection;
    if (worker.idle.empty()) {
      connection = std::make_shared<ClientConnection>(worker.context, base, options);
    } else {
      connection = std::move(worker.idle.back());
      worker.idle.pop_back();
    }
    worker.busy.push_back(connection);
    auto on_done = std::move(callbacks.on_done);
    callbacks.on_done = [&worker, connection = connection.get(), on_done = std::move(on_done)](Result<void> result) {
      const auto at =
          std::find_if(worker.busy.begin(), worker.busy.end(), [&](const auto& c) { return c.get() == connection; });
      worker.idle.push_back(std::move(*at));
      *at = std::move(worker.busy.back());
      worker.busy.pop_back();
      if (on_done) on_done(std::move(result));
    };
    connection->send(request, std::move(callbacks));
  }
};

HttpClientPool::HttpClientPool(HttpUrl base, HttpClientOptions options, int num_threads)
    : impl_(std::make_unique<Impl>()) {
  impl_->base = std::move(base);
  impl_->options = options;
  for (int i = 0; i < num_threads; ++i) {
    auto& worker = *impl_->workers.emplace_back(std::make_unique<Impl::Worker>());
    worker.thread = std::thread([&worker] { worker.context.run(); });
  }
}

HttpClientPool::~HttpClientPool() {
  for (const auto& worker : impl_->workers)
    asio::post(worker->context, [&worker = *worker] {
      for (const auto& connection : std::vector(worker.busy)) connection->cancel();
      worker.idle.clear();
      worker.work.reset();
      worker.context.stop();
    });
  for (const auto& worker : impl_->workers) worker->thread.join();
}

void HttpClientPool::send(const HttpClientRequest& request, HttpClientCallbacks callbacks) {
  auto& worker = *impl_->workers[impl_->next++ % impl_->workers.size()];
  asio::post(worker.context, [this, &worker, request, callbacks = std::move(callbacks)]() mutable {
    impl_->start(worker, request, std::move(callbacks));
  });
}

}  // namespace carat
