// Ollama's API without a server: requests into chat bodies, answers into objects and lines.

#include "api/ollama_request.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "api/block_testing.h"
#include "api/ollama_writer.h"
#include "base/str.h"
#include "chat/parse_chat.h"
#include "chat/render.h"

namespace carat {
namespace {

using testing::HasSubstr;

using Parse = Result<OllamaRequest> (*)(const Json&);

std::string chat_of(Parse parse, std::string_view body) {
  const auto request = parse(*parse_json(body));
  return request ? request->chat.dump() : "error: " + request.error().message;
}

TEST(OllamaRequest, Chat) {
  EXPECT_EQ(chat_of(&parse_ollama_chat, R"({"model": "m", "stream": false, "think": true, "format": "json",
      "options": {"temperature": 0.5, "top_k": 0, "num_predict": -1, "repeat_penalty": 1.5, "stop": "x", "num_ctx": 9},
      "messages": [{"role": "user", "content": "Hi", "images": ["AA"]},
        {"role": "assistant", "content": "", "thinking": "t", "tool_calls": [{"function": {"name": "f", "arguments": {}}}]},
        {"role": "tool", "tool_name": "f", "content": "r"}]})"),
            R"({"stream":false,"temperature":0.5,"stop":"x","top_k":-1,"repetition_penalty":1.5,)"
            R"("response_format":{"type":"json_object"},"chat_template_kwargs":{"enable_thinking":true},"messages":[)"
            R"({"role":"user","content":[{"type":"text","text":"Hi"},{"type":"image_url","image_url":{"url":"AA"}}]},)"
            R"({"role":"assistant","content":"","reasoning_content":"t","tool_calls":[{"type":"function",)"
            R"("function":{"name":"f","arguments":{}}}]},{"role":"tool","content":"r","name":"f"}]})");
}

TEST(OllamaRequest, Generate) {
  EXPECT_EQ(chat_of(&parse_ollama_generate, R"({"model": "m", "prompt": "Hi", "system": "s", "think": "low",
      "format": {"type": "object"}, "options": {"num_predict": 7}})"),
            R"({"stream":true,"max_tokens":7,"response_format":{"type":"json_schema","json_schema":{"name":"format",)"
            R"("schema":{"type":"object"}}},"reasoning_effort":"low","messages":[{"role":"system","content":"s"},)"
            R"({"role":"user","content":"Hi"}]})");
}

TEST(OllamaRequest, EmptyOnesLoadTheModel) {
  EXPECT_TRUE(parse_ollama_chat(*parse_json(R"({"model": "m"})"))->empty);
  EXPECT_TRUE(parse_ollama_chat(*parse_json(R"({"model": "m", "messages": []})"))->empty);
  EXPECT_TRUE(parse_ollama_generate(*parse_json(R"({"model": "m", "prompt": ""})"))->empty);
}

TEST(OllamaRequest, ResultsFindTheirCallsByName) {
  const auto request = parse_ollama_chat(*parse_json(R"({"model": "m", "messages": [{"role": "user", "content": "Hi"},
      {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f", "arguments": {"a": 1}}}]},
      {"role": "tool", "tool_name": "f", "content": "r"}]})"));
  ASSERT_TRUE(request);
  const auto input = parse_chat_input(request->chat);
  ASSERT_TRUE(input) << input.error().message;
  EXPECT_THAT(render_chat(*input, ChatFamily::kSmall)->text, HasSubstr("response:f{value:<|\"|>r<|\"|>}"));
}

TEST(OllamaRequest, Errors) {
  const auto chat = [](std::string_view body) { return chat_of(&parse_ollama_chat, body); };
  EXPECT_EQ(chat("[]"), "error: body: Input should be an object, got array");
  EXPECT_EQ(chat("{}"), "error: model: Field required");
  EXPECT_THAT(chat(R"({"model": "m", "messages": 5})"), HasSubstr("messages: Input should be a list"));
  EXPECT_THAT(chat(R"({"model": "m", "messages": [{"content": "x"}]})"), HasSubstr("messages[0].role"));
  EXPECT_THAT(chat(R"({"model": "m", "messages": [{"role": "user", "images": [1]}]})"), HasSubstr("images"));
  EXPECT_THAT(chat(R"({"model": "m", "messages": [{"role": "user", "tool_calls": 1}]})"), HasSubstr("tool_calls"));
  EXPECT_THAT(chat(R"({"model": "m", "format": "xml"})"), HasSubstr("format: Input should be 'json' or"));
  EXPECT_THAT(chat(R"({"model": "m", "options": {"top_k": "x"}})"), HasSubstr("options.top_k"));
  for (const char* name : {"suffix", "template", "context", "raw"})
    EXPECT_EQ(chat_of(&parse_ollama_generate, str_cat(R"({"model": "m", "prompt": "x", ")", name, R"(": "y"})")),
              str_cat("error: ", name, " is not supported by this server."));
}

MakeWriter ollama_writer(bool chat, bool empty = false) {
  return [chat, empty](bool stream) { return make_ollama_writer({"m", stream, chat, empty}); };
}

/// Without what differs from run to run.
std::string steady(std::string_view object) {
  auto json = parse_json(object);
  EXPECT_TRUE(json) << object;
  for (const char* key : {"created_at", "total_duration", "prompt_eval_duration", "eval_duration"}) json->erase(key);
  return json->dump();
}

const std::vector<MessagePart> kFullReply = {thought_part("Hm."), content_part("Hello"), name_part(0, "f"),
                                             arguments_part(0, R"({"a": 1})"), name_part(1, "cut")};

TEST(OllamaWriter, WholeAnswers) {
  EXPECT_EQ(
      steady(whole_answer(ollama_writer(true), kFullReply, replied_prompt())),
      R"({"model":"m","message":{"role":"assistant","content":"Hello","thinking":"Hm.","tool_calls":[{"function":)"
      R"({"name":"f","arguments":{"a":1}}}]},"done":true,"done_reason":"stop","load_duration":0,)"
      R"("prompt_eval_count":3,"eval_count":5})");
  EXPECT_EQ(steady(whole_answer(ollama_writer(false), {content_part("Hello")}, replied_prompt(FinishReason::kLength))),
            R"({"model":"m","response":"Hello","done":true,"done_reason":"length","load_duration":0,)"
            R"("prompt_eval_count":3,"eval_count":5})");
  EXPECT_EQ(steady(whole_answer(ollama_writer(true, true), {}, replied_prompt())),
            R"({"model":"m","message":{"role":"assistant","content":""},"done":true,"done_reason":"load"})");
}

TEST(OllamaWriter, StreamsAddUpToTheWholeAnswerHoweverTheyAreCut) {
  const Json whole = *parse_json(steady(whole_answer(ollama_writer(true), kFullReply, replied_prompt())));
  for (const size_t piece : {1, 3, 1000})
    for (const size_t per_chunk : {1, 100}) {
      const std::string stream = streamed_answer(ollama_writer(true), kFullReply, replied_prompt(), piece, per_chunk);
      Json sum;
      std::string content, thinking;
      Json calls = Json::array();
      for (const std::string_view line : split(std::string_view(stream).substr(0, stream.size() - 1), '\n')) {
        ASSERT_FALSE(sum.find("done") && sum.find("done")->as_bool()) << "the last line ends it";
        sum = *parse_json(steady(line));
        Json& message = *sum.find("message");
        content += message.find("content")->as_string();
        if (const Json* more = message.find("thinking")) thinking += more->as_string();
        if (const Json* more = message.find("tool_calls"))
          for (const Json& call : more->as_array()) calls.push_back(call);
      }
      Json& message = *sum.find("message");
      message.set("content", content);
      message.set("thinking", thinking);
      message.set("tool_calls", calls);
      EXPECT_EQ(sum.dump(), whole.dump());
    }
}

TEST(OllamaWriter, Time) { EXPECT_THAT(rfc3339_now(), testing::MatchesRegex("20..-..-..T..:..:..Z")); }

}  // namespace
}  // namespace carat
