#pragma once
// What comes in at the engine's door and what goes out: ids in, ids out.

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "base/encoder_input.h"
#include "base/result.h"
#include "base/token.h"
#include "sampling/params.h"

namespace carat {

enum class FinishReason { kStop, kLength, kAbort };

struct Finish {
  FinishReason reason = FinishReason::kStop;
  std::optional<TokenId> matched_token;  ///< kStop: the end or stop token
  std::optional<Error> error;            ///< kAbort by the engine: why; absent when the client cancelled
};

/// A step's news about one sample of a request.
struct SampleEvent {
  int sample = 0;                                 ///< 0 .. n-1
  std::vector<TokenId> tokens;                    ///< new tokens, the end token included
  std::vector<PositionLogprobs> logprobs;         ///< one per token if asked for, else empty
  std::vector<PositionLogprobs> prompt_logprobs;  ///< once, with the first event, if asked for; position prompt_start
                                                  ///< first; the entry for position 0 has logprob NaN
  std::optional<Finish> finish;                   ///< set on the sample's last event
};

/// Counters that answers report; final once every sample has finished.
struct RequestStats {
  int cached_tokens = 0;  ///< prompt tokens taken from the prefix cache
  int num_preemptions = 0;
  std::chrono::steady_clock::time_point queued{}, scheduled{}, first_token{}, finished{};
};

class RequestStream;

/// Told by the engine thread, once per step and waker, which streams have news. Must not block.
class StreamWaker {
 public:
  virtual ~StreamWaker() = default;
  virtual void wake(std::vector<std::shared_ptr<RequestStream>> streams) = 0;
};

/// The mailbox between the engine (writes events) and whoever answers the client (reads them, may cancel). Bounded by
/// construction: it holds at most the tokens the request may generate. Any thread.
class RequestStream {
 public:
  /// `waker` may be null (the reader then polls or uses wait()) and must outlive the stream.
  explicit RequestStream(StreamWaker* waker = nullptr) : waker_(waker) {}

  /// Everything new since the last call, in order.
  std::vector<SampleEvent> drain();
  /// Blocks until there are events or the deadline has passed; for callers without a waker.
  std::vector<SampleEvent> wait(std::chrono::steady_clock::time_point deadline);
  /// Ends the request: no more work is done for it; samples not yet finished end with kAbort.
  void cancel() { cancelled_.store(true, std::memory_order_relaxed); }
  bool cancelled() const { return cancelled_.load(std::memory_order_relaxed); }
  /// Ends one sample, e.g. at a stop string found in its text; the others go on.
  void cancel_sample(int sample);
  RequestStats stats() const;

  // For the engine.
  /// Appends; news about a sample whose last event is still unread joins it where order allows.
  void push(SampleEvent event);
  void set_stats(const RequestStats& stats);
  std::vector<int> take_cancelled_samples();
  StreamWaker* waker() const { return waker_; }

 private:
  StreamWaker* waker_;
  std::atomic<bool> cancelled_{false};
  std::atomic<bool> samples_cancelled_{false};
  mutable std::mutex mutex_;
  std::condition_variable arrived_;
  std::vector<SampleEvent> events_;
  std::vector<int> cancelled_samples_;
  RequestStats stats_;
};

struct Request {
  std::string id;  ///< for logs and abort
  std::vector<TokenId>
      prompt;  ///< not empty; at media positions any ids of the vocabulary, soft tokens take their place
  std::vector<MediaSpan> media;  ///< ascending, inside the prompt, not overlapping
  SamplingParams sampling;
  LogprobParams logprobs;
  int num_samples = 1;      ///< n
  int priority = 0;         ///< higher first, with priority scheduling
  bool untracked = false;   ///< leaves no trace in statistics (health checks)
  uint64_t cache_salt = 0;  ///< requests with different salts share no cached prefix
  std::shared_ptr<RequestStream> stream;
};

}  // namespace carat
