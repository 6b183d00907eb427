#include "api/messages_request.h"

#include "api/chat_body.h"
#include "api/json_fields.h"
#include "api/params.h"
#include "base/str.h"

namespace carat {
namespace {

constexpr int64_t kLeastThinkingBudget = 1024;

Error invalid(std::string message) { return Error{Errc::kInvalidArgument, std::move(message)}; }

std::string place_of(std::string_view list, size_t index) { return str_cat(list, "[", index, "]"); }

Result<std::string> text_of(JsonFields& fields, std::string_view key) {
  auto text = fields.text(key);
  if (!text) fields.fail(key, "Field required");
  CARAT_TRY_VOID(fields.status());
  return std::move(*text);
}

// ---- content blocks

Result<Json> image_part(const Json& block, const std::string& place) {
  JsonFields fields(block, place);
  const Json* source = fields.object("source");
  if (!source) fields.fail("source", "Field required");
  CARAT_TRY_VOID(fields.status());
  JsonFields inner(*source, place + ".source");
  std::string url;
  if (inner.text("type") == "base64") {
    CARAT_TRY(const auto media_type, text_of(inner, "media_type"));
    CARAT_TRY(const auto data, text_of(inner, "data"));
    url = str_cat("data:", media_type, ";base64,", data);
  } else {
    CARAT_TRY(url, text_of(inner, "url"));
  }
  return Json::object({{"type", "image_url"}, {"image_url", Json::object({{"url", std::move(url)}})}});
}

/// A text or image block as chat's part.
Result<Json> plain_part(const Json& block, std::string_view type, const std::string& place) {
  if (type == "image") return image_part(block, place);
  if (type != "text") return invalid(str_cat(place, ".type: '", type, "' blocks are not supported here"));
  JsonFields fields(block, place);
  CARAT_TRY(auto text, text_of(fields, "text"));
  return Json::object({{"type", "text"}, {"text", std::move(text)}});
}

Result<std::string> type_of(const Json& block, const std::string& place) {
  JsonFields fields(block, place);
  return text_of(fields, "type");
}

Result<Json> plain_parts(const Json& content, const std::string& place) {
  if (content.is_string()) return content;
  if (!content.is_array())
    return invalid(str_cat(place, ": Input should be a string or a list of blocks, got ", content.kind_name()));
  Json parts = Json::array();
  for (size_t i = 0; i < content.size(); ++i) {
    const std::string block_place = place_of(place, i);
    CARAT_TRY(const auto type, type_of(content.as_array()[i], block_place));
    CARAT_TRY(Json part, plain_part(content.as_array()[i], type, block_place));
    parts.push_back(std::move(part));
  }
  return parts;
}

/// Texts of a system prompt, one line after the other.
Result<std::string> system_text(const Json& content, const std::string& place) {
  CARAT_TRY(const Json parts, plain_parts(content, place));
  if (parts.is_string()) return parts.as_string();
  std::string text;
  for (const Json& part : parts.as_array()) {
    const Json* piece = part.find("text");
    if (!piece) return invalid(str_cat(place, ": a system prompt has only text"));
    if (!text.empty()) text += '\n';
    text += piece->as_string();
  }
  return text;
}

// ---- messages

Result<void> add_tool_result(const Json& block, const std::string& place, ChatTurns& turns) {
  JsonFields fields(block, place);
  CARAT_TRY(const auto id, text_of(fields, "tool_use_id"));
  const Json* content = fields.find("content");
  CARAT_TRY(Json parts, plain_parts(content ? *content : Json(""), place + ".content"));
  turns.add_result(id, std::move(parts));
  return {};
}

/// What the user says between tool results becomes messages of its own, so that the order stays.
Result<void> add_user_blocks(const JsonArray& blocks, const std::string& place, ChatTurns& turns) {
  Json said = Json::array();
  const auto flush = [&] {
    if (said.size() > 0) turns.add("user", std::move(said));
    said = Json::array();
  };
  if (blocks.empty()) return invalid(str_cat(place, " cannot be empty"));
  for (size_t i = 0; i < blocks.size(); ++i) {
    const std::string block_place = place_of(place, i);
    CARAT_TRY(const auto type, type_of(blocks[i], block_place));
    if (type == "tool_result") {
      flush();
      CARAT_TRY_VOID(add_tool_result(blocks[i], block_place, turns));
    } else {
      CARAT_TRY(Json part, plain_part(blocks[i], type, block_place));
      said.push_back(std::move(part));
    }
  }
  flush();
  return {};
}

Result<void> add_tool_use(const Json& block, const std::string& place, ChatTurns& turns) {
  JsonFields fields(block, place);
  CARAT_TRY(const auto id, text_of(fields, "id"));
  CARAT_TRY(const auto name, text_of(fields, "name"));
  const Json* input = fields.object("input");
  CARAT_TRY_VOID(fields.status());
  turns.add_call(id, name, input ? *input : Json::object());
  return {};
}

Result<void> add_assistant_blocks(const JsonArray& blocks, const std::string& place, ChatTurns& turns) {
  std::string text;
  for (size_t i = 0; i < blocks.size(); ++i) {
    const std::string block_place = place_of(place, i);
    CARAT_TRY(const auto type, type_of(blocks[i], block_place));
    JsonFields fields(blocks[i], block_place);
    if (type == "text") {
      CARAT_TRY(const auto piece, text_of(fields, "text"));
      text += piece;
    } else if (type == "thinking") {
      CARAT_TRY(const auto thought, text_of(fields, "thinking"));
      turns.add_thought(thought);
    } else if (type == "tool_use") {
      CARAT_TRY_VOID(add_tool_use(blocks[i], block_place, turns));
    } else {
      return invalid(str_cat(block_place, ".type: '", type, "' blocks are not supported in assistant messages"));
    }
  }
  turns.add_text(text);
  return {};
}

Result<void> add_message(const Json& message, const std::string& place, ChatTurns& turns) {
  JsonFields fields(message, place);
  CARAT_TRY(const auto role, text_of(fields, "role"));
  const Json* content = fields.find("content");
  if (!content) return invalid(place + ".content: Field required");
  const std::string content_place = place + ".content";
  if (role == "system") {
    CARAT_TRY(auto text, system_text(*content, content_place));
    turns.add("system", std::move(text));
    return {};
  }
  if (role != "user" && role != "assistant")
    return invalid(str_cat(place, ".role: Input should be 'user', 'assistant' or 'system', got '", role, "'"));
  if (content->is_array())
    return role == "user" ? add_user_blocks(content->as_array(), content_place, turns)
                          : add_assistant_blocks(content->as_array(), content_place, turns);
  if (!content->is_string())
    return invalid(
        str_cat(content_place, ": Input should be a string or a list of blocks, got ", content->kind_name()));
  if (role == "user")
    turns.add("user", *content);
  else
    turns.add_text(content->as_string());
  return {};
}

/// An assistant's last word is the beginning of the answer, unless it calls tools.
bool begins_answer(const Json& messages) {
  const Json& last = messages.as_array().back();
  return last.find("role")->as_string() == "assistant" && !last.contains("tool_calls");
}

Result<void> read_messages(JsonFields& fields, Json& chat) {
  ChatTurns turns;
  if (const Json* system = fields.find("system")) {
    CARAT_TRY(auto text, system_text(*system, "system"));
    if (!trim(text).empty()) turns.add("system", std::move(text));
  }
  const Json* messages = fields.find("messages");
  if (!messages) return invalid("messages: Field required");
  if (!messages->is_array()) return invalid(str_cat("messages: Input should be a list, got ", messages->kind_name()));
  if (messages->size() == 0) return invalid("Messages cannot be empty.");
  for (size_t i = 0; i < messages->size(); ++i)
    CARAT_TRY_VOID(add_message(messages->as_array()[i], place_of("messages", i), turns));
  Json list = turns.take();
  if (begins_answer(list)) chat.set("continue_final_message", true);
  chat.set("messages", std::move(list));
  return {};
}

// ---- tools and switches

Result<void> read_tools(JsonFields& fields, Json& chat) {
  const Json* tools = fields.find("tools");
  if (!tools) return {};
  if (!tools->is_array()) return invalid(str_cat("tools: Input should be a list, got ", tools->kind_name()));
  Json list = Json::array();
  for (size_t i = 0; i < tools->size(); ++i) {
    const Json& tool = tools->as_array()[i];
    JsonFields inner(tool, place_of("tools", i));
    const std::string type = inner.text("type").value_or("custom");
    if (type != "custom") inner.fail("type", str_cat("tools of type '", type, "' are not supported by this server"));
    CARAT_TRY(auto name, text_of(inner, "name"));
    auto description = inner.text("description");
    const Json* schema = inner.object("input_schema");
    if (!schema) inner.fail("input_schema", "Field required");
    const auto strict = inner.boolean("strict");
    CARAT_TRY_VOID(inner.status());
    Json parameters = *schema;
    if (!parameters.contains("type")) parameters.set("type", "object");
    list.push_back(chat_tool(std::move(name), description ? Json(std::move(*description)) : Json(),
                             std::move(parameters), strict ? Json(*strict) : Json()));
  }
  if (list.size() > 0) chat.set("tools", std::move(list));
  return {};
}

Result<void> read_tool_choice(JsonFields& fields, Json& chat) {
  const Json* choice = fields.object("tool_choice");
  if (!choice) return fields.status();
  JsonFields inner(*choice, "tool_choice");
  CARAT_TRY(const auto type, text_of(inner, "type"));
  if (type == "tool") {
    CARAT_TRY(auto name, text_of(inner, "name"));
    chat.set("tool_choice", chat_tool_choice(std::move(name)));
  } else if (type == "auto" || type == "none") {
    chat.set("tool_choice", type);
  } else if (type == "any") {
    chat.set("tool_choice", "required");
  } else {
    inner.fail("type", str_cat("Input should be 'auto', 'any', 'tool' or 'none', got '", type, "'"));
  }
  if (inner.boolean("disable_parallel_tool_use").value_or(false)) chat.set("parallel_tool_calls", false);
  return inner.status();
}

Result<void> read_thinking(JsonFields& fields, std::optional<int64_t> max_tokens, Json& chat) {
  const Json* thinking = fields.object("thinking");
  if (!thinking) return fields.status();
  JsonFields inner(*thinking, "thinking");
  CARAT_TRY(const auto type, text_of(inner, "type"));
  const auto budget = inner.integer("budget_tokens");
  if (type == "enabled") {
    if (!budget) inner.fail("budget_tokens", "Field required");
    if (budget && *budget < kLeastThinkingBudget)
      inner.fail("budget_tokens", str_cat("Input should be at least ", kLeastThinkingBudget, ", got ", *budget));
    if (budget && max_tokens && *budget >= *max_tokens)
      inner.fail("budget_tokens", str_cat("Input should be less than max_tokens (", *max_tokens, "), got ", *budget));
    if (budget) chat.set("thinking_budget", *budget);
  } else if (type != "disabled" && type != "adaptive") {
    inner.fail("type", str_cat("Input should be 'enabled', 'disabled' or 'adaptive', got '", type, "'"));
  } else if (budget) {
    inner.fail("budget_tokens", str_cat("not allowed when thinking is '", type, "'"));
  }
  chat.set("chat_template_kwargs", Json::object({{"enable_thinking", type != "disabled"}}));
  return inner.status();
}

/// output_config.format, which is flat here, as chat's response_format.
Result<void> read_output_format(JsonFields& fields, Json& chat) {
  const Json* config = fields.object("output_config");
  if (!config) return fields.status();
  JsonFields inner(*config, "output_config");
  const Json* format = inner.object("format");
  CARAT_TRY_VOID(inner.status());
  if (!format) return {};
  JsonFields form(*format, "output_config.format");
  CARAT_TRY(const auto type, text_of(form, "type"));
  if (type != "json_schema") form.fail("type", str_cat("Input should be 'json_schema', got '", type, "'"));
  const Json* schema = form.object("schema");
  if (!schema) form.fail("schema", "Field required");
  CARAT_TRY_VOID(form.status());
  chat.set("response_format", Json::object({{"type", "json_schema"},
                                            {"json_schema", Json::object({{"name", "output"}, {"schema", *schema}})}}));
  return {};
}

}  // namespace

Result<MessagesRequest> parse_messages_request(const Json& body, MessagesPurpose purpose) {
  MessagesRequest request;
  request.id = str_cat("msg_", new_request_id());
  request.chat = Json::object({{"rid", request.id}});
  JsonFields fields(body, "");
  CARAT_TRY_VOID(fields.status());
  CARAT_TRY(request.model, text_of(fields, "model"));
  request.stream = fields.boolean("stream").value_or(false);
  request.chat.set("stream", request.stream);
  const auto most = fields.integer("max_tokens");
  if (!most && purpose == MessagesPurpose::kAnswer) fields.fail("max_tokens", "Field required");
  if (most && *most < 1) fields.fail("max_tokens", str_cat("Input should be at least 1, got ", *most));
  if (most) request.chat.set("max_tokens", *most);
  copy_members(body, {"temperature", "top_p", "top_k"}, request.chat);
  if (const Json* stop = fields.find("stop_sequences")) request.chat.set("stop", *stop);
  CARAT_TRY_VOID(fields.status());
  CARAT_TRY_VOID(read_messages(fields, request.chat));
  CARAT_TRY_VOID(read_tools(fields, request.chat));
  CARAT_TRY_VOID(read_tool_choice(fields, request.chat));
  CARAT_TRY_VOID(read_thinking(fields, most, request.chat));
  CARAT_TRY_VOID(read_output_format(fields, request.chat));
  return request;
}

}  // namespace carat
