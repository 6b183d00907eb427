// For scripts/compare_tokenizer: answers requests on stdin until it ends.
//   carat_tokenizer_pipe FOLDER
// A request is a letter, a 32-bit little-endian length in bytes and that many bytes:
//   E, B  text: the reply is its ids, without or with what the tokenizer adds itself
//   D, S  ids (32 bits each): the reply is their text, with or without special tokens
// A reply is a 32-bit length in bytes and that many bytes. Streamed decoding is checked against the reply as well.
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "base/check.h"
#include "base/utf8.h"
#include "tokenizer/tokenizer.h"

namespace {

bool read_exactly(void* to, size_t size) { return std::fread(to, 1, size, stdin) == size; }

void reply(const void* data, size_t size) {
  const auto length = static_cast<uint32_t>(size);
  std::fwrite(&length, 1, sizeof length, stdout);
  std::fwrite(data, 1, size, stdout);
}

std::string decode(const carat::Tokenizer& tokenizer, const std::vector<carat::TokenId>& ids, bool skip) {
  std::string streamed;
  carat::StreamDecoder decoder(tokenizer, skip);
  for (carat::TokenId id : ids) {
    std::string delta;
    decoder.push(id, delta);
    CARAT_CHECK(carat::is_valid_utf8(delta), "the stream stops between characters");
    streamed += delta;
  }
  decoder.finish(streamed);
  const std::string whole = tokenizer.decode(ids, skip);
  CARAT_CHECK_EQ(streamed, whole);
  return whole;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: %s FOLDER\n", argv[0]);
    return 2;
  }
  const auto tokenizer = carat::Tokenizer::load(argv[1]);
  if (!tokenizer) {
    std::fprintf(stderr, "%s\n", tokenizer.error().message.c_str());
    return 1;
  }
  for (char kind; read_exactly(&kind, 1);) {
    uint32_t length = 0;
    if (!read_exactly(&length, sizeof length)) return 1;
    std::string payload(length, '\0');
    if (!read_exactly(payload.data(), length)) return 1;
    if (kind == 'E' || kind == 'B') {
      const auto ids = (*tokenizer)->encode(payload, kind == 'B');
      reply(ids.data(), ids.size() * sizeof(carat::TokenId));
    } else {
      std::vector<carat::TokenId> ids(length / sizeof(carat::TokenId));
      std::memcpy(ids.data(), payload.data(), ids.size() * sizeof(carat::TokenId));
      const std::string text = decode(**tokenizer, ids, kind == 'S');
      reply(text.data(), text.size());
    }
  }
  return 0;
}
