#pragma once
// SIGTERM and SIGINT: the first asks for an orderly end, the second ends at once.

#include <atomic>
#include <thread>

namespace carat {

/// Blocks both signals for this thread and all that it starts, and waits for them on a thread of its own: no work is
/// done in a handler. Make it before any other thread; one per process.
class SignalWatch {
 public:
  SignalWatch();
  ~SignalWatch();
  SignalWatch(const SignalWatch&) = delete;
  SignalWatch& operator=(const SignalWatch&) = delete;

  /// The first signal's number, 0 if none came yet.
  int received() const { return received_.load(); }
  /// From now on the first signal asks for an orderly end; before, while starting, it ends the process.
  void serving() { serving_.store(true); }

 private:
  void watch();

  std::atomic<int> received_ = 0;
  std::atomic<bool> serving_ = false, stop_ = false;
  std::thread thread_;
};

}  // namespace carat
