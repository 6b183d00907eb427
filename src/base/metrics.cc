#include "base/metrics.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "base/json.h"
#include "base/str.h"

namespace carat {

namespace {

bool is_name(std::string_view name, bool colons) {
  const auto is_letter = [&](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (colons && c == ':');
  };
  return !name.empty() && is_letter(name[0]) &&
         std::all_of(name.begin(), name.end(), [&](char c) { return is_letter(c) || (c >= '0' && c <= '9'); });
}

void append_escaped(std::string& out, std::string_view text, bool quotes) {
  for (char c : text) {
    if (c == '\n')
      out += "\\n";
    else if (c == '\\' || (quotes && c == '"'))
      (out += '\\') += c;
    else
      out += c;
  }
}

std::string labels_text(const MetricLabels& labels) {
  std::string out;
  for (const auto& [name, value] : labels) {
    CARAT_CHECK(is_name(name, false), str_cat("not a label name: ", name));
    if (!out.empty()) out += ',';
    out += name;
    out += "=\"";
    append_escaped(out, value, true);
    out += '"';
  }
  return out;
}

void append_value(std::string& out, double value) {
  if (std::isnan(value))
    out += "NaN";
  else if (std::isinf(value))
    out += value < 0 ? "-Inf" : "+Inf";
  else
    append_json_double(out, value);
}

/// name{labels,extra} value
void append_sample(std::string& out, std::string_view name, std::string_view suffix, std::string_view labels,
                   std::string_view extra, double value) {
  out += name;
  out += suffix;
  if (!labels.empty() || !extra.empty()) {
    out += '{';
    out += labels;
    if (!labels.empty() && !extra.empty()) out += ',';
    out += extra;
    out += '}';
  }
  out += ' ';
  append_value(out, value);
  out += '\n';
}

void append_series(std::string& out, std::string_view name, std::string_view labels, const Counter& metric) {
  append_sample(out, name, "", labels, "", metric.value());
}
void append_series(std::string& out, std::string_view name, std::string_view labels, const Gauge& metric) {
  append_sample(out, name, "", labels, "", metric.value());
}
void append_series(std::string& out, std::string_view name, std::string_view labels, const Histogram& metric) {
  uint64_t below = 0;
  for (size_t i = 0; i <= metric.bounds().size(); ++i) {
    below += metric.bucket(i);
    std::string bound = "le=\"";
    append_value(bound, i < metric.bounds().size() ? metric.bounds()[i] : INFINITY);
    bound += '"';
    append_sample(out, name, "_bucket", labels, bound, static_cast<double>(below));
  }
  append_sample(out, name, "_count", labels, "", static_cast<double>(below));
  append_sample(out, name, "_sum", labels, "", metric.sum());
}

constexpr std::string_view kKinds[] = {"counter", "gauge", "histogram"};  // in the order of Series::metric

}  // namespace

Histogram::Histogram(std::vector<double> bounds)
    : bounds_(std::move(bounds)), buckets_(std::make_unique<std::atomic<uint64_t>[]>(bounds_.size() + 1)) {
  CARAT_CHECK(std::adjacent_find(bounds_.begin(), bounds_.end(), std::greater_equal<>()) == bounds_.end(),
              "the bounds of a histogram ascend");
}

void Histogram::observe(double value, uint64_t times) {
  const auto at = std::lower_bound(bounds_.begin(), bounds_.end(), value) - bounds_.begin();
  buckets_[static_cast<size_t>(at)].fetch_add(times, std::memory_order_relaxed);
  sum_.fetch_add(value * static_cast<double>(times), std::memory_order_relaxed);
}

uint64_t Histogram::count() const {
  uint64_t total = 0;
  for (size_t i = 0; i <= bounds_.size(); ++i) total += bucket(i);
  return total;
}

template <class T, class... Args>
T& MetricsRegistry::find_or_add(std::string_view name, std::string_view help, const MetricLabels& labels,
                                Args&&... args) {
  CARAT_CHECK(is_name(name, true), str_cat("not a metric name: ", name));
  std::string text = labels_text(labels);
  const std::lock_guard lock(mutex_);
  auto family = std::find_if(families_.begin(), families_.end(), [&](const Family& f) { return f.name == name; });
  if (family == families_.end())
    family = families_.insert(families_.end(), Family{std::string(name), std::string(help), {}});
  auto series =
      std::find_if(family->series.begin(), family->series.end(), [&](const Series& s) { return s.labels == text; });
  const Series& found =
      series != family->series.end()
          ? *series
          : family->series.emplace_back(std::in_place_type<T>, std::move(text), std::forward<Args>(args)...);
  auto* metric = std::get_if<T>(const_cast<decltype(found.metric)*>(&found.metric));
  CARAT_CHECK(metric != nullptr && family->series.front().metric.index() == found.metric.index(),
              str_cat("metric ", name, " is used as two kinds"));
  return *metric;
}

Counter& MetricsRegistry::counter(std::string_view name, std::string_view help, const MetricLabels& labels) {
  return find_or_add<Counter>(name, help, labels);
}
Gauge& MetricsRegistry::gauge(std::string_view name, std::string_view help, const MetricLabels& labels) {
  return find_or_add<Gauge>(name, help, labels);
}
Histogram& MetricsRegistry::histogram(std::string_view name, std::string_view help, std::span<const double> bounds,
                                      const MetricLabels& labels) {
  return find_or_add<Histogram>(name, help, labels, std::vector<double>(bounds.begin(), bounds.end()));
}

void MetricsRegistry::write_text(std::string& out) const {
  const std::lock_guard lock(mutex_);
  for (const Family& family : families_) {
    out += str_cat("# HELP ", family.name, " ");
    append_escaped(out, family.help, false);
    out += str_cat("\n# TYPE ", family.name, " ", kKinds[family.series.front().metric.index()], "\n");
    for (const Series& series : family.series)
      std::visit([&](const auto& metric) { append_series(out, family.name, series.labels, metric); }, series.metric);
  }
}

}  // namespace carat
