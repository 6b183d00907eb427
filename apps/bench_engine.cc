#include "apps/bench_engine.h"

#include <algorithm>
#include <condition_variable>
#include <limits>
#include <mutex>
#include <thread>

#include "apps/local_engine.h"
#include "base/str.h"
#include "base/task_pool.h"
#include "base/thread_name.h"

namespace carat {
namespace {

using Clock = std::chrono::steady_clock;
constexpr std::chrono::milliseconds kFlushPause{10};

/// One request under way: its stream, and where its measurement goes.
class BenchRun final : public RequestStream {
 public:
  BenchRun(StreamWaker* waker, BenchOutput& output, std::function<void()> done)
      : RequestStream(waker), output_(output), done_(std::move(done)) {}

  void fail(std::string why) {
    output_.fail(std::move(why));
    done_();
  }
  /// What the engine has sent since the last call.
  void read(const Tokenizer& tokenizer) {
    const double now = bench_now();
    for (const SampleEvent& event : drain()) {
      tokens_.insert(tokens_.end(), event.tokens.begin(), event.tokens.end());
      if (!event.tokens.empty()) output_.on_tokens(now, static_cast<int>(tokens_.size()));
      if (!event.finish) continue;
      output_.on_event(now);
      if (event.finish->error) return fail(event.finish->error->message);
      output_.success = true;
      output_.generated_text = tokenizer.decode(tokens_, true);
      return done_();
    }
  }

 private:
  BenchOutput& output_;
  const std::function<void()> done_;
  std::vector<TokenId> tokens_;
};

class EngineBench final : public BenchBackend, public StreamWaker {
 public:
  EngineBench(const BenchOptions& bench, std::unique_ptr<LocalEngine> local)
      : bench_(bench),
        local_(std::move(local)),
        prep_(std::make_unique<TaskPool>(local_->options.prep_threads, std::numeric_limits<size_t>::max(), "prep")),
        reader_([this] { read_news(); }) {}

  ~EngineBench() override {
    prep_.reset();
    engine().stop();
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    news_.notify_one();
    reader_.join();
  }

  void submit(const BenchRequest& request, BenchOutput& output, std::function<void()> done) override {
    output.begin(bench_now(), request);
    auto run = std::make_shared<BenchRun>(this, output, std::move(done));
    const auto accepted = prep_->submit([this, &request, run] { send(request, run); });
    CARAT_CHECK(accepted.has_value(), "the pool takes any number of tasks until it is destroyed");
  }

  Result<void> wait_ready(double) override { return {}; }
  const Tokenizer* tokenizer() override { return local_->model.tokenizer.get(); }
  std::string tokenizer_path() override { return local_->model.tokenizer_path; }

  Result<void> flush_cache() override {
    const auto deadline = Clock::now() + std::chrono::duration<double>(bench_.flush_cache_timeout_s);
    while (!engine().flush_cache()) {
      if (Clock::now() >= deadline) return Error{Errc::kUnavailable, "the prefix cache is in use"};
      std::this_thread::sleep_for(kFlushPause);
    }
    return {};
  }

  Json server_info() override {
    Json info = local_->options.arguments;
    info.set("model_path", local_->model.name);
    info.set("max_total_num_tokens", engine().stats().full_tokens_total);
    return info;
  }

 private:
  Engine& engine() { return local_->engine(); }

  void send(const BenchRequest& request, const std::shared_ptr<BenchRun>& run) {
    Request out;
    out.prompt =
        request.prompt_ids.empty() ? local_->model.tokenizer->encode(request.prompt, true) : request.prompt_ids;
    if (out.prompt.empty()) return run->fail("the prompt is empty");
    out.sampling.max_new_tokens = request.output_len;
    out.sampling.temperature = static_cast<float>(bench_.temperature);
    out.sampling.top_p = static_cast<float>(bench_.top_p);
    out.sampling.ignore_eos = !bench_.disable_ignore_eos;
    out.logprobs.enabled = bench_.return_logprob;
    out.stream = run;
    if (const auto accepted = engine().submit(std::move(out)); !accepted) run->fail(accepted.error().message);
  }

  void wake(std::vector<std::shared_ptr<RequestStream>> streams) override {
    {
      const std::lock_guard lock(mutex_);
      std::move(streams.begin(), streams.end(), std::back_inserter(woken_));
    }
    news_.notify_one();
  }

  void read_news() {
    set_thread_name("bench-read");
    while (true) {
      std::vector<std::shared_ptr<RequestStream>> streams;
      {
        std::unique_lock lock(mutex_);
        news_.wait(lock, [this] { return stopping_ || !woken_.empty(); });
        if (woken_.empty()) return;
        streams.swap(woken_);
      }
      for (const auto& stream : streams) static_cast<BenchRun&>(*stream).read(*local_->model.tokenizer);
    }
  }

  const BenchOptions bench_;
  const std::unique_ptr<LocalEngine> local_;
  std::unique_ptr<TaskPool> prep_;
  std::mutex mutex_;  // guards what follows but the thread
  std::condition_variable news_;
  std::vector<std::shared_ptr<RequestStream>> woken_;
  bool stopping_ = false;
  std::thread reader_;
};

}  // namespace

Result<std::unique_ptr<BenchBackend>> make_bench_engine(const BenchOptions& bench) {
  if (!bench.extra_request_body.empty())
    return Error{Errc::kInvalidArgument, "--extra-request-body is part of HTTP requests: leave out --engine-only"};
  CARAT_TRY(auto local, start_local_engine(bench.model, bench.engine_args));
  return std::unique_ptr<BenchBackend>(std::make_unique<EngineBench>(bench, std::move(local)));
}

}  // namespace carat
