#include "api/responses_writer.h"

#include "api/block_writer.h"
#include "api/responses_request.h"
#include "api/writer_parts.h"
#include "base/str.h"

namespace carat {
namespace {

using Kind = ReplyBlock::Kind;

Json text_part(std::string_view type, std::string_view text) { return Json::object({{"type", type}, {"text", text}}); }

Json output_text(std::string_view text, Json logprobs) {
  return Json::object(
      {{"type", "output_text"}, {"text", text}, {"annotations", Json::array()}, {"logprobs", std::move(logprobs)}});
}

Json usage_json(const UsageNumbers& usage, bool cache_report) {
  const int64_t cached = cache_report ? usage.cached_tokens : 0;
  return Json::object({{"input_tokens", usage.prompt_tokens},
                       {"input_tokens_details", Json::object({{"cached_tokens", cached}, {"cache_write_tokens", 0}})},
                       {"output_tokens", usage.completion_tokens},
                       {"output_tokens_details", Json::object({{"reasoning_tokens", usage.reasoning_tokens}})},
                       {"total_tokens", usage.prompt_tokens + usage.completion_tokens}});
}

class ResponsesWriter final : public BlockWriter {
 public:
  ResponsesWriter(WriterContext context, ResponsesAnswerOptions options)
      : BlockWriter(options.stream), context_(std::move(context)), options_(std::move(options)) {}

  ErrorStyle error_style() const override { return ErrorStyle::kResponses; }
  std::string_view stream_end() const override { return {}; }

  void write_failure(const Error& error, std::string& out) override {
    Json response = failed_response(options_.response, error.message);
    response.set("output", output_);
    event(out, "response.failed", {{"response", std::move(response)}});
  }

 protected:
  void begin(const Prompt&, std::string& out) override {
    event(out, "response.created", {{"response", options_.response}});
    event(out, "response.in_progress", {{"response", options_.response}});
  }

  void open_block(const ReplyBlock& block, std::string& out) override {
    static constexpr std::string_view kPrefixes[] = {"rs_", "msg_", "fc_"};
    item_id_ = str_cat(kPrefixes[static_cast<size_t>(block.kind)], new_request_id());
    if (block.kind == Kind::kCall) call_id_ = new_call_id();
    event(out, "response.output_item.added", {{"output_index", block.index}, {"item", opened_item(block)}});
    if (block.kind == Kind::kText)
      part_event(out, "response.content_part.added", block, output_text("", nullptr));
    else if (block.kind == Kind::kThought)
      part_event(out, thought_part_event("added"), block, text_part(thought_type(), ""));
  }

  /// Written without a JSON tree: this is the way of every token.
  void extend_block(const ReplyBlock& block, std::string_view delta, std::string& out) override {
    if (!streams()) return;
    begin_event(out, str_cat(delta_stem(block.kind), ".delta"));
    out += R"(,"item_id":")";
    out += item_id_;
    out += R"(","output_index":)";
    append_number(out, block.index);
    if (block.kind != Kind::kCall) out += str_cat(",\"", index_name(block.kind), "\":0");
    out += R"(,"delta":)";
    append_json_string(out, delta);
    if (block.kind == Kind::kText) out += R"(,"logprobs":[])";
    out += "}\n\n";
  }

  void close_block(const ReplyBlock& block, BlockEnd end, std::string& out) override {
    Json item = closed_item(block, end);
    if (block.kind == Kind::kCall) {
      event(out, "response.function_call_arguments.done",
            {{"item_id", item_id_}, {"output_index", block.index}, {"name", block.name}, {"arguments", block.text}});
    } else {
      Json done = Json::object({{"item_id", item_id_},
                                {"output_index", block.index},
                                {std::string(index_name(block.kind)), 0},
                                {"text", block.text}});
      if (block.kind == Kind::kText) done.set("logprobs", Json::array());
      event(out, str_cat(delta_stem(block.kind), ".done"), std::move(done.as_object()));
      if (block.kind == Kind::kText)
        part_event(out, "response.content_part.done", block, output_text(block.text, nullptr));
      else
        part_event(out, thought_part_event("done"), block, text_part(thought_type(), block.text));
    }
    event(out, "response.output_item.done", {{"output_index", block.index}, {"item", item}});
    output_.push_back(std::move(item));
  }

  void finish(const Prompt& prompt, const Sample& sample, std::string& out) override {
    if (options_.logprobs) add_logprobs(sample);
    const FinishReason reason = sample.end->reason;
    Json response = reason == FinishReason::kAbort ? failed_response(options_.response, "The request was aborted.")
                                                   : options_.response;
    if (reason == FinishReason::kStop) response.set("status", "completed");
    if (reason == FinishReason::kLength) {
      response.set("status", "incomplete");
      response.set("incomplete_details", Json::object({{"reason", "max_output_tokens"}}));
    }
    response.set("output", output_);
    response.set("usage", usage_json(usage_of(prompt, sample), context_.cache_report));
    if (options_.store) keep(response, reason);
    if (streams())
      event(out, str_cat("response.", response.find("status")->as_string()), {{"response", response}});
    else
      response.append_to(out);
  }

 private:
  // ---- events

  void begin_event(std::string& out, std::string_view type) {
    out += str_cat("event: ", type, "\ndata: {\"type\":\"", type, "\",\"sequence_number\":");
    append_number(out, sequence_number_++);
  }

  void event(std::string& out, std::string_view type, JsonObject members) {
    if (!streams()) return;
    begin_event(out, type);
    for (const auto& [key, value] : members) {
      out += str_cat(",\"", key, "\":");
      value.append_to(out);
    }
    out += "}\n\n";
  }

  void part_event(std::string& out, std::string_view type, const ReplyBlock& block, Json part) {
    event(out, type,
          {{"item_id", item_id_},
           {"output_index", block.index},
           {std::string(index_name(block.kind)), 0},
           {"part", std::move(part)}});
  }

  std::string_view index_name(Kind kind) const {
    return kind == Kind::kThought && options_.summarize_reasoning ? "summary_index" : "content_index";
  }
  std::string_view delta_stem(Kind kind) const {
    if (kind == Kind::kText) return "response.output_text";
    if (kind == Kind::kCall) return "response.function_call_arguments";
    return options_.summarize_reasoning ? "response.reasoning_summary_text" : "response.reasoning_text";
  }
  std::string thought_part_event(std::string_view what) const {
    return str_cat("response.", options_.summarize_reasoning ? "reasoning_summary_part" : "content_part", ".", what);
  }
  std::string_view thought_type() const { return options_.summarize_reasoning ? "summary_text" : "reasoning_text"; }

  // ---- items

  Json opened_item(const ReplyBlock& block) const {
    switch (block.kind) {
      case Kind::kThought:
        return Json::object({{"id", item_id_},
                             {"type", "reasoning"},
                             {"summary", Json::array()},
                             {"content", Json::array()},
                             {"encrypted_content", nullptr},
                             {"status", "in_progress"}});
      case Kind::kText:
        return Json::object({{"id", item_id_},
                             {"type", "message"},
                             {"role", "assistant"},
                             {"status", "in_progress"},
                             {"content", Json::array()}});
      case Kind::kCall:
        break;
    }
    return Json::object({{"id", item_id_},
                         {"call_id", call_id_},
                         {"type", "function_call"},
                         {"name", block.name},
                         {"arguments", ""},
                         {"status", "in_progress"}});
  }

  Json closed_item(const ReplyBlock& block, BlockEnd end) const {
    Json item = opened_item(block);
    const bool whole = block.kind == Kind::kCall ? arguments_of(block).is_object() : end != BlockEnd::kCut;
    item.set("status", whole ? "completed" : "incomplete");
    switch (block.kind) {
      case Kind::kThought:
        if (options_.summarize_reasoning) item.set("summary", Json::array({text_part("summary_text", block.text)}));
        item.set("content", Json::array({text_part("reasoning_text", block.text)}));
        if (options_.encrypted_reasoning) item.set("encrypted_content", encode_reasoning(block.text));
        break;
      case Kind::kText:
        item.set("content", Json::array({output_text(block.text, nullptr)}));
        item.set("phase", end == BlockEnd::kFollowed ? "commentary" : "final_answer");
        break;
      case Kind::kCall:
        item.set("arguments", block.text);
        break;
    }
    return item;
  }

  /// Of all generated tokens, as SGLang shows them, in the first text.
  void add_logprobs(const Sample& sample) {
    for (Json& item : output_.as_array()) {
      if (item.find("type")->as_string() != "message") continue;
      std::string text;
      append_chat_logprobs(text, context_, sample, 0);
      auto entries = parse_json(text);
      if (entries) item.find("content")->as_array().front().set("logprobs", std::move(*entries->find("content")));
      return;
    }
  }

  void keep(const Json& response, FinishReason reason) {
    Json conversation;
    if (reason != FinishReason::kAbort) {
      conversation = std::move(options_.items);
      for (const Json& item : output_.as_array()) conversation.push_back(item);
    }
    options_.store->finish(options_.id, response, conversation);
  }

  const WriterContext context_;
  ResponsesAnswerOptions options_;
  int64_t sequence_number_ = 0;
  std::string item_id_, call_id_;  ///< of the open block
  Json output_ = Json::array();    ///< items that are closed
};

}  // namespace

Json new_response(std::string_view id, const Json& echo, bool store) {
  Json response = Json::object({{"id", id}, {"object", "response"}, {"created_at", unix_seconds()}});
  response.set("status", "in_progress");
  response.set("output", Json::array());
  response.set("usage", nullptr);
  response.set("error", nullptr);
  response.set("incomplete_details", nullptr);
  response.set("store", store);
  for (const auto& [key, value] : echo.as_object()) response.set(key, value);
  return response;
}

Json failed_response(Json response, std::string_view message) {
  response.set("status", "failed");
  response.set("error", Json::object({{"code", "server_error"}, {"message", message}}));
  return response;
}

std::unique_ptr<AnswerWriter> make_responses_writer(WriterContext context, ResponsesAnswerOptions options) {
  return std::make_unique<ResponsesWriter>(std::move(context), std::move(options));
}

}  // namespace carat
