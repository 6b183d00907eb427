#include "server/signals.h"

#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <ctime>

#include "base/thread_name.h"

namespace carat {
namespace {

sigset_t watched_signals() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGINT);
  return set;
}

}  // namespace

SignalWatch::SignalWatch() {
  const sigset_t set = watched_signals();
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
  signal(SIGPIPE, SIG_IGN);
  thread_ = std::thread([this] { watch(); });
}

SignalWatch::~SignalWatch() {
  stop_.store(true);
  thread_.join();
}

void SignalWatch::watch() {
  set_thread_name("signals");
  const sigset_t set = watched_signals();
  const timespec tick{0, 100'000'000};
  while (!stop_.load()) {
    const int number = sigtimedwait(&set, nullptr, &tick);
    if (number <= 0) continue;
    // What holds no state needs no goodbye.
    if (!serving_.load() || received_.load() != 0) _exit(128 + number);
    received_.store(number);
  }
}

}  // namespace carat
