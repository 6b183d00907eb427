#include "api/completion_writer.h"

#include <cmath>

#include "api/writer_parts.h"
#include "base/json.h"

namespace carat {
namespace {

void append_id_member(std::string& out, std::string_view key, std::span<const TokenId> ids) {
  out += ",\"";
  out += key;
  out += "\":[";
  append_ids(out, ids);
  out += ']';
}

/// The four parallel lists of a completion's logprobs, filled position by position.
class LogprobLists {
 public:
  LogprobLists(const WriterContext& context, const LogprobParams& params) : context_(context), params_(params) {}

  void add(TokenId id, const PositionLogprobs& position) {
    const std::string_view comma = offsets_.empty() ? "" : ",";
    offsets_ += comma;
    offsets_ += "-1";
    values_ += comma;
    if (std::isnan(position.logprob))
      values_ += "null";
    else
      append_logprob(values_, position.logprob);
    tokens_ += comma;
    append_token_text(tokens_, context_, id);
    if (params_.num_top == 0) return;
    top_ += comma;
    if (std::isnan(position.logprob)) {
      top_ += "null";
      return;
    }
    top_ += '{';
    for (size_t i = 0; i < position.top.size(); ++i) {
      if (i > 0) top_ += ',';
      append_token_text(top_, context_, position.top[i].token);
      top_ += ':';
      append_logprob(top_, position.top[i].logprob);
    }
    top_ += '}';
  }

  void append_to(std::string& out) const {
    out += R"({"text_offset":[)";
    out += offsets_;
    out += R"(],"token_logprobs":[)";
    out += values_;
    out += R"(],"tokens":[)";
    out += tokens_;
    out += R"(],"top_logprobs":[)";
    out += top_;
    out += "]}";
  }

 private:
  const WriterContext& context_;
  const LogprobParams& params_;
  std::string offsets_, values_, tokens_, top_;
};

class CompletionWriter : public AnswerWriter {
 public:
  CompletionWriter(WriterContext context, CompletionAnswerOptions options)
      : context_(std::move(context)), options_(std::move(options)) {}
  ErrorStyle error_style() const override { return ErrorStyle::kOpenAi; }

 protected:
  void append_head(std::string& out) const {
    out += R"({"id":)";
    append_json_string(out, options_.id);
    out += R"(,"object":"text_completion","created":)";
    append_number(out, created_);
    out += R"(,"model":)";
    append_json_string(out, options_.model);
    out += R"(,"choices":[)";
  }

  std::string_view echoed(const Prompt& prompt, const Sample& sample) const {
    if (!options_.echo) return {};
    return options_.prompt_texts[static_cast<size_t>(sample.index) / prompt.samples.size()];
  }

  /// Log-probabilities from token `first` on; the prompt's own before them if they are echoed now.
  void append_logprobs(std::string& out, const Prompt& prompt, const Sample& sample, size_t first,
                       bool with_prompt) const {
    if (!options_.logprobs) {
      out += "null";
      return;
    }
    LogprobLists lists(context_, prompt.prepared.params.logprobs);
    if (options_.echo && with_prompt)
      for (size_t i = 0; i < prompt.prompt_logprobs.size(); ++i)
        lists.add(prompt.prepared.ids[i], prompt.prompt_logprobs[i]);
    for (size_t i = first; i < sample.logprobs.size(); ++i) lists.add(sample.tokens[i], sample.logprobs[i]);
    lists.append_to(out);
  }

  void append_end(std::string& out, const Sample& sample) const {
    out += R"(,"finish_reason":)";
    out += sample.end ? quoted_reason(sample.end->reason) : "null";
    out += R"(,"matched_stop":)";
    if (sample.end)
      append_matched(out, *sample.end);
    else
      out += "null";
  }

  WriterContext context_;
  CompletionAnswerOptions options_;
  int64_t created_ = unix_seconds();
};

class CompletionStreamWriter final : public CompletionWriter {
 public:
  CompletionStreamWriter(WriterContext context, CompletionAnswerOptions options)
      : CompletionWriter(std::move(context), std::move(options)) {
    head_ = "data: ";
    append_head(head_);
    head_ += R"({"index":)";
  }

  bool streams() const override { return true; }

  void write_news(const Prompt& prompt, const Sample& sample, const SampleNews& news, std::string& out) override {
    const auto prompt_text = news.first_chunk ? echoed(prompt, sample) : std::string_view();
    if (news.text.empty() && prompt_text.empty() && !sample.end && !options_.logprobs && !options_.return_token_ids)
      return;
    out += head_;
    append_number(out, sample.index);
    out += R"(,"text":)";
    if (prompt_text.empty()) {
      append_json_string(out, news.text);
    } else {
      std::string both(prompt_text);
      both += news.text;
      append_json_string(out, both);
    }
    out += R"(,"logprobs":)";
    append_logprobs(out, prompt, sample, news.first_token, news.first_chunk);
    append_end(out, sample);
    if (options_.return_token_ids) {
      append_id_member(out, "token_ids", std::span(sample.tokens).subspan(news.first_token));
      if (news.first_chunk) append_id_member(out, "prompt_token_ids", prompt.prepared.ids);
    }
    out += R"(}],"usage":)";
    if (options_.stream.continuous_usage)
      append_usage(out, usage_of(prompt, sample), context_.cache_report);
    else
      out += "null";
    out += "}\n\n";
  }

  void write_end(std::span<const Prompt> prompts, std::string& out) override {
    std::string head = "data: ";
    append_head(head);
    append_sglext_events(out, head, options_.sglext, prompts);
    if (!options_.stream.include_usage) return;
    out += head;
    out += R"(],"usage":)";
    append_usage(out, usage_of(prompts), context_.cache_report, /*with_nulls=*/false);
    out += "}\n\n";
  }

 private:
  std::string head_;  ///< of every chunk, up to the choice's index
};

class CompletionBodyWriter final : public CompletionWriter {
 public:
  using CompletionWriter::CompletionWriter;

  bool streams() const override { return false; }

  void write_end(std::span<const Prompt> prompts, std::string& out) override {
    append_head(out);
    for (const Prompt& prompt : prompts)
      for (const Sample& sample : prompt.samples) write_choice(prompt, sample, out);
    out += R"(],"usage":)";
    append_usage(out, usage_of(prompts), context_.cache_report);
    out += R"(,"metadata":{"weight_version":)";
    append_json_string(out, context_.weight_version);
    out += '}';
    append_sglext(out, options_.sglext, prompts);
    out += '}';
  }

 private:
  void write_choice(const Prompt& prompt, const Sample& sample, std::string& out) const {
    if (sample.index > 0) out += ',';
    out += R"({"index":)";
    append_number(out, sample.index);
    out += R"(,"text":)";
    std::string text(echoed(prompt, sample));
    text += sample.text;
    append_json_string(out, text);
    out += R"(,"logprobs":)";
    append_logprobs(out, prompt, sample, 0, true);
    append_end(out, sample);
    if (options_.return_token_ids) {
      append_id_member(out, "token_ids", sample.tokens);
      append_id_member(out, "prompt_token_ids", prompt.prepared.ids);
    }
    out += '}';
  }
};

}  // namespace

std::unique_ptr<AnswerWriter> make_completion_writer(WriterContext context, CompletionAnswerOptions options) {
  if (options.stream.stream) return std::make_unique<CompletionStreamWriter>(std::move(context), std::move(options));
  return std::make_unique<CompletionBodyWriter>(std::move(context), std::move(options));
}

}  // namespace carat
