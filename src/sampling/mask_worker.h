#pragma once
// Masks of the next tokens, computed while the device computes the logits they will be applied to.

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <span>
#include <thread>
#include <vector>

#include "sampling/next_mask.h"

namespace carat {

/// A thread beside the one that owns it. start() and finish() alternate and come from one thread.
class MaskWorker {
 public:
  MaskWorker();
  ~MaskWorker();

  /// Begins to prepare `masks`, which nobody else touches until finish() returns. With none nothing is woken.
  void start(std::span<NextMask* const> masks);
  /// Returns when all are prepared; helps with what is left.
  void finish();

 private:
  void loop();
  void drain();

  std::vector<NextMask*> work_;
  std::atomic<size_t> next_ = 0;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool busy_ = false;  // guarded by mutex_, as is stopping_
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace carat
