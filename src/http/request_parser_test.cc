#include "http/request_parser.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <string>

#include "base/str.h"

namespace carat {
namespace {

constexpr RequestParser::Limits kLimits{.max_body_bytes = 1 << 20, .max_header_bytes = 400};

/// How the parser ends if the bytes come in pieces of that size: 200 for a whole request, 0 if it waits for more.
int outcome(const std::string& bytes, size_t piece, std::string* body = nullptr) {
  RequestParser parser(kLimits);
  std::string unparsed;
  for (size_t at = 0; at < bytes.size(); at += piece) {
    unparsed += bytes.substr(at, piece);
    unparsed.erase(0, parser.feed(unparsed));
    if (parser.state() == RequestParser::State::kFailed) return parser.failure_status();
    if (parser.state() != RequestParser::State::kDone) continue;
    if (body) *body = parser.take().body;
    return 200;
  }
  return 0;
}

std::string chunked(const std::string& chunks) {
  return "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks;
}

/// A last chunk with a trailer, `size` bytes in all.
std::string last_chunk(size_t size) {
  const std::string begin = "0\r\nX: ", end = "\r\n\r\n";
  return begin + std::string(size - begin.size() - end.size(), 'x') + end;
}

TEST(RequestParser, TrailersHaveTheHeadersLimitHoweverTheyArrive) {
  for (const size_t piece : {1, 2, 7, 64, 100000}) {
    EXPECT_EQ(outcome(chunked(last_chunk(399)), piece), 200) << piece;
    EXPECT_EQ(outcome(chunked(last_chunk(400)), piece), 200) << piece;
    EXPECT_EQ(outcome(chunked(last_chunk(401)), piece), 431) << piece;
    EXPECT_EQ(outcome(chunked(last_chunk(5000)), piece), 431) << piece;
  }
}

TEST(RequestParser, TheLineBeforeAChunkHasItToo) {
  for (const size_t piece : {1, 7, 100000}) {
    std::string body;
    EXPECT_EQ(outcome(chunked("3;a=" + std::string(300, 'x') + "\r\nabc\r\n0\r\n\r\n"), piece, &body), 200) << piece;
    EXPECT_EQ(body, "abc");
    EXPECT_EQ(outcome(chunked("3;a=" + std::string(1000, 'x') + "\r\nabc\r\n0\r\n\r\n"), piece), 431) << piece;
  }
}

TEST(RequestParser, BodiesOfManyChunksAreNotFraming) {
  std::string chunks, want;
  for (int i = 0; i < 500; ++i) {
    const std::string data(static_cast<size_t>(1 + i % 40), static_cast<char>('a' + i % 26));
    char size[8];
    std::snprintf(size, sizeof size, "%zx", data.size());
    chunks += str_cat(size, "\r\n", data, "\r\n");
    want += data;
  }
  const std::string big(5000, 'z');
  chunks += "1388\r\n" + big + "\r\n0\r\n\r\n";
  for (const size_t piece : {1, 7, 1000, 1000000}) {
    std::string body;
    EXPECT_EQ(outcome(chunked(chunks), piece, &body), 200) << piece;
    EXPECT_EQ(body, want + big) << piece;
  }
}

}  // namespace
}  // namespace carat
