#include "chat/parse_chat.h"

#include <gmock/gmock.h>

#include <string>

#include "base/str.h"

namespace carat {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;
using Mode = ChatToolChoice::Mode;

Json json(const std::string& text) {
  auto parsed = parse_json(text);
  EXPECT_TRUE(parsed) << text;
  return parsed ? *parsed : Json();
}
const std::string kMessages = R"("messages": [{"role": "user", "content": "q"}])";
const std::string kTools = R"(, "tools": [{"function": {"name": "f"}}, {"function": {"name": "g"}}])";

/// A request with one user message and these further members.
ChatInput parsed(const std::string& more, const ChatParseOptions& options = {}) {
  auto input = parse_chat_input(json("{" + kMessages + more + "}"), options);
  EXPECT_TRUE(input) << more << ": " << (input ? "" : input.error().message);
  return input ? *input : ChatInput();
}
std::string error_of(const std::string& body, const ChatParseOptions& options = {}) {
  const auto input = parse_chat_input(json(body), options);
  if (input) return "accepted";
  EXPECT_EQ(input.error().code, Errc::kInvalidArgument);
  return input.error().message;
}
std::string refused(const std::string& more) { return error_of("{" + kMessages + more + "}"); }
std::string refused_message(const std::string& message) { return error_of(R"({"messages": [)" + message + "]}"); }

// ---- texts that clients look for

TEST(ParseChat, Messages) {
  EXPECT_EQ(error_of(R"({"messages": []})"), "Messages cannot be empty.");
  EXPECT_EQ(error_of("{}"), "messages is required");
  EXPECT_EQ(error_of("[]"), "The request body must be an object, not array");
  EXPECT_EQ(error_of(R"({"messages": "hi"})"), "messages must be a list, not string");
  EXPECT_EQ(refused_message("3"), "messages[0] must be an object, not integer");
}

TEST(ParseChat, Roles) {
  const std::string allowed =
      "'role' must be one of 'system', 'assistant', 'tool', 'function', 'developer', 'latest_reminder', 'root' "
      "(case-insensitive).";
  EXPECT_EQ(refused_message(R"({"role": "critic", "content": ""})"), allowed);
  EXPECT_EQ(refused_message(R"({"role": "User", "content": ""})"), allowed);
  EXPECT_EQ(refused_message(R"({"role": 1, "content": ""})"), "'role' must be a string");
  EXPECT_EQ(refused_message(R"({"content": ""})"), "messages[0].role is required");
  const auto input =
      parse_chat_input(json(R"({"messages": [{"role": "SYSTEM"}, {"role": "Tool"}, {"role": "Developer"}]})"));
  ASSERT_TRUE(input);
  EXPECT_EQ(input->messages[0].role, ChatRole::kSystem);
  EXPECT_EQ(input->messages[1].role, ChatRole::kTool);
  EXPECT_EQ(input->messages[2].role, ChatRole::kDeveloper);
}

TEST(ParseChat, CallArguments) {
  const auto with = [](const std::string& arguments) {
    return refused_message(R"({"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": )" +
                           arguments + "}}]}");
  };
  const char* const invalid = "Assistant tool call function.arguments must be valid JSON.";
  const char* const no_object = "Assistant tool call function.arguments must be a JSON object.";
  for (const char* text : {R"("")", R"("{")", R"("{'a': 1}")", R"("{} x")"}) EXPECT_EQ(with(text), invalid) << text;
  for (const char* text : {R"("[]")", R"("1")", R"("null")", R"("\"{}\"")"}) EXPECT_EQ(with(text), no_object) << text;
  EXPECT_EQ(with("5"), "messages[0].tool_calls[0].function.arguments must be a string, an object or null, not integer");
  EXPECT_EQ(with(R"(" {\"a\" : 1} ")"), "accepted");
}

TEST(ParseChat, ToolChoice) {
  EXPECT_EQ(refused(R"(, "tool_choice": "required")"), "Tools cannot be empty if tool choice is set to required.");
  EXPECT_EQ(refused(R"(, "tool_choice": "required", "tools": [])"),
            "Tools cannot be empty if tool choice is set to required.");
  EXPECT_EQ(refused(R"(, "tool_choice": {"type": "function", "function": {"name": "f"}})"),
            "Tools cannot be empty if tool choice is set to a specific tool.");
  EXPECT_EQ(refused(kTools + R"(, "tool_choice": {"function": {"name": "h"}})"), "Tool 'h' not found in tools list.");
  EXPECT_THAT(refused(kTools + R"(, "tool_choice": "any")"),
              StartsWith("tool_choice must be 'none', 'auto', 'required'"));
  EXPECT_THAT(refused(R"(, "tool_choice": 1)"), StartsWith("tool_choice must be a string or an object"));
  EXPECT_EQ(refused(R"(, "tool_choice": {})"), "tool_choice.function is required");
  EXPECT_EQ(refused(R"(, "tool_choice": {"type": "tool", "function": {"name": "f"}})"),
            "tool_choice.type must be 'function'");

  EXPECT_EQ(parsed("").tool_choice.mode, Mode::kNone);
  EXPECT_EQ(parsed(R"(, "tools": null)").tool_choice.mode, Mode::kNone);
  EXPECT_EQ(parsed(R"(, "tools": [])").tool_choice.mode, Mode::kAuto);
  EXPECT_EQ(parsed(kTools).tool_choice.mode, Mode::kAuto);
  EXPECT_EQ(parsed(kTools + R"(, "tool_choice": null)").tool_choice.mode, Mode::kAuto);
  EXPECT_EQ(parsed(kTools + R"(, "tool_choice": "required")").tool_choice.mode, Mode::kRequired);
  const ChatInput named = parsed(kTools + R"(, "tool_choice": {"function": {"name": "g"}})");
  EXPECT_EQ(named.tool_choice.mode, Mode::kNamed);
  EXPECT_EQ(named.tool_choice.name, "g");
  EXPECT_FALSE(named.tools[0].in_prompt);
  EXPECT_TRUE(named.tools[1].in_prompt);
  EXPECT_FALSE(parsed(kTools + R"(, "tool_choice": "none")").tools[0].in_prompt);
}

TEST(ParseChat, Tools) {
  const auto tool = [](const std::string& text) { return refused(R"(, "tools": [)" + text + "]"); };
  EXPECT_EQ(refused(R"(, "tools": {})"), "tools must be a list or null, not object");
  EXPECT_EQ(tool("1"), "tools[0] must be an object, not integer");
  EXPECT_EQ(tool("{}"), "tools[0].function is required");
  EXPECT_EQ(tool(R"({"function": {}})"), "tools[0].function.name is required");
  EXPECT_EQ(tool(R"({"function": {"name": null}})"), "tools[0].function.name must be a string, not null");
  EXPECT_EQ(tool(R"({"function": {"name": "f", "description": 1}})"),
            "tools[0].function.description must be a string or null, not integer");
  EXPECT_EQ(tool(R"({"function": {"name": "f", "strict": "yes"}})"),
            "tools[0].function.strict must be a boolean or null, not string");
  EXPECT_THAT(tool(R"({"function": {"name": "f"}}, {"function": {"name": "g", "parameters": []}})"),
              StartsWith("Tool 1 function has invalid 'parameters' schema: "));
  EXPECT_EQ(
      tool(R"({"function": {"name": "g", "parameters": {"properties": {"x": {"type": "nonsense"}}}}})"),
      "Tool 0 function has invalid 'parameters' schema: properties.x.type: \"nonsense\" is not a type or a list of "
      "types of JSON Schema");
  const ChatInput input = parsed(R"(, "tools": [{"type": "function", "function": {"name": "f", "description": "d",
      "strict": false, "parameters": {"type": "dict", "properties": {"n": {"type": "int32"}}}}}])");
  ASSERT_EQ(input.tools.size(), 1u);
  EXPECT_EQ(input.tools[0].description, "d");
  EXPECT_EQ(input.tools[0].strict, false);
  EXPECT_EQ(input.tools[0].parameters.dump(), R"({"type":"object","properties":{"n":{"type":"integer"}}})");
}

TEST(ParseChat, ToolsInsideMessages) {
  const auto body = [](const std::string& role, const std::string& more) {
    return R"({"messages": [{"role": ")" + role + R"(", "content": "", "tools": [{"function": {"name": "f"}}]}])" +
           more + "}";
  };
  const auto input = parse_chat_input(json(body("system", "")));
  ASSERT_TRUE(input);
  ASSERT_EQ(input->tools.size(), 1u);
  EXPECT_FALSE(input->tools[0].in_prompt);
  EXPECT_EQ(input->tool_choice.mode, Mode::kAuto);
  EXPECT_EQ(error_of(body("developer", R"(, "tool_choice": "required")")), "accepted");
  EXPECT_THAT(error_of(body("system", R"(, "tools": [{"function": {"name": "f"}}])")),
              HasSubstr("Tool names must be unique across request and message tools."));
  EXPECT_EQ(parse_chat_input(json(body("assistant", "")))->tools.size(), 0u);
  EXPECT_EQ(error_of(R"({"messages": [{"role": "assistant", "tools": 1}]})"),
            "messages[0].tools must be a list or null, not integer");
}

// ---- content

TEST(ParseChat, Content) {
  const auto content = [](const std::string& role, const std::string& text) {
    return refused_message(R"({"role": ")" + role + R"(", "content": )" + text + "}");
  };
  EXPECT_THAT(content("user", "null"), HasSubstr("must be a string or a list of parts in a user message"));
  EXPECT_THAT(refused_message(R"({"role": "user"})"), HasSubstr("in a user message"));
  EXPECT_EQ(content("system", "null"), "accepted");
  EXPECT_EQ(content("user", "{}"), "messages[0].content must be a string, a list of parts or null, not object");
  EXPECT_EQ(content("user", R"(["x"])"), "messages[0].content[0] must be an object, not string");
  EXPECT_EQ(content("user", "[{}]"), "messages[0].content[0].type is required");
  EXPECT_THAT(content("user", R"([{"type": "input_image", "image_url": "u"}])"), HasSubstr("'input_image' is unknown"));
  EXPECT_EQ(content("user", R"([{"type": "text"}])"), "messages[0].content[0].text is required");
  EXPECT_EQ(content("user", R"([{"type": "image_url"}])"), "messages[0].content[0].image_url is required");
  EXPECT_EQ(content("user", R"([{"type": "image_url", "image_url": 7}])"),
            "messages[0].content[0].image_url must be a string or an object, not integer");
  EXPECT_EQ(content("user", R"([{"type": "video_url", "video_url": {}}])"),
            "messages[0].content[0].video_url.url is required");
  EXPECT_THAT(content("user", R"([{"type": "image_url", "image_url": {"url": "u", "detail": "huge"}}])"),
              HasSubstr(".detail must be 'auto'"));
  EXPECT_THAT(content("user", R"([{"type": "input_audio", "input_audio": {"data": "", "format": "ogg"}}])"),
              HasSubstr(".format must be 'wav' or 'mp3'"));
  EXPECT_EQ(content("user", R"([{"type": "thinking", "thinking": "t"}])"),
            "thinking content parts are only valid in assistant messages");
  for (const char* part : {R"([{"type": "thinking"}])", R"([{"type": "reasoning", "thinking": "t", "text": "t"}])"})
    EXPECT_EQ(content("assistant", part), "thinking parts require exactly one of 'thinking' or 'text'");
}

TEST(ParseChat, MediaKeepTheirSource) {
  const auto input = parse_chat_input(json(R"({"messages": [{"role": "user", "content": [
      {"type": "image_url", "image_url": {"url": "http://h/i.png", "content_hash": "x", "max_long_side_pixel": 9}},
      {"type": "input_audio", "input_audio": {"data": "QQ==", "format": "wav"}},
      {"type": "input_audio", "input_audio": {"data": "QQ==", "format": "mp3"}},
      {"type": "audio_url", "audio_url": {"url": "a"}},
      {"type": "image_url", "image_url": "plain"},
      {"type": "video_url", "video_url": {"url": "v", "fps": 2}}]}]})"));
  ASSERT_TRUE(input);
  std::vector<std::string> found;
  for (const MediaPart& part : all_media(*input)) found.push_back(str_cat(to_string(part.kind), " ", *part.source));
  EXPECT_THAT(found, ElementsAre("image http://h/i.png", "audio data:audio/wav;base64,QQ==",
                                 "audio data:audio/mpeg;base64,QQ==", "audio a", "image plain", "video v"));
  EXPECT_TRUE(all_media(parsed("")).empty());
}

TEST(ParseChat, UserMessagesHaveNothingButContent) {
  const auto input = parse_chat_input(json(R"({"messages": [{"role": "user", "content": "q", "name": 5, "tool_calls": 7,
      "reasoning_content": [], "tools": 3}]})"));
  ASSERT_TRUE(input) << input.error().message;
  EXPECT_FALSE(input->messages[0].name);
}

TEST(ParseChat, FieldTypes) {
  const auto field = [](const std::string& text) { return refused_message(R"({"role": "assistant", )" + text + "}"); };
  EXPECT_EQ(field(R"("name": 1)"), "messages[0].name must be a string or null, not integer");
  EXPECT_EQ(field(R"("tool_call_id": {})"), "messages[0].tool_call_id must be a string or null, not object");
  EXPECT_EQ(field(R"("reasoning_content": [])"), "messages[0].reasoning_content must be a string or null, not array");
  EXPECT_EQ(field(R"("tool_calls": {})"), "messages[0].tool_calls must be a list or null, not object");
  EXPECT_EQ(field(R"("tool_calls": [{}])"), "messages[0].tool_calls[0].function is required");
  EXPECT_EQ(field(R"("tool_calls": [{"type": "x", "function": {"name": "f"}}])"),
            "messages[0].tool_calls[0].type must be 'function'");
  EXPECT_EQ(field(R"("tool_calls": [{"id": 3, "function": {"name": "f"}}])"),
            "messages[0].tool_calls[0].id must be a string or null, not integer");
  EXPECT_EQ(field(R"("tool_calls": [{"function": {"name": null}}])"),
            "messages[0].tool_calls[0].function.name must be a string, not null");
  EXPECT_EQ(refused(R"(, "continue_final_message": "yes")"), "continue_final_message must be a boolean, not string");
  EXPECT_EQ(refused(R"(, "parallel_tool_calls": 0)"), "parallel_tool_calls must be a boolean, not integer");
  EXPECT_FALSE(parsed(R"(, "parallel_tool_calls": false)").options.parallel_tool_calls);
}

// ---- thinking

bool thinks(const std::string& more) { return parsed(more).options.enable_thinking; }
std::string kwargs(const std::string& inside) { return R"(, "chat_template_kwargs": {)" + inside + "}"; }

TEST(ParseChat, ThinkingByTemplateVariable) {
  EXPECT_FALSE(thinks(""));
  for (const char* on : {"true", "1", "\"false\"", "[0]", "0.5"})
    EXPECT_TRUE(thinks(kwargs(std::string("\"enable_thinking\": ") + on))) << on;
  for (const char* off : {"false", "0", "\"\"", "null", "[]", "{}", "0.0"})
    EXPECT_FALSE(thinks(kwargs(std::string("\"enable_thinking\": ") + off))) << off;
  EXPECT_FALSE(thinks(kwargs(R"("thinking": true)")));
  EXPECT_FALSE(thinks(R"(, "thinking": {"type": "enabled"})"));
  EXPECT_TRUE(parsed(kwargs(R"("preserve_thinking": "x")")).options.preserve_thinking);
  EXPECT_FALSE(thinks(kwargs(R"("reasoning_effort": "high")")));
  EXPECT_FALSE(thinks(R"(, "chat_template_kwargs": null)"));
}

TEST(ParseChat, ThinkingByEffort) {
  for (const char* on : {"\"minimal\"", "\"low\"", "\"medium\"", "\"high\"", "\"xhigh\"", "\"ultra\"", "\"max\"", "0",
                         "0.99", "\"0.5\""})
    EXPECT_TRUE(thinks(std::string(", \"reasoning_effort\": ") + on)) << on;
  EXPECT_FALSE(thinks(R"(, "reasoning_effort": "none")"));
  EXPECT_FALSE(thinks(R"(, "reasoning_effort": null)"));
  EXPECT_EQ(refused(R"(, "reasoning_effort": true)"), "reasoning_effort must not be a boolean");
  for (const char* bad : {"\"High\"", "1", "-0.1", "\"1.5\"", "\"nan\"", "[]", "\"\""})
    EXPECT_THAT(refused(std::string(", \"reasoning_effort\": ") + bad), StartsWith("reasoning_effort must be 'none'"))
        << bad;
  // The template variable outweighs it.
  EXPECT_FALSE(thinks(R"(, "reasoning_effort": "high")" + kwargs(R"("enable_thinking": false)")));
  EXPECT_FALSE(thinks(R"(, "reasoning_effort": "high")" + kwargs(R"("enable_thinking": null)")));
  EXPECT_TRUE(thinks(R"(, "reasoning_effort": "none")" + kwargs(R"("enable_thinking": true)")));
  EXPECT_TRUE(thinks(R"(, "reasoning_effort": "low")" + kwargs(R"("thinking": false)")));
}

TEST(ParseChat, ThinkingByReasoning) {
  const auto reasoning = [](const std::string& inside) { return R"(, "reasoning": {)" + inside + "}"; };
  for (const char* on : {"true", "1", "\"yes\"", "\" ON \"", "\"y\"", "\"1\"", "\"True\""})
    EXPECT_TRUE(thinks(reasoning(std::string("\"enabled\": ") + on))) << on;
  for (const char* off : {"false", "0", "\"no\"", "\"2\"", "null"})
    EXPECT_FALSE(thinks(reasoning(std::string("\"enabled\": ") + off))) << off;
  EXPECT_TRUE(thinks(reasoning(R"("enable": true)")));
  EXPECT_TRUE(thinks(reasoning(R"("enabled": null, "enable": true)")));
  EXPECT_FALSE(thinks(reasoning(R"("enabled": false, "enable": true)")));
  EXPECT_TRUE(thinks(reasoning(R"("effort": "low")")));
  EXPECT_TRUE(thinks(reasoning(R"("reasoning_effort": 0.3)")));
  EXPECT_FALSE(thinks(reasoning(R"("enabled": true, "effort": "none")")));
  EXPECT_FALSE(thinks(reasoning(R"("effort": "none")") + R"(, "reasoning_effort": "high")"));
  EXPECT_FALSE(thinks(R"(, "reasoning": "high")"));
  EXPECT_EQ(refused(reasoning(R"("effort": "huge")")), "invalid reasoning effort: 'huge'");
  EXPECT_EQ(refused(reasoning(R"("effort": true)")), "invalid reasoning effort: True");
  EXPECT_THAT(refused(reasoning(R"("effort": "1.5")")), StartsWith("reasoning_effort must be 'none'"));
}

TEST(ParseChat, ServerDefaultsComeLast) {
  ChatParseOptions options;
  options.default_template_kwargs = json(R"({"enable_thinking": true, "preserve_thinking": true})");
  EXPECT_TRUE(parsed("", options).options.enable_thinking);
  EXPECT_TRUE(parsed("", options).options.preserve_thinking);
  EXPECT_FALSE(parsed(kwargs(R"("enable_thinking": false)"), options).options.enable_thinking);
  EXPECT_FALSE(parsed(R"(, "reasoning_effort": "none")", options).options.enable_thinking);
}

TEST(ParseChat, TemplateVariablesThatAreRefused) {
  EXPECT_EQ(
      refused(kwargs(R"("chat_template": "x")")),
      "Request-supplied chat_template is not allowed. Start the server with --trust-request-chat-template to permit "
      "it.");
  EXPECT_EQ(refused(kwargs(R"("add_generation_prompt": false)")),
            "chat_template_kwargs must not set 'add_generation_prompt'");
  EXPECT_EQ(refused(R"(, "chat_template_kwargs": [])"), "chat_template_kwargs must be an object or null, not array");
}

// ---- limits

TEST(ParseChat, Limits) {
  ChatParseOptions options;
  options.limits = {.max_messages = 2, .max_parts = 3, .max_tool_calls = 1, .max_tools = 2};
  const auto verdict = [&](const std::string& body) {
    const auto input = parse_chat_input(json(body), options);
    if (input) return std::string("accepted");
    EXPECT_EQ(input.error().code, Errc::kTooLarge);
    return input.error().message;
  };
  const std::string user = R"({"role": "user", "content": "q"})";
  const std::string part = R"({"type": "text", "text": "q"})";
  EXPECT_EQ(verdict(R"({"messages": [)" + user + "," + user + "]}"), "accepted");
  EXPECT_EQ(verdict(R"({"messages": [)" + user + "," + user + "," + user + "]}"),
            "The request has 3 messages, over the limit of 2.");
  const auto parts = [&](const std::string& a, const std::string& b) {
    return verdict(R"({"messages": [{"role": "user", "content": [)" + a + R"(]}, {"role": "user", "content": [)" + b +
                   "]}]}");
  };
  EXPECT_EQ(parts(part, part + "," + part), "accepted");
  EXPECT_THAT(parts(part + "," + part, part + "," + part), HasSubstr("over the limit of 3"));
  const std::string call = R"({"function": {"name": "f"}})";
  EXPECT_THAT(verdict(R"({"messages": [{"role": "assistant", "tool_calls": [)" + call + "," + call + "]}]}"),
              HasSubstr("2 tool calls or more, over the limit of 1"));
  EXPECT_EQ(verdict(R"({"messages": [)" + user + R"(], "tools": [)" + call + "," + call + "]}"), "accepted");
  EXPECT_THAT(verdict(R"({"messages": [)" + user + R"(], "tools": [)" + call + "," + call + "," + call + "]}"),
              HasSubstr("3 tools, over the limit of 2"));
}

}  // namespace
}  // namespace carat
