#include "engine/step_log.h"

#include <cstdio>
#include <string>

#include "base/log.h"

namespace carat {
namespace {

std::string fixed2(double value) {
  char text[64];
  std::snprintf(text, sizeof text, "%.2f", value);
  return text;
}

double share(int64_t used, int64_t total) {
  return total > 0 ? static_cast<double>(used) / static_cast<double>(total) : 0;
}

double per_second(int64_t count, std::chrono::steady_clock::duration time) {
  const double seconds = std::chrono::duration<double>(time).count();
  return seconds > 0 ? static_cast<double>(count) / seconds : 0;
}

std::string usage(const EngineStats& s, bool hybrid, bool with_counts) {
  const std::string full = fixed2(share(s.full_tokens_used, s.full_tokens_total));
  if (!hybrid)
    return with_counts ? str_cat("#token: ", s.full_tokens_used, ", token usage: ", full)
                       : str_cat("token usage: ", full);
  const std::string sliding = fixed2(share(s.sliding_tokens_used, s.sliding_tokens_total));
  if (!with_counts) return str_cat("full token usage: ", full, ", swa token usage: ", sliding);
  return str_cat("#full token: ", s.full_tokens_used, ", full token usage: ", full,
                 ", #swa token: ", s.sliding_tokens_used, ", swa token usage: ", sliding);
}

}  // namespace

StepLog::StepLog(int interval, bool hybrid)
    : interval_(interval), hybrid_(hybrid), last_prefill_(Clock::now()), last_decode_(last_prefill_) {}

void StepLog::prefill(const Prefill& step, EngineStats& stats) {
  const int64_t all = static_cast<int64_t>(step.num_tokens) + step.cached_tokens;
  stats.cache_hit_rate = share(step.cached_tokens, all);
  if (interval_ <= 0) return;
  const auto now = Clock::now();
  log_info("Prefill batch, #new-seq: ", step.num_sequences, ", #new-token: ", step.num_tokens,
           ", #cached-token: ", step.cached_tokens, ", ", usage(stats, hybrid_, false),
           ", #running-req: ", stats.num_running, ", #queue-req: ", stats.num_queued,
           ", #pending-token: ", step.pending_tokens,
           ", input throughput (token/s): ", fixed2(per_second(step.num_tokens, now - last_prefill_)));
  last_prefill_ = now;
}

void StepLog::decode(EngineStats& stats) {
  if (++decodes_ < (interval_ > 0 ? interval_ : 40)) return;
  decodes_ = 0;
  const auto now = Clock::now();
  stats.generation_tokens_per_second = per_second(stats.generated_tokens_total - generated_before_, now - last_decode_);
  generated_before_ = stats.generated_tokens_total;
  last_decode_ = now;
  if (interval_ <= 0) return;
  log_info("Decode batch, #running-req: ", stats.num_running, ", ", usage(stats, hybrid_, true),
           ", gen throughput (token/s): ", fixed2(stats.generation_tokens_per_second),
           ", #queue-req: ", stats.num_queued);
}

void StepLog::idle(EngineStats& stats) {
  stats.generation_tokens_per_second = 0;
  generated_before_ = stats.generated_tokens_total;
  decodes_ = 0;
  last_prefill_ = last_decode_ = Clock::now();
}

}  // namespace carat
