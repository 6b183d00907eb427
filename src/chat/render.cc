#include "chat/render.h"

#include <optional>
#include <span>
#include <string_view>
#include <unordered_map>

#include "base/str.h"
#include "base/utf8.h"
#include "chat/python_text.h"
#include "chat/schema_text.h"

namespace carat {

namespace {

constexpr std::string_view kChannelOpen = "<|channel>";
constexpr std::string_view kChannelClose = "<channel|>";

/// What the last turn left behind; it decides how the reply begins.
enum class TurnEnd { kText, kPendingCall, kToolResponse };

/// Appends `text` without its thoughts, trimmed. A closer without an opener vanishes; an opener without a closer takes
/// the rest of the text with it.
void append_without_thoughts(std::string& out, std::string_view text) {
  std::string kept;
  while (true) {
    const size_t close = text.find(kChannelClose);
    const std::string_view piece = text.substr(0, close);
    kept += piece.substr(0, piece.find(kChannelOpen));
    if (close == std::string_view::npos) break;
    text.remove_prefix(close + kChannelClose.size());
  }
  out += strip_unicode(kept);
}

class Renderer {
 public:
  Renderer(const ChatInput& input, ChatFamily family)
      : input_(input), options_(input.options), family_(family), messages_(input.messages) {}

  Result<RenderedPrompt> run() {
    out_ = "<bos>";
    CARAT_TRY_VOID(system_turn());
    for (size_t i = 0; i < messages_.size(); ++i)
      if (messages_[i].role == ChatRole::kUser) num_settled_ = i + 1;
    for (size_t i = 0; i < messages_.size(); ++i)
      if (messages_[i].role != ChatRole::kTool) CARAT_TRY_VOID(turn(i));
    if (options_.add_generation_prompt) generation_prompt();
    return RenderedPrompt{std::move(out_), input_.continuation, std::move(media_)};
  }

 private:
  bool has_system_message() const {
    return !messages_.empty() && (messages_[0].role == ChatRole::kSystem || messages_[0].role == ChatRole::kDeveloper);
  }
  bool has_prompt_tools() const {
    for (const ChatTool& tool : input_.tools)
      if (tool.in_prompt) return true;
    return false;
  }

  /// Written when there is something to say in it; takes a leading system or developer message with it.
  Result<void> system_turn() {
    if (!options_.enable_thinking && !has_prompt_tools() && !has_system_message()) return {};
    out_ += "<|turn>system\n";
    if (options_.enable_thinking) out_ += "<|think|>\n";
    if (has_system_message()) {
      system_text(messages_[0].content);
      messages_ = messages_.subspan(1);
    }
    for (const ChatTool& tool : input_.tools) {
      if (!tool.in_prompt) continue;
      out_ += "<|tool>";
      CARAT_TRY_VOID(append_declaration(out_, tool));
      out_ += "<tool|>";
    }
    out_ += "<turn|>\n";
    return {};
  }

  void system_text(const ChatContent& content) {
    if (const auto* text = std::get_if<std::string>(&content)) {
      out_ += strip_unicode(*text);
      return;
    }
    for (const ContentPart& part : std::get<ContentParts>(content)) {
      if (const auto* text = std::get_if<TextPart>(&part)) out_ += strip_unicode(text->text);
      out_ += ' ';  // media leave their space, too
    }
  }

  Result<void> turn(size_t index) {
    const ChatMessage& message = messages_[index];
    const bool is_model = message.role == ChatRole::kAssistant;
    // Consecutive assistant messages, with only tool results between them, are one turn of the model.
    if (!(is_model && previous_is_model_)) {
      ((out_ += "<|turn>") += is_model ? "model" : to_string(message.role)) += '\n';
    }
    thought(message, index);
    for (const ChatToolCall& call : message.tool_calls) CARAT_TRY_VOID(tool_call(call));
    const size_t next = index + 1 + num_tool_messages_from(index + 1);
    const bool responded = !message.tool_calls.empty() && next > index + 1;
    if (responded) tool_responses(message, messages_.subspan(index + 1, next - index - 1));

    const size_t content_start = out_.size();
    content(message.content, is_model);
    const bool has_content = !strip_unicode(std::string_view(out_).substr(content_start)).empty();

    // The next message that is no tool's, which need not be the one after the results of this one's calls.
    const bool has_next = next < messages_.size();
    const bool pending = !message.tool_calls.empty() && !responded;
    const bool continues = is_model && has_next && messages_[next].role == ChatRole::kAssistant;
    if (pending)
      out_ += "<|tool_response>";
    else if (!continues && !(responded && !has_content && !has_next))
      out_ += "<turn|>\n";
    previous_is_model_ = is_model;
    end_ = responded ? TurnEnd::kToolResponse : pending ? TurnEnd::kPendingCall : TurnEnd::kText;
    return {};
  }

  /// Thoughts live on inside a running tool loop and end with the user's next word.
  void thought(const ChatMessage& message, size_t index) {
    const bool shown = index >= num_settled_ || (options_.preserve_thinking && !message.tool_calls.empty());
    if (!shown || message.reasoning_content.empty()) return;
    out_ += "<|channel>thought\n";
    out_ += message.reasoning_content;
    out_ += "\n<channel|>";
  }

  Result<void> tool_call(const ChatToolCall& call) {
    ((out_ += "<|tool_call>call:") += call.name) += '{';
    if (call.arguments.is_object()) {
      append_pairs(out_, call.arguments.as_object(), KeyStyle::kBare);
    } else if (!call.arguments.is_null()) {
      return Error{Errc::kInvalidArgument,
                   "chat_template: tool_calls[].function.arguments must be a JSON object (mapping), not a string. "
                   "Deserialize arguments before passing to the template."};
    }
    out_ += "}<tool_call|>";
    return {};
  }

  size_t num_tool_messages_from(size_t index) const {
    size_t end = index;
    while (end < messages_.size() && messages_[end].role == ChatRole::kTool) ++end;
    return end - index;
  }

  void tool_responses(const ChatMessage& message, std::span<const ChatMessage> results) {
    // An absent id equals an absent id; of several calls with one id the last gives the name.
    std::unordered_map<std::string_view, std::string_view> names;
    std::optional<std::string_view> name_without_id;
    for (const ChatToolCall& call : message.tool_calls) {
      if (call.id)
        names[*call.id] = call.name;
      else
        name_without_id = call.name;
    }
    for (const ChatMessage& result : results) {
      std::string_view name = result.name && !result.name->empty() ? std::string_view(*result.name) : "unknown";
      if (!result.tool_call_id) {
        name = name_without_id.value_or(name);
      } else if (const auto it = names.find(*result.tool_call_id); it != names.end()) {
        name = it->second;
      }
      tool_response(name, result.content);
    }
  }

  void tool_response(std::string_view name, const ChatContent& content) {
    out_ += str_cat("<|tool_response>response:", name, "{value:<|\"|>");
    const auto* parts = std::get_if<ContentParts>(&content);
    if (!parts) {
      out_ += std::get<std::string>(content);
    } else {
      for (const ContentPart& part : *parts)
        if (const auto* text = std::get_if<TextPart>(&part)) out_ += text->text;
    }
    out_ += "<|\"|>}<tool_response|>";
    if (!parts) return;
    for (const ContentPart& part : *parts)
      if (const auto* media = std::get_if<MediaPart>(&part)) append_media(*media);
  }

  void content(const ChatContent& content, bool is_model) {
    if (const auto* text = std::get_if<std::string>(&content)) return append_text(*text, is_model);
    for (const ContentPart& part : std::get<ContentParts>(content)) {
      if (const auto* text = std::get_if<TextPart>(&part))
        append_text(text->text, is_model);
      else
        append_media(std::get<MediaPart>(part));
    }
  }

  void append_media(const MediaPart& part) {
    media_.push_back({part, out_.size()});
    out_ += placeholder(part.kind);
  }

  void append_text(std::string_view text, bool is_model) {
    if (is_model)
      append_without_thoughts(out_, text);
    else
      out_ += strip_unicode(text);
  }

  void generation_prompt() {
    if (end_ == TurnEnd::kText) {
      out_ += "<|turn>model\n";
      if (family_ == ChatFamily::kBig && !options_.enable_thinking) out_ += "<|channel>thought\n<channel|>";
    } else if (end_ == TurnEnd::kToolResponse && options_.enable_thinking) {
      out_ += "<|channel>thought\n";  // the reply starts inside this thought
    }
  }

  const ChatInput& input_;
  const ChatOptions& options_;
  const ChatFamily family_;
  std::span<const ChatMessage> messages_;  // without the hoisted system message
  size_t num_settled_ = 0;                 // messages up to and including the last of the user
  bool previous_is_model_ = false;
  TurnEnd end_ = TurnEnd::kText;
  std::string out_;
  std::vector<RenderedMedia> media_;
};

}  // namespace

std::string_view placeholder(MediaKind kind) {
  switch (kind) {
    case MediaKind::kImage:
      return "<|image|>";
    case MediaKind::kAudio:
      return "<|audio|>";
    case MediaKind::kVideo:
      return "<|video|>";
  }
  return "";
}

Result<RenderedPrompt> render_chat(const ChatInput& input, ChatFamily family) { return Renderer(input, family).run(); }

}  // namespace carat
