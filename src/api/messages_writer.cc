#include "api/messages_writer.h"

#include "api/block_writer.h"
#include "api/writer_parts.h"
#include "base/str.h"

namespace carat {
namespace {

using Kind = ReplyBlock::Kind;

Json usage_json(const UsageNumbers& usage, bool cache_report) {
  const int64_t cached = cache_report ? usage.cached_tokens : 0;
  return Json::object({{"input_tokens", usage.prompt_tokens - cached},
                       {"cache_creation_input_tokens", 0},
                       {"cache_read_input_tokens", cached},
                       {"output_tokens", usage.completion_tokens}});
}

class MessagesWriter final : public BlockWriter {
 public:
  MessagesWriter(WriterContext context, MessagesAnswerOptions options)
      : BlockWriter(options.stream), context_(std::move(context)), options_(std::move(options)) {}

  ErrorStyle error_style() const override { return ErrorStyle::kAnthropic; }
  std::string_view stream_end() const override { return {}; }

 protected:
  void begin(const Prompt& prompt, std::string& out) override {
    UsageNumbers usage;
    usage.prompt_tokens = static_cast<int64_t>(prompt.prepared.ids.size());
    usage.cached_tokens = prompt.stats.cached_tokens;
    event(out, "message_start", {{"message", message(nullptr, nullptr, usage_json(usage, context_.cache_report))}});
    event(out, "ping", {});
  }

  void open_block(const ReplyBlock& block, std::string& out) override {
    if (block.kind == Kind::kCall) {
      call_id_ = str_cat("toolu_", new_request_id().substr(8));
      has_calls_ = true;
    }
    event(out, "content_block_start", {{"index", block.index}, {"content_block", block_json(block, true)}});
  }

  /// Written without a JSON tree: this is the way of every token.
  void extend_block(const ReplyBlock& block, std::string_view delta, std::string& out) override {
    if (!streams()) return;
    static constexpr std::string_view kDeltas[] = {R"({"type":"thinking_delta","thinking":)",
                                                   R"({"type":"text_delta","text":)",
                                                   R"({"type":"input_json_delta","partial_json":)"};
    out += "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":";
    append_number(out, block.index);
    out += R"(,"delta":)";
    out += kDeltas[static_cast<size_t>(block.kind)];
    append_json_string(out, delta);
    out += "}}\n\n";
  }

  void close_block(const ReplyBlock& block, BlockEnd, std::string& out) override {
    event(out, "content_block_stop", {{"index", block.index}});
    if (!streams()) content_.push_back(block_json(block, false));
  }

  void finish(const Prompt& prompt, const Sample& sample, std::string& out) override {
    if (num_blocks() == 0) say_nothing(out);
    Json reason = stop_reason(*sample.end);
    const bool at_text = reason == "stop_sequence";
    Json sequence = at_text ? Json(*sample.end->matched_text) : Json();
    Json usage = usage_json(usage_of(prompt, sample), context_.cache_report);
    if (!streams()) return message(std::move(reason), std::move(sequence), std::move(usage)).append_to(out);
    event(out, "message_delta",
          {{"delta", Json::object({{"stop_reason", std::move(reason)}, {"stop_sequence", std::move(sequence)}})},
           {"usage", std::move(usage)}});
    event(out, "message_stop", {});
  }

 private:
  void event(std::string& out, std::string_view type, const JsonObject& members) const {
    if (!streams()) return;
    out += str_cat("event: ", type, "\ndata: {\"type\":\"", type, "\"");
    for (const auto& [key, value] : members) {
      out += str_cat(",\"", key, "\":");
      value.append_to(out);
    }
    out += "}\n\n";
  }

  Json message(Json stop_reason, Json stop_sequence, Json usage) {
    return Json::object({{"id", options_.id},
                         {"type", "message"},
                         {"role", "assistant"},
                         {"model", options_.model},
                         {"content", std::move(content_)},
                         {"stop_reason", std::move(stop_reason)},
                         {"stop_sequence", std::move(stop_sequence)},
                         {"usage", std::move(usage)}});
  }

  /// `empty`: as it begins, before its text.
  Json block_json(const ReplyBlock& block, bool empty) const {
    const std::string_view text = empty ? std::string_view() : block.text;
    switch (block.kind) {
      case Kind::kThought:
        return Json::object({{"type", "thinking"}, {"thinking", text}, {"signature", ""}});
      case Kind::kText:
        return Json::object({{"type", "text"}, {"text", text}});
      case Kind::kCall:
        break;
    }
    Json input = empty ? Json() : arguments_of(block);
    if (input.is_null()) input = Json::object();
    return Json::object({{"type", "tool_use"}, {"id", call_id_}, {"name", block.name}, {"input", std::move(input)}});
  }

  /// Clients expect at least one block.
  void say_nothing(std::string& out) {
    const ReplyBlock nothing;
    open_block(nothing, out);
    close_block(nothing, BlockEnd::kLast, out);
  }

  std::string_view stop_reason(const SampleEnd& end) const {
    if (end.reason == FinishReason::kLength) return "max_tokens";
    if (end.reason == FinishReason::kStop && has_calls_) return "tool_use";
    return end.matched_text ? "stop_sequence" : "end_turn";
  }

  const WriterContext context_;
  const MessagesAnswerOptions options_;
  std::string call_id_;  ///< of the open block
  bool has_calls_ = false;
  Json content_ = Json::array();  ///< of a whole answer: blocks that are closed
};

}  // namespace

std::unique_ptr<AnswerWriter> make_messages_writer(WriterContext context, MessagesAnswerOptions options) {
  return std::make_unique<MessagesWriter>(std::move(context), std::move(options));
}

}  // namespace carat
