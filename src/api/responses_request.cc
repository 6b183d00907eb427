#include "api/responses_request.h"

#include <algorithm>
#include <array>

#include "api/chat_body.h"
#include "api/json_fields.h"
#include "api/params.h"
#include "base/str.h"

namespace carat {
namespace {

constexpr std::string_view kReasoningPrefix = "carat-reasoning-v1:";

constexpr auto kIncludes = std::to_array<std::string_view>(
    {"code_interpreter_call.outputs", "computer_call_output.output.image_url", "file_search_call.results",
     "message.input_image.image_url", "message.output_text.logprobs", "reasoning.encrypted_content"});

Error invalid(std::string message) { return Error{Errc::kInvalidArgument, std::move(message)}; }

// ---- members of the request

void read_include(JsonFields& fields, ResponsesRequest& request) {
  const auto names = fields.texts("include");
  if (!names) return;
  for (const std::string& name : *names) {
    if (std::find(kIncludes.begin(), kIncludes.end(), name) == kIncludes.end())
      return fields.fail("include", str_cat("unknown value '", name, "'"));
    request.include_logprobs |= name == "message.output_text.logprobs";
    request.include_encrypted_reasoning |= name == "reasoning.encrypted_content";
  }
}

void read_reasoning(JsonFields& fields, ResponsesRequest& request) {
  Json echo = Json::object({{"effort", nullptr}, {"summary", nullptr}});
  if (const Json* reasoning = fields.object("reasoning")) {
    JsonFields inner(*reasoning, "reasoning");
    const auto summary = inner.text("summary");
    request.summarize_reasoning = summary.has_value();
    copy_members(*reasoning, {"effort", "summary"}, echo);
    if (const Json* effort = inner.find("effort")) request.chat.set("reasoning_effort", *effort);
    if (const auto ok = inner.status(); !ok) fields.fail("reasoning", ok.error().message);
  }
  request.echo.set("reasoning", std::move(echo));
}

/// text.format, which is flat here, as chat's response_format.
void read_text(JsonFields& fields, ResponsesRequest& request) {
  static const Json kPlain = Json::object({{"format", Json::object({{"type", "text"}})}});
  const Json* text = fields.object("text");
  request.echo.set("text", text ? *text : kPlain);
  const Json* format = text ? text->find("format") : nullptr;
  if (!format || format->is_null()) return;
  JsonFields inner(*format, "text.format");
  const auto type = inner.text("type");
  if (const auto ok = inner.status(); !ok) return fields.fail("text", ok.error().message);
  Json out = Json::object({{"type", type ? Json(*type) : Json()}});
  if (type == "json_schema") {
    Json schema = Json::object();
    copy_members(*format, {"name", "description", "schema", "strict"}, schema);
    out.set("json_schema", std::move(schema));
  }
  request.chat.set("response_format", std::move(out));
}

/// Functions become chat's; tools that a hosted service would run itself are never called here and are left out.
void read_tools(JsonFields& fields, ResponsesRequest& request) {
  request.echo.set("tools", Json::array());
  const Json* tools = fields.find("tools");
  if (!tools) return;
  if (!tools->is_array()) return fields.fail("tools", str_cat("Input should be a list, got ", tools->kind_name()));
  Json chat_tools = Json::array();
  for (size_t i = 0; i < tools->size(); ++i) {
    const Json& tool = tools->as_array()[i];
    const std::string place = str_cat("tools[", i, "]");
    JsonFields inner(tool, place);
    const auto type = inner.text("type");
    if (const auto ok = inner.status(); !ok) return fields.fail("tools", ok.error().message);
    if (!type) return fields.fail(place, "type: Field required");
    if (*type == "custom") return fields.fail(place, "custom tools are not supported by this server");
    if (*type != "function") continue;
    const Json* nested = tool.find("function");
    const Json& function = nested && nested->is_object() ? *nested : tool;
    const Json* name = function.find("name");
    if (!name || !name->is_string()) return fields.fail(place, "name: Input should be a valid string");
    const auto member = [&](std::string_view key) {
      const Json* value = function.find(key);
      return value ? *value : Json();
    };
    chat_tools.push_back(chat_tool(*name, member("description"), member("parameters"), member("strict")));
  }
  if (chat_tools.size() > 0) request.chat.set("tools", std::move(chat_tools));
  request.echo.set("tools", *tools);
}

void read_tool_choice(JsonFields& fields, ResponsesRequest& request) {
  const Json* choice = fields.find("tool_choice");
  request.echo.set("tool_choice", choice ? *choice : Json("auto"));
  if (!choice) return;
  if (choice->is_string()) {
    request.chat.set("tool_choice", *choice);
    return;
  }
  JsonFields inner(*choice, "tool_choice");
  const auto type = inner.text("type");
  auto name = inner.text("name");
  if (const Json* function = inner.object("function"); function && !name) name = JsonFields(*function, "").text("name");
  if (const auto ok = inner.status(); !ok) return fields.fail("tool_choice", ok.error().message);
  if (type != "function" || !name) return fields.fail("tool_choice", "an object must have type 'function' and a name");
  request.chat.set("tool_choice", chat_tool_choice(std::move(*name)));
}

void read_limits(JsonFields& fields, ResponsesRequest& request) {
  const auto most = fields.integer("max_output_tokens");
  request.echo.set("max_output_tokens", most ? Json(*most) : Json());
  if (most && *most < 1) return fields.fail("max_output_tokens", str_cat("Input should be at least 1, got ", *most));
  if (most) request.chat.set("max_tokens", *most);
  const auto top = fields.integer("top_logprobs", 0, kMaxTopLogprobs);
  if (!request.include_logprobs) return;
  request.chat.set("logprobs", true);
  request.chat.set("top_logprobs", top.value_or(0));
}

void read_input(JsonFields& fields, ResponsesRequest& request) {
  const Json* input = fields.find("input");
  if (!input) return fields.fail("input", "Field required");
  if (input->is_string())
    request.items = Json::array({Json::object({{"type", "message"}, {"role", "user"}, {"content", *input}})});
  else if (input->is_array())
    request.items = *input;
  else
    fields.fail("input", str_cat("Input should be a string or a list, got ", input->kind_name()));
}

void read_echoes(JsonFields& fields, ResponsesRequest& request) {
  Json& echo = request.echo;
  const auto text_or_null = [](std::optional<std::string> text) { return text ? Json(std::move(*text)) : Json(); };
  auto instructions = fields.text("instructions");
  request.instructions = instructions.value_or("");
  echo.set("instructions", text_or_null(std::move(instructions)));
  echo.set("previous_response_id", text_or_null(request.previous_response_id));
  echo.set("parallel_tool_calls", fields.boolean("parallel_tool_calls").value_or(true));
  echo.set("truncation", fields.text("truncation").value_or("disabled"));
  echo.set("user", text_or_null(fields.text("user")));
  const Json* metadata = fields.object("metadata");
  echo.set("metadata", metadata ? *metadata : Json::object());
}

// ---- items

/// Parts of a message as chat's. `place` names the content.
Result<Json> chat_parts(const Json& content, const std::string& place) {
  if (content.is_string()) return content;
  if (!content.is_array())
    return invalid(str_cat(place, ": Input should be a string or a list of parts, got ", content.kind_name()));
  Json parts = Json::array();
  for (size_t i = 0; i < content.size(); ++i) {
    const Json& part = content.as_array()[i];
    const std::string part_place = str_cat(place, "[", i, "]");
    JsonFields fields(part, part_place);
    const std::string type = fields.text("type").value_or("");
    const bool is_refusal = type == "refusal";
    if (type == "input_text" || type == "output_text" || type == "text" || is_refusal) {
      const auto text = fields.text(is_refusal ? "refusal" : "text");
      if (!text) fields.fail("text", "Field required");
      parts.push_back(Json::object({{"type", "text"}, {"text", text.value_or("")}}));
    } else if (type == "input_image") {
      auto url = fields.text("image_url");
      if (!url) fields.fail("image_url", "Field required: pictures are given as URLs or data URIs");
      Json image = Json::object({{"url", url.value_or("")}});
      copy_members(part, {"detail"}, image);
      parts.push_back(Json::object({{"type", "image_url"}, {"image_url", std::move(image)}}));
    } else if (type == "input_audio") {
      parts.push_back(part);  // has chat's form
    } else {
      fields.fail("type", str_cat("'", type, "' is not supported"));
    }
    CARAT_TRY_VOID(fields.status());
  }
  return parts;
}

/// The text of an assistant's message.
Result<std::string> answer_text(const Json& content, const std::string& place) {
  CARAT_TRY(const Json parts, chat_parts(content, place));
  if (parts.is_string()) return parts.as_string();
  std::string text;
  for (const Json& part : parts.as_array()) {
    const Json* piece = part.find("text");
    if (!piece) return invalid(str_cat(place, ": an assistant's message has only text"));
    text += piece->as_string();
  }
  return text;
}

/// The texts of a reasoning item: its summary, else its content, else what encode_reasoning() packed.
std::string reasoning_text(const Json& item) {
  std::string text;
  for (const std::string_view list : {"summary", "content"}) {
    const Json* parts = item.find(list);
    if (!parts || !parts->is_array()) continue;
    for (const Json& part : parts->as_array())
      if (const Json* piece = part.find("text"); piece && piece->is_string()) {
        if (!text.empty() && !piece->as_string().empty()) text += '\n';
        text += piece->as_string();
      }
    if (!text.empty()) return text;
  }
  const Json* packed = item.find("encrypted_content");
  if (packed && packed->is_string() && packed->as_string().starts_with(kReasoningPrefix))
    text = packed->as_string().substr(kReasoningPrefix.size());
  return text;
}

/// Arguments as the model wrote them may be broken off: what is no object counts as none.
Json call_arguments(const Json* arguments) {
  if (!arguments) return Json::object();
  if (arguments->is_object()) return *arguments;
  if (!arguments->is_string()) return Json::object();
  auto parsed = parse_json(arguments->as_string());
  return parsed && parsed->is_object() ? std::move(*parsed) : Json::object();
}

Result<void> add_message(JsonFields& fields, const std::string& place, ChatTurns& turns) {
  const auto role = fields.text("role");
  if (!role) fields.fail("role", "Field required");
  const Json* content = fields.find("content");
  if (!content && role != "assistant") fields.fail("content", "Field required");
  CARAT_TRY_VOID(fields.status());
  const std::string content_place = place + ".content";
  if (role != "assistant") {
    CARAT_TRY(Json parts, chat_parts(*content, content_place));
    turns.add(*role, std::move(parts));
    return {};
  }
  CARAT_TRY(const auto text, answer_text(content ? *content : Json(""), content_place));
  turns.add_text(text);
  return {};
}

Result<void> add_item(const Json& item, const std::string& place, ChatTurns& turns) {
  JsonFields fields(item, place);
  const std::string type = fields.text("type").value_or("message");
  CARAT_TRY_VOID(fields.status());
  if (type == "message") return add_message(fields, place, turns);
  if (type == "reasoning") {
    if (const std::string text = reasoning_text(item); !text.empty()) turns.add_thought(text);
    return {};
  }
  if (type == "function_call") {
    const auto name = fields.text("name");
    if (!name) fields.fail("name", "Field required");
    auto id = fields.text("call_id");
    if (!id) id = fields.text("id");
    if (!id) fields.fail("call_id", "Field required");
    CARAT_TRY_VOID(fields.status());
    turns.add_call(*id, *name, call_arguments(item.find("arguments")));
    return {};
  }
  if (type == "function_call_output") {
    const auto id = fields.text("call_id");
    if (!id) fields.fail("call_id", "Field required");
    const Json* output = fields.find("output");
    if (!output) fields.fail("output", "Field required");
    CARAT_TRY_VOID(fields.status());
    CARAT_TRY(Json parts, chat_parts(*output, place + ".output"));
    turns.add_result(*id, std::move(parts));
    return {};
  }
  return invalid(str_cat("Unsupported Responses API input item type: '", type, "' (", place, ")"));
}

}  // namespace

Result<ResponsesRequest> parse_responses_request(const Json& body) {
  ResponsesRequest request;
  request.chat = Json::object();
  request.echo = Json::object();
  JsonFields fields(body, "");
  CARAT_TRY_VOID(fields.status());
  request.id = fields.text("request_id").value_or("");
  if (request.id.empty()) request.id = str_cat("resp_", new_request_id());
  if (const auto ok = check_request_id(request.id); !ok) fields.fail("request_id", ok.error().message);
  request.model = fields.text("model");
  request.stream = fields.boolean("stream").value_or(false);
  request.store = fields.boolean("store").value_or(true);
  request.background = fields.boolean("background").value_or(false);
  request.previous_response_id = fields.text("previous_response_id");
  copy_members(body,
               {"temperature",
                "top_p",
                "top_k",
                "min_p",
                "repetition_penalty",
                "frequency_penalty",
                "presence_penalty",
                "stop",
                "stop_token_ids",
                "stop_regex",
                "no_stop_trim",
                "ignore_eos",
                "min_tokens",
                "skip_special_tokens",
                "seed",
                "logit_bias",
                "regex",
                "ebnf",
                "priority",
                "extra_key",
                "cache_salt",
                "parallel_tool_calls",
                "chat_template_kwargs",
                "thinking_budget"},
               request.chat);
  request.chat.set("rid", request.id);
  request.chat.set("stream", request.stream);
  read_include(fields, request);
  read_reasoning(fields, request);
  read_text(fields, request);
  read_tools(fields, request);
  read_tool_choice(fields, request);
  read_limits(fields, request);
  read_input(fields, request);
  read_echoes(fields, request);
  CARAT_TRY_VOID(fields.status());
  return request;
}

Result<void> check_responses_request(const ResponsesRequest& request, std::string_view served_model,
                                     bool store_enabled) {
  if (!store_enabled && (request.previous_response_id || request.background))
    return invalid(str_cat("Response store is disabled. ", request.background ? "background" : "previous_response_id",
                           " needs a server that was started with --enable-response-store."));
  if (request.background && !request.store) return invalid("background=true requires store=true.");
  if (request.background && request.stream) return invalid("A background response cannot be streamed.");
  if (request.model && *request.model != served_model)
    return Error{Errc::kNotFound, str_cat("The model '", *request.model, "' does not exist")};
  if (request.stream && request.include_logprobs) return invalid("logprobs are not supported in streaming mode");
  if (request.items.size() == 0) return invalid("input cannot be empty.");
  return {};
}

Result<Json> responses_messages(std::string_view instructions, const Json& items) {
  ChatTurns turns;
  if (!instructions.empty()) turns.add("system", instructions);
  for (size_t i = 0; i < items.size(); ++i)
    CARAT_TRY_VOID(add_item(items.as_array()[i], str_cat("input[", i, "]"), turns));
  return turns.take();
}

std::string encode_reasoning(std::string_view text) { return str_cat(kReasoningPrefix, text); }

}  // namespace carat
