#include "api/chat_writer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/json.h"
#include "base/str.h"

namespace carat {
namespace {

using Kind = MessagePart::Kind;
using ::testing::HasSubstr;
using ::testing::MatchesRegex;

Prompt one_prompt(std::vector<MessagePart> parts, FinishReason reason = FinishReason::kStop) {
  Prompt prompt;
  prompt.prepared.ids = {1, 2, 3};
  Sample& sample = prompt.samples.emplace_back();
  sample.tokens = {5, 6};
  for (const MessagePart& part : parts) sample.num_calls += part.kind == Kind::kCallName ? 1 : 0;
  sample.parts = std::move(parts);
  sample.end = SampleEnd{reason, std::nullopt, std::nullopt};
  if (reason == FinishReason::kStop) sample.end->matched_token = 50;
  return prompt;
}

Json parsed(std::string_view text) { return std::move(*parse_json(text)); }

/// What stands behind the choice's index.
std::vector<std::string> chunks(AnswerWriter& writer, const Prompt& prompt, bool first_chunk) {
  std::string out;
  writer.write_news(prompt, prompt.samples[0], {"", 0, first_chunk, prompt.samples[0].parts}, out);
  std::vector<std::string> deltas;
  for (size_t at = 0; at < out.size();) {
    const size_t end = out.find("\n\n", at);
    const std::string event = out.substr(at, end - at);
    EXPECT_TRUE(parse_json(std::string_view(event).substr(6)).has_value()) << event;
    static constexpr std::string_view kIndex = R"("choices":[{"index":0,"delta":)";
    deltas.push_back(event.substr(event.find(kIndex) + kIndex.size()));
    at = end + 2;
  }
  return deltas;
}

std::unique_ptr<AnswerWriter> stream_writer(bool continuous_usage = false) {
  return make_chat_writer({}, {.id = "id1", .model = "m", .stream = {true, false, continuous_usage}});
}

TEST(ChatStream, PartsAreChunksInTheirOrder) {
  const Prompt prompt = one_prompt({{Kind::kReasoning, 0, "hm\n"},
                                    {Kind::kContent, 0, "I look."},
                                    {Kind::kCallName, 0, "f"},
                                    {Kind::kCallArguments, 0, R"({"a": 1})"}});
  constexpr std::string_view kOpen = R"(,"logprobs":null,"finish_reason":null,"matched_stop":null}])";
  const auto found = chunks(*stream_writer(), prompt, true);
  ASSERT_EQ(found.size(), 5u);
  EXPECT_EQ(found[0], str_cat(R"({"reasoning_content":null,"role":"assistant","content":""})", kOpen, "}"));
  EXPECT_EQ(found[1], str_cat(R"({"reasoning_content":"hm\n"})", kOpen, "}"));
  EXPECT_EQ(found[2], str_cat(R"({"reasoning_content":null,"content":"I look."})", kOpen, "}"));
  std::string call = found[3];
  const size_t id = call.find("call_");
  EXPECT_THAT(call.substr(id, 29), MatchesRegex("call_[0-9a-f]+"));
  call.replace(id, 29, "ID");
  EXPECT_EQ(call,
            str_cat(R"({"role":null,"content":null,"reasoning_content":null,"tool_calls":[{"id":"ID","index":0,)",
                    R"("type":"function","function":{"name":"f","arguments":""}}]})", kOpen, R"(,"usage":null})"));
  EXPECT_EQ(
      found[4],
      str_cat(R"({"role":null,"content":null,"reasoning_content":null,"tool_calls":[{"id":null,"index":0,)",
              R"("type":"function","function":{"name":null,"arguments":"{\"a\": 1}"}}]})", kOpen, R"(,"usage":null})"));
}

TEST(ChatStream, ChunkIsExact) {
  const auto writer = make_chat_writer({}, {.id = "id1", .model = "m\"", .stream = {true, false, false}});
  const Prompt prompt = one_prompt({{Kind::kContent, 0, "a\n"}});
  std::string out;
  writer->write_news(prompt, prompt.samples[0], {"", 0, false, prompt.samples[0].parts}, out);
  const size_t created = out.find("\"created\":") + 10;
  out.replace(created, out.find(',', created) - created, "T");
  EXPECT_EQ(
      out,
      "data: {\"id\":\"id1\",\"object\":\"chat.completion.chunk\",\"created\":T,\"model\":\"m\\\"\",\"choices\":[{"
      "\"index\":0,\"delta\":{\"reasoning_content\":null,\"content\":\"a\\n\"},\"logprobs\":null,"
      "\"finish_reason\":null,\"matched_stop\":null}]}\n\n");
}

TEST(ChatStream, ContinuousUsageIsInEveryChunk) {
  const Prompt prompt = one_prompt({{Kind::kReasoning, 0, "x"}, {Kind::kCallName, 0, "f"}});
  for (const std::string& chunk : chunks(*stream_writer(true), prompt, false))
    EXPECT_THAT(chunk, HasSubstr(R"("usage":{"prompt_tokens":3)"));
}

TEST(ChatStream, ACallsEndKeepsItsStopToken) {
  const Prompt prompt = one_prompt({{Kind::kCallName, 0, "f"}, {Kind::kCallArguments, 0, "{}"}});
  std::string out;
  stream_writer()->write_end(std::span(&prompt, 1), out);
  EXPECT_THAT(
      out,
      HasSubstr(
          R"("delta":{"reasoning_content":null},"logprobs":null,"finish_reason":"tool_calls","matched_stop":50})"));
}

Json body(const Prompt& prompt) {
  std::string out;
  make_chat_writer({}, {.id = "id1", .model = "m", .stream = {}})->write_end(std::span(&prompt, 1), out);
  return parsed(out).find("choices")->as_array().at(0);
}

TEST(ChatBody, HoldsThoughtTextAndCalls) {
  const Json choice = body(one_prompt({{Kind::kReasoning, 0, "a"},
                                       {Kind::kContent, 0, "x"},
                                       {Kind::kCallName, 0, "f"},
                                       {Kind::kCallArguments, 0, R"({"k": "é"})"},
                                       {Kind::kReasoning, 0, "b"},
                                       {Kind::kCallName, 1, "f"},
                                       {Kind::kCallArguments, 1, "{}"},
                                       {Kind::kContent, 0, "y"}}));
  EXPECT_EQ(choice.find("finish_reason")->as_string(), "tool_calls");
  EXPECT_TRUE(choice.find("matched_stop")->is_null());
  const Json& message = *choice.find("message");
  EXPECT_EQ(message.find("reasoning_content")->as_string(), "ab");
  EXPECT_EQ(message.find("content")->as_string(), "xy");
  const JsonArray& calls = message.find("tool_calls")->as_array();
  ASSERT_EQ(calls.size(), 2u);
  EXPECT_NE(calls[0].find("id")->as_string(), calls[1].find("id")->as_string());
  EXPECT_EQ(calls[1].find("index")->as_int(), 1);
  EXPECT_EQ(calls[0].find("type")->as_string(), "function");
  EXPECT_EQ(calls[0].find("function")->dump(), R"({"name":"f","arguments":"{\"k\": \"é\"}"})");
}

TEST(ChatBody, HasNoCallsWhereThereAreNone) {
  EXPECT_EQ(body(one_prompt({})).find("message")->dump(),
            R"({"role":"assistant","content":"","reasoning_content":null})");
}

TEST(ChatBody, ACallThatWasCutOffIsLeftOut) {
  const Json choice = body(one_prompt({{Kind::kCallName, 0, "f"}}, FinishReason::kLength));
  EXPECT_EQ(choice.find("message")->find("tool_calls"), nullptr);
  EXPECT_EQ(choice.find("finish_reason")->as_string(), "length");
}

}  // namespace
}  // namespace carat
