#include "engine/memory_budget.h"

#include <algorithm>

#include "base/str.h"
#include "config/model_size.h"

namespace carat {

namespace {

/// Of pages in bytes nothing overflows up to here.
constexpr int64_t kMaxTotalTokens = int64_t{1} << 40;

int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

/// Pages of the sliding pool, in units of what sequences need.
struct Sliding {
  int64_t window;   ///< that a window touches: it may begin and end inside a page
  int64_t step;     ///< that a step's tokens fill
  int64_t running;  ///< that running sequences need: windows with a page to grow into, and a step

  Sliding(const TextConfig& config, int64_t max_running, const MemoryRequest& request)
      : window(divide_up(config.sliding_window, request.page_tokens) + 1),
        step(divide_up(request.max_step_tokens, request.page_tokens)),
        running(max_running * (window + 1) + step) {}
  /// More than that is of no use: running sequences, and as many windows in the prefix cache.
  int64_t most(int64_t max_running) const { return running + max_running * window; }
};

/// Bytes for K/V and what a page of each pool takes of them.
struct Room {
  int64_t kv_bytes, full_page, sliding_page;
};

struct Pages {
  int64_t full = 0, sliding = 0;
};

/// For `asked` full pages.
Pages divide_for(int64_t asked, const Room& room, const Sliding& need, int64_t running, const MemoryRequest& request) {
  const auto by_ratio = static_cast<int64_t>(request.sliding_ratio.value_or(0) * static_cast<double>(asked));
  const int64_t wanted = request.sliding_ratio ? std::max<int64_t>(1, by_ratio) : need.most(running);
  return {asked, std::min(wanted, (room.kv_bytes - asked * room.full_page) / room.sliding_page)};
}

/// All of the room; `context` are the pages of a longest sequence, `enough` those of kEnoughWindows.
Pages divide_all(int64_t context, int64_t enough, const Room& room, const Sliding& need, int64_t running,
                 const MemoryRequest& request) {
  const double ratio = request.sliding_ratio.value_or(1.0);
  const double pair = static_cast<double>(room.full_page) + ratio * static_cast<double>(room.sliding_page);
  const auto by_ratio = static_cast<int64_t>(ratio * static_cast<double>(room.kv_bytes) / pair);
  Pages pages;
  pages.sliding = std::clamp<int64_t>(by_ratio, 1, need.most(running));
  pages.full = (room.kv_bytes - pages.sliding * room.sliding_page) / room.full_page;
  const int64_t beside_context = (room.kv_bytes - context * room.full_page) / room.sliding_page;
  if (!request.sliding_ratio && pages.full < context && beside_context >= enough) return {context, beside_context};
  return pages;
}

Result<void> check(const MemoryRequest& request) {
  if (!(request.fraction > 0 && request.fraction <= 1))
    return Error{Errc::kInvalidArgument,
                 str_cat("memory fraction is ", request.fraction, ", allowed are values above 0 up to 1")};
  if (request.max_total_tokens < 0 || request.max_running < 0 || request.max_context < 0)
    return Error{Errc::kInvalidArgument, "max_total_tokens, max_running and max_context are not negative"};
  if (request.sliding_ratio && !(*request.sliding_ratio > 0 && *request.sliding_ratio <= 1))
    return Error{Errc::kInvalidArgument, str_cat("--swa-full-tokens-ratio is ", *request.sliding_ratio,
                                                 ", allowed are values above 0 up to 1")};
  if (request.max_total_tokens > kMaxTotalTokens)
    return Error{Errc::kInvalidArgument, str_cat("--max-total-tokens is ", request.max_total_tokens,
                                                 ", allowed are values up to ", kMaxTotalTokens)};
  if (request.max_step_tokens < 1 || request.page_tokens < 1)
    return Error{Errc::kInvalidArgument, "a step and a page hold at least one token"};
  return {};
}

}  // namespace

std::string format_gib(int64_t bytes) {
  const int64_t hundredths = (bytes * 100 + (int64_t{1} << 29)) >> 30;
  return str_cat(hundredths / 100, ".", hundredths % 100 < 10 ? "0" : "", hundredths % 100, " GiB");
}

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
  // A kind without layers takes nothing; a byte for it keeps the divisions below defined.
  const int64_t full_page = std::max<int64_t>(1, budget.full_page_bytes);
  const int64_t sliding_page = std::max<int64_t>(1, budget.sliding_page_bytes);

  const int64_t share = static_cast<int64_t>(static_cast<double>(request.available_bytes) * request.fraction);
  const int64_t allowed = std::max<int64_t>(0, std::min(share, request.free_bytes));
  const int64_t kv_bytes = allowed - request.weight_bytes - request.workspace_bytes;
  const auto too_little = [&](std::string_view what, int64_t need) {
    const std::string limit = share <= request.free_bytes
                                  ? str_cat("that --mem-fraction-static ", request.fraction, " allows of ",
                                            format_gib(request.available_bytes))
                                  : str_cat("that are free of ", format_gib(request.available_bytes));
    return Error{Errc::kOverloaded,
                 str_cat("The model does not fit: weights take ", format_gib(request.weight_bytes), ", workspaces ",
                         format_gib(request.workspace_bytes), " and ", what, " ", format_gib(need),
                         ", together more than the ", format_gib(allowed), " ", limit,
                         ". Lower --max-total-tokens, --max-running-requests or --max-prefill-tokens, raise "
                         "--mem-fraction-static, or choose a smaller model.")};
  };
  if (kv_bytes < full_page + sliding_page) return too_little("the smallest K/V cache", full_page + sliding_page);

  const int64_t context = divide_up(budget.max_context, request.page_tokens);
  const int64_t asked = divide_up(request.max_total_tokens, request.page_tokens);
  if (asked > 0 && kv_bytes < asked * full_page + sliding_page)
    return too_little(str_cat("K/V for --max-total-tokens ", request.max_total_tokens),
                      asked * (full_page + sliding_page));
  int64_t running = request.max_running > 0 ? request.max_running : kDefaultMaxRunning;
  const auto windows_fit = [&] {
    const int64_t windows = Sliding(text, running, request).running;
    const int64_t room = asked > 0 ? kv_bytes - asked * full_page : kv_bytes / 2;
    return (asked > 0 ? std::min(windows, asked) : windows) * sliding_page <= room;
  };
  if (request.max_running == 0)
    while (running > 1 && !windows_fit()) running /= 2;
  budget.max_running = static_cast<int>(running);

  const Room room{kv_bytes, full_page, sliding_page};
  const Sliding need(text, running, request);
  const int64_t enough = Sliding(text, std::min<int64_t>(running, kEnoughWindows), request).running;
  Pages pages;
  if (asked > 0)
    pages = divide_for(asked, room, need, running, request);
  else
    pages = divide_all(context, enough, room, need, running, request);
  if (asked == 0) pages.full = std::min(pages.full, running * context);
  budget.num_full_pages = static_cast<int>(std::min<int64_t>(pages.full, INT32_MAX));
  budget.num_sliding_pages = static_cast<int>(std::min<int64_t>(pages.sliding, budget.num_full_pages));
  return budget;
}

std::string MemoryBudget::describe() const {
  return str_cat("memory: ", format_gib(total_bytes()), " = weights ", format_gib(weight_bytes), " + workspaces ",
                 format_gib(workspace_bytes), " + K/V full ", format_gib(full_bytes()), " (", max_total_tokens(),
                 " tokens) + K/V sliding ", format_gib(sliding_bytes()), " (", int64_t{num_sliding_pages} * page_tokens,
                 " tokens); ", max_running, " sequences at once, context ", max_context);
}

}  // namespace carat
