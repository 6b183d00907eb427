// How busy the server is: /v1/loads for routers, /metrics for Prometheus. Source: spec api.md sections 1 and 9.

#include <algorithm>
#include <array>
#include <charconv>

#include "api/api_impl.h"
#include "api/writer_parts.h"
#include "base/str.h"

namespace carat {
namespace {

constexpr double kGiB = 1024.0 * 1024.0 * 1024.0;
/// SGLang calls a K/V memory that is used up to this share fully utilised.
constexpr double kFullUsage = 0.9;

constexpr auto kSections =
    std::to_array<std::string_view>({"all", "core", "disagg", "lora", "memory", "queues", "spec"});

double share(int64_t used, int64_t total) {
  return total > 0 ? static_cast<double>(used) / static_cast<double>(total) : 0;
}

double gib(int64_t bytes) { return static_cast<double>(bytes) / kGiB; }

/// The engine's numbers as operators know them.
struct Load {
  EngineStats stats;
  double full = 0, sliding = 0, utilization = 0;
  int num_grammars_waiting = 0;

  Load(const ServedModel& model, const GrammarCompiler* grammars)
      : stats(model.engine->stats()),
        full(share(stats.full_tokens_used, stats.full_tokens_total)),
        sliding(share(stats.sliding_tokens_used, stats.sliding_tokens_total)),
        utilization(std::max(share(stats.num_running, model.engine->runner_info().max_slots), usage() / kFullUsage)),
        num_grammars_waiting(grammars ? grammars->num_waiting() : 0) {}
  double usage() const { return std::max(full, sliding); }
  int num_paused() const { return stats.paused ? stats.num_open : 0; }
};

Json core_section(const ServedModel& model, const Load& load) {
  const EngineStats& s = load.stats;
  return Json::object({{"timestamp", unix_seconds_exact()},
                       {"dp_rank", 0},
                       {"num_running_reqs", s.num_running},
                       {"num_waiting_reqs", s.num_queued},
                       {"num_total_reqs", s.num_open},
                       {"num_used_tokens", s.full_tokens_used},
                       {"max_total_num_tokens", s.full_tokens_total},
                       {"max_running_requests", model.engine->runner_info().max_slots},
                       {"token_usage", load.usage()},
                       {"gen_throughput", s.generation_tokens_per_second},
                       {"cache_hit_rate", s.cache_hit_rate},
                       {"utilization", load.utilization},
                       {"total_prefill_uncached_tokens", s.prompt_tokens_total - s.cached_tokens_total}});
}

Json memory_section(const ServedModel& model, const Load& load) {
  return Json::object({{"weight_gb", gib(model.weights_bytes)},
                       {"kv_cache_gb", gib(model.kv_bytes)},
                       {"graph_gb", 0.0},
                       {"token_capacity", load.stats.full_tokens_total}});
}

Json queues_section(const Load& load) {
  return Json::object({{"waiting", load.stats.num_queued},
                       {"grammar", load.num_grammars_waiting},
                       {"paused", load.num_paused()},
                       {"retracted", load.stats.num_preempted},
                       {"prealloc_ready", 0}});
}

/// Sections of the one replica's load; `include` as in the query, empty for all. Errors: kInvalidArgument.
Result<Json> load_json(const ServedModel& model, const GrammarCompiler* grammars, const std::string& include) {
  bool all = include.empty();
  std::vector<std::string_view> wanted;
  for (const auto name : split(include, ',')) {
    wanted.push_back(trim(name));
    all |= wanted.back() == "all";
    if (include.empty() || std::find(kSections.begin(), kSections.end(), wanted.back()) != kSections.end()) continue;
    std::string valid;
    for (const auto section : kSections) valid += str_cat(valid.empty() ? "" : ", ", section);
    return Error{Errc::kInvalidArgument,
                 str_cat("Invalid include section '", wanted.back(), "'. Valid options: ", valid)};
  }
  const auto has = [&](std::string_view name) {
    return all || std::find(wanted.begin(), wanted.end(), name) != wanted.end();
  };
  const Load load(model, grammars);
  Json out = core_section(model, load);
  if (has("memory")) out.set("memory", memory_section(model, load));
  if (has("queues")) out.set("queues", queues_section(load));
  return out;
}

void append_sample(std::string& out, std::string_view name, const Json& value) {
  out += str_cat("# TYPE sglang_", name, " gauge\nsglang_", name, "{dp_rank=\"0\"} ", value.dump(), "\n");
}

std::string prometheus_text(const Json& load) {
  std::string out;
  for (const auto& [key, value] : load.as_object()) {
    if (key == "dp_rank") continue;
    if (!value.is_object()) {
      append_sample(out, key, value);
      continue;
    }
    for (const auto& [inner, number] : value.as_object()) append_sample(out, str_cat(key, "_", inner), number);
  }
  return out;
}

}  // namespace

void Api::Impl::loads(HttpRequest request, ReplyPtr reply) {
  const std::string rank_text = request.query_value("dp_rank");
  int64_t rank = 0;
  if (!rank_text.empty() && !parse_int(rank_text, rank))
    return send_error(
        *reply, schema_error(ErrorStyle::kOpenAi,
                             {Errc::kInvalidArgument, str_cat("dp_rank must be an integer, got '", rank_text, "'")}));
  auto load = load_json(*model(), grammars.get(), request.query_value("include"));
  if (!load) return send_error(*reply, schema_error(ErrorStyle::kOpenAi, load.error()));
  if (request.query_value("format") == "prometheus")
    return reply->send({200, "text/plain; version=0.0.4; charset=utf-8", rank == 0 ? prometheus_text(*load) : "", {}});
  Json list = Json::array();
  if (rank == 0) list.push_back(std::move(*load));
  const Json answer = Json::object({{"timestamp", utc_now()},
                                    {"version", settings.version},
                                    {"accelerator", model()->on_gpu ? "cuda" : "cpu"},
                                    {"num_accelerators", model()->on_gpu ? 1 : 0},
                                    {"loads", std::move(list)}});
  reply->send({200, "application/json", answer.dump(), {}});
}

/// Brings what /metrics shows of the engine up to date. Any io thread.
void Api::Impl::update_engine_metrics() {
  const ServedModel* m = model();
  if (!m) return;
  const std::lock_guard lock(engine_metrics_mutex);
  const Load load(*m, grammars.get());
  const EngineStats& s = load.stats;
  const RunnerInfo& info = m->engine->runner_info();
  const MetricLabels labels = {
      {"model_name", settings.served_model_name}, {"engine_type", "unified"}, {"tp_rank", "0"}, {"pp_rank", "0"}};
  const auto set = [&](std::string_view name, std::string_view help, double value) {
    registry.gauge(str_cat("sglang:", name), help, labels).set(value);
  };
  const auto tokens = [&](std::string_view name, std::string_view help, int64_t value) {
    set(name, help, static_cast<double>(value));
  };
  /// The engine keeps its totals itself.
  const auto total = [&](std::string_view name, std::string_view help, int64_t value, std::string_view mode = {}) {
    MetricLabels all = labels;
    if (!mode.empty()) all.emplace_back("mode", mode);
    Counter& counter = registry.counter(str_cat("sglang:", name), help, all);
    counter.add(static_cast<double>(value) - counter.value());
  };
  set("num_running_reqs", "Sequences that are being computed.", s.num_running);
  set("num_queue_reqs", "Requests that wait.", s.num_queued);
  set("num_grammar_queue_reqs", "Requests that wait for a grammar.", load.num_grammars_waiting);
  set("num_retracted_reqs", "Sequences preempted so far.", s.num_preempted);
  set("num_paused_reqs", "Requests that are paused.", load.num_paused());
  tokens("num_used_tokens", "Tokens in K/V memory.", s.full_tokens_used);
  tokens("max_total_num_tokens", "Tokens that K/V memory holds.", s.full_tokens_total);
  tokens("max_total_num_tokens_swa", "Tokens that the sliding layers' K/V memory holds.", s.sliding_tokens_total);
  set("token_usage", "Share of K/V memory in use.", load.usage());
  set("full_token_usage", "Share of the full layers' K/V memory in use.", load.full);
  set("swa_token_usage", "Share of the sliding layers' K/V memory in use.", load.sliding);
  tokens("kv_used_tokens", "Tokens of sequences in the full layers' K/V memory.", s.full_tokens_used);
  tokens("kv_evictable_tokens", "Tokens there that only the prefix cache holds.", s.cached_tokens_evictable);
  tokens("kv_available_tokens", "Tokens there that are free.",
         s.full_tokens_total - s.full_tokens_used - s.cached_tokens_evictable);
  tokens("swa_used_tokens", "Tokens of sequences in the sliding layers' K/V memory.", s.sliding_tokens_used);
  tokens("swa_evictable_tokens", "Tokens there that only the prefix cache holds.", s.sliding_tokens_evictable);
  tokens("swa_available_tokens", "Tokens there that are free.",
         s.sliding_tokens_total - s.sliding_tokens_used - s.sliding_tokens_evictable);
  set("gen_throughput", "Tokens generated per second.", s.generation_tokens_per_second);
  set("cache_hit_rate", "Share of prompt tokens taken from the prefix cache.", s.cache_hit_rate);
  set("utilization", "How close the server is to its limits.", load.utilization);
  set("page_size", "Tokens in a page.", info.page_tokens);
  set("num_pages", "Pages of full layers.", info.num_full_pages);
  set("context_len", "Longest sequence.", m->context_length);
  set("is_cuda_graph", "Whether decode steps run as CUDA graphs.", m->on_gpu && settings.decode_graphs ? 1 : 0);
  set("startup_time_seconds", "From start to ready.", m->startup_seconds);
  set("startup_cuda_graph_time_seconds", "Time spent on CUDA graphs before serving.", 0);
  set("weight_memory_usage_gb", "Weights in GiB.", gib(m->weights_bytes));
  set("kv_cache_memory_usage_gb", "K/V memory in GiB.", gib(m->kv_bytes));
  set("graph_memory_usage_gb", "CUDA graphs in GiB.", 0);
  if (media_pool) {
    tokens("mm_media_waiting", "Media that wait for a thread to load them.", media_pool->num_waiting());
    tokens("mm_media_waiting_bytes", "Bytes of them.", media_pool->waiting_bytes());
    tokens("mm_media_held_bytes", "Bytes of pixels and features that requests hold.", media_pool->held_bytes());
  }
  set("http_requests_active", "HTTP requests being answered.", http_active.load());
  total("realtime_tokens_total", "Tokens of steps so far.", s.prompt_tokens_total - s.cached_tokens_total,
        "prefill_compute");
  total("realtime_tokens_total", "Tokens of steps so far.", s.cached_tokens_total, "prefill_cache");
  total("realtime_tokens_total", "Tokens of steps so far.", s.generated_tokens_total, "decode");
  total("evicted_tokens_total", "Tokens that the prefix cache gave up.", s.evicted_tokens_total);
  total("num_retracted_requests_total", "Sequences preempted so far.", s.num_preempted);
  total("num_retracted_input_tokens_total", "Prompt tokens of preempted sequences.", s.retracted_input_tokens_total);
  total("num_retracted_output_tokens_total", "Generated tokens of preempted sequences.",
        s.retracted_output_tokens_total);
}

void Api::Impl::metrics_text(HttpRequest request, ReplyPtr reply) {
  if (!settings.enable_metrics) return send_error(*reply, unknown_path(request.path));
  update_engine_metrics();
  std::string text;
  registry.write_text(text);
  reply->send({200, "text/plain; version=0.0.4; charset=utf-8", std::move(text), {}});
}

}  // namespace carat
