#include "api/chat_writer.h"

#include "api/native_writer.h"
#include "api/writer_parts.h"
#include "base/json.h"
#include "base/str.h"

namespace carat {
namespace {

/// An entry of `tool_calls`. A stream names a call once and then gives its arguments without id and name.
void append_call(std::string& out, int index, const std::optional<std::string>& id,
                 const std::optional<std::string>& name, std::string_view arguments) {
  const auto append_text_or_null = [&out](const std::optional<std::string>& text) {
    if (text)
      append_json_string(out, *text);
    else
      out += "null";
  };
  out += R"({"id":)";
  append_text_or_null(id);
  out += R"(,"index":)";
  append_number(out, index);
  out += R"(,"type":"function","function":{"name":)";
  append_text_or_null(name);
  out += R"(,"arguments":)";
  append_json_string(out, arguments);
  out += "}}";
}

/// The whole message. Calls that were cut off are left out.
void append_message(std::string& out, const Message& message) {
  out += R"({"role":"assistant","content":)";
  append_json_string(out, message.content);
  out += R"(,"reasoning_content":)";
  if (message.reasoning.empty())
    out += "null";
  else
    append_json_string(out, message.reasoning);
  int num_calls = 0;
  for (const Message::Call& call : message.calls) {
    if (!call.arguments) continue;
    out += num_calls == 0 ? R"(,"tool_calls":[)" : ",";
    append_call(out, num_calls++, new_call_id(), call.name, *call.arguments);
  }
  out += num_calls > 0 ? "]}" : "}";
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
    bool with_logprobs = options_.logprobs && news.first_token < sample.logprobs.size();
    for (const MessagePart& part : news.parts) {
      write_delta(sample, part, out);
      end_delta(prompt, sample, with_logprobs ? &news : nullptr, is_call(part), out);
      with_logprobs = false;
    }
    if (!with_logprobs) return;
    begin_choice(out, sample);
    out += R"({"reasoning_content":null})";
    end_delta(prompt, sample, &news, false, out);
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
  static constexpr std::string_view kCallDelta =
      R"({"role":null,"content":null,"reasoning_content":null,"tool_calls":[)";

  static bool is_call(const MessagePart& part) {
    return part.kind == MessagePart::Kind::kCallName || part.kind == MessagePart::Kind::kCallArguments;
  }

  void write_delta(const Sample& sample, const MessagePart& part, std::string& out) const {
    begin_choice(out, sample);
    switch (part.kind) {
      case MessagePart::Kind::kReasoning:
        out += R"({"reasoning_content":)";
        append_json_string(out, part.text);
        break;
      case MessagePart::Kind::kContent:
        out += R"({"reasoning_content":null,"content":)";
        append_json_string(out, part.text);
        break;
      case MessagePart::Kind::kCallName:
        out += kCallDelta;
        append_call(out, part.call_idx, new_call_id(), part.text, "");
        out += ']';
        break;
      case MessagePart::Kind::kCallArguments:
        out += kCallDelta;
        append_call(out, part.call_idx, std::nullopt, std::nullopt, part.text);
        out += ']';
        break;
    }
    out += '}';
  }

  /// `logprobs`: of this news.
  void end_delta(const Prompt& prompt, const Sample& sample, const SampleNews* logprobs, bool of_call,
                 std::string& out) const {
    out += R"(,"logprobs":)";
    if (logprobs)
      append_chat_logprobs(out, context_, sample, logprobs->first_token);
    else
      out += "null";
    out += kOpenChoice;
    if (of_call && !options_.stream.continuous_usage) out += R"(,"usage":null)";
    end_chunk(out, prompt, sample);
  }

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
    out += quoted_message_reason(sample);
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
    out += R"(,"message":)";
    append_message(out, collect_message(sample.parts));
    out += R"(,"logprobs":)";
    if (options_.logprobs)
      append_chat_logprobs(out, context_, sample, 0);
    else
      out += "null";
    out += R"(,"finish_reason":)";
    out += quoted_message_reason(sample);
    out += R"(,"matched_stop":)";
    if (ended_with_calls(sample))
      out += "null";
    else
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
