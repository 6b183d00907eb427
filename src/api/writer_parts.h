#pragma once
// What the three families of answers share, written without a JSON tree: this is the way of every token.

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "api/generation.h"

namespace carat {

void append_number(std::string& out, int64_t value);
/// Log-probability as JSON; -inf becomes -9999.0, which JSON can hold.
void append_logprob(std::string& out, double value);
/// "stop", "length" or "abort", with quotes.
std::string_view quoted_reason(FinishReason reason);
/// How a message ended: a reply with calls that came to its end has "tool_calls".
bool ended_with_calls(const Sample& sample);
std::string_view quoted_message_reason(const Sample& sample);
/// The matched token id or stop string, or null.
void append_matched(std::string& out, const SampleEnd& end);
/// The text of a single token, quoted.
void append_token_text(std::string& out, const WriterContext& context, TokenId id);

/// Chat's form of the tokens' log-probabilities from the token `first` on: {"content":[...]}.
void append_chat_logprobs(std::string& out, const WriterContext& context, const Sample& sample, size_t first);

struct UsageNumbers {
  int64_t prompt_tokens = 0, completion_tokens = 0, reasoning_tokens = 0, cached_tokens = 0;
  int64_t image_tokens = 0, audio_tokens = 0, video_tokens = 0;  ///< soft tokens of the prompts, without their markers
  bool has_media() const { return image_tokens + audio_tokens + video_tokens > 0; }
};
UsageNumbers usage_of(const Prompt& prompt, const Sample& sample);
UsageNumbers usage_of(std::span<const Prompt> prompts);
/// `,"image_tokens":N` and so on, of the kinds that there are.
void append_media_tokens(std::string& out, const UsageNumbers& usage);
/// `with_nulls`: details that do not apply are null; else they are left out.
void append_usage(std::string& out, const UsageNumbers& usage, bool cache_report, bool with_nulls = true);

/// "1,2,3"
void append_ids(std::string& out, std::span<const TokenId> ids);
/// `,"sglext":{...}` with what `shown` asks for, null for the rest; nothing if it asks for nothing.
void append_sglext(std::string& out, const SglextOptions& shown, std::span<const Prompt> prompts);
/// The same as events of a stream, before its usage. `head`: of a chunk, up to its choices.
void append_sglext_events(std::string& out, std::string_view head, const SglextOptions& shown,
                          std::span<const Prompt> prompts);

int64_t unix_seconds();
double unix_seconds_exact();
/// "2026-11-25T10:00:00.000000+00:00"
std::string utc_now();

}  // namespace carat
