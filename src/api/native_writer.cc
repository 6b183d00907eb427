#include "api/native_writer.h"

#include <algorithm>
#include <cmath>

#include "api/writer_parts.h"
#include "base/json.h"
#include "base/str.h"

namespace carat {
namespace {

/// [logprob or null, id, text or null]
void append_triple(std::string& out, const WriterContext& context, TokenId id, double logprob, bool with_text) {
  out += '[';
  if (std::isnan(logprob))
    out += "null";
  else
    append_logprob(out, logprob);
  out += ',';
  append_number(out, id);
  out += ',';
  if (with_text)
    append_token_text(out, context, id);
  else
    out += "null";
  out += ']';
}

void append_triples(std::string& out, const WriterContext& context, const std::vector<TokenLogprob>& entries,
                    bool with_text) {
  out += '[';
  for (size_t i = 0; i < entries.size(); ++i) {
    if (i > 0) out += ',';
    append_triple(out, context, entries[i].token, entries[i].logprob, with_text);
  }
  out += ']';
}

/// The lists that belong to a run of positions: tokens, their logprobs, the best ones, those of given ids.
struct PositionRun {
  std::span<const TokenId> tokens;
  std::span<const PositionLogprobs> positions;
};

void append_token_logprobs(std::string& out, const WriterContext& context, const PositionRun& run, bool with_text) {
  out += '[';
  for (size_t i = 0; i < run.positions.size(); ++i) {
    if (i > 0) out += ',';
    append_triple(out, context, run.tokens[i], run.positions[i].logprob, with_text);
  }
  out += ']';
}

template <class Field>
void append_lists(std::string& out, const WriterContext& context, const PositionRun& run, bool with_text, Field field) {
  out += '[';
  for (size_t i = 0; i < run.positions.size(); ++i) {
    if (i > 0) out += ',';
    if (std::isnan(run.positions[i].logprob))
      out += "null";
    else
      append_triples(out, context, run.positions[i].*field, with_text);
  }
  out += ']';
}

void append_run(std::string& out, const WriterContext& context, std::string_view side, const PositionRun& run,
                const LogprobParams& params, bool with_text) {
  out += str_cat(",\"", side, "_token_logprobs\":");
  append_token_logprobs(out, context, run, with_text);
  if (params.num_top > 0) {
    out += str_cat(",\"", side, "_top_logprobs\":");
    append_lists(out, context, run, with_text, &PositionLogprobs::top);
  }
  if (!params.token_ids.empty()) {
    out += str_cat(",\"", side, "_token_ids_logprobs\":");
    append_lists(out, context, run, with_text, &PositionLogprobs::ids);
  }
}

void append_all_logprobs(std::string& out, const WriterContext& context, const Prompt& prompt, const Sample& sample,
                         const MetaInfoExtras& extras) {
  const LogprobParams& params = prompt.prepared.params.logprobs;
  const size_t start = static_cast<size_t>(params.prompt_start.value_or(0));
  const auto prompt_tokens = std::span(prompt.prepared.ids).subspan(std::min(start, prompt.prepared.ids.size()));
  append_run(out, context, "input", {prompt_tokens, prompt.prompt_logprobs}, params, extras.logprobs.with_text);
  const size_t first = std::min(extras.first_token, sample.logprobs.size());
  append_run(out, context, "output",
             {std::span(sample.tokens).subspan(first), std::span(sample.logprobs).subspan(first)}, params,
             extras.logprobs.with_text);
  out += R"(,"output_token_logprobs_length":)";
  append_number(out, static_cast<int64_t>(sample.logprobs.size()));
}

void append_finish_reason(std::string& out, const Sample& sample) {
  if (!sample.end) {
    out += "null";
    return;
  }
  switch (sample.end->reason) {
    case FinishReason::kStop:
      out += R"({"type":"stop","matched":)";
      append_matched(out, *sample.end);
      break;
    case FinishReason::kLength:
      out += R"({"type":"length","length":)";
      append_number(out, static_cast<int64_t>(sample.tokens.size()));
      break;
    case FinishReason::kAbort:
      out += R"({"type":"abort","message":"Aborted","status_code":null,"err_type":null)";
      break;
  }
  out += '}';
}

NativeLogprobs logprobs_of(const NativeAnswerOptions& options, const Prompt& prompt, const Sample& sample) {
  const size_t prompt_idx = static_cast<size_t>(sample.index) / prompt.samples.size();
  return prompt_idx < options.logprobs.size() ? options.logprobs[prompt_idx] : NativeLogprobs{};
}

class NativeStreamWriter final : public AnswerWriter {
 public:
  NativeStreamWriter(WriterContext context, NativeAnswerOptions options)
      : context_(std::move(context)), options_(std::move(options)) {}

  bool streams() const override { return true; }
  ErrorStyle error_style() const override { return ErrorStyle::kNative; }
  bool repeats() const override { return !context_.incremental_native; }

  void write_news(const Prompt& prompt, const Sample& sample, const SampleNews& news, std::string& out) override {
    const size_t index = static_cast<size_t>(sample.index);
    if (so_far_.size() <= index) so_far_.resize(index + 1);
    SoFar& so_far = so_far_[index];
    if (context_.incremental_native) so_far = {};
    append_quoted(so_far.text, news.text);
    out += R"(data: {"text":)";
    out += so_far.text;
    out += R"(,"output_ids":[)";
    if (!so_far.ids.empty() && news.first_token < sample.tokens.size()) so_far.ids += ',';
    append_ids(so_far.ids, std::span(sample.tokens).subspan(news.first_token));
    out += so_far.ids;
    out += R"(],"meta_info":)";
    append_meta_info(out, context_, prompt, sample,
                     {logprobs_of(options_, prompt, sample), context_.incremental_native ? news.first_token : 0,
                      options_.return_prompt_ids});
    if (options_.list) {
      out += R"(,"index":)";
      append_number(out, sample.index);
    }
    out += "}\n\n";
  }

  void write_end(std::span<const Prompt>, std::string&) override {}

 private:
  /// The quoted text and the ids of a sample's events so far: each event repeats them.
  struct SoFar {
    std::string text, ids;
  };

  /// Appends `piece` to the JSON string `quoted`, which may be empty.
  static void append_quoted(std::string& quoted, std::string_view piece) {
    if (quoted.empty()) return append_json_string(quoted, piece);
    quoted.pop_back();
    const size_t seam = quoted.size();
    append_json_string(quoted, piece);
    quoted.erase(seam, 1);
  }

  WriterContext context_;
  NativeAnswerOptions options_;
  std::vector<SoFar> so_far_;  ///< by Sample::index
};

class NativeBodyWriter final : public AnswerWriter {
 public:
  NativeBodyWriter(WriterContext context, NativeAnswerOptions options)
      : context_(std::move(context)), options_(std::move(options)) {}

  bool streams() const override { return false; }
  ErrorStyle error_style() const override { return ErrorStyle::kNative; }

  void write_end(std::span<const Prompt> prompts, std::string& out) override {
    if (options_.predictions) out += R"({"predictions":)";
    if (options_.list) out += '[';
    for (const Prompt& prompt : prompts)
      for (const Sample& sample : prompt.samples) write_sample(prompt, sample, out);
    if (options_.list) out += ']';
    if (options_.predictions) out += '}';
  }

 private:
  void write_sample(const Prompt& prompt, const Sample& sample, std::string& out) const {
    if (sample.index > 0) out += ',';
    out += R"({"text":)";
    append_json_string(out, sample.text);
    out += R"(,"output_ids":[)";
    append_ids(out, sample.tokens);
    out += R"(],"meta_info":)";
    append_meta_info(out, context_, prompt, sample,
                     {logprobs_of(options_, prompt, sample), 0, options_.return_prompt_ids});
    out += '}';
  }

  WriterContext context_;
  NativeAnswerOptions options_;
};

}  // namespace

void append_meta_info(std::string& out, const WriterContext& context, const Prompt& prompt, const Sample& sample,
                      const MetaInfoExtras& extras) {
  out += R"({"id":)";
  append_json_string(out, prompt.prepared.id);
  out += R"(,"finish_reason":)";
  append_finish_reason(out, sample);
  out += R"(,"prompt_tokens":)";
  append_number(out, static_cast<int64_t>(prompt.prepared.ids.size()));
  out += R"(,"weight_version":)";
  append_json_string(out, context.weight_version);
  out += R"(,"num_retractions":)";
  append_number(out, prompt.stats.num_preemptions);
  out += R"(,"reasoning_tokens":)";
  append_number(out, prompt.reasoning_tokens(sample));
  if (extras.logprobs.enabled) append_all_logprobs(out, context, prompt, sample, extras);
  if (extras.prompt_ids) {
    out += R"(,"prompt_token_ids":[)";
    append_ids(out, prompt.prepared.ids);
    out += ']';
  }
  out += R"(,"completion_tokens":)";
  append_number(out, static_cast<int64_t>(sample.tokens.size()));
  out += R"(,"cached_tokens":)";
  append_number(out, prompt.stats.cached_tokens);
  append_media_tokens(out, usage_of(prompt, sample));
  if (sample.end) {
    out += R"(,"e2e_latency":)";
    const auto latency = std::chrono::steady_clock::now() - prompt.received;
    append_json_double(out, std::chrono::duration<double>(latency).count());
    out += R"(,"response_sent_to_client_ts":)";
    append_json_double(out, unix_seconds_exact());
  }
  out += '}';
}

std::unique_ptr<AnswerWriter> make_native_writer(WriterContext context, NativeAnswerOptions options) {
  if (options.stream) return std::make_unique<NativeStreamWriter>(std::move(context), std::move(options));
  return std::make_unique<NativeBodyWriter>(std::move(context), std::move(options));
}

}  // namespace carat
