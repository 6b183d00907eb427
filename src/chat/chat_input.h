#pragma once
// A chat request as the template sees it: prepared messages, tools and switches. Plain data, no JSON but where the
// template itself works on JSON values (call arguments, tool parameters).

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/json.h"

namespace carat {

enum class ChatRole { kSystem, kDeveloper, kUser, kAssistant, kTool, kFunction, kLatestReminder, kRoot };

/// The role's name as it stands in requests and, but for the assistant's ("model"), in prompts.
std::string_view to_string(ChatRole role);

enum class MediaKind { kImage, kAudio, kVideo };
/// "image", "audio", "video"
std::string_view to_string(MediaKind kind);

struct TextPart {
  std::string text;
};

struct MediaPart {
  MediaKind kind = MediaKind::kImage;
  /// URL, data URI, path or bare base64, as the client sent it. Never null; shared, since it may be megabytes.
  std::shared_ptr<const std::string> source;
};

using ContentPart = std::variant<TextPart, MediaPart>;
using ContentParts = std::vector<ContentPart>;
/// Text or parts. The template treats the two differently (spaces, joins), so neither is turned into the other.
using ChatContent = std::variant<std::string, ContentParts>;

/// A call in the history.
struct ChatToolCall {
  std::optional<std::string> id;
  std::string name;
  Json arguments;  ///< object, or null for none; a string where the client sent text that the template refuses
};

struct ChatMessage {
  ChatRole role = ChatRole::kUser;
  ChatContent content;
  std::string reasoning_content;
  std::vector<ChatToolCall> tool_calls;
  std::optional<std::string> tool_call_id;  ///< of a tool message: the call that it answers
  std::optional<std::string> name;          ///< of a tool message: used when no call has its id
};

struct ChatTool {
  std::string name;
  std::optional<std::string> description;
  Json parameters;             ///< JSON Schema with normalised types, or null
  std::optional<bool> strict;  ///< as sent; for constrained decoding
  /// The prompt declares it. False for tools that a tool choice leaves out and for tools inside messages: those count
  /// only for parsing and constraints.
  bool in_prompt = true;
};

struct ChatToolChoice {
  enum class Mode { kNone, kAuto, kRequired, kNamed };
  Mode mode = Mode::kNone;
  std::string name;  ///< kNamed: the function
};

struct ChatOptions {
  bool enable_thinking = false;
  bool preserve_thinking = false;       ///< keep the thoughts of earlier turns that made tool calls
  bool force_nonempty_content = false;  ///< of the reply: one that is only thought is content; not for the prompt
  bool add_generation_prompt = true;
  bool parallel_tool_calls = true;  ///< for constrained decoding; the prompt does not depend on it
};

struct ChatInput {
  std::vector<ChatMessage> messages;
  std::vector<ChatTool> tools;
  ChatToolChoice tool_choice;
  ChatOptions options;
  /// The start of the reply, given by the client (continue_final_message): tokenised by itself after the prompt.
  std::string continuation;
};

/// All media, in the order of the messages.
std::vector<MediaPart> all_media(const ChatInput& input);

}  // namespace carat
