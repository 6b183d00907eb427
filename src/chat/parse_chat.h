#pragma once
// A chat request's JSON body -> ChatInput, prepared for the template as SGLang 0.5.23 does it. Spec: prompt-format.md
// section 3; api.md sections 2, 4.1 and 4.5.

#include <optional>

#include "base/json.h"
#include "base/result.h"
#include "chat/chat_input.h"

namespace carat {

/// Bounds on what a body may hold beyond its size in bytes, which the HTTP server limits, and the nesting of JSON.
struct ChatLimits {
  int max_messages = 16384;
  int max_parts = 16384;       ///< of all messages together
  int max_tool_calls = 16384;  ///< of all messages together
  int max_tools = 2048;        ///< of the request and inside its messages
};

struct ChatParseOptions {
  /// Variables for the template where the request does not set them (--default-chat-template-kwargs): an object or
  /// null.
  Json default_template_kwargs;
  /// Given (POST /tokenize with this member): the messages are rendered as they stand, so that a last message of the
  /// assistant's stays one, with or without the beginning of a reply. Absent: as for a chat request.
  std::optional<bool> add_generation_prompt;
  ChatLimits limits;
};

/// Reads `messages`, `tools`, `tool_choice`, `parallel_tool_calls`, `chat_template_kwargs`, `reasoning_effort`,
/// `reasoning` and `continue_final_message`; other members are not looked at. Media parts are kept, whatever the model
/// can do with them.
/// Errors: kInvalidArgument with SGLang's texts where clients may look for them, else with the place of the trouble;
/// kTooLarge above a limit.
Result<ChatInput> parse_chat_input(const Json& body, const ChatParseOptions& options = {});

}  // namespace carat
