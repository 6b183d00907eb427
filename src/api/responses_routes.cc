// Responses that clients come back for. Source: spec api.md section 7.

#include "api/api_impl.h"
#include "api/responses_writer.h"
#include "base/str.h"

namespace carat {
namespace {

constexpr std::string_view kPrefix = "/v1/responses/";
constexpr std::string_view kCancelSuffix = "/cancel";

/// Stands in for the client of a run in the background. The writer keeps what comes out of it; what goes wrong is told
/// here.
class BackgroundReply final : public HttpReply {
 public:
  BackgroundReply(ResponseStore& store, std::string id, Json response, int io)
      : store_(store), id_(std::move(id)), response_(std::move(response)), io_(io) {}

  void send(HttpResponse answer) override {
    if (answer.status == 200) return;
    const auto body = parse_json(answer.body);
    const Json* error = body ? body->find("error") : nullptr;
    const Json* message = error ? error->find("message") : nullptr;
    store_.finish(id_, failed_response(std::move(response_), message ? message->as_string() : answer.body), nullptr);
  }
  // No stream is run in the background, and there is nobody to leave.
  void begin_stream(HttpResponse) override {}
  void write(std::string_view) override {}
  void end() override {}
  int64_t backlog() const override { return 0; }
  void on_disconnect(std::function<void()>) override {}
  int io_index() const override { return io_; }

 private:
  ResponseStore& store_;
  const std::string id_;
  Json response_;
  const int io_;
};

void send_found(HttpReply& reply, const Result<std::string>& response) {
  if (!response) return send_error(reply, request_error(ErrorStyle::kResponses, response.error()));
  reply.send({200, "application/json", *response, {}});
}

Error not_kept(std::string_view id) {
  return {Errc::kNotFound, str_cat("Response with id '", id,
                                   "' not found. The response store is disabled; "
                                   "--enable-response-store enables it.")};
}

}  // namespace

void Api::Impl::run_in_background(int io, const std::shared_ptr<PreparedGeneration>& prepared, HttpReply& reply) {
  const std::string id = prepared->prompts.front().id;
  Json response = std::move(*prepared->background);
  auto job = std::make_shared<GenerationJob>(job_context, *wakers[static_cast<size_t>(io)],
                                             std::make_shared<BackgroundReply>(*stored_responses, id, response, io));
  const auto cancel = [this, io, weak = std::weak_ptr(job)] {
    server->post(io, [weak] {
      if (const auto alive = weak.lock()) alive->on_disconnect();
    });
  };
  if (const auto ok = stored_responses->begin(id, response, cancel); !ok)
    return send_error(reply, request_error(ErrorStyle::kResponses, ok.error()));
  server->post(io, [job, prepared] { job->start(std::move(*prepared)); });
  response.set("status", "queued");
  reply.send({200, "application/json", response.dump(), {}});
}

void Api::Impl::find_response(HttpRequest request, ReplyPtr reply) {
  const std::string id = request.path.substr(kPrefix.size());
  send_found(*reply, stored_responses ? stored_responses->find(id) : Result<std::string>(not_kept(id)));
}

void Api::Impl::cancel_response(HttpRequest request, ReplyPtr reply) {
  const std::string_view rest = std::string_view(request.path).substr(kPrefix.size());
  if (!rest.ends_with(kCancelSuffix)) return send_error(*reply, unknown_path(request.path));
  const std::string id(rest.substr(0, rest.size() - kCancelSuffix.size()));
  send_found(*reply, stored_responses ? stored_responses->cancel(id) : Result<std::string>(not_kept(id)));
}

}  // namespace carat
