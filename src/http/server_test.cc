#include "http/server.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <map>
#include <mutex>
#include <thread>

#include "http/test_socket.h"

namespace carat {
namespace {

using namespace std::chrono_literals;
using std::chrono::steady_clock;
using testing::HasSubstr;

template <class Condition>
bool eventually(const Condition& condition, std::chrono::milliseconds limit = 5s) {
  const auto end = steady_clock::now() + limit;
  while (!condition()) {
    if (steady_clock::now() > end) return false;
    std::this_thread::sleep_for(1ms);
  }
  return true;
}

// A server whose paths do what the tests need; replies of /hold are kept for the test to use.
class HttpServerTest : public testing::Test {
 protected:
  void start(HttpServerOptions options = {}) {
    options.port = 0;
    auto server = HttpServer::start(std::move(options), [this](HttpRequest request, std::shared_ptr<HttpReply> reply) {
      handle(std::move(request), std::move(reply));
    });
    ASSERT_TRUE(server) << server.error().message;
    server_ = std::move(*server);
  }
  void TearDown() override {
    server_.reset();
    held_.clear();
  }

  void handle(HttpRequest request, std::shared_ptr<HttpReply> reply) {
    if (request.path == "/hold") {
      const std::lock_guard lock(mutex_);
      reply->on_disconnect([this] { ++num_disconnects_; });
      held_.push_back(std::move(reply));
    } else if (request.path == "/stream") {
      reply->begin_stream({.content_type = "text/event-stream", .body = "data: 0\n\n"});
      reply->write("data: 1\n\n");
      reply->write("");
      reply->write("data: [DONE]\n\n");
      reply->end();
    } else if (request.path == "/drop") {
    } else if (request.path == "/drop_stream") {
      reply->begin_stream({.body = "begun"});
    } else if (request.path == "/throw") {
      throw std::runtime_error("on purpose");
    } else if (request.path == "/nothing") {
      reply->send({.status = 204, .content_type = "", .body = ""});
    } else if (request.path == "/split") {
      reply->send({.body = "ok", .headers = {{"X-Name", "a\r\nX-Evil: b"}, {"Content-Length", "7"}}});
    } else {
      std::string headers;
      for (const auto& h : request.headers) headers += str_cat(h.name, "=", h.value, ";");
      reply->send({.content_type = "text/plain",
                   .body = str_cat(request.method, " ", request.path, " ?", request.query, " ", headers, " ",
                                   request.body.size() > 100 ? str_cat(request.body.size()) : request.body),
                   .headers = {{"X-Peer", request.peer}}});
    }
  }

  std::shared_ptr<HttpReply> held(size_t i) {
    EXPECT_TRUE(eventually([&] {
      const std::lock_guard lock(mutex_);
      return held_.size() > i;
    }));
    const std::lock_guard lock(mutex_);
    return held_.at(i);
  }
  void let_go_of_held() {
    const std::lock_guard lock(mutex_);
    held_.clear();
  }

  TestSocket connect() { return TestSocket(server_->port()); }

  std::atomic<int> num_disconnects_{0};
  std::mutex mutex_;
  std::vector<std::shared_ptr<HttpReply>> held_;
  std::unique_ptr<HttpServer> server_;
};

constexpr std::string_view kGet = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";
constexpr std::string_view kHold = "GET /hold HTTP/1.1\r\nHost: h\r\n\r\n";

TEST_F(HttpServerTest, AnswersAndKeepsTheConnection) {
  start();
  auto client = connect();
  for (int i = 0; i < 3; ++i) {
    const auto answer =
        client.request("POST /a%20b/%C3%A4?x=1&y=%202 HTTP/1.1\r\nHost: h\r\ncontent-LENGTH: 3\r\n\r\nabc");
    EXPECT_EQ(answer.status, 200);
    EXPECT_EQ(answer.body, "POST /a b/ä ?x=1&y=%202 Host=h;content-LENGTH=3; abc");
    EXPECT_TRUE(answer.has("X-Peer: 127.0.0.1:"));
    EXPECT_TRUE(answer.has("Content-Type: text/plain\r\n"));
    EXPECT_TRUE(answer.has("\r\nDate: "));
    EXPECT_FALSE(answer.has("Connection:"));
  }
  EXPECT_EQ(server_->num_connections(), 1);
  EXPECT_TRUE(eventually([&] { return server_->num_active_requests() == 0; }));
}

TEST_F(HttpServerTest, StreamsInChunks) {
  start();
  auto client = connect();
  for (int i = 0; i < 2; ++i) {
    const auto answer = client.request("GET /stream HTTP/1.1\r\nHost: h\r\n\r\n");
    EXPECT_TRUE(answer.complete);
    EXPECT_TRUE(answer.has("Transfer-Encoding: chunked"));
    EXPECT_TRUE(answer.has("Content-Type: text/event-stream"));
    EXPECT_EQ(answer.body, "data: 0\n\ndata: 1\n\ndata: [DONE]\n\n");
  }
}

TEST_F(HttpServerTest, Http10GetsNoChunksAndAClosedConnection) {
  start();
  auto client = connect();
  auto answer = client.request("GET /stream HTTP/1.0\r\n\r\n");
  EXPECT_TRUE(answer.complete);
  EXPECT_FALSE(answer.has("Transfer-Encoding"));
  EXPECT_TRUE(answer.has("Connection: close"));
  EXPECT_EQ(answer.body, "data: 0\n\ndata: 1\n\ndata: [DONE]\n\n");
  auto kept = connect();
  for (int i = 0; i < 2; ++i) {
    answer = kept.request("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    EXPECT_EQ(answer.status, 200);
    EXPECT_TRUE(answer.has("Connection: keep-alive"));
  }
  answer = kept.request("GET / HTTP/1.0\r\n\r\n");
  EXPECT_TRUE(answer.has("Connection: close"));
  EXPECT_TRUE(kept.read_to_end());
}

TEST_F(HttpServerTest, HeadHasTheHeadOfGetWithoutABody) {
  start();
  auto client = connect();
  const auto get = client.request("GET /xyz HTTP/1.1\r\nHost: h\r\n\r\n");
  const auto head = client.request("HEAD /xy HTTP/1.1\r\nHost: h\r\n\r\n", true);
  EXPECT_EQ(head.status, 200);
  EXPECT_TRUE(head.has(str_cat("Content-Length: ", get.body.size())));
  const auto stream = client.request("HEAD /stream HTTP/1.1\r\nHost: h\r\n\r\n", true);
  EXPECT_TRUE(stream.has("text/event-stream"));
  EXPECT_EQ(client.request(kGet).status, 200);  // nothing of a body was in between
  EXPECT_EQ(client.buffer(), "");
}

TEST_F(HttpServerTest, OptionsAndUnknownMethodsReachTheHandler) {
  start();
  auto client = connect();
  EXPECT_THAT(client.request("OPTIONS /v1 HTTP/1.1\r\nHost: h\r\n\r\n").body, HasSubstr("OPTIONS /v1"));
  EXPECT_THAT(client.request("OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n").body, HasSubstr("OPTIONS *"));
  EXPECT_THAT(client.request("BREW /pot HTTP/1.1\r\nHost: h\r\n\r\n").body, HasSubstr("BREW /pot"));
  EXPECT_THAT(client.request("GET http://other:80/p?q HTTP/1.1\r\nHost: h\r\n\r\n").body, HasSubstr("GET /p ?q"));
  EXPECT_THAT(client.request("GET http://other HTTP/1.1\r\nHost: h\r\n\r\n").body, HasSubstr("GET / ?"));
}

TEST_F(HttpServerTest, NoContentHasNoLength) {
  start();
  auto client = connect();
  const auto answer = client.request("GET /nothing HTTP/1.1\r\nHost: h\r\n\r\n");
  EXPECT_EQ(answer.status, 204);
  EXPECT_FALSE(answer.has("Content-Length"));
  EXPECT_FALSE(answer.has("Content-Type"));
  EXPECT_EQ(client.request(kGet).status, 200);
}

TEST_F(HttpServerTest, HeaderValuesCannotSplitTheAnswer) {
  start();
  auto client = connect();
  const auto answer = client.request("GET /split HTTP/1.1\r\nHost: h\r\n\r\n");
  EXPECT_TRUE(answer.has("X-Name: aX-Evil: b\r\n"));
  EXPECT_EQ(answer.body, "ok");
}

TEST_F(HttpServerTest, AnswersPipelinedRequestsInOrder) {
  start();
  auto client = connect();
  std::string all;
  for (int i = 0; i < 50; ++i)
    all += i % 3 == 0   ? str_cat("GET /r", i, " HTTP/1.1\r\nHost: h\r\n\r\n")
           : i % 3 == 1 ? str_cat("POST /r", i, " HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nok")
                        : str_cat("POST /r", i,
                                  " HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n");
  client.send(all);
  for (int i = 0; i < 50; ++i) EXPECT_THAT(client.read_answer().body, HasSubstr(str_cat(" /r", i, " ")));
}

TEST_F(HttpServerTest, APipelinedRequestWaitsForAHeldAnswer) {
  start();
  auto client = connect();
  client.send(std::string(kHold) + std::string(kGet));
  const auto reply = held(0);
  EXPECT_FALSE(client.fill(50));
  reply->send({.body = "first"});
  EXPECT_EQ(client.read_answer().body, "first");
  EXPECT_THAT(client.read_answer().body, HasSubstr("GET /"));
}

TEST_F(HttpServerTest, RequestsMayComeByteByByte) {
  start();
  auto client = connect();
  const std::string request =
      "\r\nPOST /slow HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3;ext=1\r\nabc\r\n2\r\nde\r\n0\r\nX-T: "
      "1\r\n\r\n";
  for (const char c : request) {
    client.send({&c, 1});
    std::this_thread::sleep_for(200us);
  }
  const auto answer = client.read_answer();
  EXPECT_EQ(answer.body, "POST /slow ? Host=h;Transfer-Encoding=chunked; abcde");  // no trailer among the headers
}

TEST_F(HttpServerTest, ALineBreakOrTwoInFrontAreSkipped) {
  start();
  for (const bool in_pieces : {false, true})
    for (const int breaks : {1, 2, 3}) {
      auto client = connect();
      for (int i = 0; i < breaks; ++i) {
        client.send("\r\n");
        if (in_pieces) std::this_thread::sleep_for(2ms);
      }
      client.send(kGet);
      EXPECT_EQ(client.read_answer().status, breaks <= 2 ? 200 : 400) << breaks;
    }
}

TEST_F(HttpServerTest, ContinuesWhenAsked) {
  start();
  auto client = connect();
  client.send("POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n");
  EXPECT_EQ(client.read_answer().status, 100);
  client.send("abc");
  EXPECT_THAT(client.read_answer().body, HasSubstr("abc"));
  EXPECT_EQ(client.request("POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc").status,
            200);
  EXPECT_EQ(client.request("POST / HTTP/1.1\r\nHost: h\r\nExpect: wonders\r\nContent-Length: 3\r\n\r\nabc").status,
            417);
}

struct BadRequest {
  const char* name;
  std::string bytes;
  int status;
};

class HttpBadRequestTest : public HttpServerTest, public testing::WithParamInterface<BadRequest> {};

TEST_P(HttpBadRequestTest, IsRefusedAndTheConnectionCloses) {
  start();
  auto client = connect();
  client.send(GetParam().bytes);
  const auto answer = client.read_answer();
  EXPECT_EQ(answer.status, GetParam().status) << answer.head << answer.body;
  EXPECT_TRUE(answer.complete);
  EXPECT_TRUE(answer.has("Connection: close"));
  EXPECT_TRUE(client.read_to_end(1000));
  EXPECT_EQ(client.buffer(), "");  // one answer, whatever came behind the bad request
  EXPECT_TRUE(eventually([&] { return server_->num_active_requests() == 0; }));
}

const std::string kHead = "POST / HTTP/1.1\r\nHost: h\r\n";

INSTANTIATE_TEST_SUITE_P(
    Table, HttpBadRequestTest,
    testing::Values(
        BadRequest{"garbage", "hello\r\n\r\n", 400},
        BadRequest{"tls_hello", std::string("\x16\x03\x01\x02\x00\x01", 6), 400},
        BadRequest{"http2_preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400},
        BadRequest{"http09", "GET /\r\n\r\n", 400}, BadRequest{"http3", "GET / HTTP/3.0\r\nHost: h\r\n\r\n", 505},
        BadRequest{"no_host", "GET / HTTP/1.1\r\n\r\n", 400},
        BadRequest{"two_hosts", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400},
        BadRequest{"bare_lf", "GET / HTTP/1.1\nHost: h\n\n", 505},
        BadRequest{"space_before_colon", "GET / HTTP/1.1\r\nHost : h\r\n\r\n", 400},
        BadRequest{"no_colon", "GET / HTTP/1.1\r\nHost h\r\n\r\n", 400},
        BadRequest{"nul_in_value", "GET / HTTP/1.1\r\nHost: h" + std::string(1, '\0') + "\r\n\r\n", 400},
        BadRequest{"relative_target", "GET v1/models HTTP/1.1\r\nHost: h\r\n\r\n", 400},
        BadRequest{"broken_percent", "GET /%zz HTTP/1.1\r\nHost: h\r\n\r\n", 400},
        BadRequest{"cut_percent", "GET /%2 HTTP/1.1\r\nHost: h\r\n\r\n", 400},
        BadRequest{"percent_nul", "GET /%00 HTTP/1.1\r\nHost: h\r\n\r\n", 400},
        BadRequest{"connect", "CONNECT host:443 HTTP/1.1\r\nHost: h\r\n\r\n", 400},
        BadRequest{"length_and_chunked",
                   kHead + "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /x", 400},
        BadRequest{"chunked_and_length", kHead + "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
                   400},
        BadRequest{"two_lengths", kHead + "Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", 400},
        BadRequest{"two_equal_lengths", kHead + "Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc", 400},
        BadRequest{"length_list", kHead + "Content-Length: 3, 4\r\n\r\nabcd", 400},
        BadRequest{"negative_length", kHead + "Content-Length: -3\r\n\r\nabc", 400},
        BadRequest{"plus_length", kHead + "Content-Length: +3\r\n\r\nabc", 400},
        BadRequest{"hex_length", kHead + "Content-Length: 0x3\r\n\r\nabc", 400},
        BadRequest{"empty_length", kHead + "Content-Length: \r\n\r\nabc", 400},
        BadRequest{"huge_length", kHead + "Content-Length: 99999999999999999999999\r\n\r\nabc", 400},
        BadRequest{"gzip_encoding", kHead + "Transfer-Encoding: gzip\r\n\r\nabc", 501},
        BadRequest{"gzip_chunked", kHead + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501},
        BadRequest{"chunked_twice", kHead + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
                   400},
        BadRequest{"chunked_identity", kHead + "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", 501},
        BadRequest{"xchunked", kHead + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 501},
        BadRequest{"chunked_http10", "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
        BadRequest{"bad_chunk_size", kHead + "Transfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n0\r\n\r\n", 400},
        BadRequest{"overflowing_chunk_size", kHead + "Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\nabc\r\n",
                   400},
        BadRequest{"chunk_too_long", kHead + "Transfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n0\r\n\r\n", 400},
        BadRequest{"huge_chunk", kHead + "Transfer-Encoding: chunked\r\n\r\nffffffffffffff\r\nabc\r\n", 413}),
    [](const auto& param) { return param.param.name; });

TEST_F(HttpServerTest, BodyLimit) {
  start({.max_body_bytes = 1000});
  const auto post = [&](size_t size, bool chunked) {
    auto client = connect();
    const std::string body(size, 'x');
    if (!chunked) return client.request(str_cat(kHead, "Content-Length: ", size, "\r\n\r\n", body)).status;
    const auto cut = size / 2;
    char sizes[2][32];
    std::snprintf(sizes[0], 32, "%zx", cut);
    std::snprintf(sizes[1], 32, "%zx", size - cut);
    return client
        .request(str_cat(kHead, "Transfer-Encoding: chunked\r\n\r\n", sizes[0], "\r\n", body.substr(cut), "\r\n",
                         sizes[1], "\r\n", body.substr(size - cut), "\r\n0\r\n\r\n"))
        .status;
  };
  for (const bool chunked : {false, true}) {
    EXPECT_EQ(post(998, chunked), 200);
    EXPECT_EQ(post(1000, chunked), 200);
    EXPECT_EQ(post(1002, chunked), 413);
  }
  auto client = connect();  // refused by its head, before any of the body was sent
  EXPECT_EQ(client.request(kHead + "Content-Length: 100000000000\r\n\r\n").status, 413);
  auto asking = connect();
  EXPECT_EQ(asking.request(kHead + "Expect: 100-continue\r\nContent-Length: 100000000000\r\n\r\n").status, 413);
}

TEST_F(HttpServerTest, ARefusedUploadStillReadsItsAnswer) {
  start({.max_body_bytes = 1000});
  auto client = connect();
  client.send(kHead + "Content-Length: 8000000\r\n\r\n");
  const std::string piece(64 << 10, 'x');
  for (int i = 0; i < 100; ++i)
    if (!client.send(piece)) break;
  EXPECT_EQ(client.read_answer().status, 413);
}

TEST_F(HttpServerTest, HeaderLimit) {
  start({.max_header_bytes = 1000});
  const auto get = [&](size_t size, int cuts) {
    const std::string_view line = "GET / HTTP/1.1\r\nHost: h\r\n";
    std::string bytes(line);
    const std::string filler = "X-A: bc\r\n";
    while (bytes.size() + 40 < size) bytes += filler;
    bytes += "Y: " + std::string(size - bytes.size() - 7, 'y') + "\r\n\r\n";
    EXPECT_EQ(bytes.size(), size);
    auto client = connect();
    for (int i = 0; i < cuts; ++i) {
      client.send(bytes.substr(size * i / cuts, size * (i + 1) / cuts - size * i / cuts));
      if (cuts > 1) std::this_thread::sleep_for(2ms);
    }
    return client.read_answer().status;
  };
  for (const int cuts : {1, 7}) {
    EXPECT_EQ(get(999, cuts), 200);
    EXPECT_EQ(get(1000, cuts), 200);
    EXPECT_EQ(get(1001, cuts), 431);
    EXPECT_EQ(get(5000, cuts), 431);
  }
  auto target = connect();
  EXPECT_EQ(target.request("GET /" + std::string(2000, 'a') + " HTTP/1.1\r\nHost: h\r\n\r\n").status, 431);
  auto method = connect();
  EXPECT_EQ(method.request(std::string(2000, 'A')).status, 431);
  auto trailer = connect();
  EXPECT_EQ(trailer.request(kHead + "Transfer-Encoding: chunked\r\n\r\n0\r\nX: " + std::string(2000, 'x')).status, 431);
  auto extension = connect();
  EXPECT_EQ(extension.request(kHead + "Transfer-Encoding: chunked\r\n\r\n1;x=" + std::string(2000, 'x')).status, 431);
}

TEST_F(HttpServerTest, RequestTimeout) {
  start({.read_timeout_s = 1});
  auto head = connect();
  head.send("GET / HT");
  auto body = connect();
  body.send(kHead + "Content-Length: 10\r\n\r\nabc");
  auto holding = connect();
  holding.send(kHold);
  EXPECT_EQ(head.read_answer().status, 408);
  EXPECT_TRUE(head.read_to_end());
  EXPECT_EQ(body.read_answer().status, 408);
  held(0)->send({.body = "late"});  // an answer may take longer
  EXPECT_EQ(holding.read_answer().body, "late");
}

TEST_F(HttpServerTest, IdleConnectionsAreClosedSilently) {
  start({.idle_timeout_s = 1});
  auto fresh = connect();
  auto used = connect();
  EXPECT_EQ(used.request(kGet).status, 200);
  EXPECT_TRUE(fresh.read_to_end());
  EXPECT_EQ(fresh.buffer(), "");
  EXPECT_TRUE(used.read_to_end());
  EXPECT_EQ(used.buffer(), "");
}

TEST_F(HttpServerTest, ErrorsTakeTheFormatTheyAreGiven) {
  start({.error_response = [](int status, std::string_view reason) {
    return HttpResponse{.status = status, .body = str_cat("{\"why\":\"", reason, "\"}")};
  }});
  auto client = connect();
  const auto answer = client.request("GET / HTTP/1.1\r\n\r\n");
  EXPECT_EQ(answer.status, 400);
  EXPECT_TRUE(answer.has("application/json"));
  EXPECT_EQ(answer.body, "{\"why\":\"The Host header is missing.\"}");
}

TEST_F(HttpServerTest, UnansweredRequestsGet500) {
  start();
  auto client = connect();
  EXPECT_EQ(client.request("GET /drop HTTP/1.1\r\nHost: h\r\n\r\n").status, 500);
  EXPECT_EQ(client.request("GET /throw HTTP/1.1\r\nHost: h\r\n\r\n").status, 500);
  client.send(kHold);
  held(0);
  let_go_of_held();
  EXPECT_EQ(client.read_answer().status, 500);
  EXPECT_EQ(client.request(kGet).status, 200);
  const auto broken = client.request("GET /drop_stream HTTP/1.1\r\nHost: h\r\n\r\n");
  EXPECT_FALSE(broken.complete);
  EXPECT_TRUE(eventually([&] { return server_->num_connections() == 0 && server_->num_active_requests() == 0; }));
  EXPECT_EQ(num_disconnects_, 0);
}

TEST_F(HttpServerTest, NoticesADisconnectWhileAnswering) {
  start();
  for (const int how : {0, 1, 2}) {
    num_disconnects_ = 0;
    auto client = connect();
    client.send(kHold);
    auto reply = held(static_cast<size_t>(how));
    if (how == 1) reply->begin_stream({.body = "x"});
    const auto begin = steady_clock::now();
    how == 2 ? client.reset() : client.close();
    EXPECT_TRUE(eventually([&] { return num_disconnects_ == 1; }));
    EXPECT_LT(steady_clock::now() - begin, 1s);
    EXPECT_TRUE(eventually([&] { return server_->num_connections() == 0; }));
    EXPECT_EQ(server_->num_active_requests(), 0);
    // Everything after that is without effect, and a late callback is called.
    std::atomic<int> late{0};
    reply->on_disconnect([&] { ++late; });
    how == 1 ? reply->write("y") : reply->send({});
    if (how == 1) reply->end();
    EXPECT_TRUE(eventually([&] { return late == 1; }));
  }
}

TEST_F(HttpServerTest, NoDisconnectAfterTheAnswer) {
  start();
  auto client = connect();
  client.send(kHold);
  held(0)->send({.body = "done"});
  EXPECT_EQ(client.read_answer().body, "done");
  client.close();
  EXPECT_TRUE(eventually([&] { return server_->num_connections() == 0; }));
  std::this_thread::sleep_for(20ms);
  EXPECT_EQ(num_disconnects_, 0);
}

TEST_F(HttpServerTest, AStaleReplyCannotTouchTheNextAnswer) {
  start();
  auto client = connect();
  client.send(kHold);
  const auto first = held(0);
  first->send({.body = "one"});
  EXPECT_EQ(client.read_answer().body, "one");
  client.send(kHold);
  const auto second = held(1);
  first->send({.body = "wrong"});
  first->on_disconnect([] { ADD_FAILURE(); });
  let_go_of_held();
  second->send({.body = "two"});
  EXPECT_EQ(client.read_answer().body, "two");
}

TEST_F(HttpServerTest, ASlowReaderIsCutAtTheBacklog) {
  constexpr int64_t kBacklog = 1 << 20;
  start({.max_stream_backlog = kBacklog});
  TestSocket client(server_->port(), 4096);
  client.send(kHold);
  const auto reply = held(0);
  reply->begin_stream({});
  const std::string chunk(10000, 'x');
  int64_t written = 0;
  while (num_disconnects_ == 0 && written < (64 << 20)) {
    reply->write(chunk);
    written += static_cast<int64_t>(chunk.size());
    std::this_thread::sleep_for(50us);
  }
  EXPECT_EQ(num_disconnects_, 1);
  EXPECT_GT(written, kBacklog);
  EXPECT_TRUE(eventually([&] { return server_->num_connections() == 0 && server_->num_active_requests() == 0; }));
  client.read_to_end();
  EXPECT_TRUE(client.was_reset());
}

TEST_F(HttpServerTest, ABacklogBelowTheLimitArrives) {
  constexpr int64_t kBacklog = 8 << 20;
  start({.max_stream_backlog = kBacklog});
  TestSocket client(server_->port(), 4096);
  client.send(kHold);
  const auto reply = held(0);
  reply->begin_stream({});
  const std::string chunk((64 << 10) - 9, 'x');  // 64 KiB with its frame
  for (int i = 0; i < 127; ++i) reply->write(chunk);
  reply->end();
  const auto answer = client.read_answer();
  EXPECT_TRUE(answer.complete);
  EXPECT_EQ(answer.body.size(), 127 * chunk.size());
  EXPECT_EQ(num_disconnects_, 0);
}

TEST_F(HttpServerTest, AReaderThatStopsIsCutAfterTheWriteTimeout) {
  start({.write_timeout_s = 1});
  TestSocket client(server_->port(), 4096);
  client.send(kHold);
  held(0)->send({.body = std::string(16 << 20, 'x')});
  EXPECT_TRUE(eventually([&] { return server_->num_connections() == 0; }, 10s));
  EXPECT_EQ(server_->num_active_requests(), 0);
}

TEST_F(HttpServerTest, PipelinedRequestsAreBounded) {
  start();
  auto client = connect();
  client.send(kHold);
  const auto reply = held(0);
  std::string many;
  while (many.size() < (2 << 20)) many += kGet;
  std::thread sender([&] { client.send(many); });
  std::this_thread::sleep_for(100ms);
  reply->send({.body = "first"});
  EXPECT_EQ(client.read_answer().body, "first");
  for (size_t i = 0; i < many.size() / kGet.size(); ++i) ASSERT_EQ(client.read_answer().status, 200);
  sender.join();
}

TEST_F(HttpServerTest, TheConnectionCapPausesAccepting) {
  start({.max_connections = 3});
  std::vector<TestSocket> clients;
  for (int i = 0; i < 3; ++i) {
    clients.push_back(connect());
    EXPECT_EQ(clients.back().request(kGet).status, 200);
  }
  auto waiting = connect();
  waiting.send(kGet);
  EXPECT_FALSE(waiting.fill(100));
  EXPECT_EQ(server_->num_connections(), 3);
  clients.clear();
  EXPECT_EQ(waiting.read_answer().status, 200);
  for (int round = 0; round < 20; ++round) {
    auto next = connect();
    EXPECT_EQ(next.request(kGet).status, 200);
  }
}

TEST_F(HttpServerTest, DrainFinishesAnswersAndClosesTheRest) {
  start({.io_threads = 2});
  auto idle = connect();
  EXPECT_EQ(idle.request(kGet).status, 200);
  auto busy = connect();
  busy.send(kHold);
  const auto busy_reply = held(0);
  auto streaming = connect();
  streaming.send(kHold);
  const auto stream_reply = held(1);
  stream_reply->begin_stream({});
  EXPECT_TRUE(streaming.read_until("\r\n\r\n"));
  server_->stop_accepting();
  EXPECT_TRUE(idle.read_to_end());
  EXPECT_EQ(server_->num_active_requests(), 2);
  EXPECT_TRUE(eventually([&] { return !connect().connected(); }));
  busy_reply->send({.body = "done"});
  const auto answer = busy.read_answer();
  EXPECT_TRUE(answer.has("Connection: close"));
  EXPECT_TRUE(busy.read_to_end());
  stream_reply->write("more");
  stream_reply->end();
  const auto rest = streaming.read_answer();
  EXPECT_EQ(rest.body, "more");
  EXPECT_TRUE(rest.complete);
  EXPECT_TRUE(streaming.read_to_end());
  busy.close();
  streaming.close();
  EXPECT_TRUE(eventually([&] { return server_->num_connections() == 0; }));
  EXPECT_EQ(server_->num_active_requests(), 0);
  EXPECT_EQ(num_disconnects_, 0);
}

TEST_F(HttpServerTest, DestructionTellsOpenRequestsAndIsSafeForTheirReplies) {
  start({.io_threads = 3});
  std::vector<TestSocket> clients;
  std::vector<std::shared_ptr<HttpReply>> replies;
  for (int i = 0; i < 9; ++i) {
    clients.push_back(connect());
    clients.back().send(kHold);
    replies.push_back(held(static_cast<size_t>(i)));
  }
  server_.reset();
  EXPECT_EQ(num_disconnects_, 9);
  for (const auto& reply : replies) reply->send({});
  for (auto& client : clients) EXPECT_TRUE(client.read_to_end());
}

TEST_F(HttpServerTest, PostedWorkRunsOnItsThread) {
  start({.io_threads = 2});
  std::mutex mutex;
  std::map<int, std::thread::id> ids;
  std::atomic<int> count{0};
  for (int i = 0; i < 100; ++i)
    server_->post(i % 2, [&, i] {
      const std::lock_guard lock(mutex);
      const auto [at, inserted] = ids.emplace(i % 2, std::this_thread::get_id());
      EXPECT_EQ(at->second, std::this_thread::get_id());
      ++count;
    });
  server_->post(0, [] { throw std::runtime_error("on purpose"); });
  EXPECT_TRUE(eventually([&] { return count == 100; }));
  EXPECT_NE(ids[0], ids[1]);
  EXPECT_NE(ids[0], std::this_thread::get_id());
}

TEST_F(HttpServerTest, ConnectionsAreSpreadOverTheThreads) {
  start({.io_threads = 3});
  std::vector<TestSocket> clients;
  std::map<int, int> counts;
  for (size_t i = 0; i < 12; ++i) {
    clients.push_back(connect());
    clients.back().send(kHold);
    ++counts[held(i)->io_index()];
  }
  EXPECT_EQ(counts, (std::map<int, int>{{0, 4}, {1, 4}, {2, 4}}));
}

TEST_F(HttpServerTest, ManyThreadsWriteToOneStreamAndNothingIsLost) {
  start({.io_threads = 2});
  auto client = connect();
  client.send(kHold);
  const auto reply = held(0);
  reply->begin_stream({});
  constexpr int kThreads = 4, kWrites = 2000;
  std::vector<std::thread> writers;
  for (int t = 0; t < kThreads; ++t)
    writers.emplace_back([&, t] {
      for (int i = 0; i < kWrites; ++i) reply->write(str_cat(t, ":", i, "\n"));
    });
  std::thread ender([&] {
    for (auto& w : writers) w.join();
    reply->end();
  });
  const auto answer = client.read_answer();
  ender.join();
  EXPECT_TRUE(answer.complete);
  std::map<std::string, int> next;
  int lines = 0;
  for (const auto line : split(answer.body, '\n')) {
    if (line.empty()) continue;
    const auto parts = split(line, ':');
    EXPECT_EQ(parts.at(1), str_cat(next[std::string(parts.at(0))]++));
    ++lines;
  }
  EXPECT_EQ(lines, kThreads * kWrites);
}

TEST_F(HttpServerTest, TwoThousandStreams) {
  const int num_streams = std::min(2000, (raise_file_limit(6000) - 200) / 2);
  constexpr int kSteps = 20;
  start({.io_threads = 2});
  std::vector<TestSocket> clients;
  for (int i = 0; i < num_streams; ++i) {
    clients.push_back(connect());
    ASSERT_TRUE(clients.back().connected());
    clients.back().send(kHold);
  }
  ASSERT_TRUE(eventually([&] { return server_->num_active_requests() == num_streams; }, 20s));
  held(static_cast<size_t>(num_streams) - 1);
  // Half of the steps are posted to the io threads, the others written from here.
  std::vector<std::vector<std::shared_ptr<HttpReply>>> by_thread(2);
  for (const auto& reply : held_) {
    by_thread[static_cast<size_t>(reply->io_index())].push_back(reply);
    reply->begin_stream({});
  }
  for (int step = 0; step < kSteps; ++step)
    for (int io = 0; io < 2; ++io) {
      const auto work = [&replies = by_thread[static_cast<size_t>(io)], step] {
        for (const auto& reply : replies) {
          reply->write(str_cat("data: ", step));
          reply->write("\n\n");
          if (step == kSteps - 1) reply->end();
        }
      };
      if (step % 2 == 0) {
        std::atomic<bool> done{false};
        server_->post(io, [&] {
          work();
          done = true;
        });
        while (!done) std::this_thread::yield();
      } else {
        work();
      }
    }
  std::string expected;
  for (int step = 0; step < kSteps; ++step) expected += str_cat("data: ", step, "\n\n");
  for (auto& client : clients) {
    const auto answer = client.read_answer();
    ASSERT_TRUE(answer.complete);
    ASSERT_EQ(answer.body, expected);
  }
  clients.clear();
  EXPECT_TRUE(eventually([&] { return server_->num_connections() == 0; }));
}

TEST_F(HttpServerTest, FirstByteComesWithinAMillisecond) {
  start();
  auto client = connect();
  auto best = steady_clock::duration::max();
  for (int i = 0; i < 50; ++i) {
    const auto begin = steady_clock::now();
    EXPECT_EQ(client.request("GET /stream HTTP/1.1\r\nHost: h\r\n\r\n").status, 200);
    best = std::min(best, steady_clock::now() - begin);
  }
  EXPECT_LT(best, 1ms);
}

TEST(HttpServerStart, SaysWhyItCannot) {
  const HttpHandler handler = [](HttpRequest, std::shared_ptr<HttpReply>) {};
  auto first = HttpServer::start({.port = 0}, handler);
  ASSERT_TRUE(first);
  const auto in_use = HttpServer::start({.port = (*first)->port()}, handler);
  ASSERT_FALSE(in_use);
  EXPECT_EQ(in_use.error().code, Errc::kIo);
  EXPECT_THAT(in_use.error().message, HasSubstr(str_cat("127.0.0.1:", (*first)->port(), ": Address already in use")));
  const auto unknown = HttpServer::start({.host = "no.such.host.invalid"}, handler);
  ASSERT_FALSE(unknown);
  EXPECT_THAT(unknown.error().message, HasSubstr("no.such.host.invalid"));
  const auto foreign = HttpServer::start({.host = "192.0.2.1"}, handler);
  ASSERT_FALSE(foreign);
  EXPECT_FALSE(HttpServer::start({.port = 70000}, handler));
  EXPECT_FALSE(HttpServer::start({.io_threads = 0}, handler));
  auto any = HttpServer::start({.host = "::", .port = 0}, [](HttpRequest, auto reply) { reply->send({.body = "v6"}); });
  if (any) {  // a system without IPv6 refuses
    TestSocket client((*any)->port());
    EXPECT_EQ(client.request(kGet).body, "v6");
  }
}

TEST(HttpRequest, FindsHeadersAndQueryValues) {
  HttpRequest request;
  request.headers = {{"Content-Type", "a"}, {"content-type", "b"}};
  request.query = "a=1&b=x%20y+z&c&a=2&d=%zz&%65=5";
  ASSERT_NE(request.header("CONTENT-type"), nullptr);
  EXPECT_EQ(*request.header("CONTENT-type"), "a");
  EXPECT_EQ(request.header("Content"), nullptr);
  EXPECT_EQ(request.query_value("a"), "1");
  EXPECT_EQ(request.query_value("b"), "x y z");
  EXPECT_EQ(request.query_value("c", "no"), "");
  EXPECT_EQ(request.query_value("d"), "%zz");
  EXPECT_EQ(request.query_value("e"), "5");
  EXPECT_EQ(request.query_value("f", "fallback"), "fallback");
}

}  // namespace
}  // namespace carat
