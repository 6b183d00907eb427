#include "base/metrics.h"

#include <gmock/gmock.h>

#include <cmath>
#include <thread>

namespace carat {
namespace {

TEST(Metrics, TextFormat) {
  MetricsRegistry registry;
  const MetricLabels labels = {{"model_name", "gemma \"4\"\\\n"}, {"tp_rank", "0"}};
  registry.counter("sglang:prompt_tokens_total", "Number of prefill tokens processed.", labels).add(12);
  registry.gauge("sglang:token_usage", "The token usage.\nTwo lines \\ \"quoted\".", labels).set(0.25);
  const double bounds[] = {0.1, 1, 400};
  auto& histogram = registry.histogram("sglang:e2e", "Latency.", bounds, {{"model_name", "m"}});
  histogram.observe(0.1);
  histogram.observe(0.5, 3);
  histogram.observe(1e9);
  registry.counter("plain", "No labels.").add(1e20);
  std::string text;
  registry.write_text(text);
  EXPECT_EQ(text, R"(# HELP sglang:prompt_tokens_total Number of prefill tokens processed.
# TYPE sglang:prompt_tokens_total counter
sglang:prompt_tokens_total{model_name="gemma \"4\"\\\n",tp_rank="0"} 12.0
# HELP sglang:token_usage The token usage.\nTwo lines \\ "quoted".
# TYPE sglang:token_usage gauge
sglang:token_usage{model_name="gemma \"4\"\\\n",tp_rank="0"} 0.25
# HELP sglang:e2e Latency.
# TYPE sglang:e2e histogram
sglang:e2e_bucket{model_name="m",le="0.1"} 1.0
sglang:e2e_bucket{model_name="m",le="1.0"} 4.0
sglang:e2e_bucket{model_name="m",le="400.0"} 4.0
sglang:e2e_bucket{model_name="m",le="+Inf"} 5.0
sglang:e2e_count{model_name="m"} 5.0
sglang:e2e_sum{model_name="m"} 1000000001.6
# HELP plain No labels.
# TYPE plain counter
plain 1e+20
)");
  EXPECT_EQ(histogram.count(), 5u);
}

TEST(Metrics, SameNameAndLabelsGiveTheSameMetric) {
  MetricsRegistry registry;
  Counter& first = registry.counter("requests_total", "Requests.", {{"endpoint", "/a"}});
  for (int i = 0; i < 1000; ++i)
    registry.counter("requests_total", "Requests.", {{"endpoint", std::to_string(i)}}).add();
  EXPECT_EQ(&first, &registry.counter("requests_total", "Requests.", {{"endpoint", "/a"}}));
  EXPECT_EQ(first.value(), 0);
  std::string text;
  registry.write_text(text);
  EXPECT_THAT(text, testing::HasSubstr("requests_total{endpoint=\"999\"} 1.0\n"));
}

TEST(Metrics, SpecialValues) {
  MetricsRegistry registry;
  registry.gauge("a", "").set(NAN);
  registry.gauge("b", "").set(-INFINITY);
  registry.gauge("c", "").add(-1.5);
  std::string text;
  registry.write_text(text);
  EXPECT_THAT(text, testing::AllOf(testing::HasSubstr("\na NaN\n"), testing::HasSubstr("\nb -Inf\n"),
                                   testing::HasSubstr("\nc -1.5\n")));
}

TEST(Metrics, ManyThreads) {
  MetricsRegistry registry;
  const double bounds[] = {0.5};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&] {
      for (int i = 0; i < 1000; ++i) {
        registry.counter("n", "").add();
        registry.histogram("h", "", bounds).observe(i % 2);
      }
    });
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(registry.counter("n", "").value(), 4000);
  EXPECT_EQ(registry.histogram("h", "", bounds).count(), 4000u);
  EXPECT_EQ(registry.histogram("h", "", bounds).bucket(0), 2000u);
}

TEST(MetricsDeathTest, Misuse) {
  MetricsRegistry registry;
  registry.counter("x", "");
  EXPECT_DEATH(registry.gauge("x", ""), "two kinds");
  EXPECT_DEATH(registry.gauge("x", "", {{"a", "b"}}), "two kinds");
  EXPECT_DEATH(registry.counter("1x", ""), "not a metric name");
  EXPECT_DEATH(registry.counter("y", "", {{"a:b", ""}}), "not a label name");
  const double bounds[] = {1, 1};
  EXPECT_DEATH(registry.histogram("h", "", bounds), "ascend");
}

}  // namespace
}  // namespace carat
