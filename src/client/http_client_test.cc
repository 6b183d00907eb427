#include "client/http_client.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <mutex>
#include <thread>

#include "base/str.h"
#include "client/sse.h"
#include "http/server.h"

namespace carat {
namespace {

using namespace std::chrono_literals;
using testing::ElementsAre;
using testing::HasSubstr;
using Strings = std::vector<std::string>;

class HttpClientTest : public testing::Test {
 protected:
  void start(HttpServerOptions options = {}) {
    options.port = 0;
    auto started = HttpServer::start(options, [this](HttpRequest request, std::shared_ptr<HttpReply> reply) {
      if (request.path == "/events") {
        reply->begin_stream({.content_type = "text/event-stream", .body = "data: {\"a\":1}\n\nda"});
        reply->write("ta: 2\n");
        reply->write("\nevent: x\ndata: 3\ndata: 4\n\n: comment\n\ndata: [DONE]\n\n");
        reply->end();
      } else if (request.path == "/hang") {
        reply->on_disconnect([this] { ++num_disconnects; });
        reply->begin_stream({.content_type = "text/event-stream", .body = "data: 1\n\n"});
        held.push_back(std::move(reply));
        ++num_held;
      } else if (request.path == "/cut") {
        reply->begin_stream({.content_type = "text/event-stream", .body = "data: 1\n\n"});
      } else if (request.path == "/large") {
        reply->send({.body = std::string(3 << 20, 'x')});
      } else {
        const auto* type = request.header("content-type");
        reply->send({.status = request.path == "/missing" ? 404 : 200,
                     .body = str_cat(request.method, " ", request.path, "?", request.query, " ", request.body, " ",
                                     type == nullptr ? "" : *type)});
      }
    });
    ASSERT_TRUE(started) << started.error().message;
    server = std::move(*started);
    url = {.host = "127.0.0.1", .port = server->port(), .path = ""};
  }
  void TearDown() override {
    server.reset();
    held.clear();
  }

  std::atomic<int> num_disconnects{0}, num_held{0};
  std::vector<std::shared_ptr<HttpReply>> held;
  std::unique_ptr<HttpServer> server;
  HttpUrl url;
};

TEST_F(HttpClientTest, RequestsOverOneConnection) {
  start();
  HttpClient client(url);
  for (int i = 0; i < 3; ++i) {
    const auto answer = client.request({.method = "POST", .target = "/a?b=1", .body = "{}"});
    ASSERT_TRUE(answer) << answer.error().message;
    EXPECT_EQ(answer->status(), 200);
    EXPECT_EQ(answer->body, "POST /a?b=1 {} application/json");
    EXPECT_EQ(server->num_connections(), 1);
  }
  EXPECT_EQ(client.request({.target = "/missing"})->status(), 404);
  EXPECT_EQ(client.request({.target = "/large"})->body.size(), size_t{3 << 20});
  const auto head = client.request({.method = "HEAD", .target = "/large"});
  ASSERT_TRUE(head);
  EXPECT_EQ(head->body, "");
  EXPECT_EQ(*head->head.header("content-length"), str_cat(3 << 20));
  EXPECT_EQ(server->num_connections(), 1);
}

TEST_F(HttpClientTest, AnswersWithoutALengthEndWithTheConnection) {
  start();
  url.path = "/base";
  HttpClient client(url);
  EXPECT_THAT(client.request({.target = "/x", .headers = {{"Connection", "close"}}})->body, HasSubstr("/base/x"));
  EXPECT_THAT(client.request({.target = "/y"})->body, HasSubstr("/base/y"));
}

TEST_F(HttpClientTest, ReadsEvents) {
  start();
  HttpClient client(url);
  for (int i = 0; i < 2; ++i) {
    Strings events;
    const auto answer = client.stream({.target = "/events"}, [&](std::string_view name, std::string_view data) {
      events.push_back(str_cat(name, "|", data));
      return true;
    });
    ASSERT_TRUE(answer) << answer.error().message;
    EXPECT_EQ(answer->status(), 200);
    EXPECT_THAT(events, ElementsAre("|{\"a\":1}", "|2", "x|3\n4", "|[DONE]"));
  }
  EXPECT_EQ(server->num_connections(), 1);
  const auto answer = client.stream({.target = "/missing"}, [](auto, auto) { return true; });
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->status(), 404);
  EXPECT_THAT(answer->body, HasSubstr("GET /missing"));
}

TEST_F(HttpClientTest, StopsAStream) {
  start();
  HttpClient client(url);
  auto answer = client.stream({.target = "/hang"}, [](auto, auto) { return false; });
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().code, Errc::kCancelled);
  std::atomic<bool> stop{false};
  std::thread stopper([&] {
    std::this_thread::sleep_for(30ms);
    stop = true;
  });
  answer = client.stream(
      {.target = "/hang"}, [](auto, auto) { return true; }, &stop);
  stopper.join();
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().code, Errc::kCancelled);
  EXPECT_EQ(client.request({.target = "/after"})->status(), 200);
  for (int i = 0; i < 1000 && num_disconnects < 2; ++i) std::this_thread::sleep_for(1ms);
  EXPECT_EQ(num_disconnects, 2);
}

TEST_F(HttpClientTest, SaysWhatWentWrong) {
  start();
  HttpClient client(url, {.connect_timeout_s = 1, .idle_timeout_s = 0.1});
  auto answer = client.request({.target = "/cut"});
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().code, Errc::kIo);
  answer = client.request({.target = "/hang"});
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().code, Errc::kUnavailable);
  EXPECT_THAT(answer.error().message, HasSubstr("sent nothing for 0.1 s"));
  server.reset();
  answer = client.request({.target = "/"});
  ASSERT_FALSE(answer);
  EXPECT_THAT(answer.error().message, HasSubstr(str_cat("cannot connect to 127.0.0.1:", url.port)));
  HttpClient unknown({.host = "no.such.host.invalid", .port = 1, .path = ""});
  EXPECT_THAT(unknown.request({}).error().message, HasSubstr("no.such.host.invalid"));
}

TEST_F(HttpClientTest, SurvivesAServerThatClosesIdleConnections) {
  start({.idle_timeout_s = 1});
  HttpClient client(url);
  EXPECT_EQ(client.request({})->status(), 200);
  for (int i = 0; i < 3000 && server->num_connections() > 0; ++i) std::this_thread::sleep_for(1ms);
  EXPECT_EQ(client.request({})->status(), 200);
}

TEST_F(HttpClientTest, PoolSendsManyAtOnceAndKeepsConnections) {
  start();
  std::mutex mutex;
  int done = 0;
  std::string data;
  {
    HttpClientPool pool(url, {}, 2);
    for (int round = 0; round < 3; ++round) {
      for (int i = 0; i < 100; ++i)
        pool.send({.target = "/events"}, {.on_head = [](const HttpResponseHead& head) { EXPECT_EQ(head.status, 200); },
                                          .on_data = [](std::string_view) {},
                                          .on_done =
                                              [&](Result<void> result) {
                                                EXPECT_TRUE(result) << result.error().message;
                                                const std::lock_guard lock(mutex);
                                                ++done;
                                              }});
      for (int i = 0; i < 5000; ++i) {
        std::this_thread::sleep_for(1ms);
        const std::lock_guard lock(mutex);
        if (done == 100 * (round + 1)) break;
      }
      EXPECT_EQ(done, 100 * (round + 1));
      EXPECT_LE(server->num_connections(), 100);
    }
    pool.send({.target = "/hang"}, {.on_head = nullptr, .on_data = nullptr, .on_done = [&](Result<void> result) {
                                      EXPECT_EQ(result.error().code, Errc::kCancelled);
                                      ++done;
                                    }});
    while (num_held == 0) std::this_thread::sleep_for(1ms);
  }
  EXPECT_EQ(done, 301);
}

TEST(HttpUrl, Parses) {
  const auto show = [](std::string_view text) {
    const auto url = parse_http_url(text);
    return url ? str_cat(url->authority(), url->path) : url.error().message;
  };
  EXPECT_EQ(show("http://127.0.0.1:30000"), "127.0.0.1:30000");
  EXPECT_EQ(show("HTTP://host/"), "host:80");
  EXPECT_EQ(show("host:1/a/b/"), "host:1/a/b");
  EXPECT_EQ(show("http://[::1]:8080/x"), "[::1]:8080/x");
  for (const auto bad : {"https://h", "ftp://h", "http://", "http://h:0", "http://h:x", "http://h:", "http://h:70000",
                         "http://u@h", "http://::1", "http://[::1", "http://[::1]x", "http://h?q"})
    EXPECT_FALSE(parse_http_url(bad)) << bad;
}

TEST(SseReader, DoesNotDependOnWhereTheStreamIsCut) {
  const std::string text =
      "data: a\r\n\r\ndata:b\ndata:  c\n\nevent:e\nid: 3\ndata\n\n: x\nevent: only\n\ndata: d\n\ndata: cut";
  for (size_t piece = 1; piece <= text.size(); ++piece) {
    SseReader reader;
    Strings events;
    for (size_t at = 0; at < text.size(); at += piece)
      reader.feed(std::string_view(text).substr(at, piece),
                  [&](std::string_view name, std::string_view data) { events.push_back(str_cat(name, "|", data)); });
    EXPECT_THAT(events, ElementsAre("|a", "|b\n c", "e|", "|d")) << piece;
  }
}

}  // namespace
}  // namespace carat
