// Request bodies and the prompts that they must give. Expected texts are for the big family unless a case says so;
// their generation prompt is written GEN, and that of thinking requests, THINK.

#include "chat/render.h"

#include <gmock/gmock.h>

#include <string>

#include "base/str.h"
#include "chat/parse_chat.h"

namespace carat {
namespace {

using testing::HasSubstr;

const std::string GEN = "<|turn>model\n<|channel>thought\n<channel|>";
const std::string THINK = "<|turn>model\n";

Result<std::string> try_prompt(const std::string& body, ChatFamily family) {
  CARAT_TRY(const auto json, parse_json(body));
  CARAT_TRY(const auto input, parse_chat_input(json));
  CARAT_TRY(const auto prompt, render_chat(input, family));
  return prompt.text + prompt.continuation;
}

std::string prompt(const std::string& body, ChatFamily family = ChatFamily::kBig) {
  const auto text = try_prompt(body, family);
  return text ? *text : "error: " + text.error().message;
}

/// The prompt of messages given as the inside of a JSON list, without its "<bos>".
std::string chat(const std::string& messages, const std::string& more = "") {
  const std::string text = prompt(R"({"messages": [)" + messages + "]" + more + "}");
  EXPECT_TRUE(text.starts_with("<bos>")) << text;
  return text.substr(std::min<size_t>(5, text.size()));
}

const char* const kThinking = R"(, "chat_template_kwargs": {"enable_thinking": true})";
const std::string kUser = R"({"role": "user", "content": "q"})";
const std::string kUserTurn = "<|turn>user\nq<turn|>\n";

// ---- turns and texts

TEST(Render, OneUserMessage) {
  const std::string body = R"({"messages": [{"role": "user", "content": "q"}]})";
  EXPECT_EQ(prompt(body), "<bos>" + kUserTurn + GEN);
  EXPECT_EQ(prompt(body, ChatFamily::kSmall), "<bos>" + kUserTurn + "<|turn>model\n");
  EXPECT_EQ(chat(kUser, kThinking), "<|turn>system\n<|think|>\n<turn|>\n" + kUserTurn + THINK);
}

TEST(Render, SystemTurn) {
  EXPECT_EQ(chat(R"({"role": "system", "content": "\n Be kind.\t"},)" + kUser),
            "<|turn>system\nBe kind.<turn|>\n" + kUserTurn + GEN);
  EXPECT_EQ(chat(R"({"role": "developer", "content": "D"},)" + kUser, kThinking),
            "<|turn>system\n<|think|>\nD<turn|>\n" + kUserTurn + THINK);
  // Parts each leave a space, media included; an empty one is written, too.
  EXPECT_EQ(chat(R"({"role": "system", "content": [{"type": "text", "text": " x "},
                    {"type": "image_url", "image_url": {"url": "u"}}, {"type": "text", "text": "y"}]},)" +
                 kUser),
            "<|turn>system\nx  y <turn|>\n" + kUserTurn + GEN);
  EXPECT_EQ(chat(R"({"role": "system"},)" + kUser), "<|turn>system\n<turn|>\n" + kUserTurn + GEN);
  // Only the first message is hoisted.
  EXPECT_EQ(chat(R"({"role": "system", "content": "A"}, {"role": "system", "content": "B"},)" + kUser),
            "<|turn>system\nA<turn|>\n<|turn>system\nB<turn|>\n" + kUserTurn + GEN);
  EXPECT_EQ(chat(kUser + R"(, {"role": "developer", "content": "late"})"),
            kUserTurn + "<|turn>developer\nlate<turn|>\n" + GEN);
}

TEST(Render, OtherRolesKeepTheirNames) {
  EXPECT_EQ(chat(R"({"role": "Latest_Reminder", "content": "r"}, {"role": "ROOT", "content": "t"},
                    {"role": "function", "content": "f"},)" +
                 kUser),
            "<|turn>latest_reminder\nr<turn|>\n<|turn>root\nt<turn|>\n<|turn>function\nf<turn|>\n" + kUserTurn + GEN);
}

TEST(Render, TextIsTrimmedAsPythonDoes) {
  EXPECT_EQ(chat(R"({"role": "user", "content": "\u00a0\u3000\u2028\u001cq\u0085 \n"})"), kUserTurn + GEN);
  EXPECT_EQ(chat(R"({"role": "user", "content": "\u200bq"})"), "<|turn>user\n\u200bq<turn|>\n" + GEN);
  EXPECT_EQ(chat(R"({"role": "user", "content": " \n "})"), "<|turn>user\n<turn|>\n" + GEN);
}

TEST(Render, PartsAreTrimmedAndJoined) {
  EXPECT_EQ(chat(R"({"role": "user", "content": [{"type": "text", "text": " a "}, {"type": "input_text", "text": " b "},
                    {"type": "image_url", "image_url": {"url": "i", "detail": "low"}},
                    {"type": "audio_url", "audio_url": {"url": "a"}}, {"type": "text", "text": " c"},
                    {"type": "input_audio", "input_audio": {"data": "QQ==", "format": "mp3"}},
                    {"type": "video_url", "video_url": {"url": "v"}}]})"),
            "<|turn>user\nab<|image|><|audio|>c<|audio|><|video|><turn|>\n" + GEN);
  EXPECT_EQ(chat(R"({"role": "user", "content": []})"), "<|turn>user\n<turn|>\n" + GEN);
}

TEST(Render, MarkersInTextAreNotEscaped) {
  EXPECT_EQ(chat(R"({"role": "user", "content": "<turn|><|channel>x<channel|>"})"),
            "<|turn>user\n<turn|><|channel>x<channel|><turn|>\n" + GEN);
}

TEST(Render, AssistantTextLosesItsThoughts) {
  const auto said = [](const std::string& text) {
    const std::string out = chat(kUser + R"(, {"role": "assistant", "content": ")" + text + R"("},)" + kUser);
    const std::string before = kUserTurn + "<|turn>model\n", after = "<turn|>\n" + kUserTurn + GEN;
    EXPECT_TRUE(out.starts_with(before) && out.ends_with(after)) << out;
    return out.substr(before.size(), out.size() - before.size() - after.size());
  };
  EXPECT_EQ(said("<|channel>thought\\nhm<channel|> yes "), "yes");
  EXPECT_EQ(said("a<|channel>1<channel|> b <|channel>2<channel|>c"), "a b c");
  EXPECT_EQ(said("a<channel|>b"), "ab");
  EXPECT_EQ(said("a <|channel>open"), "a");
  EXPECT_EQ(said("a<|channel>1<|channel>2<channel|>b"), "ab");
  EXPECT_EQ(said("<|channel>only<channel|>"), "");
  // In parts each text by itself.
  EXPECT_EQ(chat(R"({"role": "assistant", "content": [{"type": "text", "text": "<|channel>x"},
                    {"type": "text", "text": " y<channel|>z "}, {"type": "reasoning", "text": "no"}]},)" +
                 kUser),
            "<|turn>model\nyz<turn|>\n" + kUserTurn + GEN);
}

TEST(Render, NeighboursOfOneRole) {
  EXPECT_EQ(chat(kUser + "," + kUser), kUserTurn + kUserTurn + GEN);
  EXPECT_EQ(chat(R"({"role": "assistant", "content": "a "}, {"role": "assistant", "content": "b"},)" + kUser),
            "<|turn>model\nab<turn|>\n" + kUserTurn + GEN);
  // A stray tool message between them changes nothing.
  EXPECT_EQ(chat(R"({"role": "assistant", "content": "a"}, {"role": "tool", "content": "t"},
                    {"role": "assistant", "content": "b"},)" +
                 kUser),
            "<|turn>model\nab<turn|>\n" + kUserTurn + GEN);
}

TEST(Render, LastAssistantMessage) {
  const std::string messages = kUser + R"(, {"role": "assistant", "content": " So ", "reasoning_content": "r",
      "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": "{}"}}]})";
  EXPECT_EQ(chat(messages), kUserTurn + "<|turn>user\nSo<turn|>\n" + GEN);
  EXPECT_EQ(chat(messages, R"(, "continue_final_message": true)"), kUserTurn + GEN + " So ");
  EXPECT_EQ(chat(R"({"role": "assistant", "content": null})"), "<|turn>user\n<turn|>\n" + GEN);
  EXPECT_EQ(chat(R"({"role": "assistant", "content": "x"})", R"(, "continue_final_message": true)"), GEN + "x");
  // Parts stay the assistant's.
  EXPECT_EQ(chat(R"({"role": "assistant", "content": [{"type": "text", "text": "p"}]})",
                 R"(, "continue_final_message": true)"),
            "<|turn>model\np<turn|>\n" + GEN);
}

TEST(Render, ContinuationStaysApart) {
  const auto json = parse_json(
      R"({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "So"}], "continue_final_message": true})");
  const auto rendered = render_chat(*parse_chat_input(*json), ChatFamily::kSmall);
  ASSERT_TRUE(rendered);
  EXPECT_EQ(rendered->text, "<bos>" + kUserTurn + "<|turn>model\n");
  EXPECT_EQ(rendered->continuation, "So");
}

TEST(Render, WithoutGenerationPrompt) {
  ChatInput input;
  input.messages.push_back({ChatRole::kUser, std::string("q"), "", {}, {}, {}});
  input.options.add_generation_prompt = false;
  EXPECT_EQ(render_chat(input, ChatFamily::kBig)->text, "<bos>" + kUserTurn);
  input.messages.clear();
  EXPECT_EQ(render_chat(input, ChatFamily::kBig)->text, "<bos>");
}

TEST(Render, MessagesAsTheyStand) {
  const auto body =
      parse_json(R"({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "So"}]})");
  ChatParseOptions options;
  options.add_generation_prompt = false;
  EXPECT_EQ(render_chat(*parse_chat_input(*body, options), ChatFamily::kBig)->text,
            "<bos>" + kUserTurn + "<|turn>model\nSo<turn|>\n");
  options.add_generation_prompt = true;
  EXPECT_EQ(render_chat(*parse_chat_input(*body, options), ChatFamily::kBig)->text,
            "<bos>" + kUserTurn + "<|turn>model\nSo<turn|>\n" + GEN);
  Json continued = *body;
  continued.set("continue_final_message", true);
  EXPECT_EQ(parse_chat_input(continued, options)->continuation, "So");
  options.add_generation_prompt = false;
  EXPECT_EQ(parse_chat_input(continued, options).error().message,
            "continue_final_message needs add_generation_prompt to open the assistant turn.");
}

// ---- thoughts

std::string assistant(const std::string& content, const std::string& reasoning, const std::string& call = "") {
  std::string json =
      R"({"role": "assistant", "content": ")" + content + R"(", "reasoning_content": ")" + reasoning + "\"";
  if (!call.empty())
    json +=
        R"(, "tool_calls": [{"id": "i)" + call + R"(", "function": {"name": ")" + call + R"(", "arguments": "{}"}}])";
  return json + "}";
}
std::string result(const std::string& call, const std::string& text) {
  return R"({"role": "tool", "tool_call_id": "i)" + call + R"(", "content": ")" + text + R"("})";
}
std::string called(const std::string& name, const std::string& value) {
  return "<|tool_call>call:" + name + "{}<tool_call|><|tool_response>response:" + name + "{value:<|\"|>" + value +
         "<|\"|>}<tool_response|>";
}

TEST(Render, ThoughtsLastUntilTheUserSpeaks) {
  const std::string loop = kUser + "," + assistant("", "t1", "f") + "," + result("f", "r1") + "," +
                           assistant("", "t2\\n", "g") + "," + result("g", "r2");
  const std::string start = "<|turn>system\n<|think|>\n<turn|>\n" + kUserTurn + "<|turn>model\n";
  EXPECT_EQ(chat(loop, kThinking), start + "<|channel>thought\nt1\n<channel|>" + called("f", "r1") +
                                       "<|channel>thought\nt2\n\n<channel|>" + called("g", "r2") +
                                       "<|channel>thought\n");
  const std::string done = loop + "," + assistant("ok", "t3") + "," + kUser;
  EXPECT_EQ(chat(done, kThinking), start + called("f", "r1") + called("g", "r2") + "ok<turn|>\n" + kUserTurn + THINK);
  EXPECT_EQ(chat(done, R"(, "chat_template_kwargs": {"enable_thinking": true, "preserve_thinking": 1})"),
            start + "<|channel>thought\nt1\n<channel|>" + called("f", "r1") + "<|channel>thought\nt2\n\n<channel|>" +
                called("g", "r2") + "ok<turn|>\n" + kUserTurn + THINK);
  // With thinking off they are written all the same, but none is opened.
  EXPECT_EQ(chat(kUser + "," + assistant("", "t", "f") + "," + result("f", "r")),
            kUserTurn + "<|turn>model\n<|channel>thought\nt\n<channel|>" + called("f", "r"));
}

TEST(Render, ReasoningIsAnAlias) {
  const auto with = [](const std::string& fields) {
    return chat(kUser + R"(, {"role": "assistant", "content": [], )" + fields + "}");
  };
  const std::string start = kUserTurn + "<|turn>model\n", end = "<turn|>\n" + GEN;
  EXPECT_EQ(with(R"("reasoning": "r")"), start + "<|channel>thought\nr\n<channel|>" + end);
  EXPECT_EQ(with(R"("reasoning": "r", "reasoning_content": "c")"), start + "<|channel>thought\nc\n<channel|>" + end);
  EXPECT_EQ(with(R"("reasoning": "r", "reasoning_content": "")"), start + "<|channel>thought\nr\n<channel|>" + end);
  EXPECT_EQ(with(R"("reasoning": null)"), start + end);
}

// ---- calls and responses

TEST(Render, PendingCall) {
  EXPECT_EQ(chat(kUser + "," + assistant("", "", "f") + "," + kUser),
            kUserTurn + "<|turn>model\n<|tool_call>call:f{}<tool_call|><|tool_response>" + kUserTurn + GEN);
  // At the very end only parts keep it the assistant's.
  EXPECT_EQ(chat(kUser + R"(, {"role": "assistant", "content": [], "tool_calls": [{"function": {"name": "f"}}]})"),
            kUserTurn + "<|turn>model\n<|tool_call>call:f{}<tool_call|><|tool_response>");
}

TEST(Render, TextBesideACallComesAfterTheResult) {
  EXPECT_EQ(chat(kUser + "," + assistant("Look.", "", "f") + "," + result("f", "r")),
            kUserTurn + "<|turn>model\n" + called("f", "r") + "Look.<turn|>\n");
  EXPECT_EQ(chat(kUser + "," + assistant("Look.", "", "f") + "," + result("f", "r") + "," + assistant("So.", "") + "," +
                 kUser),
            kUserTurn + "<|turn>model\n" + called("f", "r") + "Look.So.<turn|>\n" + kUserTurn + GEN);
  EXPECT_EQ(chat(kUser + "," + assistant("", "", "f") + "," + result("f", "r") + "," + kUser),
            kUserTurn + "<|turn>model\n" + called("f", "r") + "<turn|>\n" + kUserTurn + GEN);
}

TEST(Render, NameOfAResponse) {
  const auto answered = [](const std::string& calls, const std::string& results) {
    const std::string start = "<|turn>model\n";
    const std::string text =
        chat(R"({"role": "assistant", "content": "", "tool_calls": [)" + calls + "]}," + results).substr(start.size());
    return text.substr(text.find("<|tool_response>"));
  };
  const auto response = [](const std::string& name) {
    return "<|tool_response>response:" + name + "{value:<|\"|><|\"|>}<tool_response|>";
  };
  const std::string f = R"({"id": "1", "function": {"name": "f"}})", g = R"({"id": "2", "function": {"name": "g"}})";
  const std::string anonymous = R"({"function": {"name": "h"}})";
  EXPECT_EQ(answered(f + "," + g, R"({"role": "tool", "tool_call_id": "2"}, {"role": "tool", "tool_call_id": "1"})"),
            response("g") + response("f"));
  EXPECT_EQ(answered(f, R"({"role": "tool", "tool_call_id": "9"})"), response("unknown"));
  EXPECT_EQ(answered(f, R"({"role": "tool", "tool_call_id": "9", "name": "n"})"), response("n"));
  EXPECT_EQ(answered(f, R"({"role": "tool", "tool_call_id": "9", "name": ""})"), response("unknown"));
  EXPECT_EQ(answered(f, R"({"role": "tool", "tool_call_id": "1", "name": "n"})"), response("f"));
  EXPECT_EQ(answered(f, R"({"role": "tool"})"), response("unknown"));
  EXPECT_EQ(answered(f + "," + anonymous, R"({"role": "tool"})"), response("h"));
  EXPECT_EQ(answered(f + R"(, {"id": "1", "function": {"name": "k"}})", R"({"role": "tool", "tool_call_id": "1"})"),
            response("k"));
}

TEST(Render, StrayToolMessagesVanish) {
  EXPECT_EQ(chat(R"({"role": "tool", "content": "x"},)" + kUser + R"(, {"role": "tool", "content": "y"})"),
            kUserTurn + GEN);
}

TEST(Render, ToolContent) {
  const auto value = [](const std::string& content) {
    const std::string text = chat(R"({"role": "assistant", "tool_calls": [{"function": {"name": "f"}}]},
                                     {"role": "tool", "content": )" +
                                  content + "}");
    return text.substr(text.find("response:f"));
  };
  EXPECT_EQ(value(R"(" {\"t\": 3} ")"), "response:f{value:<|\"|> {\"t\": 3} <|\"|>}<tool_response|>");
  EXPECT_EQ(value("null"), "response:f{value:<|\"|><|\"|>}<tool_response|>");
  EXPECT_EQ(value("[]"), "response:f{value:<|\"|><|\"|>}<tool_response|>");
  EXPECT_EQ(value(R"([{"type": "text", "text": "a "}, {"type": "input_text", "text": "b"}])"),
            "response:f{value:<|\"|>a  b<|\"|>}<tool_response|>");
  EXPECT_EQ(value(R"([{"type": "text", "text": "a "}, {"type": "video_url", "video_url": {"url": "v"}},
                      {"type": "text", "text": "b"}, {"type": "image_url", "image_url": {"url": "i"}}])"),
            "response:f{value:<|\"|>a b<|\"|>}<tool_response|><|video|><|image|>");
}

TEST(Render, ResultsWithMediaFollowTheCalls) {
  const std::string calls = R"({"role": "assistant", "tool_calls": [{"id": "1", "function": {"name": "f"}},
                                                                   {"id": "2", "function": {"name": "g"}}]},)";
  const std::string image = R"([{"type": "image_url", "image_url": {"url": "i"}}])";
  const auto results = [&](const std::string& first, const std::string& second, const std::string& content) {
    const std::string text =
        chat(calls + R"({"role": "tool", "tool_call_id": ")" + first + R"(", "content": ")" + first +
             R"("}, {"role": "tool", "tool_call_id": ")" + second + R"(", "content": )" + content + "}");
    return text.substr(text.find("<|tool_response>"));
  };
  EXPECT_THAT(results("2", "1", image),
              HasSubstr("response:f{value:<|\"|><|\"|>}<tool_response|><|image|><|tool_response>"
                        "response:g{value:<|\"|>2<|\"|>}"));
  EXPECT_TRUE(results("2", "1", R"("x")").starts_with("<|tool_response>response:g"));
  EXPECT_TRUE(results("2", "9", image).starts_with("<|tool_response>response:g"));  // one answers no call
  EXPECT_TRUE(results("2", "2", image).starts_with("<|tool_response>response:g"));  // one call is answered twice
}

// ---- values

std::string arguments(const std::string& json) {
  std::string quoted;
  append_json_string(quoted, json);
  const std::string text = chat(R"({"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": )" +
                                quoted + "}}]}," + kUser);
  const std::string start = "<|turn>model\n<|tool_call>call:f{";
  EXPECT_TRUE(text.starts_with(start)) << text;
  return text.substr(start.size(), text.find("}<tool_call|>") - start.size());
}

TEST(Render, Values) {
  EXPECT_EQ(arguments(R"({"a": [null, true, false, {}, [], ""]})"), "a:[null,true,false,{},[],<|\"|><|\"|>]");
  EXPECT_EQ(arguments(R"({"a": {"b": {"d": 1, "c": "x,}\n\"'"}}})"), "a:{b:{c:<|\"|>x,}\n\"'<|\"|>,d:1}}");
  EXPECT_EQ(arguments(R"({"a": "\u6771 \\ / <|\"|>"})"), "a:<|\"|>東 \\ / <|\"|><|\"|>");
  EXPECT_EQ(arguments(R"({"n": [0, -0, 1, -7, 9007199254740993, 123456789012345678901234567890]})"),
            "n:[0,0,1,-7,9007199254740993,123456789012345678901234567890]");
  EXPECT_EQ(arguments(R"({"n": [1.0, -0.0, 2.50, 1e5, 1e15, 1e16, 1.5e300, 0.0001, 0.00001, 1e-7, 5e-324]})"),
            "n:[1.0,-0.0,2.5,100000.0,1000000000000000.0,1e+16,1.5e+300,0.0001,1e-05,1e-07,5e-324]");
}

TEST(Render, KeysAreSortedWithoutRegardToCase) {
  EXPECT_EQ(arguments(R"({"b": 1, "B": 2, "a": 3, "_": 4, "Z": 5, "É": 6, "é": 7, "z": 8, "A": 9})"),
            "_:4,a:3,A:9,b:1,B:2,Z:5,z:8,É:6,é:7");
  EXPECT_EQ(arguments(R"({"x": 1, "y": 2, "x": 3})"), "x:3,y:2");
  EXPECT_EQ(arguments(R"({"\uff21": 1, "\ud83d\ude00": 2, "a": 3})"), "a:3,Ａ:1,😀:2");
}

TEST(Render, ArgumentsMayBeGivenAsAnObjectOrNotAtAll) {
  const auto call = [](const std::string& function) {
    return chat(R"({"role": "assistant", "tool_calls": [{"type": "function", "function": )" + function + "}]}," +
                kUser);
  };
  const std::string end = "}<tool_call|><|tool_response>" + kUserTurn + GEN;
  EXPECT_EQ(call(R"({"name": "f", "arguments": {"a": 1}})"), "<|turn>model\n<|tool_call>call:f{a:1" + end);
  EXPECT_EQ(call(R"({"name": "f", "arguments": null})"), "<|turn>model\n<|tool_call>call:f{" + end);
  EXPECT_EQ(call(R"({"name": "f"})"), "<|turn>model\n<|tool_call>call:f{" + end);
}

TEST(Render, TheTemplateRefusesTextArguments) {
  EXPECT_THAT(prompt(R"({"messages": [{"role": "user", "content": "q"}, {"role": "function", "content": "x",
                        "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}]})"),
              HasSubstr("tool_calls[].function.arguments must be a JSON object (mapping), not a string."));
}

// ---- declarations

std::string declared(const std::string& function) {
  const std::string text = chat(kUser, R"(, "tools": [{"type": "function", "function": )" + function + "}]");
  const std::string start = "<|turn>system\n<|tool>declaration:", end = "<tool|><turn|>\n" + kUserTurn + GEN;
  EXPECT_TRUE(text.starts_with(start) && text.ends_with(end)) << text;
  return text.substr(start.size(), text.size() - start.size() - end.size());
}
std::string parameters(const std::string& schema) {
  const std::string text = declared(R"({"name": "f", "description": "d", "parameters": )" + schema + "}");
  const std::string start = "f{description:<|\"|>d<|\"|>";
  EXPECT_TRUE(text.starts_with(start) && text.ends_with("}")) << text;
  return text.substr(start.size(), text.size() - start.size() - 1);
}
/// One property's inside.
std::string property(const std::string& schema) {
  const std::string text = parameters(R"({"type": "object", "properties": {"p": )" + schema + "}}");
  const std::string start = ",parameters:{properties:{p:{", end = "}},type:<|\"|>OBJECT<|\"|>}";
  EXPECT_TRUE(text.starts_with(start) && text.ends_with(end)) << text;
  return text.substr(start.size(), text.size() - start.size() - end.size());
}

TEST(Render, Declaration) {
  EXPECT_EQ(declared(R"({"name": "now"})"), "now{description:<|\"|>None<|\"|>}");
  EXPECT_EQ(declared(R"({"name": "now", "description": null, "parameters": null})"),
            "now{description:<|\"|>None<|\"|>}");
  EXPECT_EQ(
      declared(R"({"name": "now", "description": " d ", "parameters": {}, "strict": true, "response": {"type": 1}})"),
      "now{description:<|\"|> d <|\"|>}");
  EXPECT_EQ(parameters(R"({"type": "object"})"), ",parameters:{type:<|\"|>OBJECT<|\"|>}");
  EXPECT_EQ(parameters(R"({"type": "object", "properties": {}, "required": []})"),
            ",parameters:{type:<|\"|>OBJECT<|\"|>}");
  EXPECT_EQ(parameters(R"({"required": ["b", "a"], "type": "object", "properties": {"b": {}, "a": {"type": "null"}}})"),
            ",parameters:{properties:{a:{type:<|\"|>NULL<|\"|>},b:{type:<|\"|><|\"|>}},"
            "required:[<|\"|>b<|\"|>,<|\"|>a<|\"|>],type:<|\"|>OBJECT<|\"|>}");
  // Without a type the brace stays open.
  EXPECT_EQ(parameters(R"({"properties": {"a": {"type": "string"}}})"),
            ",parameters:{properties:{a:{type:<|\"|>STRING<|\"|>}},");
}

TEST(Render, Property) {
  EXPECT_EQ(property(R"({"type": "string", "description": "D", "enum": ["x", "y"], "nullable": true, "default": "x"})"),
            "description:<|\"|>D<|\"|>,enum:[<|\"|>x<|\"|>,<|\"|>y<|\"|>],nullable:true,type:<|\"|>STRING<|\"|>");
  EXPECT_EQ(property(R"({"type": "string", "description": "", "enum": [], "nullable": false})"),
            "type:<|\"|>STRING<|\"|>");
  EXPECT_EQ(property(R"({"type": "string", "enum": [1, null, {"k": true}]})"),
            "enum:[1,null,{<|\"|>k<|\"|>:true}],type:<|\"|>STRING<|\"|>");
  EXPECT_EQ(property(R"({"type": "integer", "enum": [1], "minimum": 0})"), "type:<|\"|>INTEGER<|\"|>");
  EXPECT_EQ(property(R"({"type": ["string", "null"], "enum": ["x"]})"), "type:<|\"|>['STRING', 'NULL']<|\"|>");
  EXPECT_EQ(property(R"({"anyOf": [{"type": "string"}]})"), "type:<|\"|><|\"|>");
  EXPECT_EQ(property("true"), "type:<|\"|><|\"|>");
}

TEST(Render, ObjectProperty) {
  EXPECT_EQ(property(R"({"type": "object"})"), "properties:{},type:<|\"|>OBJECT<|\"|>");
  EXPECT_EQ(property(R"({"type": "object", "properties": {"x": {"type": "number"}}, "required": ["x"], "title": "T"})"),
            "properties:{x:{type:<|\"|>NUMBER<|\"|>}},required:[<|\"|>x<|\"|>],type:<|\"|>OBJECT<|\"|>");
  // Other keywords pass for properties if there are none.
  EXPECT_EQ(property(R"({"type": "object", "description": "D", "nullable": true, "title": "T",
                         "additionalProperties": {"type": "integer", "description": "I"}})"),
            "description:<|\"|>D<|\"|>,nullable:true,properties:{additionalProperties:{description:<|\"|>I<|\"|>,"
            "type:<|\"|>INTEGER<|\"|>},title:{type:<|\"|><|\"|>}},type:<|\"|>OBJECT<|\"|>");
}

TEST(Render, ArrayProperty) {
  EXPECT_EQ(property(R"({"type": "array"})"), "type:<|\"|>ARRAY<|\"|>");
  EXPECT_EQ(property(R"({"type": "array", "items": {}})"), "type:<|\"|>ARRAY<|\"|>");
  EXPECT_EQ(property(R"({"type": "array", "items": false})"), "type:<|\"|>ARRAY<|\"|>");
  EXPECT_EQ(property(R"({"type": "array", "items": {"type": ["string", "null"], "minLength": 1, "default": null}})"),
            "items:{minLength:1,type:[<|\"|>STRING<|\"|>,<|\"|>NULL<|\"|>]},type:<|\"|>ARRAY<|\"|>");
  EXPECT_EQ(
      property(
          R"({"type": "array", "items": {"type": "object", "required": ["y"], "properties": {"y": {"type": "boolean"}},
                         "additionalProperties": {"Type": 1, "type": "string"}}})"),
      "items:{additionalProperties:{<|\"|>Type<|\"|>:1,<|\"|>type<|\"|>:<|\"|>string<|\"|>},properties:{y:{"
      "type:<|\"|>BOOLEAN<|\"|>}},required:[<|\"|>y<|\"|>],type:<|\"|>OBJECT<|\"|>},type:<|\"|>ARRAY<|\"|>");
}

/// Values in places that no schema checks show as Python's str() does.
TEST(Render, PythonText) {
  const auto odd_type = [](const std::string& type) {
    const std::string text = property(R"({"type": "object", "default": {"type": )" + type + "}}");
    const std::string start = "properties:{default:{type:<|\"|>", end = "<|\"|>}},type:<|\"|>OBJECT<|\"|>";
    EXPECT_TRUE(text.starts_with(start) && text.ends_with(end)) << text;
    return text.substr(start.size(), text.size() - start.size() - end.size());
  };
  EXPECT_EQ(odd_type("null"), "NONE");
  EXPECT_EQ(odd_type("1.50"), "1.5");
  EXPECT_EQ(odd_type(R"([true, null, 1, "it's", "a\"b'", {"k": [2.0]}])"),
            R"([TRUE, NONE, 1, "IT'S", 'A"B\'', {'K': [2.0]}])");
  EXPECT_EQ(odd_type(R"(["\n\t\\\u0007\u00a0\u2028\ud83d\ude00ß"])"), R"(['\N\T\\\X07\XA0\U2028😀SS'])");
  EXPECT_THAT(
      prompt(R"({"messages": [{"role": "user", "content": "q"}], "tools": [{"function": {"name": "f", "parameters":
                     {"type": "object", "properties": {"p": {"type": "object", "default": {"type": "object", "required": 5}}}}}}]})"),
      HasSubstr("'required' in a tool's parameters must be a list"));
}

TEST(Render, ToolsFollowTheChoice) {
  const std::string tools = R"(, "tools": [{"function": {"name": "f"}}, {"function": {"name": "g"}}])";
  const std::string f = "<|tool>declaration:f{description:<|\"|>None<|\"|>}<tool|>";
  const std::string g = "<|tool>declaration:g{description:<|\"|>None<|\"|>}<tool|>";
  const std::string rest = "<turn|>\n" + kUserTurn + GEN;
  EXPECT_EQ(chat(kUser, tools), "<|turn>system\n" + f + g + rest);
  EXPECT_EQ(chat(kUser, tools + R"(, "tool_choice": "required")"), "<|turn>system\n" + f + g + rest);
  EXPECT_EQ(chat(kUser, tools + R"(, "tool_choice": {"function": {"name": "g"}})"), "<|turn>system\n" + g + rest);
  EXPECT_EQ(chat(kUser, tools + R"(, "tool_choice": "none")"), kUserTurn + GEN);
  EXPECT_EQ(chat(R"({"role": "system", "content": "S"},)" + kUser, tools + kThinking),
            "<|turn>system\n<|think|>\nS" + f + g + "<turn|>\n" + kUserTurn + THINK);
  // Tools inside messages are not written.
  EXPECT_EQ(chat(R"({"role": "system", "content": "S", "tools": [{"function": {"name": "h"}}]},)" + kUser, tools),
            "<|turn>system\nS" + f + g + rest);
}

}  // namespace
}  // namespace carat
