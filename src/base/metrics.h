#pragma once
// Counters, gauges and histograms in Prometheus' text form. Writing one is a relaxed atomic operation, from any thread.

#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace carat {

/// Names and values, in the order in which they are printed.
using MetricLabels = std::vector<std::pair<std::string, std::string>>;

/// A sum that only grows.
class Counter {
 public:
  void add(double amount = 1) { value_.fetch_add(amount, std::memory_order_relaxed); }
  double value() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<double> value_ = 0;
};

/// A value that goes up and down.
class Gauge {
 public:
  void set(double value) { value_.store(value, std::memory_order_relaxed); }
  void add(double amount) { value_.fetch_add(amount, std::memory_order_relaxed); }
  double value() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<double> value_ = 0;
};

/// Counts of observations at or below each bound.
class Histogram {
 public:
  /// `bounds` ascend; the one at infinity is implied.
  explicit Histogram(std::vector<double> bounds);
  /// `times` observations of `value` each.
  void observe(double value, uint64_t times = 1);
  std::span<const double> bounds() const { return bounds_; }
  /// Observations in (bounds[i - 1], bounds[i]], the last one above all bounds.
  uint64_t bucket(size_t i) const { return buckets_[i].load(std::memory_order_relaxed); }
  uint64_t count() const;
  double sum() const { return sum_.load(std::memory_order_relaxed); }

 private:
  std::vector<double> bounds_;
  std::unique_ptr<std::atomic<uint64_t>[]> buckets_;  // one more than bounds_
  std::atomic<double> sum_ = 0;
};

/// Owns metrics by name and labels. Asking twice gives the same one, so it may be looked up where it is used;
/// references stay good as long as the registry. Any thread. A name that is no Prometheus name, a name used for two
/// kinds, bounds that do not ascend: programmer errors.
class MetricsRegistry {
 public:
  Counter& counter(std::string_view name, std::string_view help, const MetricLabels& labels = {});
  Gauge& gauge(std::string_view name, std::string_view help, const MetricLabels& labels = {});
  Histogram& histogram(std::string_view name, std::string_view help, std::span<const double> bounds,
                       const MetricLabels& labels = {});

  /// Appends everything in Prometheus' text format 0.0.4: families in the order of their first mention, numbers as
  /// Python's client writes them. Values are read one by one while others may write.
  void write_text(std::string& out) const;

 private:
  struct Series {
    template <class T, class... Args>
    Series(std::in_place_type_t<T> type, std::string text, Args&&... args)
        : labels(std::move(text)), metric(type, std::forward<Args>(args)...) {}
    std::string labels;  // as printed, without braces
    std::variant<Counter, Gauge, Histogram> metric;
  };
  struct Family {
    std::string name, help;
    std::deque<Series> series;  // a deque, for references that stay
  };
  template <class T, class... Args>
  T& find_or_add(std::string_view name, std::string_view help, const MetricLabels& labels, Args&&... args);

  mutable std::mutex mutex_;  // guards the lists, not the values
  std::deque<Family> families_;
};

}  // namespace carat
