#include "engine/request.h"

#include <iterator>

namespace carat {
namespace {

template <class T>
void move_to_end(std::vector<T>& to, std::vector<T>&& from) {
  to.insert(to.end(), std::make_move_iterator(from.begin()), std::make_move_iterator(from.end()));
}

}  // namespace

std::vector<SampleEvent> RequestStream::drain() {
  const std::lock_guard lock(mutex_);
  return std::exchange(events_, {});
}

std::vector<SampleEvent> RequestStream::wait(std::chrono::steady_clock::time_point deadline) {
  std::unique_lock lock(mutex_);
  arrived_.wait_until(lock, deadline, [&] { return !events_.empty(); });
  return std::exchange(events_, {});
}

void RequestStream::cancel_sample(int sample) {
  const std::lock_guard lock(mutex_);
  cancelled_samples_.push_back(sample);
  samples_cancelled_.store(true, std::memory_order_release);
}

RequestStats RequestStream::stats() const {
  const std::lock_guard lock(mutex_);
  return stats_;
}

void RequestStream::push(SampleEvent event) {
  {
    const std::lock_guard lock(mutex_);
    SampleEvent* last = events_.empty() ? nullptr : &events_.back();
    if (last && last->sample == event.sample && !last->finish) {
      move_to_end(last->tokens, std::move(event.tokens));
      move_to_end(last->logprobs, std::move(event.logprobs));
      move_to_end(last->prompt_logprobs, std::move(event.prompt_logprobs));
      last->finish = std::move(event.finish);
    } else {
      events_.push_back(std::move(event));
    }
  }
  arrived_.notify_all();
}

void RequestStream::set_stats(const RequestStats& stats) {
  const std::lock_guard lock(mutex_);
  stats_ = stats;
}

std::vector<int> RequestStream::take_cancelled_samples() {
  if (!samples_cancelled_.load(std::memory_order_relaxed)) return {};  // asked every turn
  samples_cancelled_.exchange(false, std::memory_order_acquire);
  const std::lock_guard lock(mutex_);
  return std::exchange(cancelled_samples_, {});
}

}  // namespace carat
