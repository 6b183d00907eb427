#pragma once
// Threads for work on single requests (rendering, tokenising, compiling grammars), kept away from io and engine
// threads.

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/result.h"

namespace carat {

/// A bounded queue of tasks over a fixed set of threads. Tasks start in the order in which they were submitted. A task
/// that was accepted runs exactly once: the destructor takes no new tasks, lets the queue run empty and joins. What a
/// task throws is logged and ends that task only. Any thread may submit, tasks too (but not wait for each other: the
/// pool may be full of waiting ones).
class TaskPool {
 public:
  using Task = std::function<void()>;

  /// `num_threads` >= 1; `max_queued` >= 1 counts the tasks that wait, not those that run. The threads are called
  /// `name`-0, `name`-1 and so on.
  TaskPool(int num_threads, size_t max_queued, const std::string& name = "task");
  ~TaskPool();
  TaskPool(const TaskPool&) = delete;
  TaskPool& operator=(const TaskPool&) = delete;

  /// Errors: kOverloaded if max_queued tasks wait, kUnavailable once the destructor runs; `task` is dropped then.
  Result<void> submit(Task task);
  int num_threads() const { return static_cast<int>(threads_.size()); }
  size_t max_queued() const { return max_queued_; }
  /// Tasks that wait now; for metrics.
  size_t num_queued() const;

 private:
  void run(const std::string& thread_name);

  const size_t max_queued_;
  mutable std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<Task> queue_;  // guarded by mutex_, as is stopping_
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace carat
