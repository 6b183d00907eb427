#include "engine/memory_budget.h"

#include <algorithm>

#include "base/str.h"
#include "config/model_size.h"

namespace carat {

namespace {

int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

/// Sliding pages: of running windows with their step, and the same windows kept for the prefix cache.
struct SlidingNeed {
  int64_t running = 0, cached = 0;
};

SlidingNeed sliding_need(const TextConfig& config, int64_t max_running, const MemoryRequest& request) {
  // A window may begin and end inside a page, hence one more.
  const int64_t window = divide_up(config.sliding_window, request.page_tokens) + 1;
  return {max_running * (window + 1) + divide_up(request.max_step_tokens, request.page_tokens), max_running * window};
}

std::string gib(int64_t bytes) {
  const int64_t hundredths = (bytes * 100 + (int64_t{1} << 29)) >> 30;
  return str_cat(hundredths / 100, ".", hundredths % 100 < 10 ? "0" : "", hundredths % 100, " GiB");
}

Result<void> check(const MemoryRequest& request) {
  if (!(request.fraction > 0 && request.fraction <= 1))
    return Error{Errc::kInvalidArgument,
                 str_cat("memory fraction is ", request.fraction, ", allowed are values above 0 up to 1")};
  if (request.max_total_tokens < 0 || request.max_running < 0 || request.max_context < 0)
    return Error{Errc::kInvalidArgument, "max_total_tokens, max_running and max_context are not negative"};
  if (request.max_step_tokens < 1 || request.page_tokens < 1)
    return Error{Errc::kInvalidArgument, "a step and a page hold at least one token"};
  return {};
}

}  // namespace

Result<MemoryBudget> plan_memory(const ModelConfig& config, const MemoryRequest& request) {
  CARAT_TRY_VOID(check(request));
  const TextConfig& text = config.text;
  MemoryBudget budget;
  budget.weight_bytes = request.weight_bytes;
  budget.workspace_bytes = request.workspace_bytes;
  budget.page_tokens = request.page_tokens;
  budget.max_context = request.max_context > 0 ? request.max_context : text.max_position_embeddings;
  budget.full_page_bytes = kv_bytes_per_token(text, AttentionKind::kFull) * request.page_tokens;
  budget.sliding_page_bytes = kv_bytes_per_token(text, AttentionKind::kSliding) * request.page_tokens;
  const bool has_sliding = budget.sliding_page_bytes > 0;

  const int64_t allowed = static_cast<int64_t>(static_cast<double>(request.available_bytes) * request.fraction);
  const int64_t kv_bytes = allowed - request.weight_bytes - request.workspace_bytes;
  const auto too_little = [&](std::string_view what, int64_t need) {
    return Error{Errc::kOverloaded,
                 str_cat(what, " needs ", gib(need), ", but of ", gib(allowed), " allowed, weights take ",
                         gib(request.weight_bytes), " and workspaces ", gib(request.workspace_bytes),
                         "; lower max_total_tokens or max_running, or raise the memory fraction")};
  };
  const int64_t pair_bytes = budget.full_page_bytes + budget.sliding_page_bytes;
  if (kv_bytes < pair_bytes) return too_little("the smallest K/V cache", pair_bytes);

  const int64_t context_pages = divide_up(budget.max_context, request.page_tokens);
  const int64_t asked = request.max_total_tokens > 0 ? divide_up(request.max_total_tokens, request.page_tokens) : 0;
  int64_t running = request.max_running > 0 ? request.max_running : kDefaultMaxRunning;
  const auto sliding_bytes = [&](int64_t pages) {
    return (asked > 0 ? std::min(pages, asked) : pages) * budget.sliding_page_bytes;
  };
  const int64_t for_sliding = asked > 0 ? kv_bytes - asked * budget.full_page_bytes : kv_bytes / 2;
  if (asked > 0 && for_sliding < budget.sliding_page_bytes)
    return too_little(str_cat("max_total_tokens ", request.max_total_tokens), asked * pair_bytes);
  if (request.max_running == 0)
    while (running > 1 && sliding_bytes(sliding_need(text, running, request).running) > for_sliding) running /= 2;
  budget.max_running = static_cast<int>(running);

  int64_t sliding = 0;
  if (has_sliding) {
    const SlidingNeed need = sliding_need(text, running, request);
    const int64_t fits = for_sliding / budget.sliding_page_bytes;
    if (request.max_running > 0 && sliding_bytes(need.running) > for_sliding && asked > 0)
      return too_little(str_cat("max_running ", running, " with max_total_tokens ", request.max_total_tokens),
                        sliding_bytes(need.running) + asked * budget.full_page_bytes);
    sliding = std::min(need.running + need.cached, fits);
  }
  int64_t full = asked;
  if (full == 0)
    full = std::min((kv_bytes - sliding * budget.sliding_page_bytes) / budget.full_page_bytes, running * context_pages);
  budget.num_full_pages = static_cast<int>(std::min<int64_t>(full, INT32_MAX));
  budget.num_sliding_pages = static_cast<int>(std::min<int64_t>(sliding, budget.num_full_pages));
  return budget;
}

std::string MemoryBudget::describe() const {
  return str_cat("memory: ", gib(total_bytes()), " = weights ", gib(weight_bytes), " + workspaces ",
                 gib(workspace_bytes), " + K/V full ", gib(full_bytes()), " (", max_total_tokens(),
                 " tokens) + K/V sliding ", gib(sliding_bytes()), " (", int64_t{num_sliding_pages} * page_tokens,
                 " tokens); ", max_running, " sequences at once, context ", max_context);
}

}  // namespace carat
