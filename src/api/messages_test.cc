// The Messages API without a server: requests into chat bodies, answers into blocks and events.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "api/block_testing.h"
#include "api/messages_request.h"
#include "api/messages_writer.h"
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
  EXPECT_EQ(
      request->chat.dump(),
      str_cat(R"({"rid":")", request->id,
              R"(","stream":true,"max_tokens":2000,"temperature":0.5,"top_p":0.9,"top_k":5,"stop":["END"],"messages":[)"
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

// ---- answers

std::unique_ptr<AnswerWriter> messages_writer(bool stream) { return make_messages_writer({}, {"msg_1", "m", stream}); }

std::string without_ids(std::string text) {
  for (size_t at = text.find("\"toolu_"); at != text.npos; at = text.find("\"toolu_", at + 2))
    text.erase(at + 7, text.find('"', at + 7) - at - 7);
  return text;
}

const std::vector<MessagePart> kFullReply = {
    thought_part("Need weather."),      content_part("Let me see."), name_part(0, "f"),
    arguments_part(0, R"({"a": "e"})"), name_part(1, "g"),           arguments_part(1, "{}")};

/// What a client makes of a stream's events.
Json assembled(const std::vector<SentEvent>& events) {
  Json message;
  std::string arguments;
  for (const auto& [type, data] : events) {
    if (type == "message_start") message = *data.find("message");
    if (type == "content_block_start") {
      EXPECT_EQ(data.find("index")->as_int(), static_cast<int64_t>(message.find("content")->size()));
      message.find("content")->push_back(*data.find("content_block"));
      arguments.clear();
    }
    if (type == "content_block_delta") {
      Json& block = message.find("content")->as_array().back();
      const Json& delta = *data.find("delta");
      if (const Json* json = delta.find("partial_json")) arguments += json->as_string();
      for (const char* key : {"text", "thinking"})
        if (const Json* text = delta.find(key)) block.set(key, block.find(key)->as_string() + text->as_string());
    }
    if (type == "content_block_stop" && !arguments.empty())
      message.find("content")->as_array().back().set("input", *parse_json(arguments));
    if (type == "message_delta") {
      for (const auto& [key, value] : data.find("delta")->as_object()) message.set(key, value);
      message.set("usage", *data.find("usage"));
    }
  }
  return message;
}

TEST(MessagesWriter, WholeAnswer) {
  EXPECT_EQ(without_ids(whole_answer(messages_writer, kFullReply, replied_prompt())),
            R"({"id":"msg_1","type":"message","role":"assistant","model":"m","content":[)"
            R"({"type":"thinking","thinking":"Need weather.","signature":""},{"type":"text","text":"Let me see."},)"
            R"({"type":"tool_use","id":"toolu_","name":"f","input":{"a":"e"}},)"
            R"({"type":"tool_use","id":"toolu_","name":"g","input":{}}],"stop_reason":"tool_use","stop_sequence":null,)"
            R"("usage":{"input_tokens":3,"cache_creation_input_tokens":0,"cache_read_input_tokens":0,)"
            R"("output_tokens":5}})");
}

TEST(MessagesWriter, EventsInOrder) {
  const auto events = read_events(streamed_answer(messages_writer, kFullReply, replied_prompt(), 8));
  EXPECT_EQ(types_of(events),
            "message_start\nping\n"
            "content_block_start\ncontent_block_delta\ncontent_block_delta\ncontent_block_stop\n"
            "content_block_start\ncontent_block_delta\ncontent_block_delta\ncontent_block_stop\n"
            "content_block_start\ncontent_block_delta\ncontent_block_delta\ncontent_block_stop\n"
            "content_block_start\ncontent_block_delta\ncontent_block_stop\n"
            "message_delta\nmessage_stop\n");
  EXPECT_EQ(events[0].data.find("message")->find("usage")->find("output_tokens")->as_int(), 0);
  EXPECT_EQ(events[3].data.dump(),
            R"({"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"Need wea"}})");
  EXPECT_EQ(events[7].data.dump(),
            R"({"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"Let me s"}})");
  EXPECT_EQ(
      events[11].data.dump(),
      R"({"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":"{\"a\": \"e"}})");
}

TEST(MessagesWriter, StreamsAddUpToTheWholeAnswerHoweverTheyAreCut) {
  const std::vector<MessagePart> cut_call = {content_part("x"), name_part(0, "f")};
  for (const auto& reply : {kFullReply, cut_call, std::vector<MessagePart>()})
    for (const auto reason : {FinishReason::kStop, FinishReason::kLength}) {
      const Prompt prompt = replied_prompt(reason);
      const std::string whole = without_ids(whole_answer(messages_writer, reply, prompt));
      for (const size_t piece : {1, 3, 1000})
        for (const size_t per_chunk : {1, 2, 100})
          EXPECT_EQ(
              without_ids(
                  assembled(read_events(streamed_answer(messages_writer, reply, prompt, piece, per_chunk))).dump()),
              whole);
    }
}

TEST(MessagesWriter, StopReasons) {
  const auto reason = [](const Prompt& prompt, const std::vector<MessagePart>& reply) {
    const auto answer = parse_json(whole_answer(messages_writer, reply, prompt));
    return str_cat(answer->find("stop_reason")->as_string(), " ", answer->find("stop_sequence")->dump());
  };
  EXPECT_EQ(reason(replied_prompt(), {content_part("a")}), "end_turn null");
  EXPECT_EQ(reason(replied_prompt(FinishReason::kLength), {content_part("a")}), "max_tokens null");
  EXPECT_EQ(reason(replied_prompt(FinishReason::kLength), kFullReply), "max_tokens null");
  EXPECT_EQ(reason(replied_prompt(), kFullReply), "tool_use null");
  Prompt at_text = replied_prompt();
  at_text.samples[0].end->matched_text = "END";
  EXPECT_EQ(reason(at_text, {content_part("a")}), "stop_sequence \"END\"");
  EXPECT_EQ(reason(at_text, kFullReply), "tool_use null");
  EXPECT_EQ(reason(replied_prompt(FinishReason::kAbort), {content_part("a")}), "end_turn null");
}

TEST(MessagesWriter, EmptyReplyHasOneEmptyText) {
  const auto answer = parse_json(whole_answer(messages_writer, {}, replied_prompt()));
  EXPECT_EQ(answer->find("content")->dump(), R"([{"type":"text","text":""}])");
}

TEST(MessagesWriter, CachedTokensAreReportedOnRequest) {
  Prompt prompt = replied_prompt();
  prompt.stats.cached_tokens = 2;
  WriterContext context;
  context.cache_report = true;
  const auto make = [&](bool stream) { return make_messages_writer(context, {"msg_1", "m", stream}); };
  EXPECT_EQ(parse_json(whole_answer(make, {content_part("a")}, prompt))->find("usage")->dump(),
            R"({"input_tokens":1,"cache_creation_input_tokens":0,"cache_read_input_tokens":2,"output_tokens":5})");
}

}  // namespace
}  // namespace carat
