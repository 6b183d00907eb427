// The Responses API without a server: requests into chat bodies, answers into items and events, and the store.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "api/block_testing.h"
#include "api/json_testing.h"
#include "api/response_store.h"
#include "api/responses_request.h"
#include "api/responses_writer.h"
#include "base/str.h"
#include "chat/parse_chat.h"

namespace carat {
namespace {

using std::chrono::hours;
using testing::HasSubstr;
using testing::StartsWith;

ResponsesRequest parse(std::string_view body) {
  auto request = parse_responses_request(json(body));
  EXPECT_TRUE(request) << message(request);
  return request ? std::move(*request) : ResponsesRequest();
}

std::string parse_error(std::string_view body) { return message(parse_responses_request(json(body))); }

std::string messages(std::string_view items, std::string_view instructions = "") {
  const auto out = responses_messages(instructions, json(items));
  return out ? out->dump() : "error: " + out.error().message;
}

// ---- request

TEST(ResponsesRequest, Members) {
  const auto request = parse(R"({"input": "Hi", "instructions": "Be brief.", "max_output_tokens": 7, "temperature": 0.5,
      "stream": true, "store": false, "request_id": "resp_1", "reasoning": {"effort": "low", "summary": "auto"},
      "metadata": {"a": "b"}, "user": "u", "stop": ["x"], "model": "m", "min_p": null})");
  EXPECT_EQ(request.id, "resp_1");
  EXPECT_TRUE(request.stream && !request.store && request.summarize_reasoning);
  EXPECT_EQ(request.chat.dump(),
            R"({"temperature":0.5,"stop":["x"],"rid":"resp_1","stream":true,"reasoning_effort":"low","max_tokens":7})");
  EXPECT_EQ(request.echo.dump(),
            R"({"reasoning":{"effort":"low","summary":"auto"},"text":{"format":{"type":"text"}},"tools":[],)"
            R"("tool_choice":"auto","max_output_tokens":7,"instructions":"Be brief.","previous_response_id":null,)"
            R"("parallel_tool_calls":true,"truncation":"disabled","user":"u","metadata":{"a":"b"}})");
  EXPECT_EQ(request.items.dump(), R"([{"type":"message","role":"user","content":"Hi"}])");
  EXPECT_THAT(parse(R"({"input": "x"})").id, StartsWith("resp_"));
}

TEST(ResponsesRequest, ToolsAreFlat) {
  const auto request = parse(R"({"input": "x", "tools": [{"type": "web_search"},
      {"type": "function", "name": "f", "description": "d", "parameters": {"type": "object"}, "strict": true},
      {"type": "function", "function": {"name": "g"}}], "tool_choice": {"type": "function", "name": "f"}})");
  EXPECT_EQ(request.chat.find("tools")->dump(),
            R"([{"type":"function","function":{"name":"f","description":"d","parameters":{"type":"object"},)"
            R"("strict":true}},{"type":"function","function":{"name":"g"}}])");
  EXPECT_EQ(request.chat.find("tool_choice")->dump(), R"({"type":"function","function":{"name":"f"}})");
  EXPECT_EQ(request.echo.find("tool_choice")->dump(), R"({"type":"function","name":"f"})");
  EXPECT_EQ(request.echo.find("tools")->size(), 3u);
}

TEST(ResponsesRequest, TextFormat) {
  const auto format = [](std::string_view text) {
    const auto request = parse(str_cat(R"({"input": "x", "text": )", text, "}"));
    const Json* out = request.chat.find("response_format");
    return out ? out->dump() : "none";
  };
  EXPECT_EQ(format(R"({"verbosity": "low"})"), "none");
  EXPECT_EQ(format(R"({"format": {"type": "text"}})"), R"({"type":"text"})");
  EXPECT_EQ(format(R"({"format": {"type": "json_object"}})"), R"({"type":"json_object"})");
  EXPECT_EQ(format(R"({"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}, "strict": true}})"),
            R"({"type":"json_schema","json_schema":{"name":"n","schema":{"type":"object"},"strict":true}})");
}

TEST(ResponsesRequest, SchemaErrors) {
  EXPECT_EQ(parse_error("[]"), "body: Input should be an object, got array");
  EXPECT_EQ(parse_error("{}"), "input: Field required");
  EXPECT_EQ(parse_error(R"({"input": 5})"), "input: Input should be a string or a list, got integer");
  EXPECT_THAT(parse_error(R"({"input": "x", "include": ["nonsense"]})"), HasSubstr("unknown value 'nonsense'"));
  EXPECT_THAT(parse_error(R"({"input": "x", "max_output_tokens": 0})"), HasSubstr("at least 1, got 0"));
  EXPECT_THAT(parse_error(R"({"input": "x", "tools": {}})"), HasSubstr("should be a list"));
  EXPECT_THAT(parse_error(R"({"input": "x", "tools": [{}]})"), HasSubstr("type: Field required"));
  EXPECT_THAT(parse_error(R"({"input": "x", "tools": [{"type": "function"}]})"), HasSubstr("name"));
  EXPECT_THAT(parse_error(R"({"input": "x", "tools": [{"type": "custom", "name": "c"}]})"), HasSubstr("custom tools"));
  EXPECT_THAT(parse_error(R"({"input": "x", "tool_choice": {"type": "mcp"}})"), HasSubstr("type 'function'"));
  EXPECT_THAT(parse_error(R"({"input": "x", "tool_choice": 5})"), HasSubstr("tool_choice"));
  EXPECT_THAT(parse_error(R"({"input": "x", "text": {"format": 1}})"), HasSubstr("text"));
  EXPECT_THAT(parse_error(R"({"input": "x", "reasoning": {"summary": 1}})"), HasSubstr("reasoning.summary"));
  EXPECT_THAT(parse_error(R"({"input": "x", "top_logprobs": 257})"), HasSubstr("between 0 and 256"));
  EXPECT_THAT(parse_error(str_cat(R"({"input": "x", "request_id": ")", std::string(257, 'a'), "\"}")),
              HasSubstr("1 to 256 bytes"));
}

TEST(ResponsesRequest, Checks) {
  const auto check = [](std::string_view body, bool store = false) {
    const auto ok = check_responses_request(parse(body), "served", store);
    return ok ? std::string() : str_cat(static_cast<int>(ok.error().code), " ", ok.error().message);
  };
  const std::string bad = str_cat(static_cast<int>(Errc::kInvalidArgument), " ");
  EXPECT_EQ(check(R"({"input": "x"})"), "");
  EXPECT_EQ(check(R"({"input": "x", "model": "served"})"), "");
  EXPECT_EQ(check(R"({"input": "x", "model": "other"})"),
            str_cat(static_cast<int>(Errc::kNotFound), " The model 'other' does not exist"));
  EXPECT_THAT(check(R"({"input": "x", "previous_response_id": "resp_1"})"),
              StartsWith(bad + "Response store is disabled. previous_response_id"));
  EXPECT_THAT(check(R"({"input": "x", "background": true})"),
              StartsWith(bad + "Response store is disabled. background"));
  EXPECT_EQ(check(R"({"input": "x", "background": true})", true), "");
  EXPECT_EQ(check(R"({"input": "x", "background": true, "store": false})", true),
            bad + "background=true requires store=true.");
  EXPECT_EQ(check(R"({"input": "x", "background": true, "stream": true})", true),
            bad + "A background response cannot be streamed.");
  EXPECT_EQ(check(R"({"input": "x", "stream": true, "include": ["message.output_text.logprobs"]})"),
            bad + "logprobs are not supported in streaming mode");
  EXPECT_EQ(check(R"({"input": []})"), bad + "input cannot be empty.");
}

TEST(ResponsesRequest, Logprobs) {
  EXPECT_EQ(parse(R"({"input": "x", "top_logprobs": 3})").chat.find("logprobs"), nullptr);
  const auto request = parse(R"({"input": "x", "top_logprobs": 3, "include": ["message.output_text.logprobs"]})");
  EXPECT_EQ(request.chat.find("top_logprobs")->as_int(), 3);
}

// ---- items

TEST(ResponsesItems, OneTurnOfTheAssistantIsOneMessage) {
  EXPECT_EQ(messages(R"([{"role": "user", "content": [{"type": "input_text", "text": "Hi"}]},
      {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "think"}]},
      {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "phase": "commentary",
       "content": [{"type": "output_text", "text": "Let me see.", "annotations": []}]},
      {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "f", "arguments": "{\"a\": 1}"},
      {"type": "function_call", "call_id": "call_2", "name": "g", "arguments": "broken"},
      {"type": "function_call_output", "call_id": "call_1", "output": "one"},
      {"type": "function_call_output", "call_id": "call_2", "output": [{"type": "input_text", "text": "two"}]}])",
                     "Be brief."),
            R"([{"role":"system","content":"Be brief."},)"
            R"({"role":"user","content":[{"type":"text","text":"Hi"}]},)"
            R"({"role":"assistant","content":"Let me see.","reasoning_content":"think","tool_calls":[)"
            R"({"id":"call_1","type":"function","function":{"name":"f","arguments":{"a":1}}},)"
            R"({"id":"call_2","type":"function","function":{"name":"g","arguments":{}}}]},)"
            R"({"role":"tool","tool_call_id":"call_1","content":"one"},)"
            R"({"role":"tool","tool_call_id":"call_2","content":[{"type":"text","text":"two"}]}])");
}

TEST(ResponsesItems, Reasoning) {
  const auto thought = [](std::string_view item) {
    const auto out = responses_messages("", json(str_cat("[", item, R"(, {"role": "assistant", "content": "A"}])")));
    const Json* text = out->as_array()[0].find("reasoning_content");
    return text ? text->as_string() : "none";
  };
  EXPECT_EQ(thought(R"({"type": "reasoning", "summary": [{"type": "summary_text", "text": "s"}],
                       "content": [{"type": "reasoning_text", "text": "c"}]})"),
            "s");
  EXPECT_EQ(thought(R"({"type": "reasoning", "content": [{"text": "a"}, {"text": "b"}]})"), "a\nb");
  EXPECT_EQ(thought(str_cat(R"({"type": "reasoning", "summary": [], "encrypted_content": ")",
                            encode_reasoning("packed"), "\"}")),
            "packed");
  EXPECT_EQ(thought(R"({"type": "reasoning", "encrypted_content": "of another server"})"), "none");
}

TEST(ResponsesItems, Pictures) {
  EXPECT_EQ(
      messages(
          R"([{"role": "user", "content": [{"type": "input_image", "image_url": "http://a/b", "detail": "low"}]}])"),
      R"([{"role":"user","content":[{"type":"image_url","image_url":{"url":"http://a/b","detail":"low"}}]}])");
  EXPECT_THAT(messages(R"([{"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}])"),
              HasSubstr("input[0].content[0].image_url"));
}

TEST(ResponsesItems, Errors) {
  const auto error = [](std::string_view item) { return messages(str_cat("[", item, "]")); };
  EXPECT_EQ(error("5"), "error: input[0]: Input should be an object, got integer");
  EXPECT_EQ(error(R"({"type": "item_reference", "id": "x"})"),
            "error: Unsupported Responses API input item type: 'item_reference' (input[0])");
  EXPECT_EQ(error(R"({"content": "x"})"), "error: input[0].role: Field required");
  EXPECT_EQ(error(R"({"role": "user"})"), "error: input[0].content: Field required");
  EXPECT_THAT(error(R"({"role": "user", "content": 5})"), HasSubstr("input[0].content"));
  EXPECT_THAT(error(R"({"role": "user", "content": [{"type": "input_file"}]})"), HasSubstr("'input_file' is not"));
  EXPECT_THAT(error(R"({"role": "user", "content": [{"type": "input_text"}]})"), HasSubstr("text: Field required"));
  EXPECT_THAT(error(R"({"role": "assistant", "content": [{"type": "input_image", "image_url": "u"}]})"),
              HasSubstr("has only text"));
  EXPECT_EQ(error(R"({"type": "function_call", "call_id": "c"})"), "error: input[0].name: Field required");
  EXPECT_EQ(error(R"({"type": "function_call", "name": "f"})"), "error: input[0].call_id: Field required");
  EXPECT_EQ(error(R"({"type": "function_call_output", "output": "x"})"), "error: input[0].call_id: Field required");
  EXPECT_EQ(error(R"({"type": "function_call_output", "call_id": "x"})"), "error: input[0].output: Field required");
}

TEST(ResponsesItems, ChatReadsWhatComesOut) {
  Json body = json(R"({"tools": [{"type": "function", "function": {"name": "f"}}]})");
  body.set("messages", *responses_messages("Sys", json(R"([{"role": "user", "content": "Hi"},
      {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
      {"type": "function_call_output", "call_id": "c", "output": "r"}])")));
  const auto input = parse_chat_input(body);
  ASSERT_TRUE(input) << message(input);
  ASSERT_EQ(input->messages.size(), 4u);
  EXPECT_EQ(input->messages[2].tool_calls[0].name, "f");
  EXPECT_EQ(input->messages[3].tool_call_id, "c");
}

// ---- answers

MakeWriter responses_writer(ResponsesAnswerOptions options = {}) {
  return [options](bool stream) {
    ResponsesAnswerOptions own = options;
    own.id = "resp_1";
    own.stream = stream;
    own.response = new_response("resp_1", json(R"({"model": "m", "tools": []})"), options.store != nullptr);
    return make_responses_writer({}, std::move(own));
  };
}

/// Random ids by their prefixes; times as they were.
std::string without_ids(Json value) {
  std::string text = value.dump();
  for (const char* prefix : {":\"rs_", ":\"msg_", ":\"fc_", ":\"call_"})
    for (size_t at = text.find(prefix); at != text.npos; at = text.find(prefix, at + 2)) {
      const size_t start = at + std::string_view(prefix).size();
      text.erase(start, text.find('"', start) - start);
    }
  return text;
}

const std::vector<MessagePart> kFullReply = {
    thought_part("Need weather."),      content_part("Let me see."), name_part(0, "f"),
    arguments_part(0, R"({"a": "e"})"), name_part(1, "g"),           arguments_part(1, "{}")};

TEST(ResponsesWriter, WholeAnswer) {
  const Json answer = json(whole_answer(responses_writer(), kFullReply, replied_prompt()));
  EXPECT_EQ(answer.find("id")->as_string(), "resp_1");
  EXPECT_EQ(answer.find("status")->as_string(), "completed");
  EXPECT_EQ(answer.find("model")->as_string(), "m");
  EXPECT_EQ(
      without_ids(*answer.find("output")),
      R"([{"id":"rs_","type":"reasoning","summary":[],"content":[{"type":"reasoning_text",)"
      R"("text":"Need weather."}],"encrypted_content":null,"status":"completed"},)"
      R"({"id":"msg_","type":"message","role":"assistant","status":"completed","content":[)"
      R"({"type":"output_text","text":"Let me see.","annotations":[],"logprobs":null}],"phase":"commentary"},)"
      R"({"id":"fc_","call_id":"call_","type":"function_call","name":"f","arguments":"{\"a\": \"e\"}",)"
      R"("status":"completed"},)"
      R"({"id":"fc_","call_id":"call_","type":"function_call","name":"g","arguments":"{}","status":"completed"}])");
  EXPECT_EQ(answer.find("usage")->dump(),
            R"({"input_tokens":3,"input_tokens_details":{"cached_tokens":0,"cache_write_tokens":0},"output_tokens":5,)"
            R"("output_tokens_details":{"reasoning_tokens":0},"total_tokens":8})");
}

TEST(ResponsesWriter, EventsInOrder) {
  const std::string stream = streamed_answer(responses_writer(), kFullReply, replied_prompt(), 8);
  const auto events = read_events(stream);
  EXPECT_EQ(types_of(events),
            "response.created\nresponse.in_progress\n"
            "response.output_item.added\nresponse.content_part.added\nresponse.reasoning_text.delta\n"
            "response.reasoning_text.delta\nresponse.reasoning_text.done\nresponse.content_part.done\n"
            "response.output_item.done\n"
            "response.output_item.added\nresponse.content_part.added\nresponse.output_text.delta\n"
            "response.output_text.delta\nresponse.output_text.done\nresponse.content_part.done\n"
            "response.output_item.done\n"
            "response.output_item.added\nresponse.function_call_arguments.delta\n"
            "response.function_call_arguments.delta\nresponse.function_call_arguments.done\n"
            "response.output_item.done\n"
            "response.output_item.added\nresponse.function_call_arguments.delta\n"
            "response.function_call_arguments.done\nresponse.output_item.done\n"
            "response.completed\n");
  for (size_t i = 0; i < events.size(); ++i)
    EXPECT_EQ(events[i].data.find("sequence_number")->as_int(), static_cast<int64_t>(i));
  EXPECT_EQ(without_ids(events[11].data),
            R"({"type":"response.output_text.delta","sequence_number":11,"item_id":"msg_","output_index":1,)"
            R"("content_index":0,"delta":"Let me s","logprobs":[]})");
  EXPECT_EQ(without_ids(events[17].data.find("item_id") ? events[17].data : Json()),
            R"({"type":"response.function_call_arguments.delta","sequence_number":17,"item_id":"fc_","output_index":2,)"
            R"("delta":"{\"a\": \"e"})");
  EXPECT_EQ(events.front().data.find("response")->find("status")->as_string(), "in_progress");
}

TEST(ResponsesWriter, StreamsEndWithTheWholeAnswerHoweverTheyAreCut) {
  ResponsesAnswerOptions summarized;
  summarized.summarize_reasoning = summarized.encrypted_reasoning = true;
  for (const auto& options : {ResponsesAnswerOptions(), summarized})
    for (const auto reason : {FinishReason::kStop, FinishReason::kLength}) {
      const Prompt prompt = replied_prompt(reason);
      Json whole = json(whole_answer(responses_writer(options), kFullReply, prompt));
      whole.erase("created_at");
      for (const size_t piece : {1, 3, 1000})
        for (const size_t per_chunk : {1, 2, 100}) {
          const auto events =
              read_events(streamed_answer(responses_writer(options), kFullReply, prompt, piece, per_chunk));
          Json last = *events.back().data.find("response");
          last.erase("created_at");
          EXPECT_EQ(without_ids(last), without_ids(whole));
          // Every item is announced and told whole under one id; deltas add up to it.
          Json items = Json::array();
          std::string deltas;
          for (const auto& event : events) {
            if (event.type == "response.output_item.added") deltas.clear();
            if (event.type.ends_with(".delta")) deltas += event.data.find("delta")->as_string();
            if (event.type.ends_with("arguments.done")) {
              EXPECT_EQ(deltas, event.data.find("arguments")->as_string());
            }
            if (event.type.ends_with("text.done")) {
              EXPECT_EQ(deltas, event.data.find("text")->as_string());
            }
            if (event.type == "response.output_item.done") items.push_back(*event.data.find("item"));
          }
          EXPECT_EQ(items, *last.find("output"));
        }
    }
}

TEST(ResponsesWriter, Summaries) {
  ResponsesAnswerOptions options;
  options.summarize_reasoning = options.encrypted_reasoning = true;
  const auto events = read_events(streamed_answer(responses_writer(options), {thought_part("hm")}, replied_prompt()));
  EXPECT_EQ(types_of(events),
            "response.created\nresponse.in_progress\nresponse.output_item.added\n"
            "response.reasoning_summary_part.added\nresponse.reasoning_summary_text.delta\n"
            "response.reasoning_summary_text.done\nresponse.reasoning_summary_part.done\n"
            "response.output_item.done\nresponse.completed\n");
  EXPECT_EQ(events[4].data.find("summary_index")->as_int(), 0);
  const Json& item = events.back().data.find("response")->find("output")->as_array()[0];
  EXPECT_EQ(item.find("summary")->dump(), R"([{"type":"summary_text","text":"hm"}])");
  EXPECT_EQ(item.find("encrypted_content")->as_string(), encode_reasoning("hm"));
}

TEST(ResponsesWriter, LengthLimit) {
  const Prompt prompt = replied_prompt(FinishReason::kLength);
  const auto status = [](const Json& answer, size_t item) {
    return answer.find("output")->as_array()[item].find("status")->as_string();
  };
  const Json text = json(whole_answer(responses_writer(), {thought_part("a"), content_part("b")}, prompt));
  EXPECT_EQ(text.find("status")->as_string(), "incomplete");
  EXPECT_EQ(text.find("incomplete_details")->dump(), R"({"reason":"max_output_tokens"})");
  EXPECT_EQ(status(text, 0), "completed");
  EXPECT_EQ(status(text, 1), "incomplete");
  const Json call = json(whole_answer(responses_writer(), {name_part(0, "f")}, prompt));
  EXPECT_EQ(status(call, 0), "incomplete");
  EXPECT_EQ(read_events(streamed_answer(responses_writer(), {name_part(0, "f")}, prompt)).back().type,
            "response.incomplete");
  // Arguments that were whole before the limit stay so.
  EXPECT_EQ(status(json(whole_answer(responses_writer(), {name_part(0, "f"), arguments_part(0, "{}")}, prompt)), 0),
            "completed");
}

TEST(ResponsesWriter, Failures) {
  const Prompt prompt = replied_prompt(FinishReason::kAbort);
  const auto events = read_events(streamed_answer(responses_writer(), {content_part("a")}, prompt));
  EXPECT_EQ(events.back().type, "response.failed");
  EXPECT_EQ(events.back().data.find("response")->find("error")->dump(),
            R"({"code":"server_error","message":"The request was aborted."})");
  EXPECT_EQ(json(whole_answer(responses_writer(), {}, prompt)).find("status")->as_string(), "failed");

  std::string out;
  const auto writer = responses_writer()(true);
  SampleNews news;
  const std::vector<MessagePart> parts = {content_part("a")};
  news.parts = parts;
  news.first_chunk = true;
  writer->write_news(prompt, prompt.samples[0], news, out);
  writer->write_failure({Errc::kInternal, "the device is gone"}, out);
  const auto broken = read_events(out);
  EXPECT_EQ(broken.back().type, "response.failed");
  EXPECT_EQ(broken.back().data.find("sequence_number")->as_int(), static_cast<int64_t>(broken.size() - 1));
  EXPECT_EQ(broken.back().data.find("response")->find("error")->find("message")->as_string(), "the device is gone");
}

TEST(ResponsesWriter, EmptyReply) {
  EXPECT_EQ(json(whole_answer(responses_writer(), {}, replied_prompt())).find("output")->size(), 0u);
  EXPECT_EQ(types_of(read_events(streamed_answer(responses_writer(), {}, replied_prompt()))),
            "response.created\nresponse.in_progress\nresponse.completed\n");
}

TEST(ResponsesWriter, KeepsTheConversation) {
  ResponseStore store;
  ResponsesAnswerOptions options;
  options.store = &store;
  options.items = json(R"([{"role": "user", "content": "Hi"}])");
  const std::string answer = whole_answer(responses_writer(options), {content_part("Hello")}, replied_prompt());
  EXPECT_EQ(*store.find("resp_1"), answer);
  const auto conversation = store.conversation("resp_1");
  ASSERT_TRUE(conversation) << message(conversation);
  EXPECT_EQ(messages(conversation->dump()),
            R"([{"role":"user","content":"Hi"},{"role":"assistant","content":"Hello"}])");
}

// ---- store

const auto kStart = ResponseStore::Clock::time_point(hours(1000));

Json response(std::string_view id, std::string_view status = "completed") {
  return Json::object({{"id", id}, {"status", status}});
}

TEST(ResponseStore, KeepsAndFinds) {
  ResponseStore store;
  store.finish("resp_1", response("resp_1"), json(R"([{"role": "user"}])"), kStart);
  EXPECT_EQ(*store.find("resp_1", kStart), response("resp_1").dump());
  EXPECT_EQ(store.conversation("resp_1", kStart)->dump(), R"([{"role":"user"}])");
  const auto missing = store.find("resp_2", kStart);
  EXPECT_EQ(missing.error().code, Errc::kNotFound);
  EXPECT_EQ(missing.error().message, "Response with id 'resp_2' not found.");
  const auto wrong = store.find("msg_2", kStart);
  EXPECT_EQ(wrong.error().code, Errc::kInvalidArgument);
  EXPECT_EQ(wrong.error().message, "Invalid 'response_id': 'msg_2'. Expected an ID that begins with 'resp'.");
}

TEST(ResponseStore, OldestGoFirst) {
  ResponseStore store({.max_responses = 2, .max_bytes = 1000, .max_age = hours(1)});
  for (const char* id : {"resp_1", "resp_2", "resp_3"}) store.finish(id, response(id), Json::array(), kStart);
  EXPECT_FALSE(store.find("resp_1", kStart));
  EXPECT_TRUE(store.find("resp_2", kStart));
  EXPECT_TRUE(store.find("resp_3", kStart));
  EXPECT_TRUE(store.find("resp_3", kStart + std::chrono::minutes(59)));
  EXPECT_FALSE(store.find("resp_3", kStart + hours(1)));
}

TEST(ResponseStore, BytesAreBounded) {
  const auto conversation = [](size_t bytes) { return Json::array({std::string(bytes, 'x')}); };
  ResponseStore store({.max_responses = 100, .max_bytes = 1000, .max_age = hours(1)});
  store.finish("resp_1", response("resp_1"), conversation(400), kStart);
  store.finish("resp_2", response("resp_2"), conversation(400), kStart);
  EXPECT_TRUE(store.find("resp_1", kStart));
  store.finish("resp_3", response("resp_3"), conversation(400), kStart);
  EXPECT_FALSE(store.find("resp_1", kStart));
  EXPECT_TRUE(store.find("resp_2", kStart));
  store.finish("resp_4", response("resp_4"), conversation(2000), kStart);
  EXPECT_FALSE(store.find("resp_4", kStart));
  EXPECT_TRUE(store.find("resp_2", kStart)) << "what cannot be kept pushes nothing out";
}

TEST(ResponseStore, BackgroundRuns) {
  ResponseStore store({.max_responses = 2, .max_bytes = 1000, .max_age = hours(1)});
  int cancelled = 0;
  const auto cancel = [&] { ++cancelled; };
  ASSERT_TRUE(store.begin("resp_1", response("resp_1", "in_progress"), cancel, kStart));
  EXPECT_EQ(store.begin("resp_1", response("resp_1"), cancel, kStart).error().code, Errc::kInvalidArgument);
  EXPECT_EQ(store.conversation("resp_1", kStart).error().code, Errc::kInvalidArgument);
  ASSERT_TRUE(store.begin("resp_2", response("resp_2", "in_progress"), cancel, kStart));
  EXPECT_EQ(store.begin("resp_3", response("resp_3"), cancel, kStart).error().code, Errc::kOverloaded);
  EXPECT_TRUE(store.find("resp_1", kStart + hours(2))) << "a run does not age";

  EXPECT_THAT(*store.cancel("resp_1", kStart), HasSubstr(R"("status":"cancelled")"));
  EXPECT_EQ(cancelled, 1);
  EXPECT_THAT(*store.cancel("resp_1", kStart), HasSubstr(R"("status":"cancelled")"));
  EXPECT_EQ(cancelled, 1) << "once";
  store.finish("resp_1", response("resp_1"), Json::array(), kStart);
  EXPECT_THAT(*store.find("resp_1", kStart), HasSubstr("cancelled")) << "what comes late is dropped";

  store.finish("resp_2", response("resp_2"), Json::array(), kStart);
  EXPECT_THAT(*store.cancel("resp_2", kStart), HasSubstr("completed")) << "an ended response stays as it is";
  EXPECT_EQ(cancelled, 1);
  store.finish("resp_5", response("resp_5", "failed"), nullptr, kStart);
  EXPECT_EQ(store.conversation("resp_5", kStart).error().code, Errc::kInvalidArgument);
}

}  // namespace
}  // namespace carat
