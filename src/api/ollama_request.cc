#include "api/ollama_request.h"

#include "api/chat_body.h"
#include "api/json_fields.h"
#include "base/str.h"

namespace carat {
namespace {

Error invalid(std::string message) { return Error{Errc::kInvalidArgument, std::move(message)}; }

/// Text and pictures (bare base64) as chat's content.
Result<Json> content_of(std::string text, const Json* images, const std::string& place) {
  if (!images || images->size() == 0) return Json(std::move(text));
  if (!images->is_array()) return invalid(place + ".images: Input should be a list");
  Json parts = Json::array({Json::object({{"type", "text"}, {"text", std::move(text)}})});
  for (const Json& image : images->as_array()) {
    if (!image.is_string()) return invalid(place + ".images: Input should be a list of strings");
    parts.push_back(Json::object({{"type", "image_url"}, {"image_url", Json::object({{"url", image}})}}));
  }
  return parts;
}

/// Messages have nearly chat's form; calls and their results have no ids but names.
Result<Json> chat_message(const Json& message, const std::string& place) {
  JsonFields fields(message, place);
  const auto role = fields.text("role");
  if (!role) fields.fail("role", "Field required");
  auto content = fields.text("content");
  const auto thinking = fields.text("thinking");
  auto name = fields.text("tool_name");
  CARAT_TRY_VOID(fields.status());
  CARAT_TRY(Json parts, content_of(content.value_or(""), fields.find("images"), place));
  Json out = Json::object({{"role", *role}, {"content", std::move(parts)}});
  if (thinking) out.set("reasoning_content", *thinking);
  if (name) out.set("name", std::move(*name));
  const Json* calls = fields.find("tool_calls");
  if (!calls) return out;
  if (!calls->is_array()) return invalid(place + ".tool_calls: Input should be a list");
  Json chat_calls = Json::array();
  for (const Json& call : calls->as_array()) {
    Json chat_call = Json::object({{"type", "function"}});
    copy_members(call, {"function"}, chat_call);
    chat_calls.push_back(std::move(chat_call));
  }
  out.set("tool_calls", std::move(chat_calls));
  return out;
}

void read_options(JsonFields& fields, Json& chat) {
  const Json* options = fields.object("options");
  if (!options) return;
  copy_members(*options, {"temperature", "top_p", "min_p", "seed", "stop", "presence_penalty", "frequency_penalty"},
               chat);
  JsonFields inner(*options, "options");
  if (const auto top_k = inner.integer("top_k")) chat.set("top_k", *top_k > 0 ? *top_k : -1);
  if (const auto penalty = inner.number("repeat_penalty")) chat.set("repetition_penalty", *penalty);
  // Negative: no limit but the context.
  if (const auto most = inner.integer("num_predict"); most && *most > 0) chat.set("max_tokens", *most);
  if (const auto ok = inner.status(); !ok) fields.fail("options", ok.error().message);
}

/// "json" or a schema.
void read_format(JsonFields& fields, Json& chat) {
  const Json* format = fields.find("format");
  if (!format || (format->is_string() && format->as_string().empty())) return;
  if (format->is_object()) {
    Json schema = Json::object({{"name", "format"}, {"schema", *format}});
    chat.set("response_format", Json::object({{"type", "json_schema"}, {"json_schema", std::move(schema)}}));
  } else if (format->is_string() && format->as_string() == "json") {
    chat.set("response_format", Json::object({{"type", "json_object"}}));
  } else {
    fields.fail("format", "Input should be 'json' or a JSON schema");
  }
}

void read_think(JsonFields& fields, Json& chat) {
  const Json* think = fields.find("think");
  if (!think) return;
  if (think->is_bool())
    chat.set("chat_template_kwargs", Json::object({{"enable_thinking", think->as_bool()}}));
  else
    chat.set("reasoning_effort", *think);
}

/// What the two routes share.
Result<OllamaRequest> parse_common(JsonFields& fields) {
  OllamaRequest request;
  CARAT_TRY_VOID(fields.status());
  auto model = fields.text("model");
  if (!model) fields.fail("model", "Field required");
  request.model = model.value_or("");
  request.stream = fields.boolean("stream").value_or(true);
  request.chat = Json::object({{"stream", request.stream}});
  read_options(fields, request.chat);
  read_format(fields, request.chat);
  read_think(fields, request.chat);
  CARAT_TRY_VOID(fields.status());
  return request;
}

}  // namespace

Result<OllamaRequest> parse_ollama_chat(const Json& body) {
  JsonFields fields(body, "");
  CARAT_TRY(auto request, parse_common(fields));
  copy_members(body, {"tools"}, request.chat);
  const Json* messages = fields.find("messages");
  if (messages && !messages->is_array())
    return invalid(str_cat("messages: Input should be a list, got ", messages->kind_name()));
  request.empty = !messages || messages->size() == 0;
  if (request.empty) return request;
  Json list = Json::array();
  for (size_t i = 0; i < messages->size(); ++i) {
    CARAT_TRY(Json message, chat_message(messages->as_array()[i], str_cat("messages[", i, "]")));
    list.push_back(std::move(message));
  }
  request.chat.set("messages", std::move(list));
  return request;
}

Result<OllamaRequest> parse_ollama_generate(const Json& body) {
  JsonFields fields(body, "");
  CARAT_TRY(auto request, parse_common(fields));
  for (const std::string_view name : {"suffix", "template", "context", "raw"})
    if (const Json* value = body.find(name); value && value->truthy())
      return invalid(str_cat(name, " is not supported by this server."));
  auto prompt = fields.text("prompt");
  auto system = fields.text("system");
  CARAT_TRY_VOID(fields.status());
  request.empty = !prompt || prompt->empty();
  if (request.empty) return request;
  Json list = Json::array();
  if (system && !system->empty()) list.push_back(Json::object({{"role", "system"}, {"content", std::move(*system)}}));
  CARAT_TRY(Json content, content_of(std::move(*prompt), fields.find("images"), "prompt"));
  list.push_back(Json::object({{"role", "user"}, {"content", std::move(content)}}));
  request.chat.set("messages", std::move(list));
  return request;
}

}  // namespace carat
