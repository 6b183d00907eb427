#include "base/worker_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <ctime>
#include <thread>
#include <vector>

namespace carat {
namespace {

void expect_covers_once(WorkerPool& pool, int64_t n, int64_t grain) {
  std::vector<std::atomic<int>> hits(static_cast<size_t>(n));
  std::atomic<bool> bad{false};
  pool.parallel_for(n, grain, [&](int64_t begin, int64_t end, int worker) {
    if (begin < 0 || begin >= end || end > n || worker < 0 || worker >= pool.num_threads()) bad = true;
    if (begin % grain != 0 || (end - begin < grain && end != n)) bad = true;
    for (int64_t i = begin; i < end; ++i) ++hits[static_cast<size_t>(i)];
  });
  EXPECT_FALSE(bad) << "n " << n << " grain " << grain;
  for (int64_t i = 0; i < n; ++i) ASSERT_EQ(hits[static_cast<size_t>(i)], 1) << "n " << n << " grain " << grain;
}

TEST(WorkerPool, CoversEachIndexOnce) {
  for (int threads = 1; threads <= 5; ++threads) {
    WorkerPool pool(threads);
    EXPECT_EQ(pool.num_threads(), threads);
    for (const int64_t n : {0, 1, 2, 3, 7, 64, 1000})
      for (const int64_t grain : {1, 2, 16, 64, 2000}) expect_covers_once(pool, n, grain);
  }
}

TEST(WorkerPool, WritesOfWorkersAreSeenAfterwardsAndTheNextJobSeesThem) {
  WorkerPool pool(4);
  std::vector<int64_t> values(256, 0);  // plain, so that a missing order is a race for tsan
  for (int round = 0; round < 2000; ++round) {
    pool.parallel_for(256, 4, [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; ++i) values[static_cast<size_t>(i)] += i;
    });
  }
  for (int64_t i = 0; i < 256; ++i) EXPECT_EQ(values[static_cast<size_t>(i)], 2000 * i);
}

TEST(WorkerPool, OneWorkerIsInOnePieceAtATime) {
  WorkerPool pool(3);
  std::vector<int64_t> per_worker(3, 0);
  for (int round = 0; round < 500; ++round)
    pool.parallel_for(100, 1, [&](int64_t begin, int64_t end, int worker) {
      per_worker[static_cast<size_t>(worker)] += end - begin;
    });
  EXPECT_EQ(per_worker[0] + per_worker[1] + per_worker[2], 500 * 100);
}

TEST(WorkerPool, WakesUpAfterSleep) {
  WorkerPool pool(3);
  for (int round = 0; round < 20; ++round) {
    std::this_thread::sleep_for(std::chrono::microseconds(50 * (round % 8)));
    expect_covers_once(pool, 64, 1);
  }
}

TEST(WorkerPool, IdleWorkersDoNotBurnTheProcessor) {
  WorkerPool pool(4);
  expect_covers_once(pool, 64, 1);
  const auto cpu_seconds = [] { return static_cast<double>(std::clock()) / CLOCKS_PER_SEC; };
  const double before = cpu_seconds();
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  EXPECT_LT(cpu_seconds() - before, 0.1);
}

TEST(WorkerPool, DiesWhileWorkersSpinOrSleep) {
  for (int round = 0; round < 50; ++round) {
    WorkerPool pool(3);
    if (round % 2) expect_covers_once(pool, 16, 1);
    if (round % 3 == 0) std::this_thread::sleep_for(std::chrono::microseconds(200));
  }
}

}  // namespace
}  // namespace carat
