#include "api/chat_body.h"

namespace carat {
namespace {

void append_after(std::string& text, std::string_view separator, std::string_view more) {
  if (!text.empty() && !more.empty()) text += separator;
  text += more;
}

}  // namespace

void ChatTurns::add(std::string_view role, Json content) {
  close_turn();
  messages_.push_back(Json::object({{"role", role}, {"content", std::move(content)}}));
}

void ChatTurns::add_result(std::string_view call_id, Json content) {
  close_turn();
  messages_.push_back(Json::object({{"role", "tool"}, {"tool_call_id", call_id}, {"content", std::move(content)}}));
}

void ChatTurns::add_text(std::string_view text) {
  open_ = true;
  append_after(text_, "\n\n", text);
}

void ChatTurns::add_thought(std::string_view text) {
  open_ = true;
  append_after(thought_, "\n", text);
}

void ChatTurns::add_call(std::string_view id, std::string_view name, Json arguments) {
  open_ = true;
  Json function = Json::object({{"name", name}, {"arguments", std::move(arguments)}});
  calls_.push_back(Json::object({{"id", id}, {"type", "function"}, {"function", std::move(function)}}));
}

void ChatTurns::close_turn() {
  if (!open_) return;
  open_ = false;
  Json message = Json::object({{"role", "assistant"}, {"content", std::move(text_)}});
  if (!thought_.empty()) message.set("reasoning_content", std::move(thought_));
  if (calls_.size() > 0) message.set("tool_calls", std::move(calls_));
  messages_.push_back(std::move(message));
  text_.clear();
  thought_.clear();
  calls_ = Json::array();
}

Json ChatTurns::take() {
  close_turn();
  return std::move(messages_);
}

Json chat_tool(Json name, Json description, Json parameters, Json strict) {
  Json function = Json::object({{"name", std::move(name)}});
  if (!description.is_null()) function.set("description", std::move(description));
  if (!parameters.is_null()) function.set("parameters", std::move(parameters));
  if (!strict.is_null()) function.set("strict", std::move(strict));
  return Json::object({{"type", "function"}, {"function", std::move(function)}});
}

Json chat_tool_choice(Json name) {
  return Json::object({{"type", "function"}, {"function", Json::object({{"name", std::move(name)}})}});
}

void copy_members(const Json& from, std::initializer_list<std::string_view> names, Json& to) {
  for (const std::string_view name : names)
    if (const Json* value = from.find(name); value && !value->is_null()) to.set(name, *value);
}

}  // namespace carat
