#include "sampling/mask_worker.h"

#include "base/thread_name.h"

namespace carat {

MaskWorker::MaskWorker() : thread_([this] { loop(); }) {}

MaskWorker::~MaskWorker() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void MaskWorker::start(std::span<NextMask* const> masks) {
  work_.assign(masks.begin(), masks.end());
  next_.store(0, std::memory_order_relaxed);
  if (work_.empty()) return;
  {
    const std::lock_guard lock(mutex_);
    busy_ = true;
  }
  changed_.notify_all();
}

void MaskWorker::finish() {
  if (work_.empty()) return;
  drain();
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return !busy_; });
}

void MaskWorker::drain() {
  while (true) {
    const size_t i = next_.fetch_add(1, std::memory_order_relaxed);
    if (i >= work_.size()) return;
    work_[i]->prepare();
  }
}

void MaskWorker::loop() {
  set_thread_name("masks");
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] { return stopping_ || busy_; });
    if (stopping_) return;
    lock.unlock();
    drain();
    lock.lock();
    busy_ = false;
    changed_.notify_all();
  }
}

}  // namespace carat
