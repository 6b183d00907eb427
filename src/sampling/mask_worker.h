#pragma once
// Masks of the next tokens, computed while the device computes the logits they will be applied to.

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <span>
#include <thread>
#include <vector>

#include "sampling/sampler.h"

namespace carat {

/// A thread beside the one that owns it. start() and finish() alternate and come from one thread.
class MaskWorker {
 public:
  MaskWorker();
  ~MaskWorker();

  /// Begins to prepare the masks of `samplers`, which nobody else touches until finish() returns. Those without a
  /// constraint are passed over; with none to prepare nothing is woken.
  void start(std::span<SequenceSampler* const> samplers);
  /// Returns when all are prepared; helps with what is left.
  void finish();

 private:
  void loop();
  void drain();

  std::vector<SequenceSampler*> work_;
  std::atomic<size_t> next_ = 0;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool busy_ = false;  // guarded by mutex_, as is stopping_
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace carat
