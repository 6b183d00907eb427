#include "api/chat_writer.h"

#include "api/native_writer.h"
#include "api/writer_parts.h"
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

/// {"content":[...]} for the tokens from `first` on.
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

class ChatStreamWriter final : public AnswerWriter {
 public:
  ChatStreamWriter(WriterContext context, ChatAnswerOptions options)
      : context_(std::move(context)), options_(std::move(options)) {
    head_ = R"(data: {"id":)";
    append_json_string(head_, options_.id);
    head_ += R"(,"object":"chat.completion.chunk","created":)";
    append_number(head_, unix_seconds());
    head_ += R"(,"model":)";
    append_json_string(head_, options_.model);
    head_ += R"(,"choices":[)";
  }

  bool streams() const override { return true; }
  ErrorStyle error_style() const override { return ErrorStyle::kOpenAi; }

  void write_news(const Prompt& prompt, const Sample& sample, const SampleNews& news, std::string& out) override {
    if (news.first_chunk) {
      begin_choice(out, sample);
      out += R"({"reasoning_content":null,"role":"assistant","content":""},"logprobs":null)";
      out += kOpenChoice;
      end_chunk(out, prompt, sample);
    }
    const bool with_logprobs = options_.logprobs && news.first_token < sample.logprobs.size();
    if (news.text.empty() && !with_logprobs) return;
    begin_choice(out, sample);
    out += R"({"reasoning_content":null,"content":)";
    append_json_string(out, news.text);
    out += R"(},"logprobs":)";
    if (with_logprobs)
      append_chat_logprobs(out, context_, sample, news.first_token);
    else
      out += "null";
    out += kOpenChoice;
    end_chunk(out, prompt, sample);
  }

  void write_end(std::span<const Prompt> prompts, std::string& out) override {
    for (const Prompt& prompt : prompts)
      for (const Sample& sample : prompt.samples) write_finish(prompt, sample, out);
    append_sglext_events(out, head_, options_.sglext, prompts);
    if (!options_.stream.include_usage) return;
    out += head_;
    out += R"(],"usage":)";
    append_usage(out, usage_of(prompts), context_.cache_report);
    out += "}\n\n";
  }

 private:
  static constexpr std::string_view kOpenChoice = R"(,"finish_reason":null,"matched_stop":null}])";

  void begin_choice(std::string& out, const Sample& sample) const {
    out += head_;
    out += R"({"index":)";
    append_number(out, sample.index);
    out += R"(,"delta":)";
  }

  void end_chunk(std::string& out, const Prompt& prompt, const Sample& sample) const {
    if (options_.stream.continuous_usage) {
      out += R"(,"usage":)";
      append_usage(out, usage_of(prompt, sample), context_.cache_report);
    }
    out += "}\n\n";
  }

  void write_finish(const Prompt& prompt, const Sample& sample, std::string& out) const {
    begin_choice(out, sample);
    out += R"({"reasoning_content":null},"logprobs":null,"finish_reason":)";
    out += quoted_reason(sample.end->reason);
    out += R"(,"matched_stop":)";
    append_matched(out, *sample.end);
    out += "}]";
    end_chunk(out, prompt, sample);
  }

  WriterContext context_;
  ChatAnswerOptions options_;
  std::string head_;  ///< of every chunk, up to its choices
};

class ChatBodyWriter final : public AnswerWriter {
 public:
  ChatBodyWriter(WriterContext context, ChatAnswerOptions options)
      : context_(std::move(context)), options_(std::move(options)) {}

  bool streams() const override { return false; }
  ErrorStyle error_style() const override { return ErrorStyle::kOpenAi; }

  void write_end(std::span<const Prompt> prompts, std::string& out) override {
    out += R"({"id":)";
    append_json_string(out, options_.id);
    out += R"(,"object":"chat.completion","created":)";
    append_number(out, unix_seconds());
    out += R"(,"model":)";
    append_json_string(out, options_.model);
    out += R"(,"choices":[)";
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
    out += R"(,"message":{"role":"assistant","content":)";
    append_json_string(out, sample.text);
    out += R"(,"reasoning_content":null},"logprobs":)";
    if (options_.logprobs)
      append_chat_logprobs(out, context_, sample, 0);
    else
      out += "null";
    out += R"(,"finish_reason":)";
    out += quoted_reason(sample.end->reason);
    out += R"(,"matched_stop":)";
    append_matched(out, *sample.end);
    if (options_.return_prompt_ids) {
      out += R"(,"prompt_token_ids":[)";
      append_ids(out, prompt.prepared.ids);
      out += ']';
    }
    if (options_.return_token_ids) {
      out += R"(,"response_token_ids":[)";
      append_ids(out, sample.tokens);
      out += ']';
    }
    if (options_.return_meta_info) {
      out += R"(,"meta_info":)";
      append_meta_info(out, context_, prompt, sample, {});
    }
    out += '}';
  }

  WriterContext context_;
  ChatAnswerOptions options_;
};

}  // namespace

std::unique_ptr<AnswerWriter> make_chat_writer(WriterContext context, ChatAnswerOptions options) {
  if (options.stream.stream) return std::make_unique<ChatStreamWriter>(std::move(context), std::move(options));
  return std::make_unique<ChatBodyWriter>(std::move(context), std::move(options));
}

}  // namespace carat
