#include "api/writer_parts.h"

#include <charconv>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <ctime>

#include "base/json.h"
#include "base/str.h"
#include "output/token_text.h"

namespace carat {

namespace {

void append_token_entry(std::string& out, const WriterContext& context, TokenId id, double logprob) {
  const TokenText token = token_text(*context.tokenizer, id);
  out += R"({"token":)";
  append_json_string(out, token.text);
  out += R"(,"bytes":)";
  append_byte_list(out, token.bytes);
  out += R"(,"logprob":)";
  append_logprob(out, logprob);
}

}  // namespace

void append_number(std::string& out, int64_t value) {
  char buffer[24];
  out.append(buffer, std::to_chars(buffer, buffer + sizeof buffer, value).ptr);
}

void append_logprob(std::string& out, double value) { append_json_double(out, std::isfinite(value) ? value : -9999.0); }

std::string_view quoted_reason(FinishReason reason) {
  switch (reason) {
    case FinishReason::kStop:
      return "\"stop\"";
    case FinishReason::kLength:
      return "\"length\"";
    case FinishReason::kAbort:
      break;
  }
  return "\"abort\"";
}

bool ended_with_calls(const Sample& sample) {
  return sample.num_calls > 0 && sample.end && sample.end->reason == FinishReason::kStop;
}

std::string_view quoted_message_reason(const Sample& sample) {
  return ended_with_calls(sample) ? "\"tool_calls\"" : quoted_reason(sample.end->reason);
}

void append_matched(std::string& out, const SampleEnd& end) {
  if (end.matched_text)
    append_json_string(out, *end.matched_text);
  else if (end.matched_token)
    append_number(out, *end.matched_token);
  else
    out += "null";
}

void append_token_text(std::string& out, const WriterContext& context, TokenId id) {
  append_json_string(out, token_text(*context.tokenizer, id).text);
}

void append_chat_logprobs(std::string& out, const WriterContext& context, const Sample& sample, size_t first) {
  out += R"({"content":[)";
  for (size_t i = first; i < sample.logprobs.size(); ++i) {
    const PositionLogprobs& position = sample.logprobs[i];
    if (i > first) out += ',';
    append_token_entry(out, context, sample.tokens[i], position.logprob);
    out += R"(,"top_logprobs":[)";
    for (size_t j = 0; j < position.top.size(); ++j) {
      if (j > 0) out += ',';
      append_token_entry(out, context, position.top[j].token, position.top[j].logprob);
      out += '}';
    }
    out += "]}";
  }
  out += "]}";
}

namespace {

void add_prompt(UsageNumbers& usage, const Prompt& prompt) {
  usage.prompt_tokens += static_cast<int64_t>(prompt.prepared.ids.size());
  usage.cached_tokens += prompt.stats.cached_tokens;
  for (const MediaSpan& span : prompt.prepared.media) {
    using Kind = EncoderInput::Kind;
    const Kind kind = span.input->kind;
    (kind == Kind::kImage   ? usage.image_tokens
     : kind == Kind::kAudio ? usage.audio_tokens
                            : usage.video_tokens) += span.input->num_tokens;
  }
}

void add_sample(UsageNumbers& usage, const Prompt& prompt, const Sample& sample) {
  usage.completion_tokens += static_cast<int64_t>(sample.tokens.size());
  usage.reasoning_tokens += prompt.reasoning_tokens(sample);
}

}  // namespace

UsageNumbers usage_of(const Prompt& prompt, const Sample& sample) {
  UsageNumbers usage;
  add_prompt(usage, prompt);
  add_sample(usage, prompt, sample);
  return usage;
}

UsageNumbers usage_of(std::span<const Prompt> prompts) {
  UsageNumbers sum;
  for (const Prompt& prompt : prompts) {
    add_prompt(sum, prompt);
    for (const Sample& sample : prompt.samples) add_sample(sum, prompt, sample);
  }
  return sum;
}

void append_media_tokens(std::string& out, const UsageNumbers& usage) {
  const auto add = [&](std::string_view member, int64_t count) {
    if (count == 0) return;
    out += member;
    append_number(out, count);
  };
  add(R"(,"image_tokens":)", usage.image_tokens);
  add(R"(,"audio_tokens":)", usage.audio_tokens);
  add(R"(,"video_tokens":)", usage.video_tokens);
}

void append_usage(std::string& out, const UsageNumbers& usage, bool cache_report, bool with_nulls) {
  out += R"({"prompt_tokens":)";
  append_number(out, usage.prompt_tokens);
  out += R"(,"total_tokens":)";
  append_number(out, usage.prompt_tokens + usage.completion_tokens);
  out += R"(,"completion_tokens":)";
  append_number(out, usage.completion_tokens);
  if (cache_report || usage.has_media()) {
    out += R"(,"prompt_tokens_details":{"cached_tokens":)";
    append_number(out, usage.cached_tokens);
    append_media_tokens(out, usage);
    out += '}';
  } else if (with_nulls) {
    out += R"(,"prompt_tokens_details":null)";
  }
  out += R"(,"reasoning_tokens":)";
  append_number(out, usage.reasoning_tokens);
  if (usage.reasoning_tokens > 0) {
    out += R"(,"completion_tokens_details":{"reasoning_tokens":)";
    append_number(out, usage.reasoning_tokens);
    out += '}';
  } else if (with_nulls) {
    out += R"(,"completion_tokens_details":null)";
  }
  out += '}';
}

void append_ids(std::string& out, std::span<const TokenId> ids) {
  for (size_t i = 0; i < ids.size(); ++i) {
    if (i > 0) out += ',';
    append_number(out, ids[i]);
  }
}

void append_sglext(std::string& out, const SglextOptions& shown, std::span<const Prompt> prompts) {
  if (!shown.any()) return;
  out += R"(,"sglext":{"routed_experts":null,"cached_tokens_details":)";
  if (shown.cached_tokens) {
    out += R"({"device":)";
    append_number(out, usage_of(prompts).cached_tokens);
    out += R"(,"host":0})";
  } else {
    out += "null";
  }
  out += R"(,"spec_tokens_details":null,"input_ids":)";
  if (shown.input_ids) {
    out += '[';
    append_ids(out, prompts.front().prepared.ids);
    out += ']';
  } else {
    out += "null";
  }
  out += R"(,"output_ids":)";
  if (shown.output_ids) {
    for (const Sample& sample : prompts.front().samples) {
      out += &sample == &prompts.front().samples.front() ? "[[" : ",[";
      append_ids(out, sample.tokens);
      out += ']';
    }
    out += ']';
  } else {
    out += "null";
  }
  out += '}';
}

void append_sglext_events(std::string& out, std::string_view head, const SglextOptions& shown,
                          std::span<const Prompt> prompts) {
  const auto add_event = [&](const SglextOptions& part) {
    if (!part.any()) return;
    out += head;
    out += ']';
    append_sglext(out, part, prompts);
    out += "}\n\n";
  };
  if (!shown.framed_ids) return add_event(shown);
  SglextOptions counts = shown, ids = shown;
  counts.input_ids = counts.output_ids = false;
  ids.cached_tokens = false;
  add_event(counts);
  if (ids.any()) out += "event: sglext_ids\n";
  add_event(ids);
}

int64_t unix_seconds() { return static_cast<int64_t>(unix_seconds_exact()); }

double unix_seconds_exact() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

std::string utc_now() {
  const auto now = std::chrono::system_clock::now();
  const std::time_t seconds = std::chrono::system_clock::to_time_t(now);
  const auto micros = std::chrono::duration_cast<std::chrono::microseconds>(now.time_since_epoch()).count() % 1000000;
  std::tm parts{};
  gmtime_r(&seconds, &parts);
  char text[40], fraction[16];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &parts);
  std::snprintf(fraction, sizeof fraction, ".%06d", static_cast<int>(micros));
  return str_cat(text, fraction, "+00:00");
}

}  // namespace carat
