#include "base/task_pool.h"

#include <exception>

#include "base/log.h"
#include "base/str.h"
#include "base/thread_name.h"

namespace carat {

TaskPool::TaskPool(int num_threads, size_t max_queued, const std::string& name) : max_queued_(max_queued) {
  CARAT_CHECK(num_threads >= 1 && max_queued >= 1, "a task pool needs a thread and a place to wait");
  for (int i = 0; i < num_threads; ++i) threads_.emplace_back([this, thread = str_cat(name, "-", i)] { run(thread); });
}

TaskPool::~TaskPool() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  for (auto& thread : threads_) thread.join();
}

Result<void> TaskPool::submit(Task task) {
  {
    const std::lock_guard lock(mutex_);
    if (stopping_) return Error{Errc::kUnavailable, "the task pool is shutting down"};
    if (queue_.size() >= max_queued_)
      return Error{Errc::kOverloaded, str_cat("the task queue is full: ", max_queued_, " tasks wait")};
    queue_.push_back(std::move(task));
  }
  wake_.notify_one();
  return {};
}

size_t TaskPool::num_queued() const {
  const std::lock_guard lock(mutex_);
  return queue_.size();
}

void TaskPool::run(const std::string& thread_name) {
  set_thread_name(thread_name);
  while (true) {
    Task task;
    {
      std::unique_lock lock(mutex_);
      wake_.wait(lock, [this] { return stopping_ || !queue_.empty(); });
      if (queue_.empty()) return;
      task = std::move(queue_.front());
      queue_.pop_front();
    }
    try {
      task();
    } catch (const std::exception& e) {
      log_error("a task threw: ", e.what());
    } catch (...) {
      log_error("a task threw something that is no std::exception");
    }
  }
}

}  // namespace carat
