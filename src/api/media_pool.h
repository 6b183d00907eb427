#pragma once
// Threads that load media, apart from those that prepare text: a slow address or a large picture holds up nobody else.

#include <atomic>
#include <functional>
#include <memory>
#include <vector>

#include "api/media_loader.h"
#include "base/task_pool.h"

namespace carat {

/// Media that wait to be loaded at most; more get 503, as do more bytes of them.
inline constexpr size_t kMaxWaitingMedia = 4096;
inline constexpr int64_t kMaxWaitingMediaBytes = int64_t{1} << 30;

/// What comes with a request is decoded by some threads, what comes from elsewhere is fetched and decoded by others, so
/// that addresses that do not answer hold up only other addresses. What media became counts against
/// MediaOptions::max_held_bytes for as long as LoadedMedium::counted is kept. Any thread.
class MediaPool {
 public:
  using Load = std::function<Result<LoadedMedium>(const MediaPart&, const std::function<bool()>& stopped)>;
  using Done = std::function<void(Result<std::vector<LoadedMedium>>)>;

  /// `load` blocks, but should end soon with kCancelled once `stopped` is true; it is called on the pool's threads.
  MediaPool(Load load, const MediaOptions& options);
  /// Ends what is being loaded, and gives up what waits (kUnavailable).
  ~MediaPool();

  /// From now on nothing is fetched from elsewhere any more, also not what is being fetched (kUnavailable).
  void stop_fetching() { elsewhere_.stopping.store(true); }

  // For metrics.
  int64_t num_waiting() const;
  int64_t waiting_bytes() const { return waiting_bytes_.load(); }  ///< as the requests sent them
  int64_t held_bytes() const { return held_bytes_->load(); }       ///< as the encoders read them

  /// Loads `parts` and calls `done` once with what they became, in their order, or with the first error among them, on
  /// a thread of the pool or before this returns. `cancelled`: nobody wants them any more, which ends them soon
  /// (kCancelled). Errors are those of loading, and kOverloaded.
  void load(std::vector<MediaPart> parts, std::shared_ptr<const std::atomic<bool>> cancelled, Done done);

 private:
  struct Batch;
  struct Crew {
    std::atomic<bool> stopping = false;
    TaskPool threads;
  };
  void load_one(Batch& batch, size_t index, const Crew& crew);
  Result<LoadedMedium> load_safely(const MediaPart& part, const std::function<bool()>& stopped) const;
  Result<LoadedMedium> hold(LoadedMedium medium);
  void finish_one(const std::shared_ptr<Batch>& batch);

  const Load load_;
  const int64_t max_held_bytes_;
  /// Shared with what was loaded, which may outlive the pool.
  const std::shared_ptr<std::atomic<int64_t>> held_bytes_ = std::make_shared<std::atomic<int64_t>>(0);
  std::atomic<int64_t> waiting_bytes_ = 0;
  Crew here_, elsewhere_;
};

}  // namespace carat
