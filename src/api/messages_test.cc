// The Messages API without a server: requests into chat bodies.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "api/messages_request.h"
#include "base/str.h"
#include "chat/parse_chat.h"

namespace carat {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

Result<MessagesRequest> parse(std::string_view members, MessagesPurpose purpose = MessagesPurpose::kAnswer) {
  const auto body =
      parse_json(str_cat(R"({"model": "m", "max_tokens": 2000)", members.empty() ? "" : ", ", members, "}"));
  EXPECT_TRUE(body) << members;
  return parse_messages_request(body ? *body : Json(), purpose);
}

std::string error(std::string_view members) {
  const auto request = parse(members);
  return request ? "none" : request.error().message;
}

std::string error_in_messages(std::string_view messages) { return error(str_cat(R"("messages": )", messages)); }

/// A member of the chat body of a request with one message, as text.
std::string chat_member(std::string_view members, std::string_view key) {
  const auto request = parse(str_cat(R"("messages": [{"role": "user", "content": "Hi"}], )", members));
  EXPECT_TRUE(request) << request.error().message;
  const Json* value = request ? request->chat.find(key) : nullptr;
  return value ? value->dump() : "none";
}

std::string messages(std::string_view list, std::string_view more = "") {
  const auto request = parse(str_cat(R"("messages": )", list, more));
  return request ? request->chat.find("messages")->dump() : "error: " + request.error().message;
}

TEST(MessagesRequest, Members) {
  const auto request = parse(R"("messages": [{"role": "user", "content": "Hi"}], "stream": true, "temperature": 0.5,
      "top_p": 0.9, "top_k": 5, "stop_sequences": ["END"], "metadata": {"user_id": "u"}, "system": "Be brief.")");
  ASSERT_TRUE(request) << request.error().message;
  EXPECT_EQ(request->model, "m");
  EXPECT_TRUE(request->stream);
  EXPECT_THAT(request->id, StartsWith("msg_"));
  EXPECT_EQ(request->chat.dump(),
            str_cat(R"({"rid":")", request->id,
                    R"(","max_tokens":2000,"temperature":0.5,"top_p":0.9,"top_k":5,"stop":["END"],"messages":[)"
                    R"({"role":"system","content":"Be brief."},{"role":"user","content":"Hi"}]})"));
}

TEST(MessagesRequest, RequiredMembers) {
  const auto refuse = [](std::string_view body, MessagesPurpose purpose = MessagesPurpose::kAnswer) {
    const auto request = parse_messages_request(*parse_json(body), purpose);
    return request ? "none" : request.error().message;
  };
  EXPECT_EQ(refuse("[]"), "body: Input should be an object, got array");
  EXPECT_EQ(refuse("{}"), "model: Field required");
  EXPECT_EQ(refuse(R"({"model": "m"})"), "max_tokens: Field required");
  EXPECT_EQ(refuse(R"({"model": "m"})", MessagesPurpose::kCount), "messages: Field required");
  EXPECT_EQ(refuse(R"({"model": "m", "max_tokens": -1})"), "max_tokens: Input should be at least 1, got -1");
  EXPECT_EQ(error(R"("messages": [])"), "Messages cannot be empty.");
  EXPECT_EQ(error(R"("messages": 5)"), "messages: Input should be a list, got integer");
}

TEST(MessagesRequest, Blocks) {
  EXPECT_EQ(messages(R"([{"role": "user", "content": [{"type": "text", "text": "Weather?"}]},
      {"role": "assistant", "content": [{"type": "thinking", "thinking": "hm", "signature": ""},
        {"type": "text", "text": "Let me see."}, {"type": "tool_use", "id": "t1", "name": "f", "input": {"a": 1}},
        {"type": "tool_use", "id": "t2", "name": "g"}]},
      {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "one"},
        {"type": "tool_result", "tool_use_id": "t2", "content": [{"type": "text", "text": "two"}]},
        {"type": "text", "text": "And?"}]}])",
                     R"(, "system": [{"type": "text", "text": "A"}, {"type": "text", "text": "B"}])"),
            R"([{"role":"system","content":"A\nB"},{"role":"user","content":[{"type":"text","text":"Weather?"}]},)"
            R"({"role":"assistant","content":"Let me see.","reasoning_content":"hm","tool_calls":[)"
            R"({"id":"t1","type":"function","function":{"name":"f","arguments":{"a":1}}},)"
            R"({"id":"t2","type":"function","function":{"name":"g","arguments":{}}}]},)"
            R"({"role":"tool","tool_call_id":"t1","content":"one"},)"
            R"({"role":"tool","tool_call_id":"t2","content":[{"type":"text","text":"two"}]},)"
            R"({"role":"user","content":[{"type":"text","text":"And?"}]}])");
}

TEST(MessagesRequest, SystemTurnsAndPictures) {
  EXPECT_EQ(messages(R"([{"role": "user", "content": "Hi"}, {"role": "system", "content": "In French."},
                         {"role": "user", "content": [{"type": "image", "source":
                           {"type": "base64", "media_type": "image/png", "data": "abcd"}},
                           {"type": "image", "source": {"type": "url", "url": "http://a/b"}}]}])"),
            R"([{"role":"user","content":"Hi"},{"role":"system","content":"In French."},{"role":"user","content":[)"
            R"({"type":"image_url","image_url":{"url":"data:image/png;base64,abcd"}},)"
            R"({"type":"image_url","image_url":{"url":"http://a/b"}}]}])");
}

TEST(MessagesRequest, AssistantsLastWordBeginsTheAnswer) {
  const auto continues = [](std::string_view list) {
    const auto request = parse(str_cat(R"("messages": )", list));
    return request && request->chat.contains("continue_final_message");
  };
  EXPECT_FALSE(continues(R"([{"role": "user", "content": "Hi"}])"));
  EXPECT_TRUE(continues(R"([{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hel"}])"));
  EXPECT_FALSE(continues(R"([{"role": "user", "content": "Hi"}, {"role": "assistant", "content": [
                              {"type": "tool_use", "id": "t", "name": "f", "input": {}}]}])"));
}

TEST(MessagesRequest, Tools) {
  EXPECT_EQ(chat_member(R"("tools": [{"name": "f", "description": "d", "input_schema": {"properties": {}}},
                                      {"type": "custom", "name": "g", "input_schema": {"type": "object"}, "strict": true}])",
                        "tools"),
            R"([{"type":"function","function":{"name":"f","description":"d","parameters":{"properties":{},)"
            R"("type":"object"}}},{"type":"function","function":{"name":"g","parameters":{"type":"object"},)"
            R"("strict":true}}])");
  const auto choice = [](std::string_view json) {
    return chat_member(str_cat(R"("tool_choice": )", json), "tool_choice");
  };
  EXPECT_EQ(choice(R"({"type": "auto"})"), "\"auto\"");
  EXPECT_EQ(choice(R"({"type": "none"})"), "\"none\"");
  EXPECT_EQ(choice(R"({"type": "any"})"), "\"required\"");
  EXPECT_EQ(choice(R"({"type": "tool", "name": "f"})"), R"({"type":"function","function":{"name":"f"}})");
  EXPECT_EQ(chat_member(R"("tool_choice": {"type": "auto", "disable_parallel_tool_use": true})", "parallel_tool_calls"),
            "false");
}

TEST(MessagesRequest, Thinking) {
  const auto thinking = [](std::string_view json, std::string_view key) {
    return chat_member(str_cat(R"("thinking": )", json), key);
  };
  EXPECT_EQ(chat_member(R"("stream": false)", "chat_template_kwargs"), "none");
  EXPECT_EQ(thinking(R"({"type": "enabled", "budget_tokens": 1024})", "chat_template_kwargs"),
            R"({"enable_thinking":true})");
  EXPECT_EQ(thinking(R"({"type": "enabled", "budget_tokens": 1024})", "thinking_budget"), "1024");
  EXPECT_EQ(thinking(R"({"type": "adaptive"})", "chat_template_kwargs"), R"({"enable_thinking":true})");
  EXPECT_EQ(thinking(R"({"type": "disabled"})", "chat_template_kwargs"), R"({"enable_thinking":false})");
}

TEST(MessagesRequest, OutputFormat) {
  EXPECT_EQ(chat_member(R"("output_config": {"effort": "low", "format": {"type": "json_schema", "schema": {}}})",
                        "response_format"),
            R"({"type":"json_schema","json_schema":{"name":"output","schema":{}}})");
}

TEST(MessagesRequest, Errors) {
  EXPECT_EQ(error_in_messages(R"([{"content": "x"}])"), "messages[0].role: Field required");
  EXPECT_EQ(error_in_messages(R"([{"role": "user"}])"), "messages[0].content: Field required");
  EXPECT_THAT(error_in_messages(R"([{"role": "tool", "content": "x"}])"), HasSubstr("messages[0].role"));
  EXPECT_THAT(error_in_messages(R"([{"role": "user", "content": 5}])"), HasSubstr("messages[0].content"));
  EXPECT_EQ(error_in_messages(R"([{"role": "user", "content": []}])"), "messages[0].content cannot be empty");
  EXPECT_THAT(error_in_messages(R"([{"role": "user", "content": [{"type": "document"}]}])"),
              HasSubstr("'document' blocks are not supported here"));
  EXPECT_THAT(error_in_messages(R"([{"role": "user", "content": [{"type": "tool_use"}]}])"), HasSubstr("'tool_use'"));
  EXPECT_THAT(error_in_messages(R"([{"role": "user", "content": [{"type": "image"}]}])"), HasSubstr("source"));
  EXPECT_THAT(error_in_messages(R"([{"role": "user", "content": [{"type": "tool_result"}]}])"),
              HasSubstr("tool_use_id: Field required"));
  EXPECT_THAT(error_in_messages(R"([{"role": "assistant", "content": [{"type": "redacted_thinking", "data": "x"}]}])"),
              HasSubstr("'redacted_thinking' blocks are not supported"));
  EXPECT_THAT(error_in_messages(R"([{"role": "assistant", "content": [{"type": "tool_use", "id": "t"}]}])"),
              HasSubstr("name: Field required"));
  const auto with = [](std::string_view members) {
    return error(str_cat(R"("messages": [{"role": "user", "content": "Hi"}], )", members));
  };
  EXPECT_EQ(with(R"("tools": [{"name": "f"}])"), "tools[0].input_schema: Field required");
  EXPECT_THAT(with(R"("tools": [{"type": "web_search_20250305", "name": "web_search"}])"), HasSubstr("not supported"));
  EXPECT_THAT(with(R"("tool_choice": {"type": "all"})"), HasSubstr("'auto', 'any', 'tool' or 'none'"));
  EXPECT_THAT(with(R"("tool_choice": {"type": "tool"})"), HasSubstr("name: Field required"));
  EXPECT_THAT(with(R"("thinking": {"type": "enabled"})"), HasSubstr("budget_tokens: Field required"));
  EXPECT_THAT(with(R"("thinking": {"type": "enabled", "budget_tokens": 1023})"), HasSubstr("at least 1024"));
  EXPECT_THAT(with(R"("thinking": {"type": "enabled", "budget_tokens": 2000})"), HasSubstr("less than max_tokens"));
  EXPECT_THAT(with(R"("thinking": {"type": "disabled", "budget_tokens": 2000})"), HasSubstr("not allowed"));
  EXPECT_THAT(with(R"("thinking": {"type": "maybe"})"), HasSubstr("'enabled', 'disabled' or 'adaptive'"));
  EXPECT_THAT(with(R"("system": [{"type": "image", "source": {"type": "url", "url": "u"}}])"), HasSubstr("only text"));
  EXPECT_THAT(with(R"("output_config": {"format": {"type": "xml"}})"), HasSubstr("'json_schema', got 'xml'"));
}

TEST(MessagesRequest, ChatReadsWhatComesOut) {
  const auto request = parse(R"("messages": [{"role": "user", "content": "Weather?"},
      {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "f", "input": {"a": 1}}]},
      {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "r"}]}],
      "tools": [{"name": "f", "input_schema": {"type": "object"}}], "thinking": {"type": "adaptive"})");
  ASSERT_TRUE(request);
  const auto input = parse_chat_input(request->chat);
  ASSERT_TRUE(input) << input.error().message;
  EXPECT_EQ(input->messages[2].tool_call_id, "t");
  EXPECT_TRUE(input->options.enable_thinking);
  EXPECT_EQ(input->tool_choice.mode, ChatToolChoice::Mode::kAuto);
}

}  // namespace
}  // namespace carat
