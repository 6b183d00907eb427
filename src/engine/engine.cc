#include "engine/engine.h"

#include <atomic>
#include <condition_variable>
#include <exception>
#include <future>
#include <mutex>
#include <thread>
#include <utility>

#include "base/check.h"
#include "base/log.h"
#include "base/thread_name.h"
#include "engine/engine_core.h"

namespace carat {
namespace {

constexpr int kDefaultMaxQueued = 65536;
/// Requests taken in per turn: bounded work.
constexpr size_t kMaxAdmitPerTurn = 1024;
/// An idle engine turns so often, for its heartbeat ...
constexpr auto kIdleTurn = std::chrono::milliseconds(500);
/// ... and checks its books when it becomes idle, but not more often than this.
constexpr auto kSelfCheckEvery = std::chrono::seconds(10);

int64_t steady_now_ns() { return std::chrono::steady_clock::now().time_since_epoch().count(); }

}  // namespace

struct Engine::Impl {
  using Command = std::function<void(EngineCore&)>;

  Impl(EngineOptions o, std::unique_ptr<Runner> r)
      : max_queued(o.max_queued > 0 ? o.max_queued : kDefaultMaxQueued),
        runner(std::move(r)),
        info(runner->info()),
        core(std::move(o), *runner) {}

  void run();
  bool turn();
  /// For the engine thread's next turn. False if there will be none.
  bool ask(Command command);
  /// What those hear who come too late; the mutex is held.
  Error stop_reason() const { return failure.value_or(Error{Errc::kUnavailable, "The server is shutting down."}); }

  const int max_queued;
  const std::unique_ptr<Runner> runner;
  const RunnerInfo info;
  EngineCore core;  // engine thread only, but for check() and other constants

  std::mutex mutex;  // guards the inbox and what is asked of the engine thread
  std::condition_variable wake;
  std::vector<Request> inbox;
  std::vector<Command> commands;
  int64_t num_submitted = 0;
  bool stopping = false;
  std::optional<Error> failure;  // then it stops by itself

  mutable std::mutex stats_mutex;
  EngineStats stats;
  int64_t num_added = 0;  // requests that `stats` knows of
  std::atomic<int> num_waiting{0};
  std::atomic<int64_t> heartbeat{steady_now_ns()};
  std::mutex join_mutex;
  std::thread thread;
};

/// Takes in what others asked for and makes one step. False when there was nothing to do.
bool Engine::Impl::turn() {
  std::vector<Request> arrived;
  std::vector<Command> asked;
  {
    const std::lock_guard lock(mutex);
    if (inbox.size() <= kMaxAdmitPerTurn) {
      arrived.swap(inbox);
    } else {
      const auto end = inbox.begin() + kMaxAdmitPerTurn;
      arrived.assign(std::make_move_iterator(inbox.begin()), std::make_move_iterator(end));
      inbox.erase(inbox.begin(), end);
    }
    asked.swap(commands);
    num_waiting.store(core.num_waiting() + static_cast<int>(arrived.size()), std::memory_order_relaxed);
  }
  for (Request& request : arrived) core.add(std::move(request));
  for (const Command& command : asked) command(core);
  const bool moved = core.step();
  num_waiting.store(core.num_waiting(), std::memory_order_relaxed);
  {
    const std::lock_guard lock(stats_mutex);
    stats = core.stats();
    num_added += static_cast<int64_t>(arrived.size());
  }
  heartbeat.store(steady_now_ns(), std::memory_order_relaxed);
  return moved || !arrived.empty() || !asked.empty();
}

bool Engine::Impl::ask(Command command) {
  {
    const std::lock_guard lock(mutex);
    if (stopping) return false;
    commands.push_back(std::move(command));
  }
  wake.notify_one();
  return true;
}

void Engine::Impl::run() {
  set_thread_name("engine");
  auto last_check = std::chrono::steady_clock::now();
  bool was_busy = false;
  try {
    while (true) {
      const bool moved = turn();
      if (!moved && was_busy && std::chrono::steady_clock::now() - last_check >= kSelfCheckEvery) {
        core.check_invariants();
        last_check = std::chrono::steady_clock::now();
      }
      was_busy = moved;
      std::unique_lock lock(mutex);
      if (core.failure()) {
        failure = core.failure();
        stopping = true;
      }
      if (stopping) break;
      if (!moved) wake.wait_for(lock, kIdleTurn, [&] { return stopping || !inbox.empty() || !commands.empty(); });
    }
    Error error;
    std::vector<Request> late;
    std::vector<Command> unheard;
    {
      const std::lock_guard lock(mutex);
      error = stop_reason();
      late.swap(inbox);
      unheard.swap(commands);
    }
    for (Request& request : late) core.add(std::move(request));
    for (const Command& command : unheard) command(core);  // somebody may wait for an answer
    core.end_all(error);
    const std::lock_guard lock(stats_mutex);
    stats = core.stats();
    num_added += static_cast<int64_t>(late.size());
  } catch (const std::exception& e) {
    log_error("engine thread: ", e.what());
    check_failed(__FILE__, __LINE__, "engine thread", e.what());  // a supervisor starts the process again
  }
}

Engine::Engine(EngineOptions options, std::unique_ptr<Runner> runner)
    : impl_(std::make_unique<Impl>(std::move(options), std::move(runner))) {
  impl_->stats = impl_->core.stats();
  impl_->thread = std::thread([this] { impl_->run(); });
}

Engine::~Engine() { stop(); }

Result<void> Engine::submit(Request request) {
  CARAT_TRY_VOID(impl_->core.check(request));
  {
    const std::lock_guard lock(impl_->mutex);
    if (impl_->stopping) return impl_->stop_reason();
    const int64_t queued =
        static_cast<int64_t>(impl_->inbox.size()) + impl_->num_waiting.load(std::memory_order_relaxed);
    if (queued >= impl_->max_queued) return Error{Errc::kOverloaded, "The request queue is full."};
    impl_->inbox.push_back(std::move(request));
    ++impl_->num_submitted;
  }
  impl_->wake.notify_one();
  return {};
}

void Engine::abort(std::string prefix) {
  impl_->ask([prefix = std::move(prefix)](EngineCore& core) { core.abort(prefix); });
}

bool Engine::flush_cache() {
  auto done = std::make_shared<std::promise<bool>>();
  auto flushed = done->get_future();
  return impl_->ask([done](EngineCore& core) { done->set_value(core.flush_cache()); }) && flushed.get();
}

void Engine::pause(PauseMode mode) {
  impl_->ask([mode](EngineCore& core) { core.pause(mode); });
}

void Engine::resume() {
  impl_->ask([](EngineCore& core) { core.resume(); });
}

EngineStats Engine::stats() const {
  EngineStats stats;
  int64_t added = 0;
  {
    const std::lock_guard lock(impl_->stats_mutex);
    stats = impl_->stats;
    added = impl_->num_added;
  }
  // What is on its way to the engine thread counts as waiting. Read later than the above, so that nothing is missed.
  const std::lock_guard lock(impl_->mutex);
  const int on_its_way = static_cast<int>(impl_->num_submitted - added);
  stats.num_queued += on_its_way;
  stats.num_open += on_its_way;
  return stats;
}

const RunnerInfo& Engine::runner_info() const { return impl_->info; }

int Engine::max_sequence_tokens() const { return impl_->core.max_sequence_tokens(); }

int64_t Engine::heartbeat_ns() const { return impl_->heartbeat.load(std::memory_order_relaxed); }

std::optional<Error> Engine::failure() const {
  const std::lock_guard lock(impl_->mutex);
  return impl_->failure;
}

void Engine::stop() {
  {
    const std::lock_guard lock(impl_->mutex);
    impl_->stopping = true;
  }
  impl_->wake.notify_one();
  const std::lock_guard lock(impl_->join_mutex);
  if (impl_->thread.joinable()) impl_->thread.join();
}

}  // namespace carat
