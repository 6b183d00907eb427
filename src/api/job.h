#pragma once
// Runs prepared generations: engine -> stream -> waker -> io thread -> chunks -> client.

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "api/api_metrics.h"
#include "api/generation.h"
#include "api/request_log.h"
#include "engine/engine.h"
#include "http/server.h"

namespace carat {

/// Whoever wants to hear on its io thread that a stream has news.
class NewsListener {
 public:
  virtual ~NewsListener() = default;
  virtual void on_news(size_t index) = 0;
};

/// A stream that knows its listener. The listener must drop the stream when it has heard enough, since the two hold
/// each other.
class ListenedStream final : public RequestStream {
 public:
  ListenedStream(StreamWaker* waker, std::shared_ptr<NewsListener> listener, size_t index)
      : RequestStream(waker), listener_(std::move(listener)), index_(index) {}
  void notify() const { listener_->on_news(index_); }

 private:
  const std::shared_ptr<NewsListener> listener_;
  const size_t index_;
};

/// Passes a step's news to one io thread as one piece of work. All its streams must be ListenedStreams.
class IoWaker final : public StreamWaker {
 public:
  IoWaker(HttpServer& server, int io_index) : server_(server), io_index_(io_index) {}
  void wake(std::vector<std::shared_ptr<RequestStream>> streams) override;

 private:
  HttpServer& server_;
  const int io_index_;
};

/// What jobs share. Outlives them.
struct JobContext {
  Engine* engine = nullptr;
  const Tokenizer* tokenizer = nullptr;
  ApiMetrics* metrics = nullptr;
  const MarkerIds* markers = nullptr;
  const RequestLog* log = nullptr;
};

/// Why a request never reached the engine.
struct Refusal {
  Error error;
  ErrorStyle style = ErrorStyle::kOpenAi;
  bool schema = false;         ///< the body broke the schema
  bool native_stream = false;  ///< a streaming /generate: errors are events
};

/// One HTTP request's generation. All calls on the connection's io thread.
class GenerationJob final : public NewsListener, public std::enable_shared_from_this<GenerationJob> {
 public:
  GenerationJob(const JobContext& context, StreamWaker& waker, std::shared_ptr<HttpReply> reply);

  /// Hands the prompts to the engine. Call once.
  void start(PreparedGeneration prepared);
  /// Answers instead of start().
  void refuse(const Refusal& refusal);
  /// The client has gone: no more work for it.
  void on_disconnect();
  void on_news(size_t prompt_idx) override;

 private:
  struct SampleRun {
    SampleDecoder decoder;
    std::string pending_text;  ///< in no chunk yet, as are the next two
    std::vector<MessagePart> pending_parts;
    size_t first_pending = 0;  ///< tokens from here on
    bool chunk_sent = false;
    SampleTimes times{};
  };
  struct PromptRun {
    std::shared_ptr<ListenedStream> stream;
    std::vector<SampleRun> samples;
  };

  void submit(size_t prompt_idx);
  bool handle(size_t prompt_idx, SampleEvent& event);
  void observe_tokens(SampleRun& run, size_t num_tokens);
  void emit(Prompt& prompt, Sample& sample, SampleRun& run);
  void send_pending();
  void finish();
  void fail(const Error& error);
  void close();
  void count(bool aborted);

  const JobContext& context_;
  StreamWaker& waker_;
  std::shared_ptr<HttpReply> reply_;
  std::unique_ptr<AnswerWriter> writer_;
  std::chrono::steady_clock::time_point received_{};
  std::vector<Prompt> prompts_;
  std::vector<PromptRun> runs_;
  size_t num_open_ = 0;  ///< samples without an end
  int stream_interval_ = 1;
  std::string out_;
  bool count_ = false;  ///< for the metrics
  bool disconnected_ = false, head_sent_ = false, done_ = false;
};

}  // namespace carat
