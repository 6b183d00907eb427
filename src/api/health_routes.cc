// /health, /health_generate, /ready, /ping.

#include "api/api_impl.h"

namespace carat {
namespace {

HttpResponse empty(int status) { return {status, "text/plain; charset=utf-8", {}, {}}; }

/// A loop that turned this recently under load is alive: no need to queue behind the load.
constexpr int64_t kFreshHeartbeat_ns = 1'000'000'000;

int64_t steady_now_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

}  // namespace

void HealthProbe::answer(int status) {
  if (answered_.exchange(true)) return;
  reply_->send(empty(status));
  if (stream_) stream_->cancel();
  stream_.reset();
  reply_.reset();
}

void Api::Impl::health(HttpRequest request, ReplyPtr reply) {
  if (state.load() != ServingState::kReady) return reply->send(empty(503));
  if (!health_generates) return reply->send(empty(200));
  health_generate(std::move(request), std::move(reply));
}

void Api::Impl::health_generate(HttpRequest, ReplyPtr reply) {
  if (state.load() != ServingState::kReady) return reply->send(empty(503));
  const EngineStats stats = model()->engine->stats();
  const bool busy = stats.num_running > 0 || stats.paused;
  if (busy && steady_now_ns() - model()->engine->heartbeat_ns() < kFreshHeartbeat_ns) return reply->send(empty(200));
  probe(std::move(reply));
}

void Api::Impl::probe(ReplyPtr reply) {
  const int io = reply->io_index();
  auto probe = std::make_shared<HealthProbe>(std::move(reply));
  auto stream = std::make_shared<ListenedStream>(wakers[static_cast<size_t>(io)].get(), probe, 0);
  probe->watch(stream);
  Request request;
  request.id = "HEALTH_CHECK_" + new_request_id();
  request.prompt = {0};
  request.sampling.max_new_tokens = 1;
  request.sampling.temperature = 0;
  request.untracked = true;
  request.stream = std::move(stream);
  const auto accepted = model()->engine->submit(std::move(request));
  // A full queue is a working server.
  if (!accepted) return probe->answer(accepted.error().code == Errc::kOverloaded ? 200 : 503);
  const std::lock_guard lock(waiting_mutex);
  probes.push_back(std::move(probe));
}

void Api::Impl::expire_probes() {
  const std::lock_guard lock(waiting_mutex);
  std::erase_if(probes, [this](const std::shared_ptr<HealthProbe>& probe) {
    if (probe->answered()) return true;
    if (!probe->expired()) return false;
    server->post(probe->io_index(), [probe] { probe->answer(503); });
    return true;
  });
}

void Api::Impl::ready(HttpRequest, ReplyPtr reply) {
  const bool welcome = state.load() == ServingState::kReady && !model()->engine->stats().paused;
  reply->send(empty(welcome ? 200 : 503));
}

}  // namespace carat
