#pragma once
// Threads that run slices of one op on the CPU backend.

#include <cstdint>
#include <functional>
#include <memory>

namespace carat {

/// A fixed set of workers, the caller being one of them. One parallel_for at a time (the engine's runner owns the
/// pool).
class WorkerPool {
 public:
  /// `num_threads` >= 1, the caller included.
  explicit WorkerPool(int num_threads);
  ~WorkerPool();
  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;
  int num_threads() const;
  /// Calls fn(begin, end, worker) over a partition of [0, n) in pieces that begin at multiples of `grain` (the last may
  /// be shorter); returns when all are done. Threads that are late are not waited for: an idle pool sleeps.
  /// Pieces are taken dynamically; `worker` is in [0, num_threads).
  void parallel_for(int64_t n, int64_t grain, const std::function<void(int64_t begin, int64_t end, int worker)>& fn);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace carat
