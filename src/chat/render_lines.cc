// carat_render_lines: reads prepared conversations, one JSON object a line, and prints one JSON object a line with the
// rendered "text" or an "error". scripts/compare_template drives it. An input line has `family` ("big" or "small"),
// `messages` and `tools` as the Jinja template takes them (content parts of type text, image, audio, video; arguments
// as objects), and `enable_thinking`, `preserve_thinking`, `add_generation_prompt`.
// A line with `request` is instead a chat request, which is parsed and prepared first.

#include <iostream>
#include <memory>
#include <string>

#include "base/json.h"
#include "chat/parse_chat.h"
#include "chat/render.h"

namespace carat {
namespace {

ChatRole role_of(const std::string& name) {
  for (const ChatRole role : {ChatRole::kSystem, ChatRole::kDeveloper, ChatRole::kAssistant, ChatRole::kTool,
                              ChatRole::kFunction, ChatRole::kLatestReminder, ChatRole::kRoot})
    if (name == to_string(role)) return role;
  return ChatRole::kUser;
}

ChatContent content_of(const Json& json) {
  if (json.is_string()) return json.as_string();
  ContentParts parts;
  for (const Json& part : json.as_array()) {
    const std::string& type = part.find("type")->as_string();
    if (type == "text")
      parts.emplace_back(TextPart{part.find("text")->as_string()});
    else
      parts.emplace_back(MediaPart{type == "image"   ? MediaKind::kImage
                                   : type == "audio" ? MediaKind::kAudio
                                                     : MediaKind::kVideo,
                                   std::make_shared<const std::string>()});
  }
  return parts;
}

std::optional<std::string> text_of(const Json* json) {
  if (!json || json->is_null()) return std::nullopt;
  return json->as_string();
}

ChatMessage message_of(const Json& json) {
  ChatMessage message;
  message.role = role_of(json.find("role")->as_string());
  if (const Json* content = json.find("content")) message.content = content_of(*content);
  message.reasoning_content = text_of(json.find("reasoning_content")).value_or("");
  message.tool_call_id = text_of(json.find("tool_call_id"));
  message.name = text_of(json.find("name"));
  if (const Json* calls = json.find("tool_calls"))
    for (const Json& call : calls->as_array()) {
      const Json& function = *call.find("function");
      message.tool_calls.push_back(
          {text_of(call.find("id")), function.find("name")->as_string(), *function.find("arguments")});
    }
  return message;
}

ChatInput input_of(const Json& line) {
  const auto is_on = [&](std::string_view key) { return line.find(key) && line.find(key)->truthy(); };
  ChatInput input;
  for (const Json& message : line.find("messages")->as_array()) input.messages.push_back(message_of(message));
  if (const Json* tools = line.find("tools"); tools && tools->is_array())
    for (const Json& tool : tools->as_array()) {
      const Json& function = *tool.find("function");
      ChatTool out;
      out.name = function.find("name")->as_string();
      out.description = text_of(function.find("description"));
      if (const Json* parameters = function.find("parameters")) out.parameters = *parameters;
      input.tools.push_back(std::move(out));
    }
  input.options.enable_thinking = is_on("enable_thinking");
  input.options.preserve_thinking = is_on("preserve_thinking");
  input.options.add_generation_prompt = is_on("add_generation_prompt");
  return input;
}

Result<std::string> render_line(const std::string& text) {
  CARAT_TRY(const auto line, parse_json(text));
  const Json* name = line.find("family");
  const ChatFamily family = name && *name == Json("small") ? ChatFamily::kSmall : ChatFamily::kBig;
  ChatInput input;
  if (const Json* request = line.find("request")) {
    CARAT_TRY(input, parse_chat_input(*request));
  } else {
    input = input_of(line);
  }
  CARAT_TRY(const auto prompt, render_chat(input, family));
  return prompt.text + prompt.continuation;
}

}  // namespace
}  // namespace carat

int main() {
  std::ios::sync_with_stdio(false);
  for (std::string line; std::getline(std::cin, line);) {
    const auto text = carat::render_line(line);
    carat::Json out;
    if (text)
      out.set("text", *text);
    else
      out.set("error", text.error().message);
    std::cout << out.dump() << '\n';
  }
}
