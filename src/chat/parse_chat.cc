#include "chat/parse_chat.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>

#include "base/str.h"
#include "base/utf8.h"
#include "chat/python_text.h"
#include "chat/tool_schema.h"

namespace carat {

namespace {

Error invalid(std::string message) { return Error{Errc::kInvalidArgument, std::move(message)}; }
Error wrong_type(std::string_view place, std::string_view wanted, const Json& value) {
  return invalid(str_cat(place, " must be ", wanted, ", not ", value.kind_name()));
}
Error too_many(std::string_view what, size_t count, int limit) {
  return Error{Errc::kTooLarge, str_cat("The request has ", count, " ", what, ", over the limit of ", limit, ".")};
}

/// The member unless it is absent or null, which mean the same nearly everywhere.
const Json* find_value(const Json& object, std::string_view key) {
  const Json* member = object.find(key);
  return member && !member->is_null() ? member : nullptr;
}

std::string place_of(std::string_view list, size_t index) { return str_cat(list, "[", index, "]"); }
std::string place_of(std::string_view object, std::string_view key) { return str_cat(object, ".", key); }

Result<std::optional<std::string>> optional_string(const Json& object, std::string_view key, std::string_view place) {
  const Json* value = find_value(object, key);
  if (!value) return std::optional<std::string>();
  if (!value->is_string()) return wrong_type(place_of(place, key), "a string or null", *value);
  return std::optional<std::string>(value->as_string());
}

Result<std::string> required_string(const Json& object, std::string_view key, std::string_view place) {
  const Json* value = object.find(key);
  if (!value) return invalid(str_cat(place_of(place, key), " is required"));
  if (!value->is_string()) return wrong_type(place_of(place, key), "a string", *value);
  return value->as_string();
}

Result<bool> optional_bool(const Json& object, std::string_view key, bool otherwise) {
  const Json* value = find_value(object, key);
  if (!value) return otherwise;
  if (!value->is_bool()) return wrong_type(key, "a boolean", *value);
  return value->as_bool();
}

std::shared_ptr<const std::string> shared(std::string text) {
  return std::make_shared<const std::string>(std::move(text));
}

/// An absent or null list is empty.
Result<const JsonArray*> optional_array(const Json& object, std::string_view key, std::string_view place) {
  static const JsonArray kEmpty;
  const Json* value = find_value(object, key);
  if (!value) return &kEmpty;
  if (!value->is_array()) return wrong_type(place, "a list or null", *value);
  return &value->as_array();
}

Result<void> check_object(const Json& value, std::string_view place) {
  if (!value.is_object()) return wrong_type(place, "an object", value);
  return {};
}

// ---- content

Result<MediaPart> parse_media_url(const Json& part, MediaKind kind, std::string_view key, std::string_view place) {
  const Json* holder = part.find(key);
  if (!holder) return invalid(str_cat(place_of(place, key), " is required"));
  if (holder->is_string()) return MediaPart{kind, shared(holder->as_string())};
  if (!holder->is_object()) return wrong_type(place_of(place, key), "a string or an object", *holder);
  CARAT_TRY(auto url, required_string(*holder, "url", place_of(place, key)));
  if (key == "image_url") {
    CARAT_TRY(const auto detail, optional_string(*holder, "detail", place_of(place, key)));
    if (detail && *detail != "auto" && *detail != "low" && *detail != "high" && *detail != "default")
      return invalid(
          str_cat(place_of(place, key), ".detail must be 'auto', 'low', 'high' or 'default', not '", *detail, "'"));
  }
  return MediaPart{kind, shared(std::move(url))};
}

Result<MediaPart> parse_input_audio(const Json& part, std::string_view place) {
  const std::string holder_place = place_of(place, "input_audio");
  const Json* holder = part.find("input_audio");
  if (!holder) return invalid(str_cat(holder_place, " is required"));
  CARAT_TRY_VOID(check_object(*holder, holder_place));
  CARAT_TRY(const auto data, required_string(*holder, "data", holder_place));
  CARAT_TRY(const auto format, required_string(*holder, "format", holder_place));
  if (format != "wav" && format != "mp3")
    return invalid(str_cat(holder_place, ".format must be 'wav' or 'mp3', not '", format, "'"));
  return MediaPart{MediaKind::kAudio,
                   shared(str_cat("data:audio/", format == "mp3" ? "mpeg" : "wav", ";base64,", data))};
}

/// A thought as a content part; the template ignores it.
Result<void> check_thinking_part(const Json& part, ChatRole role, std::string_view place) {
  CARAT_TRY(const auto thinking, optional_string(part, "thinking", place));
  CARAT_TRY(const auto text, optional_string(part, "text", place));
  if (thinking.has_value() == text.has_value())
    return invalid("thinking parts require exactly one of 'thinking' or 'text'");
  if (role != ChatRole::kAssistant) return invalid("thinking content parts are only valid in assistant messages");
  return {};
}

Result<void> parse_part(const Json& part, ChatRole role, const std::string& place, ContentParts& parts) {
  CARAT_TRY_VOID(check_object(part, place));
  CARAT_TRY(const auto type, required_string(part, "type", place));
  if (type == "text" || type == "input_text") {
    CARAT_TRY(auto text, required_string(part, "text", place));
    parts.emplace_back(TextPart{std::move(text)});
  } else if (type == "image_url") {
    CARAT_TRY(auto media, parse_media_url(part, MediaKind::kImage, type, place));
    parts.emplace_back(std::move(media));
  } else if (type == "audio_url") {
    CARAT_TRY(auto media, parse_media_url(part, MediaKind::kAudio, type, place));
    parts.emplace_back(std::move(media));
  } else if (type == "video_url") {
    CARAT_TRY(auto media, parse_media_url(part, MediaKind::kVideo, type, place));
    parts.emplace_back(std::move(media));
  } else if (type == "input_audio") {
    CARAT_TRY(auto media, parse_input_audio(part, place));
    parts.emplace_back(std::move(media));
  } else if (type == "thinking" || type == "reasoning") {
    return check_thinking_part(part, role, place);
  } else {
    return invalid(
        str_cat(place, ".type '", type,
                "' is unknown: it must be 'text', 'image_url', 'audio_url', 'input_audio', 'video_url' or, in "
                "assistant messages, 'thinking'"));
  }
  return {};
}

/// A tool's texts become one string, with a space between them, unless something else is among them.
ChatContent prepare_content(ChatRole role, ContentParts parts) {
  const auto is_text = [](const ContentPart& part) { return std::holds_alternative<TextPart>(part); };
  if (role != ChatRole::kTool || !std::all_of(parts.begin(), parts.end(), is_text)) return parts;
  std::string joined;
  for (size_t i = 0; i < parts.size(); ++i) {
    if (i > 0) joined += ' ';
    joined += std::get<TextPart>(parts[i]).text;
  }
  return joined;
}

Result<ChatContent> parse_content(const Json& message, ChatRole role, const std::string& message_place) {
  const std::string place = place_of(message_place, "content");
  const Json* content = find_value(message, "content");
  if (!content) {
    if (role == ChatRole::kUser)
      return invalid(str_cat(place, " must be a string or a list of parts in a user message"));
    return ChatContent(std::string());
  }
  if (content->is_string()) return ChatContent(content->as_string());
  if (!content->is_array()) return wrong_type(place, "a string, a list of parts or null", *content);
  ContentParts parts;
  for (size_t i = 0; i < content->size(); ++i)
    CARAT_TRY_VOID(parse_part(content->as_array()[i], role, place_of(place, i), parts));
  return prepare_content(role, std::move(parts));
}

// ---- tools

Result<ChatTool> parse_tool(const Json& json, const std::string& place) {
  CARAT_TRY_VOID(check_object(json, place));
  if (const Json* type = json.find("type"); type && !type->is_string())
    return wrong_type(place_of(place, "type"), "a string", *type);
  const Json* function = json.find("function");
  const std::string function_place = place_of(place, "function");
  if (!function) return invalid(str_cat(function_place, " is required"));
  CARAT_TRY_VOID(check_object(*function, function_place));
  ChatTool tool;
  CARAT_TRY(tool.name, required_string(*function, "name", function_place));
  CARAT_TRY(tool.description, optional_string(*function, "description", function_place));
  if (const Json* strict = find_value(*function, "strict")) {
    if (!strict->is_bool()) return wrong_type(place_of(function_place, "strict"), "a boolean or null", *strict);
    tool.strict = strict->as_bool();
  }
  if (const Json* parameters = find_value(*function, "parameters")) tool.parameters = *parameters;
  return tool;
}

/// The schema is checked apart from the rest, since SGLang answers for it with another text.
Result<void> prepare_parameters(ChatTool& tool, size_t index) {
  const auto refuse = [&](std::string_view why) {
    return invalid(str_cat("Tool ", index, " function has invalid 'parameters' schema: ", why));
  };
  if (tool.parameters.is_null()) return {};
  if (!tool.parameters.is_object()) return refuse(str_cat(tool.parameters.kind_name(), " is not of type 'object'"));
  normalize_schema_types(tool.parameters);
  if (const auto checked = check_schema(tool.parameters); !checked) return refuse(checked.error().message);
  return {};
}

Result<ChatToolChoice> parse_tool_choice(const Json& body, bool has_tools) {
  using Mode = ChatToolChoice::Mode;
  const Json* choice = find_value(body, "tool_choice");
  if (!choice) return ChatToolChoice{has_tools ? Mode::kAuto : Mode::kNone, ""};
  if (choice->is_string()) {
    const std::string& mode = choice->as_string();
    if (mode == "none") return ChatToolChoice{Mode::kNone, ""};
    if (mode == "auto") return ChatToolChoice{Mode::kAuto, ""};
    if (mode == "required") return ChatToolChoice{Mode::kRequired, ""};
    return invalid(
        str_cat("tool_choice must be 'none', 'auto', 'required' or an object naming a function, not '", mode, "'"));
  }
  if (!choice->is_object()) return wrong_type("tool_choice", "a string or an object", *choice);
  if (const Json* type = choice->find("type"); type && (!type->is_string() || type->as_string() != "function"))
    return invalid("tool_choice.type must be 'function'");
  const Json* function = choice->find("function");
  if (!function) return invalid("tool_choice.function is required");
  CARAT_TRY_VOID(check_object(*function, "tool_choice.function"));
  CARAT_TRY(auto name, required_string(*function, "name", "tool_choice.function"));
  return ChatToolChoice{Mode::kNamed, std::move(name)};
}

// ---- messages

Result<ChatRole> parse_role(const Json& message, const std::string& place) {
  const Json* json = message.find("role");
  if (!json) return invalid(str_cat(place_of(place, "role"), " is required"));
  if (!json->is_string()) return invalid("'role' must be a string");
  if (json->as_string() == "user") return ChatRole::kUser;
  const std::string name = to_lower_ascii(json->as_string());
  for (const ChatRole role : {ChatRole::kSystem, ChatRole::kAssistant, ChatRole::kTool, ChatRole::kFunction,
                              ChatRole::kDeveloper, ChatRole::kLatestReminder, ChatRole::kRoot})
    if (name == to_string(role)) return role;
  return invalid(
      "'role' must be one of 'system', 'assistant', 'tool', 'function', 'developer', 'latest_reminder', 'root' "
      "(case-insensitive).");
}

/// A string of the assistant's is JSON text. Of other roles it stays a string, and the template refuses it.
Result<Json> parse_arguments(const Json& function, ChatRole role, const std::string& place) {
  const Json* arguments = find_value(function, "arguments");
  if (!arguments) return Json();
  if (arguments->is_object()) return *arguments;
  if (!arguments->is_string())
    return wrong_type(place_of(place, "arguments"), "a string, an object or null", *arguments);
  if (role != ChatRole::kAssistant) return *arguments;
  auto parsed = parse_json(arguments->as_string());
  if (!parsed) return invalid("Assistant tool call function.arguments must be valid JSON.");
  if (!parsed->is_object()) return invalid("Assistant tool call function.arguments must be a JSON object.");
  return parsed;
}

Result<ChatToolCall> parse_tool_call(const Json& json, ChatRole role, const std::string& place) {
  CARAT_TRY_VOID(check_object(json, place));
  if (const Json* type = json.find("type"); type && (!type->is_string() || type->as_string() != "function"))
    return invalid(str_cat(place_of(place, "type"), " must be 'function'"));
  const Json* function = json.find("function");
  const std::string function_place = place_of(place, "function");
  if (!function) return invalid(str_cat(function_place, " is required"));
  CARAT_TRY_VOID(check_object(*function, function_place));
  ChatToolCall call;
  CARAT_TRY(call.id, optional_string(json, "id", place));
  CARAT_TRY(call.name, required_string(*function, "name", function_place));
  CARAT_TRY(call.arguments, parse_arguments(*function, role, function_place));
  return call;
}

/// SGLang knows `reasoning_content` alone; `reasoning` is the name that other servers give it.
Result<std::string> parse_reasoning(const Json& json, const std::string& place) {
  CARAT_TRY(auto content, optional_string(json, "reasoning_content", place));
  if (content && !content->empty()) return std::move(*content);
  CARAT_TRY(auto alias, optional_string(json, "reasoning", place));
  return std::move(alias).value_or("");
}

Result<ChatMessage> parse_message(const Json& json, const std::string& place) {
  CARAT_TRY_VOID(check_object(json, place));
  ChatMessage message;
  CARAT_TRY(message.role, parse_role(json, place));
  CARAT_TRY(message.content, parse_content(json, message.role, place));
  if (message.role == ChatRole::kUser) return message;  // which has nothing else
  CARAT_TRY(message.tool_call_id, optional_string(json, "tool_call_id", place));
  CARAT_TRY(message.name, optional_string(json, "name", place));
  CARAT_TRY(message.reasoning_content, parse_reasoning(json, place));
  const std::string calls_place = place_of(place, "tool_calls");
  CARAT_TRY(const auto* calls, optional_array(json, "tool_calls", calls_place));
  for (size_t i = 0; i < calls->size(); ++i) {
    CARAT_TRY(auto call, parse_tool_call((*calls)[i], message.role, place_of(calls_place, i)));
    message.tool_calls.push_back(std::move(call));
  }
  return message;
}

bool has_media(const ChatMessage& message) {
  const auto* parts = std::get_if<ContentParts>(&message.content);
  return parts && std::any_of(parts->begin(), parts->end(),
                              [](const ContentPart& part) { return std::holds_alternative<MediaPart>(part); });
}

/// Puts the results `run` of `calls` into the order of the calls if media are among them and every result answers one
/// call of its own; otherwise they stay. (Media are handed to the model in the order of the messages.)
void sort_results(std::span<ChatMessage> run, const std::vector<ChatToolCall>& calls) {
  if (std::none_of(run.begin(), run.end(), has_media)) return;
  std::unordered_map<std::string_view, size_t> position;
  for (const ChatToolCall& call : calls)
    if (!call.id || !position.emplace(*call.id, position.size()).second) return;
  std::unordered_set<std::string_view> answered;
  for (const ChatMessage& result : run)
    if (!result.tool_call_id || !position.contains(*result.tool_call_id) ||
        !answered.insert(*result.tool_call_id).second)
      return;
  std::sort(run.begin(), run.end(), [&](const ChatMessage& a, const ChatMessage& b) {
    return position.find(*a.tool_call_id)->second < position.find(*b.tool_call_id)->second;
  });
}

void order_tool_results(std::vector<ChatMessage>& messages) {
  for (size_t i = 0; i < messages.size(); ++i) {
    if (messages[i].role != ChatRole::kAssistant || messages[i].tool_calls.empty()) continue;
    size_t end = i + 1;
    while (end < messages.size() &&
           (messages[end].role == ChatRole::kTool || messages[end].role == ChatRole::kFunction))
      ++end;
    sort_results(std::span(messages).subspan(i + 1, end - i - 1), messages[i].tool_calls);
  }
}

/// The conversation should end with somebody else's word: the assistant's last one, if it is text, is either the start
/// of the reply or passes for the user's.
void settle_last_message(ChatInput& input, bool continue_final_message) {
  if (input.messages.empty() || input.messages.back().role != ChatRole::kAssistant) return;
  auto* text = std::get_if<std::string>(&input.messages.back().content);
  if (!text) return;
  std::string last = std::move(*text);
  input.messages.pop_back();
  if (continue_final_message) {
    input.continuation = std::move(last);
  } else {
    ChatMessage as_user;
    as_user.content = std::move(last);
    input.messages.push_back(std::move(as_user));
  }
}

// ---- switches

constexpr std::string_view kEfforts[] = {"none", "minimal", "low", "medium", "high", "xhigh", "ultra", "max"};

std::optional<bool> thinking_of_level(const Json& effort) {
  if (effort.is_string())
    for (const std::string_view level : kEfforts)
      if (effort.as_string() == level) return level != "none";
  return std::nullopt;
}

/// An effort as a number, which may also be written as a string.
std::optional<double> effort_number(const Json& effort) {
  double number = 0;
  if (effort.is_number()) return effort.as_double();
  if (effort.is_string() && parse_float(trim(effort.as_string()), number)) return number;
  return std::nullopt;
}

/// Whether `reasoning_effort`, which must be a level or a number from 0 to 0.99, asks for thinking.
Result<bool> thinking_of_effort(const Json& effort) {
  if (effort.is_bool()) return invalid("reasoning_effort must not be a boolean");
  if (const auto thinking = thinking_of_level(effort)) return *thinking;
  if (const auto number = effort_number(effort); number && *number >= 0 && *number <= 0.99) return true;
  return invalid(
      str_cat("reasoning_effort must be 'none', 'minimal', 'low', 'medium', 'high', 'xhigh', 'ultra', 'max' "
              "or a number from 0 to 0.99, got ",
              effort.dump()));
}

bool is_enabled(const Json& value) {
  if (!value.is_string()) return value.truthy();
  const std::string word = to_lower_unicode(strip_unicode(value.as_string()));
  return word == "1" || word == "true" || word == "yes" || word == "y" || word == "on";
}

/// What `reasoning_effort` and `reasoning` say about thinking, if anything. An effort outweighs `enabled`; the one
/// inside `reasoning` outweighs the other.
Result<std::optional<bool>> requested_thinking(const Json& body) {
  const Json* effort = find_value(body, "reasoning_effort");
  std::optional<bool> thinking;
  if (const Json* reasoning = find_value(body, "reasoning"); reasoning && reasoning->is_object()) {
    const Json* inner = find_value(*reasoning, "effort");
    if (!inner) inner = find_value(*reasoning, "reasoning_effort");
    if (inner && (inner->is_bool() || (!thinking_of_level(*inner) && !effort_number(*inner))))
      return invalid(str_cat("invalid reasoning effort: ", py_repr(*inner)));
    if (inner) effort = inner;
    const Json* enabled = find_value(*reasoning, "enabled");
    if (!enabled) enabled = reasoning->find("enable");
    if (enabled && is_enabled(*enabled)) thinking = true;
  }
  if (effort) {
    CARAT_TRY(thinking, thinking_of_effort(*effort));
  }
  return thinking;
}

/// Template variables of the request, then what its effort implies, then the server's defaults: the first one that has
/// the key counts, even with null. Truth is Python's, here and for the output parsers.
Result<ChatOptions> parse_options(const Json& body, const Json& defaults) {
  const Json* kwargs = find_value(body, "chat_template_kwargs");
  if (kwargs && !kwargs->is_object()) return wrong_type("chat_template_kwargs", "an object or null", *kwargs);
  const Json none;
  const Json& given = kwargs ? *kwargs : none;
  if (given.contains("chat_template"))
    return invalid(
        "Request-supplied chat_template is not allowed. Start the server with --trust-request-chat-template to permit "
        "it.");
  // The renderer's own arguments; in SGLang they collide with those of the call.
  for (const std::string_view name :
       {"messages", "conversation", "tools", "add_generation_prompt", "tokenize", "return_dict"})
    if (given.contains(name)) return invalid(str_cat("chat_template_kwargs must not set '", name, "'"));

  const auto is_on = [&](std::string_view key, std::optional<bool> implied) {
    if (const Json* value = given.find(key)) return value->truthy();
    if (implied) return *implied;
    const Json* value = defaults.find(key);
    return value && value->truthy();
  };
  CARAT_TRY(const auto thinking, requested_thinking(body));
  ChatOptions options;
  options.enable_thinking = is_on("enable_thinking", thinking);
  options.preserve_thinking = is_on("preserve_thinking", std::nullopt);
  options.force_nonempty_content = is_on("force_nonempty_content", std::nullopt);
  CARAT_TRY(options.parallel_tool_calls, optional_bool(body, "parallel_tool_calls", true));
  return options;
}

// ---- the whole

class Parser {
 public:
  Parser(const Json& body, const ChatParseOptions& options) : body_(body), options_(options) {}

  Result<ChatInput> run() {
    CARAT_TRY_VOID(check_object(body_, "The request body"));
    CARAT_TRY_VOID(messages());
    CARAT_TRY_VOID(tools());
    CARAT_TRY(input_.options, parse_options(body_, options_.default_template_kwargs));
    CARAT_TRY(const bool continue_final_message, optional_bool(body_, "continue_final_message", false));
    const std::optional<bool> add_generation_prompt = options_.add_generation_prompt;
    input_.options.add_generation_prompt = add_generation_prompt.value_or(true);
    if (continue_final_message && !input_.options.add_generation_prompt)
      return invalid("continue_final_message needs add_generation_prompt to open the assistant turn.");
    order_tool_results(input_.messages);
    if (!add_generation_prompt || continue_final_message) settle_last_message(input_, continue_final_message);
    return std::move(input_);
  }

 private:
  Result<void> messages() {
    const Json* messages = body_.find("messages");
    if (!messages) return invalid("messages is required");
    if (!messages->is_array()) return wrong_type("messages", "a list", *messages);
    if (messages->size() == 0) return invalid("Messages cannot be empty.");
    if (messages->size() > static_cast<size_t>(options_.limits.max_messages))
      return too_many("messages", messages->size(), options_.limits.max_messages);
    size_t num_parts = 0, num_calls = 0;
    for (size_t i = 0; i < messages->size(); ++i) {
      const Json& json = messages->as_array()[i];
      const Json* content = json.find("content");
      if (content && content->is_array()) num_parts += content->size();
      if (const Json* calls = json.find("tool_calls")) num_calls += calls->size();
      if (num_parts > static_cast<size_t>(options_.limits.max_parts))
        return too_many("content parts or more", num_parts, options_.limits.max_parts);
      if (num_calls > static_cast<size_t>(options_.limits.max_tool_calls))
        return too_many("tool calls or more", num_calls, options_.limits.max_tool_calls);
      CARAT_TRY(auto message, parse_message(json, place_of("messages", i)));
      input_.messages.push_back(std::move(message));
    }
    return {};
  }

  /// Tools of the request, then those inside system, developer and root messages.
  Result<void> tools() {
    CARAT_TRY(const auto* own, optional_array(body_, "tools", "tools"));
    CARAT_TRY_VOID(append_tools(*own, "tools", true));
    bool in_messages = false;
    for (size_t i = 0; i < input_.messages.size(); ++i) {
      const std::string place = place_of(place_of("messages", i), "tools");
      const Json& json = body_.find("messages")->as_array()[i];
      const ChatRole role = input_.messages[i].role;
      if (role == ChatRole::kUser) continue;
      CARAT_TRY(const auto* more, optional_array(json, "tools", place));
      const bool counts = role == ChatRole::kSystem || role == ChatRole::kDeveloper || role == ChatRole::kRoot;
      if (more->empty() || !counts) continue;
      in_messages = true;
      CARAT_TRY_VOID(append_tools(*more, place, false));
    }
    const bool has_tools = find_value(body_, "tools") || in_messages;
    CARAT_TRY(input_.tool_choice, parse_tool_choice(body_, has_tools));
    CARAT_TRY_VOID(check_tool_choice());
    if (in_messages) CARAT_TRY_VOID(check_unique_names());
    for (size_t i = 0; i < input_.tools.size(); ++i) CARAT_TRY_VOID(prepare_parameters(input_.tools[i], i));
    return {};
  }

  Result<void> append_tools(const JsonArray& list, std::string_view place, bool in_prompt) {
    const size_t count = input_.tools.size() + list.size();
    if (count > static_cast<size_t>(options_.limits.max_tools))
      return too_many("tools", count, options_.limits.max_tools);
    for (size_t i = 0; i < list.size(); ++i) {
      CARAT_TRY(auto tool, parse_tool(list[i], place_of(place, i)));
      tool.in_prompt = in_prompt;
      input_.tools.push_back(std::move(tool));
    }
    return {};
  }

  Result<void> check_tool_choice() {
    const ChatToolChoice& choice = input_.tool_choice;
    const bool named = choice.mode == ChatToolChoice::Mode::kNamed;
    if (input_.tools.empty() && choice.mode == ChatToolChoice::Mode::kRequired)
      return invalid("Tools cannot be empty if tool choice is set to required.");
    if (input_.tools.empty() && named)
      return invalid("Tools cannot be empty if tool choice is set to a specific tool.");
    bool found = false;
    for (ChatTool& tool : input_.tools) {
      found = found || tool.name == choice.name;
      if (choice.mode == ChatToolChoice::Mode::kNone || (named && tool.name != choice.name)) tool.in_prompt = false;
    }
    if (named && !found) return invalid(str_cat("Tool '", choice.name, "' not found in tools list."));
    return {};
  }

  Result<void> check_unique_names() {
    std::unordered_set<std::string_view> names;
    for (const ChatTool& tool : input_.tools)
      if (!names.insert(tool.name).second)
        return invalid("Tool names must be unique across request and message tools.");
    return {};
  }

  const Json& body_;
  const ChatParseOptions& options_;
  ChatInput input_;
};

}  // namespace

Result<ChatInput> parse_chat_input(const Json& body, const ChatParseOptions& options) {
  return Parser(body, options).run();
}

}  // namespace carat
