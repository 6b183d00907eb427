#include "client/bench_metrics.h"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <cstdio>
#include <numeric>

#include "base/str.h"

namespace carat {

void BenchOutput::begin(double now, const BenchRequest& request) {
  start_s = now;
  last_text_s_ = now;
  prompt_len = request.prompt_len;
  output_len = request.output_len;
}

void BenchOutput::on_tokens(double now, int total_tokens) {
  on_event(now);
  output_len = total_tokens;
  if (ttft_s == 0) {
    ttft_s = now - start_s;
  } else {
    const int num_new = total_tokens - last_tokens_;
    if (num_new <= 0) return;
    itl_s.insert(itl_s.end(), static_cast<size_t>(num_new), (now - last_text_s_) / num_new);
  }
  last_text_s_ = now;
  last_tokens_ = total_tokens;
}

void BenchOutput::on_text(double now, std::string_view text) {
  on_event(now);
  if (ttft_s == 0) {
    ttft_s = now - start_s;
  } else {
    itl_s.push_back(now - last_text_s_);
    text_chunks.emplace_back(text);
  }
  last_text_s_ = now;
}

void BenchOutput::fail(std::string why) {
  success = false;
  error = std::move(why);
}

namespace {

double percentile(const std::vector<double>& sorted, double percent) {
  const double at = percent / 100.0 * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<size_t>(at);
  const auto above = std::min(below + 1, sorted.size() - 1);
  return sorted[below] + (sorted[above] - sorted[below]) * (at - static_cast<double>(below));
}

BenchStats to_ms(BenchStats s) {
  for (double* v : {&s.mean, &s.median, &s.std, &s.p90, &s.p95, &s.p99, &s.max}) *v *= 1000;
  return s;
}

// Seconds since the first start, counted in buckets of one second.
struct Peaks {
  double tokens_per_s = 0;
  int concurrent = 0;
};

Peaks find_peaks(const std::vector<BenchOutput>& outputs) {
  double begin = INFINITY, end = -INFINITY;
  for (const auto& o : outputs) {
    if (!o.success) continue;
    begin = std::min(begin, o.start_s);
    end = std::max(end, o.start_s + o.latency_s);
  }
  if (begin == INFINITY) return {};
  std::vector<int64_t> tokens(static_cast<size_t>(std::ceil(end - begin)) + 1), alive(tokens.size());
  for (const auto& o : outputs) {
    if (!o.success) continue;
    double at = o.start_s + o.ttft_s;
    const auto count = [&] {
      if (const auto bucket = static_cast<size_t>(at - begin); bucket < tokens.size()) ++tokens[bucket];
    };
    count();
    for (const double gap : o.itl_s) {
      at += gap;
      count();
    }
    // Both ends belong to the request's time, so this may exceed the concurrency that was allowed.
    const auto first = static_cast<size_t>(o.start_s - begin),
               last = static_cast<size_t>(o.start_s + o.latency_s - begin);
    for (size_t s = first; s < std::min(last + 1, alive.size()); ++s) ++alive[s];
  }
  return {static_cast<double>(*std::max_element(tokens.begin(), tokens.end())),
          static_cast<int>(*std::max_element(alive.begin(), alive.end()))};
}

}  // namespace

BenchStats bench_stats(std::vector<double> values) {
  if (values.empty()) return {};
  std::sort(values.begin(), values.end());
  BenchStats out;
  const auto n = static_cast<double>(values.size());
  out.mean = std::accumulate(values.begin(), values.end(), 0.0) / n;
  double squares = 0;
  for (const double v : values) squares += (v - out.mean) * (v - out.mean);
  out.std = std::sqrt(squares / n);
  out.median = percentile(values, 50);
  out.p90 = percentile(values, 90);
  out.p95 = percentile(values, 95);
  out.p99 = percentile(values, 99);
  out.max = values.back();
  return out;
}

BenchGoodput compute_goodput(const BenchGoals& goals_ms, const std::vector<BenchOutput>& outputs, double duration_s) {
  std::vector<int> met(goals_ms.size(), 0);
  int good = 0;
  for (const BenchOutput& o : outputs) {
    if (!o.success) continue;
    const double tpot_s = o.output_len > 1 ? (o.latency_s - o.ttft_s) / (o.output_len - 1) : 0;
    bool all = true;
    for (size_t i = 0; i < goals_ms.size(); ++i) {
      const auto& [name, limit_ms] = goals_ms[i];
      const double seen_s = name == "ttft" ? o.ttft_s : (name == "tpot" ? tpot_s : o.latency_s);
      if (seen_s * 1000 <= limit_ms)
        ++met[i];
      else
        all = false;
    }
    good += all;
  }
  const double sent = std::max<double>(1, static_cast<double>(outputs.size()));
  BenchGoodput out{goals_ms, good / duration_s, good / sent, {}};
  for (const int count : met) out.attainment_by_goal.push_back(count / sent);
  return out;
}

BenchMetrics compute_bench_metrics(const std::vector<BenchRequest>& requests, const std::vector<BenchOutput>& outputs,
                                   double duration_s, double accept_length,
                                   const std::function<int(std::string_view)>& count_tokens) {
  BenchMetrics m;
  m.duration_s = duration_s;
  m.accept_length = accept_length;
  std::vector<double> ttfts, tpots, itls, latencies;
  for (size_t i = 0; i < outputs.size(); ++i) {
    const auto& o = outputs[i];
    if (!o.success) continue;
    ++m.completed;
    m.total_input += requests[i].prompt_len;
    m.total_input_vision += requests[i].vision_len;
    m.total_output += o.output_len;
    m.total_output_retokenized += count_tokens(o.generated_text);
    ttfts.push_back(o.ttft_s);
    latencies.push_back(o.latency_s);
    if (o.output_len > 1) tpots.push_back((o.latency_s - o.ttft_s) / (o.output_len - 1));
    if (accept_length > 0 && o.text_chunks.size() == o.itl_s.size()) {
      for (size_t k = 0; k < o.itl_s.size(); ++k) {
        const int tokens = std::max(1, count_tokens(o.text_chunks[k]));
        itls.insert(itls.end(), static_cast<size_t>(tokens), o.itl_s[k] / tokens);
      }
    } else {
      itls.insert(itls.end(), o.itl_s.begin(), o.itl_s.end());
    }
  }
  m.request_throughput = m.completed / duration_s;
  m.input_throughput = static_cast<double>(m.total_input) / duration_s;
  m.output_throughput = static_cast<double>(m.total_output) / duration_s;
  m.total_throughput = static_cast<double>(m.total_input + m.total_output) / duration_s;
  m.concurrency = std::accumulate(latencies.begin(), latencies.end(), 0.0) / duration_s;
  m.ttft_ms = to_ms(bench_stats(std::move(ttfts)));
  m.tpot_ms = to_ms(bench_stats(std::move(tpots)));
  m.itl_ms = to_ms(bench_stats(std::move(itls)));
  m.e2e_ms = to_ms(bench_stats(std::move(latencies)));
  const auto peaks = find_peaks(outputs);
  m.max_output_tokens_per_s = peaks.tokens_per_s;
  m.max_concurrent_requests = peaks.concurrent;
  return m;
}

namespace {

std::string padded(std::string_view text, size_t width) {
  std::string out(text);
  if (out.size() < width) out.append(width - out.size(), ' ');
  return out;
}

std::string centred(std::string_view text, char fill) {
  constexpr size_t kWidth = 50;
  const size_t missing = kWidth - text.size();
  return str_cat(std::string(missing / 2, fill), text, std::string(missing - missing / 2, fill), "\n");
}

std::string row(std::string_view name, std::string_view value) {
  return str_cat(padded(name, 40), " ", padded(value, 10), "\n");
}
std::string row(std::string_view name, int64_t value) { return row(name, str_cat(value)); }
std::string row(std::string_view name, double value) {
  char text[64];
  std::snprintf(text, sizeof text, "%.2f", value);
  return row(name, std::string_view(text));
}

std::string rate_text(double rate) {
  if (std::isinf(rate)) return "inf";
  std::string out;
  append_json_double(out, rate);
  return out;
}

std::string stats_rows(std::string_view name, const BenchStats& s) {
  const auto label = [&](std::string_view which) { return str_cat(which, " ", name, " (ms):"); };
  return row(label("Mean"), s.mean) + row(label("Median"), s.median) + row(label("P90"), s.p90) +
         row(label("P95"), s.p95) + row(label("P99"), s.p99);
}

void add_stats(Json& out, std::string_view name, const BenchStats& s) {
  const auto add = [&](std::string_view which, double v) { out.set(str_cat(which, "_", name, "_ms"), v); };
  add("mean", s.mean);
  add("median", s.median);
  add("std", s.std);
  add("p90", s.p90);
  add("p95", s.p95);
  add("p99", s.p99);
}

template <class Value>
Json list(const std::vector<BenchOutput>& outputs, const Value& value) {
  JsonArray out;
  for (const auto& o : outputs) out.push_back(value(o));
  return out;
}

}  // namespace

namespace {

std::string goodput_rows(const BenchGoodput& goodput) {
  std::string goals;
  for (const auto& [name, limit_ms] : goodput.goals_ms) goals += str_cat(goals.empty() ? "" : " ", name, ":", limit_ms);
  std::string out = centred("Goodput", '-') + row("SLOs (ms):", goals) +
                    row("Request goodput (req/s):", goodput.request_goodput) +
                    row("SLO attainment (%):", goodput.attainment * 100);
  for (size_t i = 0; i < goodput.goals_ms.size(); ++i) {
    std::string label = goodput.goals_ms[i].first;
    std::transform(label.begin(), label.end(), label.begin(), [](unsigned char c) { return std::toupper(c); });
    out += row(label + " SLO attainment (%):", goodput.attainment_by_goal[i] * 100);
  }
  return out;
}

}  // namespace

std::string format_bench_report(const BenchRunInfo& info, const BenchMetrics& m) {
  std::string out = "\n" + centred(" Serving Benchmark Result ", '=');
  out += row("Backend:", info.backend);
  out += row("Traffic request rate:", rate_text(info.request_rate));
  out += row("Max request concurrency:", info.max_concurrency ? str_cat(*info.max_concurrency) : "not set");
  out += row("Successful requests:", int64_t{m.completed});
  out += row("Benchmark duration (s):", m.duration_s);
  out += row("Total input tokens:", m.total_input);
  out += row("Total input text tokens:", m.total_input - m.total_input_vision);
  if (info.data.dataset_name == "image") out += row("Total input vision tokens:", m.total_input_vision);
  out += row("Total generated tokens:", m.total_output);
  out += row("Total generated tokens (retokenized):", m.total_output_retokenized);
  out += row("Request throughput (req/s):", m.request_throughput);
  out += row("Input token throughput (tok/s):", m.input_throughput);
  out += row("Output token throughput (tok/s):", m.output_throughput);
  out += row("Peak output token throughput (tok/s):", m.max_output_tokens_per_s);
  out += row("Peak concurrent requests:", int64_t{m.max_concurrent_requests});
  out += row("Total token throughput (tok/s):", m.total_throughput);
  out += row("Concurrency:", m.concurrency);
  if (m.accept_length > 0) out += row("Accept length:", m.accept_length);
  if (m.goodput) out += goodput_rows(*m.goodput);
  out += centred("End-to-End Latency", '-') + stats_rows("E2E Latency", m.e2e_ms);
  out += centred("Time to First Token", '-') + stats_rows("TTFT", m.ttft_ms);
  out += centred("Time per Output Token (excl. 1st token)", '-') + stats_rows("TPOT", m.tpot_ms);
  out += centred("Inter-Token Latency", '-') + stats_rows("ITL", m.itl_ms) + row("Max ITL (ms):", m.itl_ms.max);
  return out + std::string(50, '=') + "\n";
}

std::string format_bench_json(const BenchRunInfo& info, const BenchMetrics& m,
                              const std::vector<BenchOutput>* details) {
  Json out = Json::object();
  out.set("tag", info.tag.empty() ? Json() : Json(info.tag));
  out.set("backend", info.backend);
  out.set("dataset_name", info.data.dataset_name);
  out.set("request_rate", info.request_rate);
  out.set("max_concurrency", info.max_concurrency ? Json(*info.max_concurrency) : Json());
  out.set("sharegpt_output_len", info.data.sharegpt_output_len ? Json(*info.data.sharegpt_output_len) : Json());
  out.set("random_input_len", info.data.random_input_len);
  out.set("random_output_len", info.data.random_output_len);
  out.set("random_range_ratio", info.data.random_range_ratio);
  out.set("server_info", info.server_info);
  out.set("duration", m.duration_s);
  out.set("completed", m.completed);
  out.set("total_input_tokens", m.total_input);
  out.set("total_input_text_tokens", m.total_input - m.total_input_vision);
  out.set("total_input_vision_tokens", m.total_input_vision);
  out.set("total_output_tokens", m.total_output);
  out.set("total_output_tokens_retokenized", m.total_output_retokenized);
  out.set("request_throughput", m.request_throughput);
  out.set("input_throughput", m.input_throughput);
  out.set("output_throughput", m.output_throughput);
  out.set("total_throughput", m.total_throughput);
  add_stats(out, "e2e_latency", m.e2e_ms);
  add_stats(out, "ttft", m.ttft_ms);
  add_stats(out, "tpot", m.tpot_ms);
  add_stats(out, "itl", m.itl_ms);
  out.set("concurrency", m.concurrency);
  out.set("accept_length", m.accept_length > 0 ? Json(m.accept_length) : Json());
  out.set("max_output_tokens_per_s", m.max_output_tokens_per_s);
  out.set("max_concurrent_requests", m.max_concurrent_requests);
  if (m.goodput) {
    Json goals = Json::object(), attained = Json::object();
    for (size_t i = 0; i < m.goodput->goals_ms.size(); ++i) {
      goals.set(m.goodput->goals_ms[i].first, m.goodput->goals_ms[i].second);
      attained.set(m.goodput->goals_ms[i].first, m.goodput->attainment_by_goal[i]);
    }
    out.set("goodput_slos_ms", std::move(goals));
    out.set("request_goodput", m.goodput->request_goodput);
    out.set("slo_attainment", m.goodput->attainment);
    out.set("slo_attainment_by_metric", std::move(attained));
  }
  if (details != nullptr) {
    out.set("input_lens", list(*details, [](const auto& o) { return Json(o.prompt_len); }));
    out.set("output_lens", list(*details, [](const auto& o) { return Json(o.success ? o.output_len : 0); }));
    out.set("ttfts", list(*details, [](const auto& o) { return Json(o.ttft_s); }));
    out.set("itls", list(*details, [](const auto& o) { return Json(JsonArray(o.itl_s.begin(), o.itl_s.end())); }));
    out.set("generated_texts", list(*details, [](const auto& o) { return Json(o.generated_text); }));
    out.set("errors", list(*details, [](const auto& o) { return Json(o.error); }));
  }
  auto text = out.dump();
  // JSON has no infinity, Python's json writes this one.
  static constexpr std::string_view kNull = "\"request_rate\":null";
  if (const auto at = text.find(kNull); at != std::string::npos && std::isinf(info.request_rate))
    text.replace(at, kNull.size(), "\"request_rate\":Infinity");
  return text;
}

}  // namespace carat
