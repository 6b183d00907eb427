#include "base/task_pool.h"

#include <gmock/gmock.h>

#include <atomic>
#include <future>
#include <stdexcept>

namespace carat {
namespace {

TEST(TaskPool, RunsEachTaskOnce) {
  std::vector<std::atomic<int>> runs(1000);
  {
    TaskPool pool(4, runs.size());
    EXPECT_EQ(pool.num_threads(), 4);
    for (auto& count : runs) ASSERT_TRUE(pool.submit([&count] { ++count; }));
  }  // waits
  for (auto& count : runs) EXPECT_EQ(count, 1);
}

TEST(TaskPool, OneThreadKeepsTheOrder) {
  std::vector<int> order;
  {
    TaskPool pool(1, 100);
    for (int i = 0; i < 100; ++i) ASSERT_TRUE(pool.submit([&order, i] { order.push_back(i); }));
  }
  for (int i = 0; i < 100; ++i) EXPECT_EQ(order[static_cast<size_t>(i)], i);
}

TEST(TaskPool, RefusesWhenFull) {
  std::promise<void> started, go;
  std::atomic<int> runs = 0;
  {
    TaskPool pool(1, 2);
    ASSERT_TRUE(pool.submit([&] {
      started.set_value();
      go.get_future().wait();
    }));
    started.get_future().wait();
    ASSERT_TRUE(pool.submit([&] { ++runs; }));
    ASSERT_TRUE(pool.submit([&] { ++runs; }));
    EXPECT_EQ(pool.num_queued(), 2u);
    const auto refused = pool.submit([&] { ++runs; });
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, Errc::kOverloaded);
    EXPECT_THAT(refused.error().message, testing::HasSubstr("2 tasks"));
    go.set_value();
  }
  EXPECT_EQ(runs, 2);
}

TEST(TaskPool, SurvivesATaskThatThrows) {
  std::atomic<bool> ran = false;
  {
    TaskPool pool(1, 4);
    ASSERT_TRUE(pool.submit([] { throw std::runtime_error("on purpose, by a test"); }));
    ASSERT_TRUE(pool.submit([] { throw 1; }));
    ASSERT_TRUE(pool.submit([&] { ran = true; }));
  }
  EXPECT_TRUE(ran);
}

TEST(TaskPool, TasksMaySubmit) {
  std::promise<void> done;
  TaskPool pool(1, 4);
  ASSERT_TRUE(pool.submit([&] { ASSERT_TRUE(pool.submit([&] { done.set_value(); })); }));
  done.get_future().wait();
}

}  // namespace
}  // namespace carat
