#include "api/watched_reply.h"

#include "base/str.h"

namespace carat {
namespace {

/// What the log calls an answer that its client did not wait for.
constexpr int kClientLeft = 499;

class WatchedReply final : public HttpReply {
 public:
  WatchedReply(std::shared_ptr<HttpReply> inner, const HttpRequest& request, std::vector<HttpHeader> headers,
               ReplyWatch watch)
      : inner_(std::move(inner)),
        headers_(std::move(headers)),
        watch_(std::move(watch)),
        origin_{request.method, request.path, request.peer} {
    if (!watch_.registry) return;
    watch_.active->fetch_add(1);
    watch_.registry
        ->counter("sglang:http_requests_total", "HTTP requests.",
                  {{"endpoint", watch_.endpoint}, {"method", origin_.method}})
        .add();
  }
  ~WatchedReply() override {
    if (watch_.registry) watch_.active->fetch_sub(1);
    if (watch_.log) watch_.log->answered(origin_, status_, std::chrono::steady_clock::now() - started_);
  }
  void send(HttpResponse response) override {
    answer(response);
    inner_->send(std::move(response));
  }
  void begin_stream(HttpResponse head) override {
    answer(head);
    inner_->begin_stream(std::move(head));
  }
  void write(std::string_view chunk) override { inner_->write(chunk); }
  void end() override { inner_->end(); }
  int64_t backlog() const override { return inner_->backlog(); }
  void on_disconnect(std::function<void()> callback) override { inner_->on_disconnect(std::move(callback)); }
  int io_index() const override { return inner_->io_index(); }

 private:
  void answer(HttpResponse& response) {
    status_ = response.status;
    response.headers.insert(response.headers.end(), headers_.begin(), headers_.end());
    if (!watch_.registry) return;
    watch_.registry
        ->counter("sglang:http_responses_total", "HTTP responses.",
                  {{"endpoint", watch_.endpoint}, {"method", origin_.method}, {"status_code", str_cat(status_)}})
        .add();
  }

  const std::shared_ptr<HttpReply> inner_;
  const std::vector<HttpHeader> headers_;
  const ReplyWatch watch_;
  const RequestOrigin origin_;
  const std::chrono::steady_clock::time_point started_ = std::chrono::steady_clock::now();
  int status_ = kClientLeft;
};

}  // namespace

std::shared_ptr<HttpReply> watch_reply(std::shared_ptr<HttpReply> reply, const HttpRequest& request,
                                       std::vector<HttpHeader> headers, ReplyWatch watch) {
  return std::make_shared<WatchedReply>(std::move(reply), request, std::move(headers), std::move(watch));
}

}  // namespace carat
