#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/json.h"
#include "base/str.h"
#include "client/chat_backend.h"
#include "client/chat_ui.h"
#include "http/server.h"

namespace carat {
namespace {

using testing::ElementsAre;
using testing::EndsWith;
using testing::HasSubstr;

// Answers with the pieces it is given, "~" before those that are reasoning.
class ScriptedDialog final : public DialogBackend {
 public:
  Result<std::string> model() override { return std::string("tiny"); }
  Result<DialogAnswer> answer(const DialogRequest& request,
                              const std::function<void(std::string_view, std::string_view)>& on_piece,
                              const std::atomic<bool>& stop) override {
    requests.push_back(request);
    for (const std::string& piece : pieces) {
      if (piece == "^C") {
        interrupt();
        if (stop) return Error{Errc::kCancelled, "the request was cancelled"};
      } else if (piece.starts_with('~')) {
        on_piece(std::string_view(piece).substr(1), "");
      } else {
        on_piece("", piece);
      }
    }
    if (!failure.empty()) return Error{Errc::kIo, failure};
    return DialogAnswer{.finish_reason = finish_reason, .prompt_tokens = 3, .completion_tokens = 2};
  }

  std::vector<std::string> pieces{"Hel", "lo"};
  std::string failure, finish_reason = "stop";
  std::function<void()> interrupt;
  std::vector<DialogRequest> requests;
};

class ChatSessionTest : public testing::Test {
 protected:
  DialogSession make(bool styled = false, DialogRequest settings = {}, bool verbose = false) {
    backend_.interrupt = [this] { stop_ = true; };
    return DialogSession(
        backend_, {.write = [this](std::string_view text) { out_ += text; }, .styled = styled, .verbose = verbose},
        std::move(settings), stop_);
  }
  ScriptedDialog backend_;
  std::string out_;
  std::atomic<bool> stop_{false};
};

TEST_F(ChatSessionTest, KeepsTheConversation) {
  auto session = make();
  EXPECT_TRUE(session.take_line("  hi \n"));
  EXPECT_EQ(out_, "Hello\n");
  EXPECT_TRUE(session.take_line("again"));
  EXPECT_TRUE(session.take_line(""));
  ASSERT_EQ(backend_.requests.size(), 2U);
  EXPECT_THAT(
      backend_.requests[1].messages,
      ElementsAre(DialogMessage{"user", "hi"}, DialogMessage{"assistant", "Hello"}, DialogMessage{"user", "again"}));
}

TEST_F(ChatSessionTest, ShowsReasoningDimOrMarked) {
  backend_.pieces = {"~let me", "~ see", "42"};
  auto styled = make(true);
  styled.take_line("x");
  EXPECT_EQ(out_, "\x1b[2mlet me see\x1b[0m\n42\n");
  out_.clear();
  auto plain = make();
  plain.take_line("x");
  EXPECT_EQ(out_, "[thinking]\nlet me see\n[answer]\n42\n");
  EXPECT_EQ(plain.state().messages.back().content, "42");  // thoughts are not repeated to the model
}

TEST_F(ChatSessionTest, CtrlCKeepsWhatWasSaid) {
  backend_.pieces = {"Hel", "^C", "lo"};
  auto session = make();
  session.take_line("hi");
  EXPECT_EQ(out_, "Hel\n[stopped]\n");
  EXPECT_EQ(session.state().messages.back(), (DialogMessage{"assistant", "Hel"}));
  backend_.pieces = {"on"};
  session.take_line("go on");
  EXPECT_THAT(out_, EndsWith("on\n"));  // the old Ctrl-C does not stop the next answer
}

TEST_F(ChatSessionTest, AFailureTakesTheMessageBack) {
  backend_.failure = "cannot connect";
  auto session = make();
  EXPECT_TRUE(session.take_line("hi"));
  EXPECT_THAT(out_, HasSubstr("error: cannot connect"));
  EXPECT_TRUE(session.state().messages.empty());
  EXPECT_FALSE(session.say("hi"));
  backend_.failure.clear();
  EXPECT_TRUE(session.say("hi"));
  backend_.failure = "gone";
  session.take_line("/retry");
  EXPECT_THAT(session.state().messages, ElementsAre(DialogMessage{"user", "hi"}, DialogMessage{"assistant", "Hello"}));
}

TEST_F(ChatSessionTest, Commands) {
  auto session = make(false, {.messages = {{"system", "Be brief."}}});
  session.take_line("hi");
  session.take_line("/retry");
  EXPECT_EQ(session.state().messages.size(), 3U);
  EXPECT_EQ(backend_.requests.back().messages.size(), 2U);
  session.take_line("/show");
  EXPECT_THAT(out_, HasSubstr("system: Be brief.\nuser: hi\nassistant: Hello\n"));
  session.take_line("/reset");
  EXPECT_THAT(session.state().messages, ElementsAre(DialogMessage{"system", "Be brief."}));
  session.take_line("/system You are\na cat.");
  EXPECT_THAT(session.state().messages, ElementsAre(DialogMessage{"system", "You are\na cat."}));
  session.take_line("/system");
  EXPECT_TRUE(session.state().messages.empty());
  session.take_line("/thinking on");
  EXPECT_EQ(session.state().thinking, true);
  session.take_line("/thinking off");
  EXPECT_EQ(session.state().thinking, false);
  session.take_line("/temperature 0.5");
  session.take_line("/top-p 0.9");
  session.take_line("/max-tokens 7");
  EXPECT_EQ(session.state().temperature, 0.5);
  EXPECT_EQ(session.state().top_p, 0.9);
  EXPECT_EQ(session.state().max_tokens, 7);
  session.take_line("/temperature default");
  session.take_line("/max-tokens default");
  EXPECT_FALSE(session.state().temperature || session.state().max_tokens);
  EXPECT_FALSE(session.take_line("/quit"));
  EXPECT_FALSE(session.take_line(" /exit "));
  EXPECT_EQ(backend_.requests.size(), 2U);
  session.take_line("//etc");
  EXPECT_EQ(backend_.requests.back().messages.back().content, "/etc");
}

TEST_F(ChatSessionTest, SaysWhatACommandTakes) {
  auto session = make();
  for (const auto& [line, message] : std::vector<std::pair<std::string, std::string>>{
           {"/nonsense", "unknown command /nonsense"},
           {"/thinking maybe", "takes on or off, not 'maybe'"},
           {"/temperature hot", "a number in [0, 100] or default, not 'hot'"},
           {"/top-p 1.5", "[0, 1]"},
           {"/max-tokens 0", "a positive integer or default, not '0'"},
           {"/retry", "nothing to answer again"},
           {"/show", "Nothing has been said."},
           {"/help", "/thinking on|off"}}) {
    out_.clear();
    EXPECT_TRUE(session.take_line(line));
    EXPECT_THAT(out_, HasSubstr(message));
  }
  EXPECT_TRUE(backend_.requests.empty());
}

TEST_F(ChatSessionTest, NotesHowAnAnswerEnded) {
  backend_.finish_reason = "length";
  auto session = make(false, {}, true);
  session.take_line("hi");
  EXPECT_THAT(out_, HasSubstr("Hello\n[cut at the longest answer]\n[3 + 2 tokens, first after "));
}

TEST(ChatPrintable, NothingSteersTheTerminal) {
  EXPECT_EQ(printable("a\tb\nc"), "a\tb\nc");
  EXPECT_EQ(printable("\x1b[31mred\x07\r\x7f"), "[31mred");
  EXPECT_EQ(printable("\xc2\x9b"
                      "31m \xc2\xa0 \xc3\xa4"),
            "31m \xc2\xa0 \xc3\xa4");
}

TEST(ChatOptions, ParsesAndRefuses) {
  const auto parse = [](const std::vector<std::string>& args) { return parse_chat_options(args); };
  const auto o = parse({"--url", "http://h:1", "--thinking=on", "--max-tokens", "5", "--prompt", "-"});
  ASSERT_TRUE(o) << o.error().message;
  EXPECT_EQ(o->url, "http://h:1");
  EXPECT_EQ(o->max_tokens, 5);
  EXPECT_TRUE(o->has_prompt);
  EXPECT_FALSE(parse({"--thinking", "maybe"}));
  EXPECT_FALSE(parse({"--url", "https://h"}));
  EXPECT_FALSE(parse({"--", "--x"}));
  EXPECT_FALSE(parse({"hello"}));
  EXPECT_THAT(chat_help(), HasSubstr("/thinking on|off"));
}

TEST(ChatHttp, TalksToAServer) {
  std::vector<std::string> bodies, keys;
  std::string events =
      "data: {\"choices\":[{\"delta\":{\"reasoning_content\":null,\"role\":\"assistant\",\"content\":\"\"}}]}\n\n"
      "data: {\"choices\":[{\"delta\":{\"reasoning_content\":\"hm\"}}]}\n\n"
      "data: {\"choices\":[{\"delta\":{\"reasoning_content\":null,\"content\":\"\\u00e4\\n\"}}]}\n\n"
      "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n"
      "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":4,\"completion_tokens\":2}}\n\ndata: [DONE]\n\n";
  auto server = HttpServer::start({.port = 0}, [&](HttpRequest request, std::shared_ptr<HttpReply> reply) {
    if (request.path == "/v1/models") return reply->send({.body = R"({"data":[{"id":"tiny"}]})"});
    const auto* key = request.header("authorization");
    keys.push_back(key == nullptr ? "" : *key);
    bodies.push_back(request.body);
    if (events.empty())
      return reply->send({.status = 400, .body = R"({"object":"error","message":"too long","code":400})"});
    reply->begin_stream({.content_type = "text/event-stream", .body = events});
    reply->end();
  });
  ASSERT_TRUE(server);
  const HttpUrl url{.host = "127.0.0.1", .port = (*server)->port(), .path = ""};
  const auto backend = make_chat_http(url, "", "secret");
  EXPECT_EQ(backend->model().value(), "tiny");
  std::string reasoning, content;
  const std::atomic<bool> stop{false};
  const auto on_piece = [&](std::string_view r, std::string_view c) {
    reasoning += r;
    content += c;
  };
  DialogRequest request{.messages = {{"user", "hi"}}};
  auto answer = backend->answer(request, on_piece, stop);
  ASSERT_TRUE(answer) << answer.error().message;
  EXPECT_EQ(reasoning, "hm");
  EXPECT_EQ(content, "ä\n");
  EXPECT_EQ(answer->finish_reason, "stop");
  EXPECT_EQ(answer->prompt_tokens, 4);
  EXPECT_EQ(answer->completion_tokens, 2);

  request.thinking = true;
  request.max_tokens = 9;
  request.temperature = 0.5;
  request.top_p = 0.9;
  events = "data: {\"error\":{\"message\":\"out of pages\",\"code\":500}}\n\ndata: [DONE]\n\n";
  answer = backend->answer(request, on_piece, stop);
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().message, "out of pages");
  events.clear();
  answer = backend->answer(request, on_piece, stop);
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().message, "the server answers 400 Bad Request: too long");

  EXPECT_THAT(keys, ElementsAre("Bearer secret", "Bearer secret", "Bearer secret"));
  EXPECT_EQ(
      bodies[0],
      R"({"model":"tiny","messages":[{"role":"user","content":"hi"}],"stream":true,"stream_options":{"include_usage":true}})");
  EXPECT_THAT(bodies[1], HasSubstr(R"("chat_template_kwargs":{"enable_thinking":true},"max_completion_tokens":9,)"
                                   R"("temperature":0.5,"top_p":0.9})"));
  server->reset();
  EXPECT_FALSE(backend->answer(request, on_piece, stop));
}

}  // namespace
}  // namespace carat
