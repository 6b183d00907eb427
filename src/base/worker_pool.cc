#include "base/worker_pool.h"

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

#include "base/check.h"
#include "base/str.h"
#include "base/thread_name.h"

namespace carat {

namespace {

// Longer than the gaps between the ops of one step, shorter than anybody would notice as heat.
constexpr std::chrono::microseconds kSpinTime{60};

inline void cpu_relax() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

/// Spins until ready() holds or kSpinTime is over; returns what ready() said last.
template <class Ready>
bool spin_until(Ready&& ready) {
  for (int i = 0; i < 64; ++i) {
    if (ready()) return true;
    cpu_relax();
  }
  const auto end = std::chrono::steady_clock::now() + kSpinTime;
  do {
    for (int i = 0; i < 32; ++i) {
      if (ready()) return true;
      cpu_relax();
    }
  } while (std::chrono::steady_clock::now() < end);
  return ready();
}

}  // namespace

// A job is open while `state_` has kOpen. Workers that see it join by adding one to the count in the low bits, take
// pieces until none is left, and subtract themselves again. The caller takes pieces too, then closes the job and waits
// for those who joined; a worker that wakes up late finds the job closed and was never waited for. The job's fields are
// written only while it is closed and nobody is inside.
struct WorkerPool::Impl {
  static constexpr uint64_t kOpen = uint64_t{1} << 31;
  static constexpr uint64_t kInside = kOpen - 1;
  static constexpr int kEpochShift = 32;

  std::vector<std::thread> threads;

  alignas(64) std::atomic<uint64_t> state{0};  // epoch << 32 | kOpen | workers inside
  alignas(64) std::atomic<int64_t> next{0};
  alignas(64) std::atomic<int> sleepers{0};
  const std::function<void(int64_t, int64_t, int)>* fn = nullptr;
  int64_t n = 0, piece = 1;

  std::mutex mutex;
  std::condition_variable wake;
  std::atomic<bool> stop{false};

  void take_pieces(int worker) {
    for (;;) {
      const int64_t begin = next.fetch_add(piece, std::memory_order_relaxed);
      if (begin >= n) return;
      (*fn)(begin, begin + piece < n ? begin + piece : n, worker);
    }
  }

  /// Enters the open job, unless it is the one of `seen_epoch` or is closed meanwhile.
  bool join(uint64_t& seen_epoch) {
    uint64_t now = state.load(std::memory_order_acquire);
    while ((now & kOpen) && (now >> kEpochShift) != seen_epoch) {
      if (state.compare_exchange_weak(now, now + 1, std::memory_order_acq_rel, std::memory_order_acquire)) {
        seen_epoch = now >> kEpochShift;
        return true;
      }
    }
    return false;
  }

  void work(int worker) {
    set_thread_name(str_cat("worker-", worker));
    uint64_t seen_epoch = 0;
    const auto something_new = [&] {
      const uint64_t now = state.load(std::memory_order_seq_cst);
      return ((now & kOpen) && (now >> kEpochShift) != seen_epoch) || stop.load(std::memory_order_relaxed);
    };
    while (!stop.load(std::memory_order_relaxed)) {
      if (join(seen_epoch)) {
        take_pieces(worker);
        state.fetch_sub(1, std::memory_order_release);
        continue;
      }
      if (spin_until(something_new)) continue;
      std::unique_lock lock(mutex);
      sleepers.fetch_add(1, std::memory_order_seq_cst);  // before the last look at `state`: see run()
      wake.wait(lock, something_new);
      sleepers.fetch_sub(1, std::memory_order_relaxed);
    }
  }

  void run() {
    const uint64_t epoch = (state.load(std::memory_order_relaxed) >> kEpochShift) + 1;
    state.store(epoch << kEpochShift | kOpen, std::memory_order_seq_cst);
    // Either we see the sleeper, or the sleeper, which counted itself first, saw the job.
    if (sleepers.load(std::memory_order_seq_cst) > 0) {
      { std::lock_guard lock(mutex); }
      wake.notify_all();
    }
    take_pieces(0);
    state.fetch_and(~kOpen, std::memory_order_acq_rel);
    const auto empty = [&] { return (state.load(std::memory_order_acquire) & kInside) == 0; };
    while (!spin_until(empty)) std::this_thread::yield();  // the machine may be short of cores
  }
};

WorkerPool::WorkerPool(int num_threads) : impl_(std::make_unique<Impl>()) {
  CARAT_CHECK(num_threads >= 1, "a pool has at least the calling thread");
  for (int worker = 1; worker < num_threads; ++worker)
    impl_->threads.emplace_back([impl = impl_.get(), worker] { impl->work(worker); });
}

WorkerPool::~WorkerPool() {
  {
    std::lock_guard lock(impl_->mutex);
    impl_->stop.store(true, std::memory_order_relaxed);
  }
  impl_->wake.notify_all();
  for (std::thread& thread : impl_->threads) thread.join();
}

int WorkerPool::num_threads() const { return static_cast<int>(impl_->threads.size()) + 1; }

void WorkerPool::parallel_for(int64_t n, int64_t grain, const std::function<void(int64_t, int64_t, int)>& fn) {
  if (n <= 0) return;
  CARAT_DCHECK((impl_->state.load(std::memory_order_relaxed) & Impl::kOpen) == 0, "one parallel_for at a time");
  if (grain < 1) grain = 1;
  if (impl_->threads.empty() || n <= grain) return fn(0, n, 0);
  // About kPiecesPerThread pieces each: enough to even out a thread that was held up, few enough to stay long.
  constexpr int64_t kPiecesPerThread = 4;
  const int64_t per_piece = grain * num_threads() * kPiecesPerThread;
  impl_->fn = &fn;
  impl_->n = n;
  impl_->piece = grain * ((n + per_piece - 1) / per_piece);
  impl_->next.store(0, std::memory_order_relaxed);
  impl_->run();
}

}  // namespace carat
