#include "api/ollama_writer.h"

#include <ctime>

#include "api/block_writer.h"
#include "api/writer_parts.h"
#include "base/str.h"

namespace carat {
namespace {

constexpr std::string_view kStreamType = "application/x-ndjson";

using Clock = std::chrono::steady_clock;

int64_t nanoseconds(Clock::time_point from, Clock::time_point to) {
  return to > from ? std::chrono::nanoseconds(to - from).count() : 0;
}

/// What a line, or the whole answer, tells.
struct Said {
  std::string_view content, thinking;
  Json calls;
};

Json object(const OllamaAnswerOptions& options, Said said, bool done) {
  Json out = Json::object({{"model", options.model}, {"created_at", rfc3339_now()}});
  if (options.chat) {
    Json message = Json::object({{"role", "assistant"}, {"content", said.content}});
    if (!said.thinking.empty()) message.set("thinking", said.thinking);
    if (said.calls.size() > 0) message.set("tool_calls", std::move(said.calls));
    out.set("message", std::move(message));
  } else {
    out.set("response", said.content);
    if (!said.thinking.empty()) out.set("thinking", said.thinking);
  }
  out.set("done", done);
  return out;
}

void append_object(std::string& out, const Json& object, bool as_line) {
  object.append_to(out);
  if (as_line) out += '\n';
}

class OllamaWriter final : public BlockWriter {
 public:
  explicit OllamaWriter(OllamaAnswerOptions options) : BlockWriter(options.stream), options_(std::move(options)) {}

  ErrorStyle error_style() const override { return ErrorStyle::kOllama; }
  std::string_view stream_type() const override { return kStreamType; }
  std::string_view stream_end() const override { return {}; }

 protected:
  void begin(const Prompt&, std::string&) override {}
  void open_block(const ReplyBlock&, std::string&) override {}

  void extend_block(const ReplyBlock& block, std::string_view delta, std::string& out) override {
    if (block.kind == ReplyBlock::Kind::kCall) return;
    const bool thought = block.kind == ReplyBlock::Kind::kThought;
    if (streams())
      line(thought ? Said{"", delta, {}} : Said{delta, "", {}}, out);
    else
      (thought ? thinking_ : content_) += delta;
  }

  /// Calls are told whole; one that broke off is not told.
  void close_block(const ReplyBlock& block, BlockEnd, std::string& out) override {
    if (block.kind != ReplyBlock::Kind::kCall) return;
    Json arguments = arguments_of(block);
    if (arguments.is_null()) return;
    Json function = Json::object({{"name", block.name}, {"arguments", std::move(arguments)}});
    calls_.push_back(Json::object({{"function", std::move(function)}}));
    if (!streams()) return;
    line({"", "", std::move(calls_)}, out);
    calls_ = Json::array();
  }

  void finish(const Prompt& prompt, const Sample& sample, std::string& out) override {
    Json end = object(options_, {content_, thinking_, std::move(calls_)}, true);
    end.set("done_reason", sample.end->reason == FinishReason::kLength ? "length" : "stop");
    const RequestStats& stats = prompt.stats;
    end.set("total_duration", nanoseconds(prompt.received, Clock::now()));
    end.set("load_duration", 0);
    end.set("prompt_eval_count", prompt.prepared.ids.size());
    end.set("prompt_eval_duration", nanoseconds(stats.scheduled, stats.first_token));
    end.set("eval_count", sample.tokens.size());
    end.set("eval_duration", nanoseconds(stats.first_token, Clock::now()));
    append_object(out, end, streams());
  }

 private:
  void line(Said said, std::string& out) const { append_object(out, object(options_, std::move(said), false), true); }

  const OllamaAnswerOptions options_;
  std::string content_, thinking_;  ///< of a whole answer
  Json calls_ = Json::array();
};

/// For a request that asks for nothing.
class EmptyWriter final : public AnswerWriter {
 public:
  explicit EmptyWriter(OllamaAnswerOptions options) : options_(std::move(options)) {}
  bool streams() const override { return options_.stream; }
  ErrorStyle error_style() const override { return ErrorStyle::kOllama; }
  std::string_view stream_type() const override { return kStreamType; }
  std::string_view stream_end() const override { return {}; }
  void write_end(std::span<const Prompt>, std::string& out) override {
    Json end = object(options_, {}, true);
    end.set("done_reason", "load");
    append_object(out, end, options_.stream);
  }

 private:
  const OllamaAnswerOptions options_;
};

}  // namespace

std::unique_ptr<AnswerWriter> make_ollama_writer(OllamaAnswerOptions options) {
  if (options.empty) return std::make_unique<EmptyWriter>(std::move(options));
  return std::make_unique<OllamaWriter>(std::move(options));
}

std::string rfc3339_now() {
  const std::time_t now = unix_seconds();
  std::tm utc{};
  gmtime_r(&now, &utc);
  char text[32];
  return std::string(text, std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &utc));
}

}  // namespace carat
